"""A machine whose handlers play a script: each visit answers with the path's next event, or brings the engine to raise it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from statecraft.clock import instant, micros
from statecraft.engine.settings import Settings
from statecraft.errors import CallError, ErrorKind, Looped, OutputInvalid, OverBudget, ReviewUnanswered
from statecraft.llm.port import Reply, Request
from statecraft.llm.prices import Price
from statecraft.llm.scripted import ScriptedLLM
from statecraft.machine.covering import Leg, Path
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition, Handler, Move
from statecraft.machine.event import (
    BudgetExhausted,
    BudgetWarning,
    CallFailed,
    DeadlinePassed,
    Event,
    HandlerFailed,
    InvalidOutput,
    LoopDetected,
    ReviewExpired,
    StateTimeout,
    VisitsExhausted,
)
from statecraft.machine.state import Ask
from statecraft.money import BILLION
from statecraft.records import Status, Usage, Waiting
from statecraft.runtime import Runtime
from statecraft.testing.lives import Dying, Ground, unhurried

SAID: Final = "driven along a path"
MODEL: Final = "driven"
_BY: Final = "drive"


def _call_failed(event: CallFailed) -> Exception:
    return CallError(event.message, kind=ErrorKind(event.kind), name=event.name, attempts=event.attempts)


_RAISED: Mapping[type[Event], Callable[[Any], Exception]] = {
    HandlerFailed: lambda event: RuntimeError(event.message.removeprefix("RuntimeError: ")),
    CallFailed: _call_failed,
    InvalidOutput: lambda event: OutputInvalid(event.message, name=event.name),
    LoopDetected: lambda event: Looped(event.message, name=event.what),
    BudgetExhausted: lambda event: OverBudget(event.message, name=SAID),
    ReviewExpired: lambda event: ReviewUnanswered(event.message, kind=ErrorKind.REJECTED, name=SAID),
}
"""What a handler raises to have the engine raise the event, as calls of a real one would."""


def provoked(definition: Definition, leg: Leg, data: Data) -> Event:
    """The system event that a leg will meet, as far as guards may look at it."""
    candidates = _ready(leg)
    fitting = (event for event in candidates if _moves(definition, leg, event, data))
    return next(fitting, candidates[0])


def _ready(leg: Leg) -> list[Event]:
    if leg.event is CallFailed:
        return [CallFailed(name=SAID, kind=kind.value, attempts=1, message=SAID) for kind in ErrorKind]
    if leg.event is HandlerFailed:
        return [HandlerFailed(state=leg.source, error="RuntimeError", message=f"RuntimeError: {SAID}")]
    if leg.event is InvalidOutput:
        return [InvalidOutput(name=SAID, errors=[SAID], message=SAID)]
    if leg.event is LoopDetected:
        return [LoopDetected(what=SAID, message=SAID)]
    if leg.event in (StateTimeout, VisitsExhausted, ReviewExpired):
        return [leg.event.model_validate({"state": leg.source, "message": SAID})]
    return [leg.event()]


def _moves(definition: Definition, leg: Leg, event: Event, data: Data) -> bool:
    move = definition.decide(leg.source, event, data)
    return isinstance(move, Move) and (move.target, move.guards) == (leg.target, leg.guards)


class Staged(Machine[Any]):
    """The machine with other handlers: the same definition to the engine and to the store."""

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition.name, data=definition.data_type, version=definition.version)
        self._staged = definition

    @property
    def definition(self) -> Definition:
        return self._staged


def staged_settings(definition: Definition, settings: Settings | None) -> Settings:
    """The settings for a run without calls. A path may repeat itself on purpose."""
    known = replace(unhurried(settings), loops=None, pace=0.0)
    if definition.budget is not None and "money" in definition.budget.limits:
        known = replace(known, prices={MODEL: Price(input=1, output=1)})
    return known


class Stage:
    """One run on its way along one path."""

    def __init__(self, definition: Definition, path: Path, events: Sequence[Event], ground: Ground, *, crash: bool) -> None:
        acts = {name: Handler(self._act, is_async=True) for name in definition.handlers}
        self.definition = replace(definition, handlers=MappingProxyType(acts))
        self.machine: Machine[Any] = Staged(self.definition)
        self.path, self.events, self.ground = path, events, ground
        self.probe = Dying()
        self.run_id = ""
        self.calm = False
        """Whether the run has gone its way, and is only replayed."""
        self.llm = ScriptedLLM(self._reply, model=MODEL)
        self._price = 0
        self._deaths = [["before", "after"] if crash else [] for _ in path.legs]
        """How the process still has to die while it takes each leg."""
        self._down = timedelta(0)
        self._began = ground.clock.now()
        self._over = asyncio.Event()

    # --- dying -------------------------------------------------------------------------------------------------------

    def _die_around(self, place: int) -> None:
        """Have the process die just before or just after the next commit, if that is still to be tried here."""
        if self._deaths[place]:
            self.probe.at = self.probe.points + (self._deaths[place].pop(0) == "after")

    async def _stay_down(self, until: int) -> None:
        """The process dies, and nobody is there until an instant has come."""
        self._down = timedelta(microseconds=max(0, until - self.ground.clock.now()))
        self.probe.die()
        await asyncio.Event().wait()

    def revive(self) -> None:
        """Time has passed before the next process is there."""
        asyncio.run(self.ground.clock.advance(self._down))
        self._down = timedelta(0)

    # --- acting ------------------------------------------------------------------------------------------------------

    async def _act(self, run: Any) -> Event | Ask[Any]:
        """What every handler does now."""
        if run.step >= len(self.path.legs):
            self._over.set()
            if self.definition.states[run.state].kind == "review":
                return Ask(SAID)
            await asyncio.Event().wait()
        leg, event = self.path.legs[run.step], self.events[run.step]
        if (away := self._away(leg)) is not None:
            await self._stay_down(self._began + micros(away))
        await self._spend(run)
        if leg.own or leg.event is ReviewExpired:
            if self.definition.states[run.state].kind == "review":
                return Ask(SAID)
            if leg.own:
                return self._answer(run.step, event)
        if leg.event is StateTimeout and not self.calm:
            self._die_around(run.step)
            await self.ground.clock.advance(self.definition.states[run.state].timeout or timedelta(0))
            await asyncio.Event().wait()
        raise self._fail(run.step, event)

    def _answer(self, place: int, event: Event) -> Event:
        if not self.calm:
            self._die_around(place)
        return event

    def _fail(self, place: int, event: Event) -> Exception:
        self._answer(place, event)
        raises = _RAISED.get(type(event))
        return RuntimeError(f"{type(event).__name__} was to be raised by the engine") if raises is None else raises(event)

    def _away(self, leg: Leg) -> timedelta | None:
        """How long after the start of the run a process must be back, to meet what only time brings about."""
        if self.calm or leg.own:
            return None
        budget = self.definition.budget
        if leg.event is BudgetWarning and budget is not None and budget.wall is not None and not budget.limits:
            return budget.wall * budget.warn_at
        return self.definition.deadline if leg.event is DeadlinePassed else None

    async def _spend(self, run: Any) -> None:
        """Use so much of the run's budget that the next visit is warned, if the path says that it is."""
        if run.step + 1 >= len(self.path.legs) or self.path.legs[run.step + 1].event is not BudgetWarning:
            return
        budget = self.definition.budget
        if budget is None or not budget.limits:
            return
        unit, limit = next(iter(budget.limits.items()))
        share = math.ceil(limit * budget.warn_at)
        # One dollar a million tokens is a thousand billionths a token.
        self._price = {"tokens": share, "money": math.ceil(share / (BILLION // 1_000_000)), "calls": 1}[unit]
        for each in range(share if unit == "calls" else 1):
            await run.llm.ask(f"{SAID} {each}", max_tokens=1)

    def _reply(self, _: Request) -> Reply:
        return Reply(({"type": "text", "text": SAID},), "end_turn", Usage(self._price), MODEL)

    # --- playing -----------------------------------------------------------------------------------------------------

    async def start(self, runtime: Runtime, data: Any) -> None:
        """Start the run, or go on with it."""
        self._over = asyncio.Event()
        run = await runtime.start(self.machine, data, key="driven")
        self.run_id = run.id
        if run.owner not in (None, runtime.owner):
            await runtime.resume(run.id, force=True)

    async def play(self, runtime: Runtime) -> None:
        """Decide reviews and let time pass until the path is over."""
        over = asyncio.ensure_future(self._over.wait())
        try:
            while True:
                waiting = asyncio.ensure_future(runtime.wait(self.run_id))
                await asyncio.wait({waiting, over}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await waiting
                    return
                run = await waiting
                if run.status.closed or run.seq >= len(self.path.legs):
                    return
                assert run.status is Status.WAITING
                assert run.waiting_for is Waiting.REVIEW
                await self._decide(runtime, run.seq)
        finally:
            over.cancel()

    async def _decide(self, runtime: Runtime, place: int) -> None:
        leg = self.path.legs[place]
        self._die_around(place)
        if leg.event is not ReviewExpired or leg.own:
            await runtime.send(self.run_id, self.events[place], by=_BY)
            return
        run = await runtime.get(self.run_id)
        assert run.due_at is not None
        await self.ground.clock.advance(run.due_at - instant(self.ground.clock.now()))
        await runtime.resume(self.run_id)

    async def told(self, runtime: Runtime) -> str:
        """What the run really did, in lines."""
        run = await runtime.get(self.run_id)
        rows = await runtime.history(self.run_id)
        lines = [f"  {row.seq}. {row.source} -({row.event})-> {row.target} {row.payload.get('message', '')}" for row in rows]
        why = f": {run.reason}" if run.reason else ""
        return "\n".join(["it has:", *lines, f"the run is {run.status} in {run.state}{why}"])
