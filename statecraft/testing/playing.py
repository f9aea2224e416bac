"""One run of the real engine whose every answer is given from outside, one at a time, and checked against the table."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from statecraft.engine.settings import Settings
from statecraft.errors import InvalidPayload, Refused
from statecraft.machine.definition import Definition, Handler, Move
from statecraft.machine.event import Event, HandlerFailed, StepsExhausted, VisitsExhausted, event_name
from statecraft.machine.state import Ask
from statecraft.records import RunRecord, Status, TransitionRecord, Waiting
from statecraft.runtime import Runtime
from statecraft.testing.lives import Dying, Ground, SteadyIds, unhurried
from statecraft.testing.staging import SAID, Staged

_BOUNDS = (VisitsExhausted, StepsExhausted)
"""What the engine says by itself in a run that spends no time and no money."""


class Play:
    """A run that stands still until somebody answers for its handler, or decides its review."""

    def __init__(self, definition: Definition, data: Any, settings: Settings | None = None) -> None:
        acts = {name: Handler(self._act, is_async=True) for name in definition.handlers}
        self.definition = replace(definition, handlers=MappingProxyType(acts))
        self.ground = Ground()
        self.data = data
        """What the run's data must be."""
        self.history: list[TransitionRecord] = []
        self.run: RunRecord | None = None
        self._input = data
        self._settings = replace(unhurried(settings), loops=None, pace=0.0)
        self._ids = SteadyIds(b"played by a test", 5)
        self._answer: asyncio.Future[Event | Exception] | None = None
        self._arrived = asyncio.Event()
        self._replays: list[Event | Exception] | None = None
        self._given: list[Event | Exception] = []
        """What the handlers of the finished visits answered, in order."""

    # --- its life ----------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the run, or go on with it in a new process."""
        self._probe, self._arrived = Dying(), asyncio.Event()
        self._ids.begins = self.run is None
        options: dict[str, Any] = {"settings": self._settings, "clock": self.ground.clock, "ids": self._ids}
        machine = Staged(self.definition)
        self.runtime = Runtime(self.ground.url, machines=[machine], store=self.ground.store(self._probe), **options)
        await self.runtime.__aenter__()
        run = await self.runtime.start(machine, self._input, key="played")
        if run.owner not in (None, self.runtime.owner):
            await self.runtime.resume(run.id, force=True)
        await self._settle(run.id)

    async def end(self) -> None:
        """Close the runtime."""
        await self.runtime.__aexit__(None, None, None)

    async def crash(self) -> None:
        """The process dies where it stands, and another one goes on."""
        before = self.run
        self._probe.die()
        with contextlib.suppress(Exception):  # A dead process says nothing that matters.
            await self.end()
        await self.begin()
        assert before is not None
        assert self.run is not None
        kept = (self.run.status.closed, self.run.state, self.run.seq)
        assert kept == (before.status.closed, before.state, before.seq), f"a crash moved the run: {before} became {self.run}"

    async def _act(self, run: Any) -> Event | Ask[Any]:
        spec = self.definition.states[run.state]
        if spec.kind == "review":
            return Ask(SAID)
        if self._replays is not None:
            return _said(self._replays.pop(0))
        assert spec.max_visits is None or run.visit <= spec.max_visits, f"{run.state} was entered {run.visit} times"
        self._answer = asyncio.get_running_loop().create_future()
        self._arrived.set()
        return _said(await self._answer)

    async def _settle(self, run_id: str) -> None:
        """Wait until the run stands still, and read what became of it."""
        while not self._arrived.is_set():
            run = await self.runtime.get(run_id)
            if run.status.closed or run.waiting_for is Waiting.REVIEW:
                break
            waits = [asyncio.ensure_future(self.runtime.wait(run_id)), asyncio.ensure_future(self._arrived.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        self.run, self.history = await self.runtime.get(run_id), await self.runtime.history(run_id)

    # --- its moves ---------------------------------------------------------------------------------------------------

    @property
    def asks(self) -> tuple[str, ...]:
        """The events that the run may be answered with where it stands; none once it has ended."""
        if self.run is None or self.run.status.closed:
            return ()
        return self.definition.states[self.run.state].events

    @property
    def reviewing(self) -> bool:
        """Whether a person has the word."""
        return bool(self.asks) and self.run is not None and self.definition.states[self.run.state].kind == "review"

    async def answer(self, event: Event | Exception) -> None:
        """Answer for the handler, or decide the review, and check every move that follows."""
        assert self.run is not None
        known = len(self.history)
        if self.definition.states[self.run.state].kind == "review":
            assert isinstance(event, Event)
            if not await self._decide(event):
                return
        else:
            assert self._answer is not None
            self._arrived.clear()
            self._given.append(event)
            self._answer.set_result(event)
        await self._settle(self.run.id)
        self._check(self._met(event), self.history[known:])

    async def _decide(self, event: Event) -> bool:
        """Send the decision; whether it must have moved the run."""
        assert self.run is not None
        fits = isinstance(self.definition.decide(self.run.state, event, self.data), Move) and self._met(event) is event
        self._arrived.clear()
        refusal = await self._refusal(event)
        assert fits is (refusal is None), f"{self.run.state} got {event!r}, and {refusal or 'took it, though it does not fit'}"
        if refusal is not None:
            await self.unchanged()
        return fits

    async def _refusal(self, event: Event) -> Refused | None:
        """What the run says to an event from outside; None if it takes it."""
        assert self.run is not None
        try:
            await self.runtime.send(self.run.id, event, by="a test")
        except Refused as refusal:
            return refusal
        return None

    async def refuse(self, event: Event) -> None:
        """Send an event that the run does not wait for: it is refused, and nothing changes."""
        assert self.run is not None
        refusal = await self._refusal(event)
        assert refusal is not None, f"{self.run.state} took {event_name(type(event))}, for which it does not wait"
        await self.unchanged()

    async def unchanged(self) -> None:
        """Nothing may have happened since the last move."""
        assert self.run is not None
        now = await self.runtime.get(self.run.id)
        assert (now.status, now.state, now.seq, now.epoch) == (self.run.status, self.run.state, self.run.seq, self.run.epoch)
        assert await self.runtime.history(self.run.id) == self.history, "a refused event left something in the journal"

    def _met(self, event: Event | Exception) -> Event:
        """What the engine makes of an answer."""
        if isinstance(event, Exception):
            return HandlerFailed()
        try:
            self.definition.fold(self.data, event)
        except InvalidPayload:
            return HandlerFailed()
        return event

    def _check(self, met: Event, rows: list[TransitionRecord]) -> None:
        """The first move is the one that the table knows for what was met; those after it are bounds."""
        assert self.run is not None
        state = rows[0].source if rows else self.run.state
        move = self.definition.decide(state, met, self.data)
        if not isinstance(move, Move):
            assert not rows, f"{state} had no row for {met!r}, and went to {rows[0].target}"
            assert self.run.status is Status.DEAD, f"{state} has no row for {met!r}, and the run is {self.run.status}"
            return
        assert rows, f"{met!r} should have led from {state} to {move.target}, and nothing moved"
        found = (rows[0].event, rows[0].target, rows[0].guards)
        assert found == (move.event, move.target, move.guards), (
            f"{met!r} should have led from {state} to {move.target}: {rows[0]}"
        )
        self.data = self.definition.fold(self.data, met)
        bounds = {event_name(bound) for bound in _BOUNDS}
        for row in rows[1:]:
            assert row.event in bounds, f"the engine made a move by itself: {row}"

    # --- what must always hold ---------------------------------------------------------------------------------------

    async def sound(self) -> None:
        """Bounds, and a journal that folds to the data and verifies."""
        assert self.run is not None
        definition = self.definition
        most = definition.max_steps + len(definition.states)
        assert self.run.seq <= most, f"{self.run.seq} steps, where {most} is the most"
        entered: dict[str, int] = {}
        for row in self.history:
            entered[row.target] = entered.get(row.target, 0) + 1
        for name, times in entered.items():
            bound = definition.states[name].max_visits
            spent = sum(row.source == name and row.event == event_name(VisitsExhausted) for row in self.history)
            here = self.run.state == name  # Its bound may be what it is about to meet, or what it is dead of.
            assert bound is None or times - spent - here <= bound, f"{name} was visited {times} times, where {bound} is the most"
        folded = await self.runtime.data(self.run.id)
        assert folded.model_dump_json() == self.data.model_dump_json(), f"the journal folds to {folded!r}, not {self.data!r}"
        assert await self.runtime.verify(self.run.id) == []

    async def replays(self) -> None:
        """The handlers, run again, do what the journal says."""
        assert self.run is not None
        self._replays = list(self._given)
        try:
            replayed = await self.runtime.replay(self.run.id)
        finally:
            self._replays = None
        assert replayed.agrees, str(replayed.divergence)


def _said(answer: Event | Exception) -> Event:
    if isinstance(answer, Exception):
        raise answer
    return answer
