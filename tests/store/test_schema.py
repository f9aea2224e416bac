"""The database itself refuses what must not happen: raw SQL on the real schema, no Python in between."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statecraft.records import Status
from statecraft.store.columns import metadata
from statecraft.store.port import Amount, Charge, Head
from statecraft.store.sql import SqlStore
from statecraft.testing.postgres import PostgresServer
from tests.store.rig import OTHER, PAPER, REFUSED, Story, path_of, question, raw, spoken, within

RUN, NEW, WAITING, CLOSED, GATED = "r" * 16, "n" * 16, "w" * 16, "c" * 16, "g" * 16


async def history(store: SqlStore) -> None:
    """Run r works in its second step, with a call, an attempt and something reserved; w waits for a review; c is done, its
    review decided; g, a child of r, waits for one decision about a call and has another."""
    number = await store.register(PAPER)
    await store.register(OTHER)
    working = Story(number, RUN.encode())
    for write in (
        working.start(key="order-1"),
        working.move("more", snapshot="{}"),
        working.call('"q"'),
        working.attempt('"q"', 1),
        working.reserve('"send"', Amount("m", 5, 100)),
    ):
        await store.submit(write)
    asking, decided = Story(number, WAITING.encode()), Story(number, CLOSED.encode())
    for story in (asking, decided):
        await store.submit(story.start())
        await store.submit(story.move("asked"))
        await store.submit(story.ask_person())
    await store.submit(decided.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
    dead = Story(number, b"d" * 16)
    await store.submit(dead.start())
    await store.submit(dead.die())
    gated = Story(number, GATED.encode())
    asked, decided_one = question(), question('"other"')
    await store.submit(gated.start(parent=RUN.encode()))
    await store.submit(gated.settle('"past"', Charge("m", 7)))
    await store.submit(gated.ask_about(asked, decided_one))
    await store.submit(gated.decide(decided_one))


SOME = f"x'{'12' * 32}'"
"""A hash of nothing in particular."""


class Outsider:
    """Somebody with a connection of their own, who writes what they like."""

    def __init__(self, url: str, link: Any) -> None:
        self.url = url
        self.link = link
        self.postgres = isinstance(link, psycopg.Connection)

    def do(self, *statements: str) -> None:
        """One transaction, whose deferred constraints are looked at before it ends."""
        self.link.execute("BEGIN")
        try:
            for statement in statements:
                self.link.execute(self.spoken(statement))
            self.link.execute("COMMIT")
        except REFUSED:
            if self.postgres or self.link.in_transaction:
                self.link.execute("ROLLBACK")
            raise

    def rows(self) -> list[list[tuple[object, ...]]]:
        """Every row of every table."""
        return [self.link.execute(f"SELECT * FROM {table.name} ORDER BY 1, 2").fetchall() for table in metadata.sorted_tables]

    def spoken(self, statement: str) -> str:
        """`INSERT OR REPLACE` is SQLite's alone; PostgreSQL's is an INSERT that updates the row in its way."""
        if self.postgres and statement.startswith("INSERT OR REPLACE INTO "):
            (name,) = re.findall(r"INTO (\w+)", statement)[:1]
            table = metadata.tables[name]
            keys = ", ".join(column.name for column in table.primary_key)
            changes = ", ".join(f"{column.name} = EXCLUDED.{column.name}" for column in table.columns if column.computed is None)
            statement = f"{statement.replace(' OR REPLACE', '')} ON CONFLICT ({keys}) DO UPDATE SET {changes}"
        return spoken(self.url, statement)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with `history`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'runs.db'}"
    within(url, history)
    return url


@pytest.fixture(scope="module")
def written_there(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with `history`. Tests leave it as they found it."""
    url = postgres_server.create_database()
    within(url, history)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def outsider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outsider]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'runs.db'}"
        shutil.copy(path_of(request.getfixturevalue("written")), path_of(url))
    else:
        url = request.getfixturevalue("written_there")
    with raw(url) as link:
        yield Outsider(url, link)


