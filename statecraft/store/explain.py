"""Why a write was refused, in one line: the constraint, the run, and what stood in its way."""

from __future__ import annotations

import sqlalchemy as sa

from statecraft.errors import AlreadyDecided, Fenced, NotFound, WriteRefused
from statecraft.store import claims
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.port import Attempt, Call, Move, Park, Start, Transition
from statecraft.store.writes import Step


class Short(Exception):
    """A statement touched fewer rows than it was given: a fence held, or a review was not open."""

    def __init__(self, statement: s.Statement) -> None:
        super().__init__(statement.name)
        self.statement = statement


def explain(sql: sa.Connection, write: Step, error: Exception) -> Exception:
    """The typed error for a refused write. `sql` sees the database as it was without it."""
    if isinstance(error, Short):
        return _fenced(sql, write, error.statement)
    if isinstance(error, WriteRefused):
        # A late writer's link of the journal is refused before its fence is looked at.
        told = _fenced(sql, write) if isinstance(write, Move) and not _held(sql, write) else None
        told = told or WriteRefused(f"{_name(write)} was refused: {_why(sql, write, str(error))}")
        told.__cause__ = error.__cause__
        return told
    return error


def _held(sql: sa.Connection, write: Move) -> bool:
    """Whether the run still stands where the move believes it does, under its epoch."""
    run_id, epoch, seq = _expected(write)
    found = sql.execute(sa.select(t.runs.c.epoch, t.runs.c.seq, t.runs.c.finished_at).where(t.runs.c.run_id == run_id)).first()
    return found is not None and tuple(found) == (epoch, seq, None)


def _fenced(sql: sa.Connection, write: Step, statement: s.Statement | None = None) -> Exception:
    if isinstance(write, Move) and write.decision and (statement is s.DECISION or _decided(sql, write.transition)):
        before = write.transition.seq - 1
        return AlreadyDecided(f"{_name(write)} was refused: the review of step {before} is not open; look at the run again")
    if isinstance(write, Start) and write.parent is not None:
        return _orphan(sql, write, write.parent)
    run_id, epoch, seq = _expected(write)
    try:
        run = claims.head(sql, run_id)
    except NotFound as missing:
        return missing
    held = f"held by {run.owner}" if run.owner else str(run.status)
    found = f"the run has epoch {run.epoch} at step {run.seq} and is {held}"
    return Fenced(f"{_name(write)} was refused: it expects epoch {epoch} at step {seq}, but {found}")


def _orphan(sql: sa.Connection, write: Start, parent: bytes) -> Exception:
    """Why a child did not start."""
    try:
        run = claims.head(sql, parent)
    except NotFound as missing:
        return missing
    return Fenced(f"{_name(write)} was refused: its parent {run.id} is {run.status} in {run.state}, so nobody waits for it")


def _decided(sql: sa.Connection, link: Transition) -> bool:
    found = sa.select(t.reviews.c.decision).where(t.reviews.c.run_id == link.run_id, t.reviews.c.seq == link.seq - 1)
    return sql.execute(found).scalar() is not None


def _expected(write: Step) -> tuple[bytes, int, int]:
    """(run, epoch, seq) that the write believes in."""
    if isinstance(write, Move):
        return write.transition.run_id, write.transition.epoch, write.transition.seq - 1
    assert isinstance(write, Call | Attempt | Park)
    return write.run_id, write.epoch, write.seq


def _name(write: Step) -> str:
    match write:
        case Start(transition=link):
            return f"start of run {link.run_id.hex()}"
        case Move(transition=link):
            return f"step {link.seq} of run {link.run_id.hex()} ({link.source} by {link.event} to {link.target})"
        case Call():
            return f"{write.kind} call {write.name} in step {write.seq} of run {write.run_id.hex()}"
        case Attempt() | Park():
            return f"{type(write).__name__.lower()} in step {write.seq} of run {write.run_id.hex()}"
        case _:
            return type(write).__name__.lower()


def _why(sql: sa.Connection, write: Step, said: str) -> str:
    """What the database said, or, where it names nothing, what a second look finds."""
    if "FOREIGN KEY" not in said:
        return said
    if isinstance(write, Start | Move):
        return _why_link(sql, write.transition)
    if isinstance(write, Call) and any(node.parent is not None for node in write.nodes):
        return "a message has a parent that is not stored"
    return f"{said}: it refers to a step, message or payload that is not stored"


def _why_link(sql: sa.Connection, link: Transition) -> str:
    edges = t.machine_edges.c
    edge = (edges.machine == link.machine, edges.source == link.source, edges.event == link.event, edges.target == link.target)
    if sql.execute(sa.select(edges.machine).where(*edge)).first() is None:
        return f"machine {link.machine} has no such edge"
    before = sa.select(t.transitions.c.target).where(t.transitions.c.run_id == link.run_id, t.transitions.c.seq == link.seq - 1)
    stood = sql.execute(before).scalar()
    return f"the run stood in {stood} after step {link.seq - 1}" if stood is not None else f"there is no step {link.seq - 1}"
