"""When the server goes away: what is told, what was kept, and that the store goes on by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa

from statecraft.errors import StoreFull, StoreUnavailable, WriteRefused
from statecraft.records import RunFilter
from statecraft.store import apply
from statecraft.store.look import look
from statecraft.store.port import ClaimDue
from statecraft.store.postgres import Postgres, faults, parse
from statecraft.store.postgres.link import PAUSES, Link
from statecraft.store.sql import SqlStore
from statecraft.testing.postgres import PostgresServer
from tests.store.rig import Story, begun, ready, within

OTHERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as raw:
        return raw.execute(sql.encode()).fetchall()


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == name]


class Broken:
    """A cursor that does something in the place of one command."""

    def __init__(self, link: Link, command: str, instead: Callable[[Any], object]) -> None:
        self._link, self._command, self._instead = link, command, instead
        self._inner, self._new = link._cursor, link._new
        link._cursor = cast("Any", self)
        link._new = cast("Any", self.another)

    def another(self) -> Any:
        """As this one, over a cursor of its own."""
        other = object.__new__(Broken)
        other.__dict__ |= {**self.__dict__, "_inner": self._new()}
        return other

    def mend(self) -> None:
        """Let every command through again."""
        self._link._cursor, self._link._new = self._inner, self._new

    def execute(self, query: Any, *values: Any, **more: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else query
        if text.startswith(self._command):
            self._instead(lambda: self._inner.execute(query, *values, **more))
        return self._inner.execute(query, *values, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def opened_with(url: str, story: Callable[[SqlStore, Link, list[float]], Awaitable[None]]) -> None:
    """Run a test over a store whose pauses are only noted."""
    pauses: list[float] = []
    store = SqlStore(Postgres(parse(url), pause=pauses.append))
    await store.open()
    try:
        assert isinstance(store._link, Link)
        await story(store, store._link, pauses)
    finally:
        await store.close()


def lost_answer(do: Any) -> None:
    do()
    raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


def lost_question(_: Any) -> None:
    raise psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


# --- lost before a commit ---------------------------------------------------------------------------------------------


def test_a_connection_that_went_while_nobody_used_it_costs_nothing(fleet_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        assert (await store.run(run.run_id)).seq == 0
        ask(fleet_url, OTHERS)
        await store.submit(run.move("more"))
        assert (await store.run(run.run_id)).seq == 1

    with caplog.at_level(logging.WARNING, "statecraft"):
        within(fleet_url, story)
    assert len(events(caplog, "store.reconnected")) == 1


def test_a_connection_lost_in_the_middle_fails_the_batch_whole_and_the_next_one_lands(fleet_url: str) -> None:
    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        runs = [await begun(store) for _ in range(3)]
        Broken(link, "INSERT INTO feed", lambda _: ask(fleet_url, OTHERS))
        moves = [run.move("more") for run in runs]
        outcomes = await asyncio.gather(*map(store.submit, moves), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
        assert "\n" not in str(outcomes[0])
        assert {run.seq for run in await store.runs(RunFilter())} == {0}
        assert await asyncio.gather(*map(store.submit, moves)) == [None] * 3
        assert {run.seq for run in await store.runs(RunFilter())} == {1}

    asyncio.run(opened_with(fleet_url, story))


def test_a_connection_lost_while_the_guilty_write_is_looked_for_fails_the_batch_whole(fleet_url: str) -> None:
    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        run, stale = await begun(store), await begun(store)
        Broken(link, "SAVEPOINT", lambda _: ask(fleet_url, OTHERS))
        stale.epoch = 7
        outcomes = await asyncio.gather(store.submit(stale.move("more")), store.submit(run.move("more")), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
        assert {run.seq for run in await store.runs(RunFilter())} == {0}

    asyncio.run(opened_with(fleet_url, story))


def test_a_connection_lost_in_the_middle_of_a_read_fails_that_read_and_the_next_one_is_answered(fleet_url: str) -> None:
    def cut(sql: sa.Connection) -> object:
        sql.exec_driver_sql("SELECT 1")
        ask(fleet_url, OTHERS)
        return sql.exec_driver_sql("SELECT 1").scalar()

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for read in (store._read, store._read_on):
            with pytest.raises(StoreUnavailable) as told:
                await read(cut)
            assert "stopped working" not in str(told.value)
            assert await read(lambda sql: sql.exec_driver_sql("SELECT 7").scalar()) == 7
        await store.submit(run.move("more"))

    within(fleet_url, story)


def test_a_reader_closes_its_connection_when_another_one_gave_up_the_pool(fleet_url: str) -> None:
    database = Postgres(parse(fleet_url))
    try:
        with database.reader() as kept:
            mine = kept.connection.dbapi_connection
            with database.reader() as sql:
                pid = sql.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                ask(fleet_url, f"SELECT pg_terminate_backend({pid}, 5000)")
            assert kept.exec_driver_sql("SELECT 2").scalar_one() == 2
        assert cast("psycopg.Connection[Any]", mine).closed
    finally:
        database.dispose()


def test_a_connection_lost_while_a_write_looks_first_fails_the_batch_and_the_next_one_lands(
    fleet_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*given: Any) -> object:
        ask(fleet_url, OTHERS)
        return look(*given)

    async def story(store: SqlStore) -> None:
        runs = [await begun(store, ready()) for _ in range(3)]
        claim = ClaimDue("me", 5, 10**15, (runs[0].machine,), 9)
        with monkeypatch.context() as patch:
            patch.setattr(apply, "look", cut)
            outcomes = await asyncio.gather(*map(store.submit, [claim, claim]), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
        assert len(cast("list[Any]", await store.submit(claim))) == 3

    within(fleet_url, story)


# --- lost during a commit ---------------------------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_found_to_have_been_made(fleet_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        runs = [await begun(store, ready()) for _ in range(3)]
        Broken(link, "COMMIT", lost_answer)
        taken = await store.submit(ClaimDue("me", 5, 10**15, (runs[0].machine,), 9))
        assert len(cast("list[Any]", taken)) == 3
        await store.submit(Story(runs[0].machine, epoch=0).start(ready()))

    with caplog.at_level(logging.WARNING, "statecraft"):
        asyncio.run(opened_with(fleet_url, story))
    (told,) = events(caplog, "store.resolved")
    assert told.outcome == "committed"


def test_a_commit_that_never_arrived_is_found_to_have_failed(fleet_url: str) -> None:
    """The old session is still there, with its transaction open and its locks; it is ended."""

    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        run = await begun(store)
        cut = link.sql  # As where the network is cut: our end is gone, and the server has not noticed.
        Broken(link, "COMMIT", lost_question)
        drop = link._drop
        link._drop = lambda: setattr(link, "_sql", None)  # type: ignore[method-assign]
        move = run.move("more")
        with pytest.raises(StoreUnavailable, match="nothing of it was kept"):
            await store.submit(move)
        link._drop = drop  # type: ignore[method-assign]
        cut.invalidate()
        cut.close()
        await store.submit(move)
        assert (await store.run(run.run_id)).seq == 1

    asyncio.run(opened_with(fleet_url, story))


@pytest.mark.parametrize("why", ["forgotten", "never back"])
def test_an_outcome_that_cannot_be_told_is_called_unknown(fleet_url: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(store: SqlStore, link: Link, pauses: list[float]) -> None:
        run = await begun(store)
        Broken(link, "COMMIT", lost_answer)
        with monkeypatch.context() as patch:
            if why == "forgotten":
                patch.setattr(Link, "_fate", lambda _: None)
            else:
                patch.setattr(Link, "_reconnect", lost_question_of)
            with pytest.raises(StoreUnavailable, match="cannot tell its outcome") as told:
                await store.submit(run.move("more"))
        assert "\n" not in str(told.value)
        assert pauses == list(PAUSES[:1] if why == "forgotten" else PAUSES)
        assert (await store.run(run.run_id)).seq == 1

    asyncio.run(opened_with(fleet_url, story))


def lost_question_of(*_: Any) -> None:
    lost_question(None)


# --- a whole server ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_goes_on_after_its_server_crashed_and_came_back() -> None:
    with PostgresServer() as server:
        url = server.create_database()

        async def story(store: SqlStore) -> None:
            woken = asyncio.Event()
            store.listen(woken.set)
            await asyncio.wait_for(woken.wait(), 10)
            run = await begun(store)
            await store.run(run.run_id)
            await asyncio.to_thread(server.stop, "immediate")
            move = run.move("more")
            with pytest.raises(StoreUnavailable) as told:
                await store.submit(move)
            assert "\n" not in str(told.value)
            with pytest.raises(StoreUnavailable):
                await store.run(run.run_id)
            await asyncio.to_thread(server.start)
            await store.submit(move)
            assert (await store.run(run.run_id)).seq == 1
            woken.clear()
            await asyncio.wait_for(woken.wait(), 20)

        within(url, story)


def answering(url: str) -> psycopg.Connection[Any]:
    """A connection to a server that is about to answer again."""
    until = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < until, "the server does not come back"


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["server", "session"])
def test_a_commit_that_a_crash_lost_is_not_taken_for_that_of_another_transaction_with_its_number(crash: str) -> None:
    """A number that was given to a transaction is given again after a crash, unless something that names it was durable."""
    with PostgresServer() as server:
        url = server.create_database()
        database = Postgres(parse(url))
        link = database.writer()
        link.begin()
        lost = int(link._xid)
        if crash == "server":
            server.restart("immediate")
        else:  # The server ends every session when one dies so, and recovers without being started again.
            with psycopg.connect(url, autocommit=True) as witness:
                os.kill(link._raw.info.backend_pid, signal.SIGKILL)
                with pytest.raises(psycopg.OperationalError):
                    witness.execute("SELECT pg_sleep(30)")
        with answering(url) as other:
            given = 0
            while given < lost:
                (given,) = other.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (lost + 1,)
            assert given == lost, "the number was not given again: this shows nothing"
        with pytest.raises(StoreUnavailable, match="cannot tell its outcome"):
            link.commit()
        link.close()
        database.dispose()


@pytest.mark.slow
def test_a_session_that_has_the_number_of_a_lost_transaction_is_left_alone() -> None:
    """What is looked for by its number is ended, so that its commit cannot come later; but only if it is ours."""
    with PostgresServer() as server:
        url = server.create_database()
        database = Postgres(parse(url), pause=lambda _: None)
        link = database.writer()
        link.begin()
        lost = int(link._xid)
        server.restart("immediate")
        with answering(url) as other:
            given = 0
            while given < lost:
                other.execute("ROLLBACK; BEGIN")
                (given,) = other.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (lost + 1,)
            assert given == lost, "the number was not given again: this shows nothing"
            with pytest.raises(StoreUnavailable, match="cannot tell its outcome"):
                link.commit()
            assert other.execute("SELECT 1").fetchone() == (1,)
            other.execute("COMMIT")
        link.close()
        database.dispose()


# --- what errors mean -------------------------------------------------------------------------------------------------


def raised(code: str) -> psycopg.Error:
    return psycopg.errors.lookup(code)("it says")


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("53100", StoreFull, "free some space"),
        ("53300", StoreUnavailable, "takes no more connections"),
        ("25006", StoreUnavailable, "standby"),
        ("28P01", StoreUnavailable, "password"),
        ("3D000", StoreUnavailable, "createdb"),
        ("57014", StoreUnavailable, "statement_timeout"),
        ("57P01", StoreUnavailable, "shut down"),
        ("42501", StoreUnavailable, "GRANT"),
        ("40P01", StoreUnavailable, "again and again"),
        ("23514", WriteRefused, "CHECK constraint failed"),
        ("22003", WriteRefused, "it says"),
        ("XX000", StoreUnavailable, "cannot be used: it says"),
    ],
)
def test_each_error_says_what_happened_and_what_to_do(code: str, kind: type[Exception], said: str) -> None:
    told = faults.translate(raised(code), parse("postgresql://ann:s3cret@db/runs"))
    assert type(told) is kind
    assert said in str(told)
    assert "s3cret" not in str(told)
    assert kind is WriteRefused or "postgresql://ann@db/runs" in str(told)


def test_a_full_disk_refuses_the_batch_and_the_next_one_lands(fleet_url: str) -> None:
    def full(_: Any) -> None:
        raise raised("53100")

    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        runs = [await begun(store) for _ in range(2)]
        move = [run.move("more") for run in runs]
        broken = Broken(link, "INSERT INTO feed", full)
        outcomes = await asyncio.gather(*map(store.submit, move), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreFull] * 2
        broken.mend()
        assert await asyncio.gather(*map(store.submit, move)) == [None] * 2

    asyncio.run(opened_with(fleet_url, story))


def test_writers_in_each_others_way_begin_anew_and_give_up_in_the_end(fleet_url: str) -> None:
    counted = {"times": 0}

    def deadlock(_: Any) -> None:
        counted["times"] += 1
        if counted["times"] != 3:
            raise raised("40P01")

    async def story(store: SqlStore, link: Link, _: list[float]) -> None:
        run = await begun(store)
        broken = Broken(link, "INSERT INTO feed", deadlock)
        await store.submit(run.move("more"))
        assert counted["times"] == 3
        move = run.move("more")
        with pytest.raises(StoreUnavailable, match="again and again"):
            await store.submit(move)
        assert counted["times"] == 3 + 6
        broken.mend()
        await store.submit(move)

    asyncio.run(opened_with(fleet_url, story))
