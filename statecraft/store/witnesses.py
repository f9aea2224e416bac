"""What stands beside the journal and must agree with it: attempts, questions to people and their answers, snapshots, the head."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from statecraft.records import Json, Status, Waiting
from statecraft.store import chain, rows
from statecraft.store import tables as t

if TYPE_CHECKING:
    from statecraft.store.verify import Journal


def of_visits(journal: Journal) -> Iterator[str]:
    """Attempts, and questions about calls with their answers."""
    for seq, tried in journal.attempts.items():
        for row in tried:
            if bad := _differs(journal, seq, row.hash, chain.attempt_hash(row)):
                yield f"attempt {row.attempt} ({row.kind}) of {row.name} in step {seq}: {bad}"
    for seq, asked in journal.questions.items():
        for row in asked:
            mark = chain.question_hash(seq, row, row.decisions)
            if bad := _differs(journal, seq, row.hash, mark) or _answer(row, mark):
                yield f"question about {row.tool} in step {seq}: {bad}"


def _differs(journal: Journal, seq: int, kept: bytes | None, computed: bytes) -> str:
    """What is wrong with a row that has a hash of its own; empty if nothing is."""
    if kept is None:
        return "" if seq in journal.aged else "has no hash"
    return "" if kept == computed else "hash differs"


def _answer(row: rows.Row, question: bytes) -> str:
    facts = (row.decision, row.decided_by, row.decided_at, row.decided_epoch, row.note, row.answer)
    if row.decision is None:
        return "" if {*facts, row.answer_hash} == {None} else "its decision is missing"
    if row.answer_hash is None:
        return "" if row.hash is None else "its decision has no hash"
    if None in facts[:-1] or chain.answer_hash(question, *facts) != row.answer_hash:
        return "its decision differs from its hash"
    return ""


def of_people(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    """Questions of review states, whose decisions are moves."""
    moves = {link.seq: link for link in journal.links}
    found = list(sql.execute(sa.select(t.reviews).where(t.reviews.c.run_id == journal.run.run_id).order_by(t.reviews.c.seq)))
    yield from _unasked(sql, journal, {row.seq for row in found})
    for row in found:
        what = f"review of step {row.seq}"
        times, texts = (row.requested_at, row.expires_at), (row.events, row.question, row.show)
        if bad := _differs(journal, row.seq, row.hash, chain.review_hash(row.seq, row.state, *times, *texts)):
            yield f"{what}: {bad}"
        entered, left = moves.get(row.seq), moves.get(row.seq + 1)
        if entered is None or entered.target != row.state:
            yield f"{what}: asks in {row.state}, where the run did not stand"
        decided = (row.decision, row.decided_by, row.decided_at)
        if row.decision is not None and (left is None or decided != (left.event, left.actor, left.at)):
            yield f"{what}: its decision is not the move that followed"
        elif row.decision is None and left is not None and left.event in json.loads(row.events):
            yield f"{what}: its decision is missing, but the run moved by {left.event}"


def _unasked(sql: sa.Connection, journal: Journal, asked: set[int]) -> Iterator[str]:
    """Moves out of review states by a decision, without the question."""
    machines = {link.machine: states_of(sql, link.machine) or {} for link in journal.links}
    for link in journal.links:
        state = machines[link.machine].get(link.source)
        if state is not None and state["kind"] == "review" and link.event in state["events"] and link.seq - 1 not in asked:
            yield f"review of step {link.seq - 1}: is missing, but the run moved by {link.event}"


def states_of(sql: sa.Connection, machine: int) -> dict[str, Json] | None:
    """The states of a machine by name, as its specification has them; None if it does not say."""
    text = sql.execute(sa.select(t.machines.c.spec).where(t.machines.c.machine == machine)).scalar()
    states = None if text is None else json.loads(text).get("states")
    return None if states is None else {state["name"]: state for state in states}


def of_head(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    """The head, the snapshot, the deaths, and the run that it was forked from."""
    run, last = journal.run, journal.links[-1] if journal.links else None
    if last is None or (run.seq, run.state) != (last.seq, last.target):
        where = "empty" if last is None else f"at step {last.seq} in {last.target}"
        yield f"head: says step {run.seq} in {run.state}, but the journal is {where}"
        return
    highest = max(journal.links, key=lambda link: (link.epoch, link.seq))
    if highest.epoch > run.epoch:
        yield f"head: has epoch {run.epoch}, but step {highest.seq} was written under epoch {highest.epoch}"
    if run.machine != last.machine:
        yield f"head: is of machine {run.machine}, but step {last.seq} was made by machine {last.machine}"
    yield from _edges(sql, journal)
    yield from _end(sql, journal, last)
    yield from _snapshot(sql, journal)
    yield from _deaths(sql, journal)
    yield from _shared(sql, journal)


def _edges(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    """Every move takes an edge of its machine."""
    numbers = sorted({link.machine for link in journal.links})
    edges = t.machine_edges.c
    query = sa.select(edges.machine, edges.source, edges.event, edges.target).where(edges.machine.in_(numbers))
    known = {tuple(row) for row in sql.execute(query)}
    for link in journal.links:
        if (link.machine, link.source, link.event, link.target) not in known:
            yield f"transition {link.seq}: machine {link.machine} has no edge {link.source!r} by {link.event} to {link.target}"


def _end(sql: sa.Connection, journal: Journal, last: rows.Row) -> Iterator[str]:
    """Status and times of a run that has ended."""
    run = journal.run
    if run.status not in set(Status):
        yield f"head: has the unknown status {run.status!r}"
        return
    if run.waiting_for is not None and run.waiting_for not in set(Waiting):
        yield f"head: waits for the unknown {run.waiting_for!r}"
    status = Status(run.status)
    state = (states_of(sql, run.machine) or {}).get(last.target)
    if state is not None:
        wanted = None if state["kind"] != "final" else Status.DONE if state["ok"] else Status.FAILED
        if status != wanted and (wanted is not None or status in (Status.DONE, Status.FAILED)):
            yield f"head: is {status} in {last.target}, which is {'not final' if wanted is None else f'where a run is {wanted}'}"
    if status in (Status.DONE, Status.FAILED) and (run.finished_at, run.updated_at) != (last.at, last.at):
        yield f"head: does not end when step {last.seq} was made"
    elif status is Status.CANCELLED and run.finished_at != run.updated_at:
        yield "head: does not end when it was last changed"
    if run.created_at < journal.links[0].at:
        yield "head: was created before its start"


def _snapshot(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    for row in sql.execute(sa.select(t.snapshots).where(t.snapshots.c.run_id == journal.run.run_id)):
        if bad := _differs(journal, row.seq, row.hash, chain.snapshot_hash(row.seq, row.data)):
            yield f"snapshot of step {row.seq}: {bad}"
        if row.seq > journal.links[-1].seq:
            yield f"snapshot of step {row.seq}: the journal ends at step {journal.links[-1].seq}"


def _deaths(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    run = journal.run
    found = list(sql.execute(sa.select(t.deaths).where(t.deaths.c.run_id == run.run_id).order_by(t.deaths.c.epoch)))
    for row in found:
        told = (row.seq, row.epoch, row.at, row.state, row.error, row.call, row.diagnosis)
        if bad := _differs(journal, row.seq, row.hash, chain.death_hash(*told)):
            yield f"death in step {row.seq}: {bad}"
    # By their epochs: a migration may have carried the visit that died on to another step.
    died = {row.epoch: row for row in found}
    shared = -1 if run.forked_step is None else run.forked_step
    redriven = [call for seq, done in journal.calls.items() if seq >= shared for call in done if call.kind == "redrive"]
    for call in redriven:
        if call.epoch not in died or died[call.epoch].seq > call.seq:
            yield f"call {call.seq}.{call.idx}: is a redrive, but no death is kept under epoch {call.epoch}"
    last = died.get(run.epoch)
    if run.status == Status.DEAD:
        if last is None or last.at != run.finished_at:
            yield f"head: is dead, but no death is kept of step {run.seq} under epoch {run.epoch}"
    elif last is not None and not any(call.epoch == run.epoch for call in redriven):
        yield f"head: is {run.status}, but it died in step {last.seq} and nobody redrove it"


_SHARED = ("machine", "source", "event", "target", "epoch", "at", "guards", "actor", "payload")


def _shared(sql: sa.Connection, journal: Journal) -> Iterator[str]:
    """What a fork shares with the run it was forked from, if that one is still there."""
    run = journal.run
    if run.forked_from is None or run.forked_step is None:
        return
    mine = t.transitions.c
    theirs = rows.TRANSITIONS.where(mine.run_id == run.forked_from, mine.seq <= run.forked_step)
    for link, other in zip(journal.links, list(sql.execute(theirs)), strict=False):
        if any(getattr(link, name) != getattr(other, name) for name in _SHARED):
            yield f"transition {link.seq}: differs from that of run {run.forked_from.hex()}, which it was forked from"
            return
