"""Budgets that are reserved before they are spent, and states that several change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from statecraft.errors import (
    Fenced,
    NotFound,
    WriteRefused,
)
from statecraft.ids import digest
from statecraft.records import Json, Status
from statecraft.store.port import (
    Adjust,
    Amount,
    Cancel,
    Charge,
    Head,
    Reserve,
    Reserved,
    Store,
    Write,
)
from statecraft.testing.conformance.stories import (
    Story,
    begun,
    ready,
)
from statecraft.testing.conformance.suite import Suite, behaviour


async def reserved(store: Store, write: Reserve) -> Reserved:
    """What a reservation is answered."""
    answer = await store.submit(write)
    assert isinstance(answer, Reserved)
    return answer


async def reserved_of(store: Store, meter: str) -> int:
    """What everybody together has reserved of a meter: found by asking for nothing, under lower and lower limits."""
    asking, used = await begun(store), (await store.used([meter]))[meter]
    low, high = used, used + 128
    while low < high:
        middle = (low + high) // 2
        answer = await reserved(store, asking.reserve('"how much?"', Amount(meter, 0, middle)))
        low, high = (low, middle) if answer.refused is None else (middle + 1, high)
    await store.submit(asking.settle('"how much?"'))
    return low - used


def counted(state: str | None) -> tuple[str, object]:
    """A change that counts how often it was made."""
    number = int(state or 0) + 1
    return str(number), number


class Meters(Suite):
    """Reservations, charges and states."""

    @behaviour
    async def test_a_reservation_is_answered_with_what_was_charged_so_far(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.settle('"past"', Charge("m", 30)))
        answer = await reserved(store, run.reserve('"q"', Amount("m", 70, 100), Amount("n", 5, 5)))
        assert answer == Reserved(None, {"m": 30, "n": 0})
        assert [await reserved_of(store, meter) for meter in "mn"] == [70, 5]

    @behaviour
    async def test_a_reservation_that_fits_one_meter_but_not_the_other_keeps_nothing(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.settle('"past"', Charge("n", 6)))
        small, large, larger = Amount("m", 1, 100), Amount("n", 5, 10), Amount("o", 9, 8)
        assert await reserved(store, run.reserve('"q"', small, large, larger)) == Reserved(large, {"m": 0, "n": 6, "o": 0})
        assert [await reserved_of(store, meter) for meter in "mno"] == [0, 0, 0]

    @behaviour
    async def test_what_others_have_reserved_counts_and_what_the_call_itself_has_does_not(self, store: Store) -> None:
        one, two = await begun(store), await begun(store)
        assert (await reserved(store, one.reserve('"q"', Amount("m", 60, 100)))).refused is None
        assert (await reserved(store, two.reserve('"q"', Amount("m", 60, 100)))).refused is not None
        assert (await reserved(store, one.reserve('"p"', Amount("m", 60, 100)))).refused is not None
        assert (await reserved(store, one.reserve('"q"', Amount("m", 90, 100)))).refused is None
        assert await reserved_of(store, "m") == 90

    @behaviour
    async def test_a_meter_named_twice_is_asked_for_the_sum(self, store: Store) -> None:
        run = await begun(store)
        second = Amount("m", 5, 9)
        assert (await reserved(store, run.reserve('"q"', Amount("m", 5, 9), second))).refused == second
        assert (await reserved(store, run.reserve('"q"', Amount("m", 5, 9), replace(second, amount=4)))).refused is None
        assert await reserved_of(store, "m") == 9

    @behaviour
    async def test_a_recorded_call_is_charged_and_gives_its_reservation_back_in_one_write(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        await store.submit(run.reserve('"p"', Amount("m", 40, 100)))
        done = replace(run.call('"q"', cost=12, price_source="settings"), charges=(Charge("m", 25), Charge("n", 1)))
        await store.submit(done)
        assert await store.used(["m", "n", "never"]) == {"m": 25, "n": 1, "never": 0}
        assert await reserved_of(store, "m") == 40
        (call,) = await store.calls(run.run_id)
        assert (call.cost, call.price_source) == (12, "settings")
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_call_that_is_refused_charges_nothing(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        late = replace(run.call('"q"'), epoch=9, charges=(Charge("m", 25),))
        neighbour = (await begun(store)).call('"q"')
        outcomes = await asyncio.gather(store.submit(late), store.submit(neighbour), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Fenced, type(None)]
        assert await store.used(["m"]) == {"m": 0}
        assert await reserved_of(store, "m") == 60

    @behaviour
    async def test_a_settled_attempt_is_charged_and_gives_its_reservation_back(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 60, 100)))
        assert await store.submit(run.settle('"q"', Charge("m", 60))) is None
        await store.submit(run.reserve('"q"', Amount("m", 40, 100)))
        await store.submit(run.settle('"q"'))
        assert (await store.used(["m"]), await reserved_of(store, "m")) == ({"m": 60}, 0)

    @pytest.mark.parametrize(("epoch", "seq"), [(0, 0), (2, 0), (1, 1)])
    @behaviour
    async def test_who_does_not_hold_the_run_neither_reserves_nor_settles(self, store: Store, epoch: int, seq: int) -> None:
        run = await begun(store)
        run.epoch, run.seq = epoch, seq
        for write in (run.reserve('"q"', Amount("m", 1, 9)), run.settle('"q"', Charge("m", 1))):
            with pytest.raises(Fenced, match="expects epoch"):
                await store.submit(write)
        assert (await store.used(["m"]), await reserved_of(store, "m")) == ({"m": 0}, 0)

    @behaviour
    async def test_a_run_that_was_given_up_reserves_nothing(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.sleep_until(9_000))
        with pytest.raises(Fenced, match="is waiting"):
            await store.submit(run.reserve('"q"', Amount("m", 1, 9)))
        with pytest.raises(NotFound):
            await store.submit(replace(run.reserve('"q"', Amount("m", 1, 9)), run_id=b"?" * 16))

    @behaviour
    async def test_a_killed_workers_reservation_comes_back_when_its_run_is_claimed(self, store: Store) -> None:
        run, other = await begun(store), await begun(store)
        for each in (run, other):
            await store.submit(each.reserve('"q"', Amount("m", 50, 100)))
        await store.submit(run.claim("you", epoch=1))
        assert await reserved_of(store, "m") == 50
        assert (await reserved(store, replace(run.reserve('"q"', Amount("m", 50, 100)), epoch=2))).refused is None

    @pytest.mark.parametrize(
        "end",
        [
            lambda run: run.move("gave_up", head=Head(Status.FAILED)),
            lambda run: run.die(),
            lambda run: Cancel(run.run_id, 5_000, "ann", ""),
        ],
    )
    @behaviour
    async def test_the_end_of_a_run_gives_its_reservations_back(self, store: Store, end: Callable[[Story], Write]) -> None:
        run, other = await begun(store), await begun(store)
        for each in (run, other):
            await store.submit(each.reserve('"q"', Amount("m", 50, 100)))
        await store.submit(end(run))
        assert await reserved_of(store, "m") == 50

    @behaviour
    async def test_a_loaded_run_knows_what_its_own_meters_were_charged(self, store: Store) -> None:
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

    @behaviour
    async def test_a_charge_below_nothing_is_refused(self, store: Store) -> None:
        run = await begun(store)
        with pytest.raises(WriteRefused, match="meter_used"):
            await store.submit(run.settle('"q"', Charge("m", -1)))

    @behaviour
    async def test_a_meters_state_is_changed_and_the_answer_answered(self, store: Store) -> None:
        assert [await store.submit(Adjust("breaker:m", counted)) for _ in range(3)] == [1, 2, 3]
        run = await begun(store)
        await store.submit(run.settle('"q"', Charge("breaker:m", 5)))
        assert await store.submit(Adjust("breaker:m", counted)) == 4
        assert await store.used(["breaker:m"]) == {"breaker:m": 5}

    @behaviour
    async def test_a_change_that_raises_is_the_outcome_and_changes_nothing(self, store: Store) -> None:
        error = LookupError("no")

        def failing(_state: str | None) -> tuple[str, Json]:
            raise error

        run = await begun(store)
        writes: list[Write] = [Adjust("m", counted), Adjust("m", failing), Adjust("m", counted), run.move("more")]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert outcomes == [1, error, 2, None]
        wrong: list[Callable[[str | None], tuple[str, object]]] = [lambda _: ({}, 1), lambda _: 7]  # type: ignore[list-item,return-value]
        for change, kind in zip(wrong, (WriteRefused, TypeError), strict=True):
            with pytest.raises(kind):
                await store.submit(Adjust("m", change))
        assert await store.submit(Adjust("m", counted)) == 3

    @behaviour
    async def test_a_neighbour_that_is_refused_does_not_change_a_state_twice(self, store: Store) -> None:
        run = await begun(store, ready())
        bad = replace(run.call('"q"'), epoch=9)
        writes: list[Write] = [Adjust("m", counted), bad, Adjust("m", counted)]
        outcomes = await asyncio.gather(*map(store.submit, writes), return_exceptions=True)
        assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (1, Fenced, 2)

    @behaviour
    async def test_digests_tell_calls_apart(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.reserve('"q"', Amount("m", 1, 9)))
        await store.submit(replace(run.reserve('"q"', Amount("m", 2, 9)), occurrence=1))
        await store.submit(replace(run.settle('"q"'), digest=digest('"z"')))
        assert await reserved_of(store, "m") == 3
        await store.submit(run.settle('"q"'))
        assert await reserved_of(store, "m") == 2
