"""Budgets that are reserved before they are spent, and states that several processes change."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from statecraft.errors import Fenced, NotFound, WriteRefused
from statecraft.ids import digest
from statecraft.records import Json, Status
from statecraft.store.port import Adjust, Amount, Cancel, Charge, Head, Reserve, Reserved, Write
from statecraft.store.sql import SqlStore
from tests.store.rig import Story, ask, begun, opened, ready, within

RESERVER = Path(__file__).with_name("reserver.py")
RESERVED = "SELECT meter, sum(amount) FROM reservations GROUP BY meter ORDER BY meter"


async def reserved(store: SqlStore, write: Reserve) -> Reserved:
    answer = await store.submit(write)
    assert isinstance(answer, Reserved)
    return answer


def test_a_reservation_is_answered_with_what_was_charged_so_far(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.settle('"past"', Charge("m", 30)))
        answer = await reserved(store, run.reserve('"q"', Amount("m", 70, 100), Amount("n", 5, 5)))
        assert answer == Reserved(None, {"m": 30, "n": 0})
        assert ask(url, RESERVED) == [("m", 70), ("n", 5)]

    within(url, story)


def test_a_reservation_that_fits_one_meter_but_not_the_other_keeps_nothing(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.settle('"past"', Charge("n", 6)))
        small, large, larger = Amount("m", 1, 100), Amount("n", 5, 10), Amount("o", 9, 8)
        assert await reserved(store, run.reserve('"q"', small, large, larger)) == Reserved(large, {"m": 0, "n": 6, "o": 0})
        assert ask(url, RESERVED) == []

    within(url, story)


def test_what_others_have_reserved_counts_and_what_the_call_itself_has_does_not(url: str) -> None:
    async def story(store: SqlStore) -> None:
        one, two = await begun(store), await begun(store)
        assert (await reserved(store, one.reserve('"q"', Amount("m", 60, 100)))).refused is None
        assert (await reserved(store, two.reserve('"q"', Amount("m", 60, 100)))).refused is not None
        assert (await reserved(store, one.reserve('"p"', Amount("m", 60, 100)))).refused is not None
        assert (await reserved(store, one.reserve('"q"', Amount("m", 90, 100)))).refused is None
        assert ask(url, RESERVED) == [("m", 90)]

    within(url, story)


def test_a_meter_named_twice_is_asked_for_the_sum(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        second = Amount("m", 5, 9)
        assert (await reserved(store, run.reserve('"q"', Amount("m", 5, 9), second))).refused == second
        assert (await reserved(store, run.reserve('"q"', Amount("m", 5, 9), replace(second, amount=4)))).refused is None
        assert ask(url, RESERVED) == [("m", 9)]

    within(url, story)


def test_a_recorded_call_is_charged_and_gives_its_reservation_back_in_one_write(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        await store.submit(run.reserve('"p"', Amount("m", 40, 100)))
        done = replace(run.call('"q"'), cost=12, price_source="settings", charges=(Charge("m", 25), Charge("n", 1)))
        await store.submit(done)
        assert await store.used(["m", "n", "never"]) == {"m": 25, "n": 1, "never": 0}
        assert ask(url, RESERVED) == [("m", 40)]
        (call,) = await store.calls(run.run_id)
        assert (call.cost, call.price_source) == (12, "settings")
        assert await store.verify(run.run_id) == []

    within(url, story)


def test_a_call_that_is_refused_charges_nothing(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        late = replace(run.call('"q"'), epoch=9, charges=(Charge("m", 25),))
        neighbour = (await begun(store)).call('"q"')
        outcomes = await asyncio.gather(store.submit(late), store.submit(neighbour), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Fenced, type(None)]
        assert await store.used(["m"]) == {"m": 0}
        assert ask(url, RESERVED) == [("m", 60)]

    within(url, story)


def test_a_settled_attempt_is_charged_and_gives_its_reservation_back(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        assert await store.submit(run.settle('"q"', Charge("m", 60))) is None
        await store.submit(run.reserve('"q"', Amount("m", 40, 100)))
        await store.submit(run.settle('"q"'))
        assert (await store.used(["m"]), ask(url, RESERVED)) == ({"m": 60}, [])

    within(url, story)


@pytest.mark.parametrize(("epoch", "seq"), [(0, 0), (2, 0), (1, 1)])
def test_who_does_not_hold_the_run_neither_reserves_nor_settles(url: str, epoch: int, seq: int) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        run.epoch, run.seq = epoch, seq
        for write in (run.reserve('"q"', Amount("m", 1, 9)), run.settle('"q"', Charge("m", 1))):
            with pytest.raises(Fenced, match="expects epoch"):
                await store.submit(write)
        assert (await store.used(["m"]), ask(url, RESERVED)) == ({"m": 0}, [])

    within(url, story)


def test_a_run_that_was_given_up_reserves_nothing(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        with pytest.raises(Fenced, match="is waiting"):
            await store.submit(run.reserve('"q"', Amount("m", 1, 9)))
        with pytest.raises(NotFound):
            await store.submit(replace(run.reserve('"q"', Amount("m", 1, 9)), run_id=b"?" * 16))

    within(url, story)


def test_a_killed_workers_reservation_comes_back_when_its_run_is_claimed(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run, other = await begun(store), await begun(store)
        for each in (run, other):
            await store.submit(each.reserve('"q"', Amount("m", 50, 100)))
        await store.submit(run.claim("you", epoch=1))
        assert ask(url, RESERVED) == [("m", 50)]
        assert (await reserved(store, replace(run.reserve('"q"', Amount("m", 50, 100)), epoch=2))).refused is None

    within(url, story)


@pytest.mark.parametrize(
    "end",
    [
        lambda run: run.move("gave_up", head=Head(Status.FAILED)),
        lambda run: run.die(),
        lambda run: Cancel(run.run_id, 5_000, "ann", ""),
    ],
)
def test_the_end_of_a_run_gives_its_reservations_back(url: str, end: Callable[[Story], Write]) -> None:
    async def story(store: SqlStore) -> None:
        run, other = await begun(store), await begun(store)
        for each in (run, other):
            await store.submit(each.reserve('"q"', Amount("m", 50, 100)))
        await store.submit(end(run))
        assert ask(url, RESERVED) == [("m", 50)]

    within(url, story)


def test_a_loaded_run_knows_what_its_own_meters_were_charged(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        name = run.run_id.hex()
        own = [f"run:{name}:tokens", f"run:{name}:calls", f"state:{name}:draft:money"]
        others = [
            f"run:{name}",
            f"run:{name[:-1]}:tokens",
            f"run:{name}0:tokens",
            f"tenant:{name}:0:tokens",
            f"state:{name};:x",
            "run:",
        ]
        await store.submit(run.settle('"q"', *(Charge(meter, 3) for meter in own + others)))
        assert (await store.load(run.run_id)).used == dict.fromkeys(own, 3)

    within(url, story)


def test_a_charge_below_nothing_is_refused(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        with pytest.raises(WriteRefused, match="meter_used"):
            await store.submit(run.settle('"q"', Charge("m", -1)))

    within(url, story)


@pytest.mark.slow
def test_several_processes_never_overshoot_a_budget_together(url: str) -> None:
    """Each of four processes reserves, charges less, and reserves again, as fast as it can, until nothing fits."""

    async def story(store: SqlStore) -> list[str]:
        return [(await begun(store)).run_id.hex() for _ in range(4)]

    limit = 2_000
    command = [sys.executable, str(RESERVER), url, str(limit)]
    working = [subprocess.Popen([*command, run_id], stdout=subprocess.PIPE, text=True) for run_id in within(url, story)]
    said = [process.communicate(timeout=120)[0] for process in working]
    assert [process.returncode for process in working] == [0] * 4
    worst, granted = zip(*(map(int, line.split()) for line in said), strict=True)
    assert max(worst) <= limit
    assert sum(granted) > 100
    assert ask(url, "SELECT used FROM meters WHERE meter = 'm'") == [(sum(granted) * 7,)]
    # Whoever was refused saw at most one reservation of each of the other three.
    assert limit - 40 < sum(granted) * 7 <= limit
    assert ask(url, RESERVED) == []


# --- states ---------------------------------------------------------------------------------------------------------


def counted(state: str | None) -> tuple[str, object]:
    number = int(state or 0) + 1
    return str(number), number


def test_a_meters_state_is_changed_and_the_answer_answered(url: str) -> None:
    async def story(store: SqlStore) -> None:
        assert [await store.submit(Adjust("breaker:m", counted)) for _ in range(3)] == [1, 2, 3]
        run = await begun(store)
        await store.submit(run.settle('"q"', Charge("breaker:m", 5)))
        assert await store.submit(Adjust("breaker:m", counted)) == 4
        assert ask(url, "SELECT * FROM meters") == [("breaker:m", 5, "4")]

    within(url, story)


def test_two_stores_on_one_file_lose_no_change(url: str) -> None:
    async def story(store: SqlStore) -> None:
        async with opened(url) as other:
            changes = [each.submit(Adjust("m", counted)) for _ in range(100) for each in (store, other)]
            assert sorted(map(int, map(str, await asyncio.gather(*changes)))) == list(range(1, 201))

    within(url, story)


def test_a_change_that_raises_is_the_outcome_and_changes_nothing(url: str) -> None:
    error = LookupError("no")

    def failing(state: str | None) -> tuple[str, Json]:
        raise error

    async def story(store: SqlStore) -> None:
        run = await begun(store)
        writes: list[Write] = [Adjust("m", counted), Adjust("m", failing), Adjust("m", counted), run.move("more")]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert outcomes == [1, error, 2, None]
        wrong: list[Callable[[str | None], tuple[str, object]]] = [lambda _: ({}, 1), lambda _: 7]  # type: ignore[list-item,return-value]
        for change, kind in zip(wrong, (WriteRefused, TypeError), strict=True):
            with pytest.raises(kind):
                await store.submit(Adjust("m", change))
        assert ask(url, "SELECT state FROM meters") == [("2",)]

    within(url, story)


def test_a_neighbour_that_is_refused_does_not_change_a_state_twice(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store, ready())
        bad = replace(run.call('"q"'), epoch=9)
        writes: list[Write] = [Adjust("m", counted), bad, Adjust("m", counted)]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, Fenced, 2)

    within(url, story)


def test_digests_tell_calls_apart(url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 1, 9)))
        await store.submit(replace(run.reserve('"q"', Amount("m", 2, 9)), occurrence=1))
        await store.submit(replace(run.settle('"q"'), digest=digest('"z"')))
        assert ask(url, RESERVED) == [("m", 3)]
        await store.submit(run.settle('"q"'))
        assert ask(url, RESERVED) == [("m", 2)]

    within(url, story)
