"""PostgreSQL behind the same port: what only it can do, and what only many writers can get wrong."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import psycopg
import pytest

from statecraft.clock import SystemClock, micros, seconds
from statecraft.errors import ConfigError, RunHeld, StoreUnavailable
from statecraft.records import RunFilter, RunRecord, Status, Waiting
from statecraft.store import open_store, shown
from statecraft.store import statements as s
from statecraft.store.port import Adjust, Amount, Cancel, Charge, Claim, ClaimDue, Head, Park, Renew, Reserved
from statecraft.store.postgres import Postgres, parse
from statecraft.store.postgres.batch import batch
from statecraft.store.postgres.link import Link
from statecraft.store.sql import SqlStore
from tests.store.rig import PAPER, Story, begun, child_of, opened, question, ready, within


def ask(url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """A query on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as raw:
        cursor = raw.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def link_of(store: SqlStore) -> Link:
    assert isinstance(store._link, Link)
    return store._link


# --- addresses --------------------------------------------------------------------------------------------------------


def test_each_spelling_of_the_scheme_names_the_same_database(postgres_url: str) -> None:
    run = within(postgres_url, begun)
    rest = postgres_url.partition("://")[2]
    for scheme in ("postgres", "postgresql+psycopg"):
        assert [one.id for one in within(f"{scheme}://{rest}", lambda store: store.runs(RunFilter()))] == [run.run_id.hex()]


@pytest.mark.parametrize(
    "wrong",
    ["postgresql://ann:s3cret@[host/x", "postgresql://ann:s3cret@host/x?sslmod=require", "postgresql://ann:s3%ret@host/x"],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://user:password@host") as told:
        open_store(wrong)
    assert "s3" not in str(told.value)
    assert "\n" not in str(told.value)


def test_no_text_about_a_database_holds_its_password() -> None:
    target = parse("postgresql://ann:s3cret@db.example:5433/runs")
    assert str(target) == "postgresql://ann@db.example:5433/runs"
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("/statecraft_test_", "/no_such_"), "does not exist; make it with `createdb`"),
        (lambda url: url.replace("postgres@", "nobody@"), "refuses this user"),
        (lambda _: "postgresql://ann:s3cret@127.0.0.1:1/runs", "no server listens"),
        (lambda url: f"{url}&options=-csearch_path%3Dnowhere", "has no schema to keep tables in"),
        (lambda url: f"{url}&options=-cdefault_transaction_read_only%3Don", "only reads"),
    ],
    ids=["no database", "no such user", "no server", "no schema", "read-only"],
)
def test_a_database_that_does_not_open_is_told_in_one_line(postgres_url: str, change: Any, said: str) -> None:
    async def go() -> None:
        async with opened(change(postgres_url)):
            pass

    with pytest.raises(StoreUnavailable) as told:
        asyncio.run(go())
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:s3cret@db/runs", "postgresql://ann:s3@cret@db/runs", "postgresql:///runs?password=s3cret&host=x"]
)
def test_a_url_is_shown_without_its_password(url: str) -> None:
    assert "s3" not in shown(url)
    assert "cret" not in shown(url)
    assert "runs" in shown(url)


def test_tables_of_other_programs_may_stand_beside_ours(postgres_url: str) -> None:
    ask(postgres_url, "CREATE TABLE recipes(name text)")
    within(postgres_url, begun)


def test_several_stores_may_share_a_database_in_schemas_of_their_own(postgres_url: str) -> None:
    for name in ("one", "two"):
        ask(postgres_url, f"CREATE SCHEMA {name}")
        within(f"{postgres_url}&options=-csearch_path%3D{name}", begun)
    assert ask(postgres_url, "SELECT (SELECT count(*) FROM one.runs), (SELECT count(*) FROM two.runs)") == [(1, 1)]


