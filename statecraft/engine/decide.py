"""A person's decision: the event that moves a run out of a review, checked and committed in one write."""

from __future__ import annotations

from statecraft.calls.visit import Visit
from statecraft.clock import Clock
from statecraft.engine.fit import merged
from statecraft.engine.held import Held, hold
from statecraft.engine.migrating import Bring
from statecraft.engine.migrating import write as migrated
from statecraft.engine.step import transition
from statecraft.errors import AlreadyDecided, Fenced, IllegalEvent, NotWaiting, RunClosed, RunHeld
from statecraft.machine.definition import Definition, Refusal
from statecraft.machine.event import Event, event_name
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store import port


async def decide(
    store: port.Store, clock: Clock, definition: Definition, run_id: bytes, event: Event, by: str, bring: Bring | None = None
) -> Status:
    """Commit the decision; answers the run's status after it (`ready` if it goes on). A run of an older definition is
    migrated before, by `bring`, if the decision can be taken then.

    Raises `RunClosed`, `NotWaiting`, `IllegalEvent`, `InvalidPayload` (it does not fit the run's data) or
    `AlreadyDecided`, or `RunHeld` if somebody claimed the run at this moment; then nothing was written.
    """
    loaded = await store.load(run_id)
    older = bring is not None and loaded.run.fingerprint != definition.fingerprint
    migrating = await bring(loaded) if older and bring is not None and loaded.run.waiting_for is Waiting.REVIEW else None
    loaded = loaded if migrating is None else migrating.loaded
    run = loaded.run
    check(run, definition, event)
    held = hold(definition, loaded, Visit(store, clock, run_id, run.seq, run.epoch))
    payload, _ = merged(held, event)
    move = definition.decide(run.state, event, held.data)
    if isinstance(move, Refusal):
        raise IllegalEvent(f"run {run.id} in {run.state} refused {move.event}: {move.reason}")
    target = definition.states[move.target]
    now = clock.now()
    if target.kind == "final":
        head = port.Head(Status.DONE if target.ok else Status.FAILED)
    else:
        head = port.Head(Status.READY, due_at=now)
    row = transition(held, move, payload, now, by)
    try:
        if migrating is not None:
            await migrated(store, migrating)
        await store.submit(port.Move(row, head, decision=True))
    except Fenced:
        raise await _lost(store, held, event) from None
    return head.status


def check(run: RunRecord, definition: Definition, event: Event) -> None:
    """Whether the run waits for this sort of event. Raises the refusal that says why not."""
    name = event_name(type(event))
    if run.status.closed:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state}; it takes no more events")
    if run.status is not Status.WAITING or run.waiting_for is not Waiting.REVIEW:
        raise NotWaiting(
            f"run {run.id} is {run.status} in {run.state}, not waiting for a decision; wait for it or look with show"
        )
    spec = definition.states[run.state]
    if spec.kind != "review":
        raise NotWaiting(
            f"run {run.id} waits in {run.state} for a decision about a call, not for an event; answer it with decide"
        )
    if name not in spec.events or definition.events.get(name) is not type(event):
        raise IllegalEvent(f"run {run.id} in {run.state} takes {' or '.join(spec.events)}, not {name}")


async def _lost(store: port.Store, held: Held, event: Event) -> Exception:
    run = await store.run(held.run_id)
    if run.status.closed and run.seq == held.seq:
        return RunClosed(f"run {run.id} was {run.status} meanwhile; {event_name(type(event))} was not recorded")
    if run.seq == held.seq:
        holder = run.owner or "another process"
        return RunHeld(
            f"run {run.id} was claimed by {holder} meanwhile; {event_name(type(event))} was not recorded: send it again"
        )
    return AlreadyDecided(
        f"run {run.id} was decided meanwhile and stands in {run.state}; {event_name(type(event))} was not recorded"
    )
