"""A database full of runs, written by the database itself in a few statements: for measurements that need a million of them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from statecraft.store import open_store
from statecraft.store.port import MachineSpec

SPEC = MachineSpec("crowd", "1", "c" * 64, '{"name":"crowd"}', (("", "start", "begin"), ("begin", "went", "done")))
NOW = 1_000_000_000_000


@dataclass(frozen=True)
class Mix:
    """How many runs there are of each sort."""

    due: int
    """Half of them ready, half waiting for a time that has come."""
    later: int
    reviews: int = 0
    """Waiting for a person."""
    closed: int = 0


async def fill(url: str, mix: Mix) -> int:
    """Make the schema and the runs; answer the machine's number."""
    store = open_store(url)
    await store.open()
    number = await store.register(SPEC)
    await store.close()
    await asyncio.to_thread(_fill_sqlite if url.startswith("sqlite") else _fill_postgres, url, mix, number)
    return number


def _sorts(mix: Mix) -> list[tuple[int, dict[str, str]]]:
    """(how many, what is particular to them as SQL of `n`)."""
    waiting = {"status": "'waiting'"}
    return [
        (mix.due // 2, {"status": "'ready'", "due_at": f"{NOW} - n", "turn": "n"}),
        (mix.due - mix.due // 2, {**waiting, "waiting_for": "'timer'", "due_at": f"{NOW} - n"}),
        (mix.later, {**waiting, "waiting_for": "'timer'", "due_at": f"{NOW} * 2 + n"}),
        (mix.reviews, {**waiting, "waiting_for": "'review'"}),
        (mix.closed, {"status": "'done'", "finished_at": "n", "seq": "1", "state": "'done'"}),
    ]


def _statements(mix: Mix, machine: int, numbers: str, id_of: str, zeros: str) -> list[str]:
    """INSERT ... SELECT of links and heads. `numbers`: a source of rows `n`, from `{low}` to `{high}`."""
    out: list[str] = []
    low = 1
    link = (
        "INSERT INTO transitions(run_id, seq, machine, source, event, target, epoch, at, calls, input_tokens, output_tokens,"
        f" hash, guards, payload) SELECT {id_of}, {{seq}}, {machine}, {{move}}, 0, n, 0, 0, 0, {zeros}, '[]', '{{{{}}}}'"
        " FROM {source}"
    )
    for count, own in _sorts(mix):
        if not count:
            continue
        source = numbers.format(low=low, high=low + count - 1)
        out.append(link.format(seq=0, move="'', 'start', 'begin'", source=source))
        if own.get("seq") == "1":
            out.append(link.format(seq=1, move="'begin', 'went', 'done'", source=source))
        row = {"run_id": id_of, "machine": str(machine), "seq": "0", "state": "'begin'", "epoch": "0", "attempts": "0",
               "created_at": "n", "updated_at": "n", "trace_id": "''", **own}  # fmt: skip
        out.append(f"INSERT INTO runs({', '.join(row)}) SELECT {', '.join(row.values())} FROM {source}")
        low += count
    return out


def _fill_sqlite(url: str, mix: Mix, machine: int) -> None:
    numbers = "(WITH RECURSIVE t(n) AS (SELECT {low} UNION ALL SELECT n + 1 FROM t WHERE n < {high}) SELECT n FROM t)"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute("BEGIN")
        for statement in _statements(mix, machine, numbers, "CAST(printf('%016d', n) AS BLOB)", "zeroblob(32)"):
            raw.execute(statement.replace("{{}}", "{}"))
        raw.execute("COMMIT")
        raw.execute("PRAGMA optimize")


def _fill_postgres(url: str, mix: Mix, machine: int) -> None:
    import psycopg

    # Plain casts, because the shortest way from a number to 16 bytes is its digits.
    zeros = "decode(repeat('00', 32), 'hex')"
    with psycopg.connect(url, autocommit=True) as raw:
        sql: Any = raw
        sql.execute("SET synchronous_commit = off")
        for statement in _statements(
            mix, machine, "generate_series({low}, {high}) AS t(n)", "convert_to(lpad(n::text, 16, '0'), 'UTF8')", zeros
        ):
            sql.execute(statement.replace("{{}}", "{}"))
        sql.execute("VACUUM ANALYZE")
        sql.execute("CHECKPOINT")  # Else it goes on while others measure.