def run_row(run_id: str = NEW, **other: object) -> str:
    """An INSERT of a head at step 0 in draft, ready, but for what is given."""
    values: dict[str, object] = {
        "run_id": f"x'{run_id.encode().hex()}'",
        "machine": 1,
        "seq": 0,
        "state": "'draft'",
        "status": "'ready'",
        "epoch": 0,
        "attempts": 0,
        "due_at": 1,
        "created_at": 1,
        "updated_at": 1,
        "trace_id": "''",
    }
    values.update(other)
    return f"INTO runs({', '.join(values)}) VALUES({', '.join(map(str, values.values()))})"


def link_row(run_id: str, seq: int, source: str, event: str, target: str, machine: int = 1, **other: object) -> str:
    """An INSERT of a transition."""
    values: dict[str, object] = {
        "run_id": f"x'{run_id.encode().hex()}'",
        "seq": seq,
        "machine": machine,
        "source": f"'{source}'",
        "event": f"'{event}'",
        "target": f"'{target}'",
        "epoch": 1,
        "at": 1,
        "calls": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "hash": "zeroblob(32)",
        "guards": "'[]'",
        "payload": "'{}'",
    }
    values.update(other)
    return f"INTO transitions({', '.join(values)}) VALUES({', '.join(map(str, values.values()))})"


def call_row(seq: int, idx: int, digest: str = SOME, **other: object) -> str:
    """An INSERT of a call of run r."""
    values: dict[str, object] = {
        "run_id": f"x'{RUN.encode().hex()}'",
        "seq": seq,
        "idx": idx,
        "kind": "'llm'",
        "name": "'m'",
        "digest": digest,
        "occurrence": 0,
        "ok": 1,
        "attempts": 1,
        "started_at": 1,
        "finished_at": 1,
        "epoch": 1,
        "input_tokens": 0,
        "output_tokens": 0,
        "hash": "zeroblob(32)",
        "request": "'1'",
        "result": "'1'",
    }
    values.update(other)
    return f"INTO calls({', '.join(values)}) VALUES({', '.join(map(str, values.values()))})"


def attempt_row(seq: int) -> str:
    """An INSERT of the attempt that run r has at step 1, at another step."""
    return f"INTO attempts SELECT 9, run_id, {seq}, digest, 0, 1, 'overloaded', 'x', 1, 1, 1, NULL, '' FROM calls"


def question_row(**other: object) -> str:
    """An INSERT of the open question of run g, as its second round but for what is given."""
    columns = [column.name for column in metadata.tables["call_reviews"].columns]
    values: dict[str, object] = {**{name: name for name in columns}, "round": 1, **other}
    chosen = f"SELECT {', '.join(map(str, values.values()))} FROM call_reviews WHERE decision IS NULL"
    return f"INTO call_reviews({', '.join(values)}) {chosen}"


def review_row(run_id: str) -> str:
    """An INSERT of a review of step 1."""
    columns = "run_id, seq, state, requested_at, events, question, show"
    return f"INTO reviews({columns}) SELECT run_id, 1, 'review', 1, '[]', '', '' FROM runs {where(run_id)}"


def insert(row: str) -> str:
    return f"INSERT {row}"


def replace(row: str) -> str:
    return f"INSERT OR REPLACE {row}"


def where(run_id: str) -> str:
    return f"WHERE run_id = x'{run_id.encode().hex()}'"


HALF_BY_BOB = "decided_by = 'bob', decided_at = 1, note = ''"
BY_BOB = f"{HALF_BY_BOB}, decided_epoch = 1"
ASKED = "(SELECT digest FROM calls)"
MACHINE = f"INTO machines(fingerprint, name, version, spec) VALUES('{'a' * 64}', 'x', '1', '{{}}')"

