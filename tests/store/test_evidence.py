"""Whatever is changed in any column of a run's rows: the history says so, or the column is no evidence and stands in a list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from statecraft.errors import NotFound
from statecraft.ids import digest
from statecraft.records import RunFilter, Status
from statecraft.store import tables as t
from statecraft.store.columns import metadata
from statecraft.store.forks import Fork
from statecraft.store.journal import Blob, Head
from statecraft.store.port import MachineSpec, Redrive
from statecraft.store.sql import SqlStore
from statecraft.store.verify import verify
from tests.store.rig import EDGES, LONG, Story, conversation, question, ready, within

STATES = [
    {"name": "draft", "kind": "work", "ok": False, "events": ["more", "asked", "gave_up"]},
    {"name": "review", "kind": "review", "ok": False, "events": ["approved", "rejected"]},
    {"name": "done", "kind": "final", "ok": True, "events": []},
    {"name": "failed", "kind": "final", "ok": False, "events": []},
]
PRINTED = MachineSpec("printed", "1", "c" * 64, json.dumps({"states": STATES}), (*EDGES, ("draft", "forked", "draft")))
FORK = b"f" * 16

NOT_EVIDENCE = {
    ("attempts", "no"): "the order of rows in the table",
    ("snapshots", "run_id"): "a snapshot that is lost is made again from the payloads",
    ("runs", "no"): "the order of rows in the table",
    ("runs", "epoch"): "raised by every claim; only lowering it would undo anything, and that is found",
    ("runs", "attempts"): "how often it was claimed since it got on",
    ("runs", "owner"): "who holds it now",
    ("runs", "lease_until"): "until when",
    ("runs", "due_at"): "when it is claimed next",
    ("runs", "deadline_at"): "a bound of what is still to come; that it passed is a move",
    ("runs", "created_at"): "when a delayed start began, or a fork was made; never before its start, which is a move",
    ("runs", "trace_id"): "where its spans were sent",
    ("runs", "reason"): "what is shown of a death or a cancellation; the diagnosis and the feed have it",
    ("runs", "queue"): "where it waits",
    ("runs", "priority"): "how urgently",
    ("runs", "turn"): "whose turn it is",
    ("runs", "degraded"): "worked out again from the moves by `engine.proof`",
    ("runs", "extra_steps"): "a bound of what is still to come",
}
"""Columns of a run's rows whose change is not found, and why that harms no history."""

OTHER_TABLES = {
    "schema_version": "of the database",
    "machines": "of all runs of a machine; the fingerprint is compared with the code's",
    "machine_edges": "of all runs of a machine; a run that takes an edge which is not there is found",
    "meters": "what budgets have left; the calls say what was used",
    "reservations": "gone when the call is done",
    "feed": "told to readers, made from the journal",
    "outbox": "told to people, made from the journal",
    "channels": "who is told",
    "wants": "of what",
    "deliveries": "whether they were",
    "workers": "who works",
    "schedules": "what starts runs",
}
EVIDENCE = ("transitions", "calls", "attempts", "reviews", "call_reviews", "snapshots", "deaths", "runs", "payloads", "messages")


async def history(store: SqlStore) -> None:
    """A run with a row of every sort, which died, was redriven and has ended; and a fork of it, which has ended too."""
    run = Story(await store.register(PRINTED))
    await store.register(MachineSpec("other", "1", "d" * 64, "{}", EDGES))
    nodes, blob = conversation(3), Blob(digest("[tools]"), "[tools]")
    await store.submit(run.start(key="order-1", tenant="acme"))
    await store.submit(run.attempt('"a"', 1))
    told = json.dumps({"head": nodes[-1].hash.hex(), "tools": blob.hash.hex(), "output": None})
    call = run.call(told, LONG, kind="llm", nodes=tuple(nodes), cost=7, price_source="list")
    await store.submit(replace(call, blobs=(blob,)))
    await store.submit(run.move("more", payload=LONG, snapshot='{"whole":1}'))
    await _asked(store, run)
    await store.submit(run.move("more"))
    await store.submit(run.die())
    entry = run.call('{"steps":null}', "null", kind="redrive")
    await store.submit(Redrive(run.run_id, run.seq, run.epoch, run.at, "ann", "", entry, ready(), None, 0))
    run.epoch = (await _taken(store, run)).epoch
    await store.submit(run.move("asked"))
    await store.submit(run.ask_person())
    await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
    await store.submit(Fork(run.run_id, 2, FORK, 9_000, "bob", "what if", "order-2", None, "t", 40, data='{"data":{}}'))
    fork = await _followed(store, run)
    await store.submit(fork.move("gave_up", head=Head(Status.FAILED)))


