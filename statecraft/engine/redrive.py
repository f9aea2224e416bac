"""Letting a dead run go on: what killed it must not kill it at once, so that is looked at before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.calls.classify import said
from statecraft.calls.visit import REDRIVE, Visit
from statecraft.clock import Clock, instant, micros
from statecraft.engine.fit import merged
from statecraft.engine.held import Held, hold
from statecraft.engine.limits import limit, overrun
from statecraft.engine.migrating import Bring, Migrating
from statecraft.engine.migrating import write as migrated
from statecraft.engine.step import transition
from statecraft.errors import ConfigError, ErrorKind, IllegalEvent, NotDead, StatecraftError, WouldDieAgain
from statecraft.letters import DeadLetter
from statecraft.machine.definition import Definition, Refusal
from statecraft.machine.event import (
    BudgetExhausted,
    DeadlinePassed,
    OperatorEvent,
    StepsExhausted,
    SystemEvent,
    VisitsExhausted,
    event_name,
)
from statecraft.records import CallRecord, Status
from statecraft.store import chain, port


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of a dead run."""

    by: str
    note: str = ""
    event: OperatorEvent | None = None
    """Moves it by a row of its machine; None tries the visit again."""
    deadline: timedelta | None = None
    """Its new deadline, counted from now."""
    steps: int | None = None
    """How many steps it may make from here."""

    def __post_init__(self) -> None:
        if not self.by:
            raise ConfigError("a redrive has a name on it: by='ann'")
        if self.deadline is not None and self.deadline <= timedelta(0):
            raise ConfigError(f"redrive(deadline=...) is a time greater than 0, not {self.deadline}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"redrive(steps=...) is at least 1, not {self.steps}")


async def redrive(
    store: port.Store, clock: Clock, definition: Definition, run_id: bytes, wish: Wish, bring: Bring | None = None
) -> Status:
    """Let a dead run go on; answers its status then. A run of an older definition is migrated before, by `bring`. Raises what
    `prepare` and `port.Redrive` say; then nothing was written."""
    migrating, write = await prepare(store, clock, definition, run_id, wish, bring)
    if migrating is not None:
        await migrated(store, migrating)
    await store.submit(write)
    told = {"run_id": run_id.hex(), "machine_name": definition.name, "by": wish.by, "note": wish.note}
    trace.emit("run.redriven", told)
    return write.head.status


async def prepare(
    store: port.Store, clock: Clock, definition: Definition, run_id: bytes, wish: Wish, bring: Bring | None = None
) -> tuple[Migrating | None, port.Redrive]:
    """The writes that would let a dead run go on: its migration, if it needs one, and what follows.

    Raises `NotDead`, `IllegalEvent`, `InvalidPayload`, `VersionMismatch`, or `WouldDieAgain`, which says what is needed.
    """
    loaded, letter = await store.load(run_id), await store.dead_letter(run_id)
    if loaded.run.status is not Status.DEAD:
        raise NotDead(f"run {loaded.run.id} is {loaded.run.status} in {loaded.run.state}; only a dead run is redriven")
    older = loaded.run.fingerprint != definition.fingerprint
    migrating = await bring(loaded) if older and bring is not None else None
    loaded = loaded if migrating is None else migrating.loaded
    run, now = loaded.run, clock.now()
    try:
        held = hold(definition, loaded, Visit(store, clock, run_id, run.seq, run.epoch))
    except StatecraftError:
        raise
    except Exception as error:
        raise WouldDieAgain(
            f"run {run.id} cannot be read back by this code: {said(error)}; it needs the code that wrote it"
        ) from error
    again = retried(loaded.calls, letter)
    entry = _entry(held, loaded.calls, again, wish, now)
    held.visit.hashes.insert(entry.idx, entry.hash)
    _grant(held, wish, now)
    if wish.event is None:
        _refuse_doubt(held, loaded.calls, letter)
        move, head = None, port.Head(Status.READY, due_at=now)
        held.entered_at = now
    else:
        move, head = _move(held, wish.event, now, wish.by)
    if not head.status.closed:
        _survives(held, now)
    facts = (run_id, run.seq, run.epoch, now, wish.by, wish.note)
    return migrating, port.Redrive(*facts, entry, head, held.deadline_at, held.extra_steps, move)


def retried(calls: Sequence[CallRecord], letter: DeadLetter | None) -> list[CallRecord]:
    """The failed calls of the visit that are made again: those after which nothing succeeded, and those whose failure the
    run died of. What the handler lived with stays: it may have done something else instead.

    A call in doubt is never made again by itself.
    """
    dead_of = "" if letter is None else f"{letter.reason}\n{(letter.payload or {}).get('message', '')}"
    since = max((index for index, call in enumerate(calls) if call.kind == REDRIVE), default=-1)
    worked = max((index for index, call in enumerate(calls) if call.ok and call.kind != REDRIVE), default=-1)
    gone = _gone(calls)
    return [
        call
        for index, call in enumerate(calls)
        if (call.digest, call.occurrence) not in gone
        and not _in_doubt(call)
        and (_names(dead_of, call) or (not call.ok and index > max(worked, since)))
    ]


def _gone(calls: Sequence[CallRecord]) -> set[tuple[str, int]]:
    """What earlier redrives of the visit gave up on."""
    return {(digest, nth) for call in calls if call.kind == REDRIVE for digest, nth in call.request["retried"]}


def _names(text: str, call: CallRecord) -> bool:
    """Whether the run died of this call: of its failure, or of the child run whose end it answered with."""
    if call.ok:
        return call.kind == "child" and call.result["run_id"] in text
    return bool(message := call.result.get("message")) and message in text


def _in_doubt(call: CallRecord) -> bool:
    return not call.ok and call.result.get("kind") == ErrorKind.IN_DOUBT


def _entry(held: Held, calls: Sequence[CallRecord], again: Sequence[CallRecord], wish: Wish, now: int) -> port.Call:
    """The journal's row of the redrive, in the visit that died."""
    visit = held.visit
    request = canonical(
        {
            "by": wish.by,
            "note": wish.note,
            "event": None if wish.event is None else event_name(type(wish.event)),
            "deadline_s": None if wish.deadline is None else wish.deadline.total_seconds(),
            "steps": wish.steps,
            "retried": [[call.digest, call.occurrence] for call in again],
        }
    )
    digest, nth = hashlib.sha256(REDRIVE.encode()).digest(), sum(call.kind == REDRIVE for call in calls)
    row = port.Call(
        run_id=held.run_id,
        seq=held.seq,
        idx=visit.gaps[0] if visit.gaps else len(visit.hashes),
        epoch=held.epoch,
        kind=REDRIVE,
        name=wish.by,
        digest=digest,
        occurrence=nth,
        ok=True,
        request=request,
        result="null",
        attempts=1,
        started_at=now,
        finished_at=now,
        input_tokens=0,
        output_tokens=0,
        model=None,
        hash=b"",
    )
    return replace(row, hash=chain.call_hash(row))


def _grant(held: Held, wish: Wish, now: int) -> None:
    if wish.deadline is not None:
        held.deadline_at = now + micros(wish.deadline)
    if wish.steps is not None:
        made = held.seq + (wish.event is not None)
        held.extra_steps = max(held.extra_steps, made + wish.steps - held.definition.max_steps)


def _move(held: Held, event: OperatorEvent, now: int, by: str) -> tuple[port.Transition, port.Head]:
    """The operator's move, taken into `held` as if it were made. Raises `IllegalEvent` or `InvalidPayload`."""
    given: object = event
    name, definition = event_name(type(event)), held.definition
    if not isinstance(given, OperatorEvent) or definition.events.get(name) is not type(event):
        raise IllegalEvent(f"{definition.name} has no operator's event {name}; {held.state} takes {operator_rows(held)}")
    payload, data = merged(held, event)
    decided = definition.decide(held.state, event, held.data)
    if isinstance(decided, Refusal):
        raise IllegalEvent(f"run {held.id} in {held.state} refused {name}: {decided.reason}; it takes {operator_rows(held)}")
    row, target = transition(held, decided, payload, now, by), definition.states[decided.target]
    held.seq, held.state, held.data, held.entered_at = row.seq, row.target, data, now
    held.visits[row.target] = held.visits.get(row.target, 0) + 1
    held.events.add(name)
    held.visit = Visit(held.visit.store, held.visit.clock, held.run_id, row.seq, held.epoch)
    if target.kind == "final":
        return row, port.Head(Status.DONE if target.ok else Status.FAILED)
    return row, port.Head(Status.READY, due_at=now)


def operator_rows(held: Held) -> str:
    """The operator's events that the run's state takes, for messages."""
    events = held.definition.events
    named = [name for name in held.definition.enabled(held.state) if issubclass(events[name], OperatorEvent)]
    return " or ".join(named) or "no operator's event"


def _survives(held: Held, now: int) -> None:
    """Raise `WouldDieAgain` if a bound without a row would end the run before its handler is called."""
    if overrun(held):
        raise WouldDieAgain(f"run {held.id} has made {held.seq} steps, all that it may: redrive it with steps=")
    bound = limit(held, now)
    if bound is None or not isinstance(held.definition.decide(held.state, bound, held.data), Refusal):
        return
    raise WouldDieAgain(f"run {held.id} would die again at once in {held.state}: {_needs(held, bound)}")


def _needs(held: Held, bound: SystemEvent) -> str:
    others = f"redrive it with an operator's event ({held.state} takes {operator_rows(held)}), or drop it"
    match bound:
        case DeadlinePassed():
            at = "" if held.deadline_at is None else f" at {instant(held.deadline_at).isoformat()}"
            return f"its deadline passed{at}; redrive it with deadline=, the time it gets from now"
        case StepsExhausted():
            return f"its {held.seq} steps are used up; redrive it with steps=, how many it gets from here"
        case VisitsExhausted(visits=visits):
            return f"{held.state} may be visited {visits} times, and no row takes one more; {others}"
        case BudgetExhausted(message=message):
            return f"{message}, and no row takes that; {others}"
        case _:
            return f"{event_name(type(bound))} has no row; {others}"


def _refuse_doubt(held: Held, calls: Sequence[CallRecord], letter: DeadLetter | None) -> None:
    """A call in doubt answers as it did, so a run that died of one would do so again."""
    text = "" if letter is None else letter.reason
    for call in calls:
        if _in_doubt(call) and _names(text, call):
            raise WouldDieAgain(
                f"run {held.id} died of {call.name}, which is in doubt and is not made again by itself; find out whether it "
                f"took effect, and redrive it with an operator's event ({held.state} takes {operator_rows(held)}), or drop it"
            )