ILLEGAL = {
    # --- the journal is a path in the machine ---
    "an edge that does not exist": insert(link_row(RUN, 2, "draft", "approved", "done")),
    "an existing edge from the wrong state": insert(link_row(RUN, 2, "review", "approved", "done")),
    "a gap in the steps": insert(link_row(RUN, 3, "draft", "more", "draft")),
    "the same step twice": insert(link_row(RUN, 1, "draft", "more", "draft")),
    "the same step with another end": insert(link_row(RUN, 1, "draft", "asked", "review")),
    "an edge of another machine": insert(link_row(RUN, 2, "draft", "more", "draft", machine=2)),
    "an edge of no machine": insert(link_row(RUN, 2, "draft", "more", "draft", machine=9)),
    "starting twice": insert(link_row(RUN, 2, "", "start", "draft")),
    "beginning in the middle": insert(link_row(NEW, 0, "draft", "more", "draft")),
    "beginning with step one": insert(link_row(NEW, 1, "", "start", "draft")),
    "a step before the start": insert(link_row(NEW, -1, "", "start", "draft")),
    "a move after the end": insert(link_row(CLOSED, 3, "done", "more", "draft")),
    "changing history": "UPDATE transitions SET payload = '{}'",
    "changing one hash": f"UPDATE transitions SET hash = zeroblob(32) {where(RUN)}",
    "deleting history": "DELETE FROM transitions",
    "deleting the last step": f"DELETE FROM transitions {where(RUN)} AND seq = 1",
    "replacing a step": replace(link_row(RUN, 1, "draft", "more", "draft")),
    "a step without a payload": insert(link_row(RUN, 2, "draft", "more", "draft", payload="NULL")),
    "a step with two payloads": insert(link_row(RUN, 2, "draft", "more", "draft", payload_hash="zeroblob(32)")),
    "a payload that is not stored": insert(
        link_row(RUN, 2, "draft", "more", "draft", payload="NULL", payload_hash="zeroblob(32)")
    ),
    "a short hash": insert(link_row(RUN, 2, "draft", "more", "draft", hash="zeroblob(8)")),
    "a number as text": insert(link_row(RUN, 2, "draft", "more", "draft", epoch="'one'")),
    # --- machines never change ---
    "changing a machine": "UPDATE machines SET spec = '{}'",
    "deleting a machine": "DELETE FROM machines WHERE machine = 2",
    "the same fingerprint twice": insert(MACHINE),
    "replacing a machine": replace(MACHINE),
    "changing an edge": "UPDATE machine_edges SET target = 'done'",
    "deleting an edge": "DELETE FROM machine_edges",
    "an edge of an unknown machine": "INSERT INTO machine_edges VALUES(9, 'draft', 'x', 'done')",
    # --- the head says what the journal says ---
    "a head that runs ahead of its journal": f"UPDATE runs SET seq = 2 {where(RUN)}",
    "a head in another state": f"UPDATE runs SET state = 'review' {where(RUN)}",
    "a head that goes back": f"UPDATE runs SET seq = 0 {where(RUN)}",
    "a head without a journal": insert(run_row()),
    "a head of another run's id": f"UPDATE runs SET run_id = x'{NEW.encode().hex()}' {where(RUN)}",
    "an epoch that goes back": f"UPDATE runs SET epoch = 0 {where(RUN)}",
    "half a lease": f"UPDATE runs SET owner = NULL {where(RUN)}",
    "the other half of a lease": f"UPDATE runs SET lease_until = NULL {where(RUN)}",
    "a lease on a waiting run": f"UPDATE runs SET owner = 'x', lease_until = 1 {where(WAITING)}",
    "running without a lease": f"UPDATE runs SET owner = NULL, lease_until = NULL {where(RUN)}",
    "ready without a due time": f"UPDATE runs SET status = 'ready', owner = NULL, lease_until = NULL {where(RUN)}",
    "running with a due time": f"UPDATE runs SET due_at = 1 {where(RUN)}",
    "waiting without a reason": f"UPDATE runs SET waiting_for = NULL {where(WAITING)}",
    "waiting for nobody knows what": f"UPDATE runs SET waiting_for = 'rain' {where(WAITING)}",
    "waiting for time that never comes": f"UPDATE runs SET waiting_for = 'timer' {where(WAITING)}",
    "a reason to wait while running": f"UPDATE runs SET waiting_for = 'review' {where(RUN)}",
    "an unknown status": f"UPDATE runs SET status = 'lost' {where(WAITING)}",
    "an end without its time": f"UPDATE runs SET status = 'done', owner = NULL, lease_until = NULL {where(RUN)}",
    "a time of an end that is none": f"UPDATE runs SET finished_at = 1 {where(RUN)}",
    "opening a closed run": f"UPDATE runs SET status = 'ready', due_at = 1, finished_at = NULL {where(CLOSED)}",
    "changing a closed run": f"UPDATE runs SET reason = 'x' {where(CLOSED)}",
    "deleting a run": f"DELETE FROM runs {where(RUN)}",
    "replacing a run": replace(run_row(RUN, seq=1)),
    "replacing the run that owns a key": replace(run_row(key="'order-1'")),
    "a key twice": insert(run_row(key="'order-1'")),
    "a run of an unknown machine": insert(run_row(machine=9)),
    # --- calls and attempts belong to a visit, once ---
    "a call of a visit that never was": insert(call_row(7, 0)),
    "the same place twice": insert(call_row(1, 0)),
    "the same question answered twice": insert(call_row(1, 1, ASKED)),
    "replacing an answer": replace(call_row(1, 1, ASKED)),
    "replacing a call in its place": replace(call_row(1, 0)),
    "changing an answer": "UPDATE calls SET result = '2'",
    "deleting a call": "DELETE FROM calls",
    "a call without a request": insert(call_row(1, 1, request="NULL")),
    "a call that is neither good nor bad": insert(call_row(1, 1, ok=2)),
    "an attempt at a visit that never was": insert(attempt_row(7)),
    "the same attempt twice": insert(attempt_row(1)),
    "replacing an attempt": replace(attempt_row(1)),
    "changing an attempt": "UPDATE attempts SET message = ''",
    "deleting an attempt": "DELETE FROM attempts",
    # --- a review is asked once and decided once ---
    "a review in a state the run was not in": insert(review_row(RUN)),
    "a second review of a visit": insert(review_row(WAITING)),
    "replacing a review": replace(review_row(CLOSED)),
    "a decision that moved nothing": f"UPDATE reviews SET decision = 'approved', decided_at = 1 {where(WAITING)}",
    "a decision without its time": f"UPDATE reviews SET decision = 'approved' {where(WAITING)}",
    "a decider without a decision": f"UPDATE reviews SET decided_by = 'bob' {where(WAITING)}",
    "another decision": f"UPDATE reviews SET decision = 'rejected' {where(CLOSED)}",
    "another decider": f"UPDATE reviews SET decided_by = 'bob' {where(CLOSED)}",
    "another question": f"UPDATE reviews SET question = 'Give me money?' {where(WAITING)}",
    "deleting a review": f"DELETE FROM reviews {where(WAITING)}",
    # --- a question about a call is asked once and decided once ---
    "a question about a call of a visit that never was": insert(question_row(seq=7)),
    "a question of an unknown kind": insert(question_row(kind="'rumour'")),
    "a question before the first round": insert(question_row(round=-1)),
    "a question about half a call": insert(question_row(digest="zeroblob(3)")),
    "a question about no action": insert(question_row(action="zeroblob(3)")),
    "the same question about a call twice": insert(question_row(round=0)),
    "replacing a question about a call": replace(question_row(round=0)),
    "another question about a call": "UPDATE call_reviews SET question = 'Give me money?' WHERE decision IS NULL",
    "another action to decide on": "UPDATE call_reviews SET action = zeroblob(32) WHERE decision IS NULL",
    "other arguments to decide on": "UPDATE call_reviews SET arguments = '{}' WHERE decision IS NULL",
    "half a decision about a call": "UPDATE call_reviews SET decision = 'approve', decided_at = 1 WHERE decision IS NULL",
    "a decision about a call without its epoch": f"UPDATE call_reviews SET decision = 'no', {HALF_BY_BOB} WHERE decision IS NULL",
    "an answer without a decision": "UPDATE call_reviews SET answer = '1' WHERE decision IS NULL",
    "another decision about a call": "UPDATE call_reviews SET decision = 'reject' WHERE decision IS NOT NULL",
    "taking back a decision about a call": (
        "UPDATE call_reviews SET decision = NULL, decided_at = NULL, decided_by = NULL, decided_epoch = NULL, note = NULL,"
        " answer = NULL WHERE decision IS NOT NULL"
    ),
    "deleting a question about a call": "DELETE FROM call_reviews WHERE decision IS NULL",
    "deleting a decision about a call": "DELETE FROM call_reviews WHERE decision IS NOT NULL",
    # --- meters and what is reserved of them ---
    "a meter below nothing": "UPDATE meters SET used = -1",
    "a meter without a name": "INSERT INTO meters VALUES('', 0, NULL)",
    "the same meter twice": "INSERT INTO meters VALUES('m', 0, NULL)",
    "a meter that is charged in text": "INSERT INTO meters VALUES('n', 'much', NULL)",
    "reserving less than nothing": "UPDATE reservations SET amount = -1",
    "reserving for a visit that never was": "UPDATE reservations SET seq = 7",
    "reserving for half a call": "UPDATE reservations SET digest = zeroblob(3)",
    "reserving the same meter twice": "INSERT INTO reservations SELECT * FROM reservations",
    "a price below nothing": insert(call_row(1, 1, cost=-1)),
    # --- families ---
    "a child of nobody": f"UPDATE runs SET parent = zeroblob(16) {where(RUN)}",
    "a run that is its own parent": f"UPDATE runs SET parent = run_id {where(RUN)}",
    # --- texts are what their names say ---
    "a snapshot of a step that never was": f"UPDATE snapshots SET seq = 9 {where(RUN)}",
    "a message without its parent": "INSERT INTO messages VALUES(zeroblob(32), zeroblob(31) || x'01', '{}')",
    "a message that is its own parent": "INSERT INTO messages VALUES(zeroblob(32), zeroblob(32), '{}')",
    "a message with a short name": "INSERT INTO messages VALUES(zeroblob(3), NULL, '{}')",
    "a payload with a short name": "INSERT INTO payloads VALUES(zeroblob(3), '{}')",
    "changing a death": "UPDATE deaths SET diagnosis = '{}'",
    "deleting a death": "DELETE FROM deaths",
    "changing the feed": "UPDATE feed SET at = 0",
    "deleting from the feed": "DELETE FROM feed",
    "an unknown kind in the feed": "INSERT INTO feed(run_id, kind, seq, idx, at) VALUES(zeroblob(16), 'rumour', 0, 0, 1)",
    # --- the fleet around the runs ---
    "a run in no queue": f"UPDATE runs SET queue = '' {where(RUN)}",
    "an event with a short name": "INSERT INTO outbox(event, kind, at, body) VALUES(zeroblob(3), 'run.failed', 1, '{}')",
    "half the place of an event": "INSERT INTO outbox(event, kind, at, seq, body) VALUES(zeroblob(16), 'x', 1, 0, '{}')",
    "a channel without a name": "INSERT INTO channels(channel, since) VALUES('', 1)",
    "a channel that is disabled for no reason": "INSERT INTO channels(channel, since, disabled_at) VALUES('ops', 1, 1)",
    "what nobody wants": "INSERT INTO wants(kind, channel) VALUES('run.failed', 'nobody')",
    "a delivery of nothing to nobody": "INSERT INTO deliveries(event, channel, attempts) VALUES(zeroblob(16), 'ops', 0)",
    "a worker without a lease": (
        "INSERT INTO workers(owner, started_at, beat_at, lease, concurrency, held, moves, fenced, recovered, queues, machines)"
        " VALUES('w', 1, 1, 0, 1, 0, 0, 0, 0, '[]', '[]')"
    ),
    "a schedule that is paused and fires": (
        "INSERT INTO schedules(name, machine, rule, next_at, paused_at, created_at, updated_at, queue, priority, input)"
        " VALUES('nightly', 'm', '{}', 1, 1, 1, 1, 'default', 0, '{}')"
    ),
    "a second schema version": "INSERT INTO schema_version VALUES(2, 2)",
}