async def _asked(store: SqlStore, run: Story) -> None:
    asked, open_one = question(), question('"other"')
    await store.submit(run.ask_about(asked, open_one))
    await store.submit(run.decide(asked))
    run.epoch = (await _taken(store, run)).epoch


async def _taken(store: SqlStore, run: Story) -> Any:
    return await store.submit(run.claim("me"))


async def _followed(store: SqlStore, source: Story) -> Story:
    """The fork as an engine would go on with it."""
    loaded = await store.load(FORK)
    fork = Story(source.machine, FORK, loaded.run.epoch, loaded.run.seq, loaded.run.state, 9_000, loaded.hash)
    fork.epoch = (await _taken(store, fork)).epoch
    return fork


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('evidence') / 'runs.db'}"
    within(url, history)
    return url


@contextmanager
def tampering(url: str) -> Iterator[sa.Connection]:
    """A connection of somebody who owns the database: no trigger, no reference, no check stands in the way."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.pool.NullPool)
    with engine.connect() as sql:
        if sql.dialect.name == "sqlite":
            sql.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
            found = sql.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
            for trigger in found:
                sql.exec_driver_sql(f"DROP TRIGGER {trigger}")
        else:
            sql.exec_driver_sql("SET session_replication_role = replica")
            for table in EVIDENCE:
                rules = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass"
                for rule in sql.exec_driver_sql(rules, (table,)).scalars().all():
                    sql.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {rule}")
        sql.commit()
        yield sql
    engine.dispose()


def cells(sql: sa.Connection, name: str) -> Iterator[tuple[sa.Column[Any], dict[str, object]]]:
    """Every cell of a table's rows: its column, and its row."""
    table = metadata.tables[name]
    for row in sql.execute(sa.select(table)).mappings().all():
        for column in table.columns:
            if column.computed is None:
                yield column, dict(row)


def other(column: sa.Column[Any], value: object) -> object:
    """Another value of the column's sort, as near as can be."""
    match value:
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case int():
            return value + 1
        case str():
            return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
        case _:
            kind = column.type.python_type
            return b"\1" * 32 if kind is bytes else 1 if kind is int else "x"


def found(sql: sa.Connection, column: sa.Column[Any], row: dict[str, object], value: object) -> list[str]:
    """What verifying the two runs finds when the cell has this value. Nothing stays changed."""
    table = column.table
    same = [key == row[key.name] for key in table.primary_key.columns]
    try:
        done = sql.execute(sa.update(table).where(*same).values({column.name: value}))
        assert done.rowcount == 1
        return _problems(sql, row.get("run_id") or _first(sql))
    except IntegrityError as error:
        return [str(error)]
    finally:
        sql.rollback()


def _first(sql: sa.Connection) -> bytes:
    """The run that was forked: it uses every text that is kept by its hash."""
    return bytes(sql.execute(sa.select(t.runs.c.run_id).where(t.runs.c.forked_from.is_(None))).scalar_one())


def _problems(sql: sa.Connection, run_id: Any) -> list[str]:
    try:
        return verify(sql, run_id)
    except NotFound as error:
        return [str(error)]


def test_every_table_is_evidence_of_a_run_or_says_why_not() -> None:
    assert set(metadata.tables) == {*EVIDENCE, *OTHER_TABLES}


