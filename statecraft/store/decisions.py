"""A person's decision about a call: looked at, written down, and the run woken, in one transaction."""

from __future__ import annotations

import json

import sqlalchemy as sa

from statecraft.clock import instant
from statecraft.errors import AlreadyDecided, DecisionLate, IllegalEvent, NotFound, Refused, RunClosed, Superseded
from statecraft.records import RunRecord
from statecraft.store import chain, telling
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.claims import head
from statecraft.store.port import Decide
from statecraft.store.rows import Row
from statecraft.store.visits import carried
from statecraft.store.writes import Rows, note


def decide(sql: sa.Connection, write: Decide, rows: Rows) -> None:
    """Decide a question about a call. Raises what `Decide` says; then nothing was added."""
    run = head(sql, write.run_id)
    asked = _asked(sql, write)
    refusal = _undecidable(sql, write, run, asked)
    if refusal is not None:
        raise refusal
    key = (write.run_id, write.seq, write.digest, write.occurrence, write.round)
    question = chain.question_hash(write.seq, asked, asked.decisions)
    mark = chain.answer_hash(question, write.decision, write.by, write.at, run.epoch, write.note, write.answer)
    rows[s.ANSWER].append((write.decision, write.by, write.at, run.epoch, write.note, mark, write.answer, *key))
    rows[s.WAKE].append((write.at, write.run_id, run.seq, write.at))
    facts = note(tool=asked.tool, decision=write.decision, by=write.by)
    rows[s.FEED].append((write.run_id, "decided", write.seq, 0, write.at, facts))
    telling.decided(write, rows)


def _asked(sql: sa.Connection, write: Decide) -> Row:
    review = t.call_reviews.c
    key = (review.digest == write.digest, review.occurrence == write.occurrence, review.round == write.round)
    query = sa.select(t.call_reviews).where(review.run_id == write.run_id, review.seq == write.seq, *key)
    found = sql.execute(query).first()
    if found is None:
        raise NotFound(f"run {write.run_id.hex()} has no such question in step {write.seq}; list them with `statecraft review`")
    return found


def _undecidable(sql: sa.Connection, write: Decide, run: RunRecord, asked: Row) -> Refused | None:
    what = f"the {asked.kind} of {asked.tool} in step {write.seq} of run {run.id}"
    if asked.decision is not None:
        return AlreadyDecided(f"{what} was decided by {asked.decided_by}: {asked.decision}")
    if run.status.closed:
        return RunClosed(f"run {run.id} is {run.status} in {run.state}; {what} needs no decision any more")
    if not carried(sql, write.run_id, write.seq, run.seq) or _answered(sql, write):
        return Superseded(f"run {run.id} went on without {what}; it stands at step {run.seq} in {run.state}")
    if asked.action != write.action:
        return Superseded(f"{what} is about another action than the one decided on; look at it again")
    if asked.expires_at is not None and asked.expires_at <= write.at:
        return DecisionLate(f"{what} expired at {instant(asked.expires_at)}; nothing was decided")
    taken = json.loads(asked.decisions)
    if write.decision not in taken:
        return IllegalEvent(f"{what} takes {' or '.join(taken)}, not {write.decision}")
    return None


def _answered(sql: sa.Connection, write: Decide) -> bool:
    """Whether the call has an outcome, so that nobody waits for the decision."""
    call = t.calls.c
    key = (call.digest == write.digest, call.occurrence == write.occurrence)
    return sql.execute(sa.select(call.idx).where(call.run_id == write.run_id, call.seq >= write.seq, *key)).first() is not None