LEGAL = {
    "the next step with its head": [insert(link_row(RUN, 2, "draft", "more", "draft")), f"UPDATE runs SET seq = 2 {where(RUN)}"],
    "a start": [insert(link_row(NEW, 0, "", "start", "draft")), insert(run_row())],
    "a head first, in one transaction": [insert(run_row()), insert(link_row(NEW, 0, "", "start", "draft"))],
    "two steps at once": [
        insert(link_row(RUN, 2, "draft", "more", "draft")),
        insert(link_row(RUN, 3, "draft", "asked", "review")),
    ],
    "another call": [insert(call_row(1, 1))],
    "the same question again": [insert(call_row(1, 1, ASKED, occurrence=1))],
    "waiting for a child without a due time": [f"UPDATE runs SET waiting_for = 'child' {where(WAITING)}"],
    "a child": [insert(link_row(NEW, 0, "", "start", "draft")), insert(run_row(parent=f"x'{RUN.encode().hex()}'"))],
    "a second round of a question": [insert(question_row())],
    "a decision about a call": [f"UPDATE call_reviews SET decision = 'approve', {BY_BOB} WHERE decision IS NULL"],
    "the end of a reservation": ["DELETE FROM reservations"],
    "a charge": ["UPDATE meters SET used = used + 1"],
    "a claim": [f"UPDATE runs SET status = 'running', waiting_for = NULL, owner = 'x', lease_until = 1 {where(WAITING)}"],
}