def test_the_history_as_it_was_written_holds(written: str) -> None:
    async def both(store: SqlStore) -> list[str]:
        runs = [bytes.fromhex(run.id) for run in await store.runs(RunFilter())]
        assert len(runs) == 2
        return [problem for run_id in runs for problem in await store.verify(run_id)]

    assert within(written, both) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EVIDENCE)
def test_a_change_of_any_column_is_found_or_the_column_is_no_evidence(written: str, name: str) -> None:
    with tampering(written) as sql:
        unseen = {
            (name, column.name)
            for column, row in cells(sql, name)
            if not found(sql, column, row, other(column, row[column.name]))
        }
    assert unseen == {key for key in NOT_EVIDENCE if key[0] == name}


@pytest.mark.slow
def test_so_it_is_on_postgresql(postgres_url: str) -> None:
    within(postgres_url, history)
    with tampering(postgres_url) as sql:
        for name in EVIDENCE:
            places = {column.name: (column, row) for column, row in cells(sql, name)}  # Of one row each.
            unseen = {key for key, (column, row) in places.items() if not found(sql, column, row, other(column, row[key]))}
            assert {(name, key) for key in unseen} <= NOT_EVIDENCE.keys()


NAMED = {
    ("transitions", "epoch"): "transition 0: hash differs",
    ("transitions", "machine"): "transition 0: hash differs",
    ("transitions", "actor"): "transition 4: hash differs",
    ("calls", "finished_at"): "call 0.0: hash differs",
    ("attempts", "message"): "attempt 1 (overloaded) of search in step 0: hash differs",
    ("call_reviews", "decided_by"): "question about send in step 1: its decision",
    ("reviews", "question"): "review of step 3: hash differs",
    ("reviews", "decided_by"): "review of step 3: its decision is not the move that followed",
    ("snapshots", "data"): "snapshot of step 1: hash differs",
    ("deaths", "diagnosis"): "death in step 2: hash differs",
    ("runs", "tenant"): "transition 0: hash differs",
    ("runs", "forked_note"): "transition 0: hash differs",
    ("payloads", "body"): "its",
    ("messages", "body"): "call 0.0: ",
}


@pytest.mark.slow
def test_what_is_found_names_the_row(written: str) -> None:
    with tampering(written) as sql:
        for (name, wanted), words in NAMED.items():
            places = [(column, row) for column, row in cells(sql, name) if column.name == wanted and row[wanted] is not None]
            column, row = places[-1] if wanted == "forked_note" else places[0]
            told = found(sql, column, row, other(column, row[wanted]))
            assert told, (name, wanted)
            assert words in told[0], told


@pytest.mark.parametrize("lower", ["epoch", "created_at"])
def test_what_may_only_grow_is_found_when_it_shrinks(written: str, lower: str) -> None:
    with tampering(written) as sql:
        for column, row in cells(sql, "runs"):
            if column.name == lower:
                assert found(sql, column, row, 0)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found(written: str, data: st.DataObject) -> None:
    with tampering(written) as sql:
        every = [
            (column, row)
            for name in EVIDENCE
            for column, row in cells(sql, name)
            if (name, column.name) not in NOT_EVIDENCE and isinstance(row[column.name], bytes | str) and row[column.name]
        ]
        column, row = data.draw(st.sampled_from(every))
        before = row[column.name]
        raw = bytearray(before if isinstance(before, bytes) else str(before).encode())
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= 1 << data.draw(st.integers(0, 6))
        value = bytes(raw) if isinstance(before, bytes) else raw.decode()
        assert found(sql, column, row, value), (column, at)


@pytest.mark.slow
def test_a_row_that_is_gone_is_missed(written: str) -> None:
    missed = {"attempts", "reviews", "call_reviews", "deaths", "calls", "transitions", "messages", "payloads"}
    with tampering(written) as sql:
        for name in missed:
            table = metadata.tables[name]
            for row in sql.execute(sa.select(table)).mappings().all():
                sql.execute(sa.delete(table).where(*(key == row[key.name] for key in table.primary_key.columns)))
                assert _problems(sql, row.get("run_id") or _first(sql)), (name, dict(row))
                sql.rollback()