def test_stores_that_open_a_new_database_at_once_all_find_it_whole(postgres_url: str) -> None:
    async def go() -> None:
        stores = [open_store(postgres_url) for _ in range(6)]
        await asyncio.gather(*(store.open() for store in stores))
        numbers = await asyncio.gather(*(store.register(PAPER) for store in stores))
        await asyncio.gather(*(store.close() for store in stores))
        assert len(set(numbers)) == 1

    asyncio.run(go())
    assert ask(postgres_url, "SELECT count(*) FROM schema_version") == [(1,)]


# --- one statement for a batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", s.IN_ORDER, ids=lambda statement: statement.name)
def test_every_statement_has_a_form_that_writes_all_its_rows_at_once(statement: s.Statement) -> None:
    dialect = Postgres(parse("postgresql://host/x")).dialect
    text = batch(statement, dialect).text.decode()
    assert text.count("%s") == len(statement.order)
    assert text.count("unnest(") == 1


def test_a_move_under_a_lease_touches_no_index(postgres_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        for _ in range(20):
            await store.submit(run.move("more"))
        link_of(store).execute("SELECT pg_stat_force_next_flush()")

    within(postgres_url, story)
    found = ask(postgres_url, "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables WHERE relname = 'runs'")
    assert found == [(20, 20)]


def test_a_text_with_the_one_character_that_postgres_cannot_keep_is_kept_without_it(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        dead = Park(run.run_id, 0, 1, run.at, Head(Status.DEAD, reason="a\0b"))
        await store.submit(dead)
        assert (await store.run(run.run_id)).reason == "a\ufffdb"

    within(fleet_url, story)


def test_a_text_under_a_hash_that_names_another_is_refused(fleet_url: str) -> None:
    within(fleet_url, begun)
    ask(fleet_url, "INSERT INTO payloads VALUES (decode(repeat('00', 32), 'hex'), 'a')")
    ask(fleet_url, "INSERT INTO payloads VALUES (decode(repeat('00', 32), 'hex'), 'a') ON CONFLICT DO NOTHING")
    with pytest.raises(psycopg.errors.RestrictViolation):
        ask(fleet_url, "INSERT INTO payloads VALUES (decode(repeat('00', 32), 'hex'), 'b') ON CONFLICT DO NOTHING")
    with pytest.raises(psycopg.errors.RestrictViolation):
        ask(fleet_url, "TRUNCATE feed")


def test_charges_of_one_meter_in_one_batch_add_up(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await asyncio.gather(*(store.submit(run.settle(f'"{n}"', Charge("m", n), Charge("k", 1))) for n in range(10)))
        assert await store.used(["m", "k"]) == {"m": 45, "k": 10}

    within(fleet_url, story)


def test_meters_are_read_by_the_order_of_their_bytes_whatever_the_servers_language(fleet_url: str) -> None:
    within(fleet_url, begun)
    assert ask(
        fleet_url,
        "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text'",
    ) == [("C",)]


# --- many writers -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_writers_who_name_the_same_runs_in_other_orders_all_get_through(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            runs = [await begun(one) for _ in range(12)]
            for _ in range(8):
                renewals = [Renew(tuple((run.run_id, 1) for run in order), 10**15) for order in (runs, runs[::-1])]
                calls = [run.call(f'"{run.seq}"') for run in runs]
                told = await asyncio.gather(
                    one.submit(renewals[0]),
                    two.submit(renewals[1]),
                    *(one.submit(call) for call in calls[::2]),
                    *(two.submit(call) for call in reversed(calls[1::2])),
                )
                assert told[:2] == [[], []]
                await asyncio.gather(*((one, two)[n % 2].submit(run.move("more")) for n, run in enumerate(runs)))
            assert [problem for run in runs for problem in await one.verify(run.run_id)] == []

    within(fleet_url, story)


def test_a_budget_is_not_overdrawn_by_stores_that_reserve_at_once(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            runs = [await begun(one) for _ in range(20)]
            asked = [(one, two)[n % 2].submit(run.reserve('"x"', Amount("team", 10, 95))) for n, run in enumerate(runs)]
            answers = cast("list[Reserved]", await asyncio.gather(*asked))
            assert sum(answer.refused is None for answer in answers) == 9

    within(fleet_url, story)


def test_no_change_of_a_meter_comes_between_anothers_look_and_write(fleet_url: str) -> None:
    def counted(state: str | None) -> tuple[str, object]:
        return str(int(state or 0) + 1), int(state or 0)

    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            answers = await asyncio.gather(*((one, two)[n % 2].submit(Adjust("m", counted)) for n in range(40)))
            assert sorted(cast("list[int]", answers)) == list(range(40))

    within(fleet_url, story)


@pytest.mark.slow
def test_runs_that_several_stores_claim_at_once_have_one_owner_each(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two, opened(fleet_url) as three:
            runs = [await begun(one, ready()) for _ in range(30)]
            machines = (runs[0].machine,)
            taken = await asyncio.gather(
                *(
                    store.submit(ClaimDue(name, 5, 10**15, machines, 4))
                    for _ in range(4)
                    for name, store in (("1", one), ("2", two), ("3", three))
                )
            )
            ids = [run.id for some in cast("list[list[RunRecord]]", taken) for run in some]
            assert len(ids) == len(set(ids)) == 30

    within(fleet_url, story)


def test_what_another_writer_holds_is_not_waited_for(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            runs = [await begun(one, ready(n)) for n in range(3)]
            link = link_of(two)
            link.begin()
            link.hold([runs[0].claim()])
            link.sql.exec_driver_sql("SELECT 1")  # Whoever looks finds it held.
            taken = await asyncio.wait_for(one.submit(ClaimDue("me", 5, 10**15, (runs[0].machine,), 9)), 10)
            link.rollback()
            assert {run.id for run in cast("list[RunRecord]", taken)} == {run.run_id.hex() for run in runs[1:]}

    within(fleet_url, story)


@pytest.mark.parametrize("parent_first", [True, False])
def test_a_parent_that_parks_while_its_child_ends_elsewhere_is_woken(fleet_url: str, parent_first: bool) -> None:
    """Each writer's transaction is open when the other's begins: neither sees what the other wrote."""

    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            parent = await begun(one)
            child = await child_of(one, parent)
            park, end = parent.wait_for(child.run_id), child.move("gave_up", head=Head(Status.FAILED))
            first, second = ((one, park), (two, end)) if parent_first else ((two, end), (one, park))
            link = link_of(first[0])
            held = threading.Event()
            commit = link.commit

            def slowly() -> None:
                held.set()
                waiting(fleet_url)
                commit()

            link.commit = slowly  # type: ignore[method-assign]
            begun_first = asyncio.ensure_future(cast("Any", first[0].submit(first[1])))
            await asyncio.to_thread(held.wait)
            await asyncio.gather(begun_first, second[0].submit(second[1]))
            run = await one.run(parent.run_id)
            assert (run.status, run.waiting_for) == (Status.WAITING, Waiting.CHILD)
            assert run.due_at is not None

    within(fleet_url, story)


def waiting(url: str, tries: int = 2_000) -> None:
    """Return when some connection of the database waits for another's lock."""
    with psycopg.connect(url, autocommit=True) as raw:
        for _ in range(tries):
            found = raw.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
            if found.fetchone():
                return
    raise AssertionError("nobody waits")


def test_a_key_that_another_store_is_just_using_belongs_to_its_run(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            machine = await one.register(PAPER)
            mine, theirs = Story(machine), Story(machine)
            link = link_of(one)
            commit = link.commit
            held = threading.Event()

            def slowly() -> None:
                held.set()
                waiting(fleet_url)
                commit()

            link.commit = slowly  # type: ignore[method-assign]
            first = asyncio.ensure_future(one.submit(mine.start(key="order-1")))
            await asyncio.to_thread(held.wait)
            answers = await asyncio.gather(first, two.submit(theirs.start(key="order-1")))
            assert set(answers) == {mine.run_id}
            assert len(await one.runs(RunFilter())) == 1

    within(fleet_url, story)


def test_a_grandchild_that_starts_while_its_grandparent_is_cancelled_does_not_outlive_it(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            top = await begun(one)
            middle = await child_of(one, top)
            low = Story(top.machine)
            link, held = link_of(two), threading.Event()
            commit = link.commit

            def slowly() -> None:
                held.set()
                waiting(fleet_url)
                commit()

            link.commit = slowly  # type: ignore[method-assign]
            start = asyncio.ensure_future(two.submit(low.start(parent=middle.run_id)))
            await asyncio.to_thread(held.wait)
            await asyncio.gather(start, one.submit(Cancel(top.run_id, 9_000, "ann", "enough")))
            assert {run.status for run in await one.runs(RunFilter())} == {Status.CANCELLED}

    within(fleet_url, story)


def test_a_child_that_is_claimed_while_its_parent_is_cancelled_ends_with_it(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            parent = await begun(one)
            child = await child_of(one, parent, ready())
            link, held = link_of(two), threading.Event()
            commit = link.commit

            def slowly() -> None:
                held.set()
                waiting(fleet_url)
                commit()

            link.commit = slowly  # type: ignore[method-assign]
            claim = asyncio.ensure_future(two.submit(child.claim()))
            await asyncio.to_thread(held.wait)
            await asyncio.gather(claim, one.submit(Cancel(parent.run_id, 9_000, "ann", "enough")))
            run = await one.run(child.run_id)
            assert (run.status, run.epoch) == (Status.CANCELLED, 2)

    within(fleet_url, story)


# --- the feed ---------------------------------------------------------------------------------------------------------


def test_a_reader_of_the_feed_passes_over_nothing_that_is_committed_later(fleet_url: str) -> None:
    async def story(one: SqlStore) -> None:
        async with opened(fleet_url) as two:
            run, other = await begun(one), await begun(one)
            seen = [entry.pos for entry in await two.feed(0)]
            first, second = link_of(one), link_of(two)
            for link, who, at in ((first, run, 1), (second, other, 2)):
                link.begin()
                link.hold([])
                list(link.run([(s.FEED, [(who.run_id, "alert", 0, 0, at, None)])]))
            second.commit()
            assert [entry.pos for entry in await two.feed(seen[-1])] == []
            assert len(await two.feed(seen[-1], other.run_id)) == 1
            first.commit()
            after = await two.feed(seen[-1])
            assert [(entry.run_id, entry.pos) for entry in after] == [
                (run.run_id.hex(), seen[-1] + 1),
                (other.run_id.hex(), seen[-1] + 2),
            ]

    within(fleet_url, story)


def test_another_programs_long_transaction_does_not_hold_the_feed_up(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        with psycopg.connect(fleet_url) as raw:
            raw.execute("SELECT pg_current_xact_id()")
            await begun(store)
            assert len(await store.feed(0)) == 1

    within(fleet_url, story)


# --- hints ------------------------------------------------------------------------------------------------------------


async def hinted(url: str, writer: SqlStore, write: Any) -> None:
    """Return when a write of one store wakes a listener of another."""
    async with opened(url) as listener:
        woken = asyncio.Event()
        listener.listen(woken.set)
        await asyncio.wait_for(woken.wait(), 10)  # Once when it begins to listen.
        woken.clear()
        await writer.submit(write)
        await asyncio.wait_for(woken.wait(), 10)


@pytest.mark.parametrize("what", ["a run is ready", "it is given back", "somebody decides", "a child ends"])
def test_whoever_listens_hears_that_something_is_due(fleet_url: str, what: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        if what == "a run is ready":
            write: Any = Story(run.machine, epoch=0).start(ready())
        elif what == "it is given back":
            write = Park(run.run_id, 0, 1, 5, Head(Status.READY, due_at=5))
        elif what == "somebody decides":
            asked = question()
            await store.submit(run.ask_about(asked))
            write = run.decide(asked)
        else:
            child = await child_of(store, run)
            await store.submit(run.wait_for(child.run_id))
            write = child.move("gave_up", head=Head(Status.FAILED))
        await hinted(fleet_url, store, write)

    within(fleet_url, story)


def test_a_write_that_makes_nothing_due_tells_nobody(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.move("more"))
        await store.submit(run.sleep_until(9_000))
        assert isinstance(store._database, Postgres)
        assert store._database.hints._teller is None

    within(fleet_url, story)


@pytest.mark.slow
def test_a_listener_that_lost_its_connection_listens_again(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        woken = asyncio.Event()
        store.listen(woken.set)
        await asyncio.wait_for(woken.wait(), 10)
        woken.clear()
        gone = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        assert ask(fleet_url, gone) == [(True,)]
        await asyncio.wait_for(woken.wait(), 10)  # It may have missed something.

    within(fleet_url, story)


# --- clocks -----------------------------------------------------------------------------------------------------------


class Ahead(SystemClock):
    """A machine's clock that is wrong by some seconds."""

    def __init__(self, by: float) -> None:
        self.by = micros(seconds(by))

    def now(self) -> int:
        return super().now() + self.by


@pytest.mark.parametrize("wrong", [600.0, -600.0])
def test_a_clock_that_is_ten_minutes_wrong_takes_no_lease_early_and_none_late(fleet_url: str, wrong: float) -> None:
    right, ahead = SystemClock(), Ahead(wrong)
    lease = micros(seconds(30))

    async def story(store: SqlStore) -> None:
        other = open_store(fleet_url, clock=ahead)
        assert isinstance(other, SqlStore)
        await other.open()
        held, expired = await begun(store, ready()), await begun(store, ready())
        now = right.now()
        await store.submit(held.claim("right", now, now + lease))
        await store.submit(expired.claim("right", now, now - 1))
        due = ClaimDue("wrong", ahead.now(), ahead.now() + lease, (held.machine,), 9)
        taken = cast("list[RunRecord]", await other.submit(due))
        assert [run.id for run in taken] == [expired.run_id.hex()]
        with pytest.raises(RunHeld):
            await other.submit(held.claim("wrong", ahead.now(), ahead.now() + lease))
        # Each sees the lease by its own clock, and the database keeps it by the server's.
        seen = [await each.run(expired.run_id) for each in (store, other)]
        assert seen[1].lease_until is not None
        assert seen[0].lease_until is not None
        assert abs((seen[1].lease_until - seen[0].lease_until).total_seconds() - wrong) < 1
        assert taken[0].lease_until == seen[1].lease_until
        assert await store.submit(Renew(((expired.run_id, 2),), right.now() + lease)) == []
        # A run that is ready now by the wrong clock is due now by the right one, and so is the wish to look again.
        fresh = Story(held.machine, epoch=0)
        await other.submit(fresh.start(ready(ahead.now())))
        due_at = await other.next_due((held.machine,), None)
        assert due_at is not None
        assert abs(due_at - ahead.now()) < micros(seconds(5))
        taken = cast(
            "list[RunRecord]", await store.submit(ClaimDue("right", right.now() + 1_000_000, 10**16, (held.machine,), 9))
        )
        assert [run.id for run in taken] == [fresh.run_id.hex()]
        await other.close()

    async def go() -> None:
        store = open_store(fleet_url, clock=right)
        assert isinstance(store, SqlStore)
        await store.open()
        try:
            await story(store)
        finally:
            await store.close()

    asyncio.run(go())


def test_an_injected_clock_is_taken_as_it_is(fleet_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store, ready())
        claimed = await store.submit(Claim(run.run_id, "me", 10, 20))
        assert claimed == await store.run(run.run_id)
        assert store._database.shift == 0

    within(fleet_url, story)