PLACES = {
    "replacing a step by its place in the file": replace(link_row(NEW, 0, "", "start", "draft", rowid=2)),
    "replacing a call by its place in the file": replace(call_row(1, 1, rowid=1)),
    "replacing a question by its place in the file": replace(question_row(rowid=1)),
}
"""What only SQLite lets one try."""


MISTYPED = {"a number as text", "a meter that is charged in text"}
"""PostgreSQL refuses these before any constraint: the value is none of the column's type."""


def refuses(outsider: Outsider, statement: str, error: type[Exception] | None = None) -> None:
    before = outsider.rows()
    with pytest.raises(error or (psycopg.IntegrityError if outsider.postgres else sqlite3.IntegrityError)):
        outsider.do(statement)
    assert outsider.rows() == before


@pytest.mark.parametrize("what", ILLEGAL)
def test_the_database_refuses(outsider: Outsider, what: str) -> None:
    refuses(outsider, ILLEGAL[what], psycopg.DataError if outsider.postgres and what in MISTYPED else None)


@pytest.mark.parametrize("what", PLACES)
@pytest.mark.parametrize("outsider", ["sqlite"], indirect=True)
def test_sqlite_refuses(outsider: Outsider, what: str) -> None:
    refuses(outsider, PLACES[what])


@pytest.mark.slow
@pytest.mark.parametrize("outsider", ["postgresql"], indirect=True)
def test_postgresql_refuses_to_empty_a_table_that_is_a_record(outsider: Outsider) -> None:
    for table in ("transitions", "runs", "calls", "feed", "reviews", "call_reviews"):
        refuses(outsider, f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize("what", LEGAL)
def test_the_database_accepts(outsider: Outsider, what: str) -> None:
    before = outsider.rows()
    outsider.link.execute("BEGIN")
    for statement in LEGAL[what]:
        outsider.link.execute(outsider.spoken(statement))
    if outsider.postgres:  # Another test's history too, so it is not committed; but all that a commit would look at is.
        outsider.link.execute("SET CONSTRAINTS ALL IMMEDIATE")
        assert outsider.rows() != before
        outsider.link.execute("ROLLBACK")
    else:
        outsider.link.execute("COMMIT")
        assert outsider.rows() != before


def test_a_stored_text_cannot_be_replaced_by_another(each_url: str) -> None:
    within(each_url, history)
    with raw(each_url) as link:
        outsider = Outsider(each_url, link)
        outsider.do("INSERT INTO payloads VALUES(zeroblob(32), 'one')", "INSERT INTO messages VALUES(zeroblob(32), NULL, 'one')")
        for table, row in (("payloads", "zeroblob(32), 'two'"), ("messages", "zeroblob(32), NULL, 'two'")):
            refuses(outsider, f"INSERT INTO {table} VALUES({row})")
            refuses(outsider, f"INSERT OR REPLACE INTO {table} VALUES({row})")
            refuses(outsider, f"UPDATE {table} SET body = 'two'")
            refuses(outsider, f"DELETE FROM {table}")


def test_the_table_of_illegal_writes_names_every_table(outsider: Outsider) -> None:
    names = (
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if outsider.postgres
        else "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    assert {table.name for table in metadata.sorted_tables} == {name for (name,) in outsider.link.execute(names)}
    tried = " ".join(ILLEGAL.values())
    assert not [table.name for table in metadata.sorted_tables if table.name not in tried]
