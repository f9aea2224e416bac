"""What a run had used of its own budgets before one of its visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from statecraft.store import tables as t
from statecraft.store.accounts import OWN, own_bounds

_PAID = ("llm", "tool")
"""Kinds of calls that budgets count."""


def own_use(sql: sa.Connection, run_id: bytes, before: int) -> list[tuple[str, int]]:
    """(meter, amount) of the run's own meters, without what it used from visit `before` on.

    That is what the meters hold less the calls journaled since, its child runs' included. An attempt that failed and may
    have been billed leaves no amount in the journal, so it counts whenever it was made.
    """
    held = {row.meter: int(row.used) for row in OWN.ask(sql, *own_bounds(run_id))}
    if not held:
        return []
    since: dict[str, int] = defaultdict(int)
    for state, runs, first in _since(sql, run_id, before):
        for name, amount in _used(sql, runs, first).items():
            since[f"run:{run_id.hex()}:{name}"] += amount
            since[f"state:{run_id.hex()}:{state}:{name}"] += amount
    left = {meter: max(0, used - since.get(meter, 0)) for meter, used in held.items()}
    return [(meter, amount) for meter, amount in sorted(left.items()) if amount > 0]


def _since(sql: sa.Connection, run_id: bytes, before: int) -> Iterator[tuple[str, list[bytes], int | None]]:
    """(state, runs, visit) of what was used since: by one visit of the run itself, or by the runs under it that the visit
    started (no visit: all of theirs)."""
    links = sa.select(t.transitions.c.seq, t.transitions.c.target).where(t.transitions.c.run_id == run_id)
    states = {row.seq: row.target for row in sql.execute(links.where(t.transitions.c.seq >= before))}
    for seq, state in states.items():
        yield state, [run_id], seq
    children = sql.execute(sa.select(t.runs.c.run_id, t.runs.c.key).where(t.runs.c.parent == run_id))
    for child, key in children.all():
        started = int(str(key or "").removeprefix("child:").split(".", 1)[0] or -1)
        if started >= before:
            yield states.get(started, ""), _family(sql, child), None


def _family(sql: sa.Connection, run_id: bytes) -> list[bytes]:
    """A run and all below it."""
    top = sa.select(t.runs.c.run_id).where(t.runs.c.run_id == run_id).cte("family", recursive=True)
    below = sa.select(t.runs.c.run_id).join(top, t.runs.c.parent == top.c.run_id)
    return list(sql.execute(sa.select(top.union_all(below).c.run_id)).scalars())


def _used(sql: sa.Connection, runs: Sequence[bytes], seq: int | None) -> dict[str, int]:
    call = t.calls.c
    tokens, cost = sa.func.sum(call.input_tokens + call.output_tokens), sa.func.sum(call.cost)
    query = sa.select(tokens, cost, sa.func.count()).where(call.run_id.in_(runs), call.kind.in_(_PAID), call.ok == 1)
    if seq is not None:
        query = query.where(call.seq == seq)
    row = sql.execute(query).one()
    return {"tokens": int(row[0] or 0), "money": int(row[1] or 0), "calls": int(row[2])}
