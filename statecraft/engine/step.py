"""One step: a visit to one state, ended by one committed transition. Read `Engine.step` first; the rest are its verbs."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from statecraft import trace
from statecraft.calls.classify import said
from statecraft.calls.park import Park
from statecraft.calls.visit import Visit
from statecraft.clock import Clock, micros
from statecraft.engine.budgets import limited
from statecraft.engine.children import nested, of_visit
from statecraft.engine.context import StepRun
from statecraft.engine.diagnose import attempted, diagnosis, named
from statecraft.engine.fit import fit
from statecraft.engine.handle import handle
from statecraft.engine.held import SNAPSHOT_FLOOR, Held
from statecraft.engine.jsonable import stored, to_json
from statecraft.engine.limits import limit, overrun, wakes_at, warning
from statecraft.engine.loop import loop
from statecraft.engine.outcome import Dead, Ended, Moved, Outcome, Parked
from statecraft.engine.services import Services
from statecraft.machine.data import Data
from statecraft.machine.definition import Move, Refusal
from statecraft.machine.event import (
    BudgetExhausted,
    BudgetWarning,
    DeadlinePassed,
    Event,
    Failure,
    StateTimeout,
    StepsExhausted,
    SystemEvent,
    event_name,
)
from statecraft.machine.state import Ask
from statecraft.records import Status, Waiting
from statecraft.store import chain, port

SNAPSHOT_FACTOR = 4
"""A snapshot is written when the payloads since the last one are this many times its size, so that all snapshots
together cost at most a quarter of the payloads."""


OF_THE_RUN = (BudgetExhausted, BudgetWarning, DeadlinePassed, StepsExhausted)
"""Bounds of a whole run. A run that one of these leads on gives less than was asked for: it is degraded."""

POISON_NEEDS = (
    "what ends its workers found (memory, a crash in native code, a lease shorter than a blocking call); then a redrive"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """Advances runs. Holds nothing of any run between steps."""

    store: port.Store
    clock: Clock
    services: Services

    async def step(self, held: Held) -> Outcome:
        """Limits, handle, decide, commit, report. Raises `StoreError`; then nothing was decided."""
        if overrun(held):
            reason = f"{held.seq} steps without an end, {len(held.definition.states)} beyond the limit"
            return await self._die(held, None, reason, error="StepsExhausted")
        answer = await self._answer(held)
        if isinstance(answer, Park):
            return await self._park(held, answer)
        if isinstance(answer, Ask):
            return await self._ask(held, answer)
        event, payload, data = fit(held, answer)
        looped = loop(held, event, payload, self.services.settings.loops)
        if looped is not None:
            event, payload, data = fit(held, looped)
        decided = held.definition.decide(held.state, event, held.data)
        if isinstance(decided, Refusal):
            return await self._die(held, event, _unhandled(decided, event))
        degraded = False
        if isinstance(event, SystemEvent):
            await self._leave(held, event)
            target = held.definition.states[decided.target]
            degraded = isinstance(event, OF_THE_RUN) and (target.ok or target.kind != "final")
        outcome = await self._commit(held, decided, payload, data, degraded=degraded)
        self._report(held, outcome)
        return outcome

    async def _answer(self, held: Held) -> Event | Ask[Any] | Park:
        """The bound that was reached, or what the handler says."""
        budgeted, now = limited(held), self.clock.now()
        if budgeted:
            await self._look_for_children(held)
        bound = limit(held, now)
        if bound is not None:
            return bound
        if budgeted:
            self._warn(held, now)
        if self.services.settings.pace:
            await self.clock.sleep(self.services.settings.pace)
        return await handle(StepRun(held, self.services), held, self.clock, debug=self.services.settings.debug)

    async def _look_for_children(self, held: Held) -> None:
        """Tell a visit under a budget whether it has begun, if its child runs may be all that shows it."""
        visit, nursery = held.visit, self.services.nursery
        if nursery is not None and nested(held.definition.handlers[held.state]) and not visit.recorded:
            runs = await nursery.of(held.id)
            visit.has_children = any((run.key or "").startswith(of_visit(visit.first)) for run in runs)

    def _warn(self, held: Held, now: int) -> None:
        """Report a budget warning that no row takes here, once while the run is held."""
        if held.warned or (due := warning(held, now)) is None:
            return
        held.warned = True
        told = {"run_id": held.id, "machine_name": held.definition.name, "state": held.state, **due.model_dump()}
        trace.emit("alert", {**told, "reason": "budget_warning"}, level=logging.WARNING)

    async def _commit(self, held: Held, move: Move, payload: str, data: Data, *, degraded: bool = False) -> Moved | Ended:
        """Write the move, and only then believe it."""
        target = held.definition.states[move.target]
        size = held.payload_bytes + len(payload)
        snapshot = _snapshot(held, data, size) if size >= held.snapshot_from and target.kind != "final" else None
        status = None if target.kind != "final" else Status.DONE if target.ok else Status.FAILED
        decision = held.definition.states[held.state].kind == "review" and await self._has_open_review(held)
        row = transition(held, move, payload, self.clock.now(), None)
        head = None if status is None else port.Head(status)
        await self.store.submit(port.Move(row, head, decision=decision, snapshot=snapshot, degraded=degraded))
        self._advance(held, row, data, 0 if snapshot is not None else size)
        return Moved(move.event, move.target) if status is None else Ended(status, move.target)

    async def _leave(self, held: Held, event: SystemEvent) -> None:
        """A bound (time, a budget) may have cut the visit off: nobody waits for its child runs any more, and a `once` call
        that had begun stays without an outcome. Before the move: once it is made, nothing would remember them."""
        if isinstance(event, StateTimeout | DeadlinePassed) or (isinstance(event, BudgetExhausted) and event.unit == "wall"):
            await held.visit.leave_in_doubt()
        nursery = self.services.nursery
        if nursery is not None and nested(held.definition.handlers[held.state]):
            await nursery.cancel_open(held.id, f"the run that started it leaves {held.state}")

    async def _has_open_review(self, held: Held) -> bool:
        return any(review.kind == "state" for review in await self.store.reviews(held.run_id, open_only=True))

    def _advance(self, held: Held, row: port.Transition, data: object, payload_bytes: int) -> None:
        """Take the committed move into memory."""
        held.seq, held.state, held.data, held.hash = row.seq, row.target, data, row.hash
        held.visits[row.target] = held.visits.get(row.target, 0) + 1
        held.events.add(row.event)
        held.entered_at, held.payload_bytes = row.at, payload_bytes
        if held.visit.hashes:
            held.usage += held.visit.usage
        held.visit = Visit(self.store, self.clock, held.run_id, row.seq, held.epoch)

    async def _ask(self, held: Held, question: Ask[Any]) -> Parked:
        """Put the question to a person and let go of the run until they decide or time is up."""
        spec = held.definition.states[held.state]
        now = self.clock.now()
        expires = None if spec.timeout is None else held.entered_at + micros(spec.timeout)
        due = min((at for at in (expires, wakes_at(held)) if at is not None), default=None)
        review = port.Review(held.state, question.question, show(question), spec.events, now, expires)
        head = port.Head(Status.WAITING, waiting_for=Waiting.REVIEW, due_at=due)
        await self.store.submit(port.Park(held.run_id, held.seq, held.epoch, now, head, review=review))
        trace.emit("run.parked", {"run_id": held.id, "state": held.state, "why": Waiting.REVIEW.value})
        return Parked(Waiting.REVIEW, due)

    async def _park(self, held: Held, park: Park) -> Parked:
        deadline = wakes_at(held)
        timeout = held.definition.states[held.state].timeout
        expires = None if timeout is None else held.entered_at + micros(timeout)
        due = min((at for at in (park.due_at, deadline, expires) if at is not None), default=None)
        head = port.Head(Status.WAITING, waiting_for=park.why, due_at=due)
        now, asks = self.clock.now(), tuple(held.visit.asks)
        alert = "; ".join(each for each in (park.alert, *held.visit.alerts) if each) or None
        row = port.Park(held.run_id, held.seq, held.epoch, now, head, None, None, asks, park.children, alert, park.about)
        await self.store.submit(row)
        self._tell_parked(held, park, asks)
        return Parked(park.why, due)

    def _tell_parked(self, held: Held, park: Park, asks: Sequence[port.CallReview]) -> None:
        told = {"run_id": held.id, "state": held.state}
        for question in asks:
            trace.emit("gate.waiting", {**told, "target": question.tool, "kind": question.kind})
        if held.visit.alerts:
            trace.emit("gate.reminder", {**told, "alert": "; ".join(held.visit.alerts)})
        trace.emit("run.parked", {**told, "why": park.why.value})

    async def _die(self, held: Held, event: Event | None, reason: str, needs: str = "", error: str = "") -> Dead:
        """Give the run up with everything a person needs to know."""
        text = await diagnosis(self.store, held, event, reason, needs)
        kind, call = named(event)
        death = port.Death(held.state, error or kind, call or attempted(held), text)
        head = port.Head(Status.DEAD, reason=reason[:1000])
        await self.store.submit(port.Park(held.run_id, held.seq, held.epoch, self.clock.now(), head, death=death))
        trace.emit("run.dead", {"run_id": held.id, "state": held.state, "reason": reason})
        return Dead(reason)

    async def give_up(self, held: Held, error: Exception) -> Dead:
        """End a run whose step raised what it would raise again at every claim."""
        reason = f"{held.state} cannot be advanced: {type(error).__name__}: {said(error)}"
        needs = "the cause removed; it would come up again at every attempt"
        return await self._die(held, None, reason, needs, error=type(error).__name__)

    def poisoned(self, held: Held) -> bool:
        """Whether the run was claimed too often without getting on. One that a bound moves is: no handler is called."""
        return held.attempts >= self.services.settings.poison and limit(held, self.clock.now()) is None

    async def give_up_poison(self, held: Held) -> Dead:
        """End a run that every holder lets go of without a word, before it takes another one down."""
        reason = f"{held.state} was claimed {held.attempts} times, and no claim led to a move: whoever runs it goes down with it"
        return await self._die(held, None, reason, POISON_NEEDS, error="Poison")

    def _report(self, held: Held, outcome: Moved | Ended) -> None:
        if trace.enabled():
            fields = {"run_id": held.id, "machine_name": held.definition.name, "seq": held.seq, "state": held.state}
            trace.emit("transition", fields)
            if isinstance(outcome, Ended):
                trace.emit("run.ended", {**fields, "status": outcome.status.value})


def _snapshot(held: Held, data: Data, size: int) -> str | None:
    """The folded data as JSON, if the payloads since the last snapshot are worth it.

    Looked at again only when they have grown to the size that would be: asking at every step would cost the square.
    """
    text = stored(data)
    if size >= SNAPSHOT_FACTOR * len(text):
        held.snapshot_from = SNAPSHOT_FLOOR
        return text
    held.snapshot_from = SNAPSHOT_FACTOR * len(text)
    return None


def transition(held: Held, move: Move, payload: str, now: int, actor: str | None) -> port.Transition:
    """The journal row of a decided move, chained to the row before it and to the visit's calls."""
    visit, seq = held.visit, held.seq + 1
    guards = json.dumps(move.guards) if move.guards else "[]"
    place = (held.hash, held.run_id, seq, held.machine, move.source, move.event, move.target, held.epoch, now)
    link = chain.link(*place, payload, guards, actor, visit.hashes, visit.marks)
    return port.Transition(
        run_id=held.run_id,
        seq=seq,
        machine=held.machine,
        source=move.source,
        event=move.event,
        target=move.target,
        epoch=held.epoch,
        at=now,
        payload=payload,
        guards=guards,
        actor=actor,
        input_tokens=visit.usage.input_tokens,
        output_tokens=visit.usage.output_tokens,
        calls=len(visit.hashes),
        hash=link,
    )


def show(question: Ask[Any]) -> str:
    """What the person is shown, as JSON."""
    return to_json(question.show)


def _unhandled(refusal: Refusal, event: Event) -> str:
    if isinstance(event, Failure):
        return f"{event_name(type(event))} in {refusal.source} has no row: {event.message}"
    return f"{refusal.event} in {refusal.source} was refused: {refusal.reason}"
