"""Deliveries reach a channel at least once, whatever fails, and one channel keeps no other waiting."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import cast

import pytest

from statecraft.alerts import Callback, Log, NotDelivered, pace
from statecraft.alerts.courier import LEASE, TIME_LIMIT, Carrier, Courier, attempt
from statecraft.channel import Alert, AlertPolicy
from statecraft.errors import StoreUnavailable
from statecraft.store.outbox import Carried, Errand, Fetch, Missed, Redeliver, Tell, event_id
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from statecraft.testing.clock import START
from tests.alerts.rig import Ops, carried, carrier, errands, only, outbox, subscribed, turns

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


async def tell(store: SqlStore, clock: ManualClock, count: int = 1, first: int = 0) -> None:
    events = [event_id("breaker.opened", f"tool:{number}") for number in range(first, first + count)]
    await asyncio.gather(
        *(
            store.submit(Tell(event, "breaker.opened", clock.now(), f'{{"dependency":"tool:{number}"}}'))
            for number, event in enumerate(events, first)
        )
    )


def test_what_is_told_is_delivered_once_and_then_no_more(database: str) -> None:
    async def story() -> None:
        clock, ops = ManualClock(), Ops()
        async with outbox(database, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock)
            await carried(carrier(store, ops, clock), clock, HOUR)
            assert [(alert.type, alert.data["dependency"]) for alert in ops.got] == [("breaker.opened", "tool:0")]
            assert (await only(store)).delivered_at is not None

    asyncio.run(story())


@pytest.mark.slow
def test_a_thousand_that_wait_are_all_delivered(url: str) -> None:
    async def story() -> None:
        clock, ops = ManualClock(), Ops()
        async with outbox(url, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock, 1000)
            await carried(carrier(store, ops, clock), clock, SECOND)
            assert len({alert.id for alert in ops.got}) == len(ops.got) == 1000

    asyncio.run(story())


@pytest.mark.slow
def test_a_channel_that_is_down_for_two_days_gets_everything_when_it_is_back(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        up_at = clock.now() + 2 * 86_400_000_000
        ops = Ops(fails=lambda _: OSError("down") if clock.now() < up_at else None)
        async with outbox(url, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock, 20)
            one = carrier(store, ops, clock)
            await carried(one, clock, 2 * DAY - HOUR, timedelta(minutes=10))
            tried = len(ops.got)
            assert all(each.delivered_at is None and each.due_at for each in await store.deliveries(limit=100))
            ops.got.clear()
            await carried(one, clock, 6 * HOUR, timedelta(minutes=10))
            late = [each for each in await store.deliveries(limit=100) if each.delivered_at is None]
            assert not late
            assert len({alert.id for alert in ops.got}) == 20
            # All that waited goes as soon as the first is through, whenever it would have been its turn.
            deliveries = await store.deliveries(limit=100)
            assert len({each.delivered_at for each in deliveries}) == 1
            assert tried < 20 * pace.ATTEMPTS

    asyncio.run(story())


@pytest.mark.slow
def test_a_delivery_is_given_up_after_about_three_days_and_redelivered_on_request(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        ops = Ops(fails=lambda _: OSError("secret in a message"))
        async with outbox(url, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock)
            one = carrier(store, ops, clock)
            started = clock.now()
            while not (await only(store)).failed:
                await carried(one, clock, HOUR, timedelta(minutes=5))
            assert 2.5 * 86_400 < (clock.now() - started) / 1_000_000 < 3.5 * 86_400
            found = await only(store)
            assert (found.attempts, found.error, len(ops.got)) == (pace.ATTEMPTS, "OSError", pace.ATTEMPTS)
            assert [each.id for each in await store.deliveries(failed=True)] == [found.id]
            assert len({alert.id for alert in ops.got}) == 1
            ops.fails = lambda _: None
            assert await store.submit(Redeliver(bytes.fromhex(found.id), clock.now())) == 1
            await carried(one, clock, timedelta(minutes=2))
            assert (await only(store)).delivered_at is not None
            assert await store.deliveries(failed=True) == []

    asyncio.run(story())


def test_waits_grow_from_seconds_to_hours_and_heed_what_the_receiver_asks() -> None:
    waits = [pace.delay(attempt, 0.5) for attempt in range(1, pace.ATTEMPTS)]
    assert waits[:3] == [5.0, 10.0, 20.0]
    assert max(wait or 0 for wait in waits) == pace.LONGEST
    assert pace.delay(pace.ATTEMPTS, 0.5) is None
    assert pace.delay(pace.ATTEMPTS + 1, 0.5) == 5.0
    assert pace.delay(1, 0.5, retry_after=120) == 120
    assert pace.delay(1, 0.5, retry_after=10**9) == pace.LONGEST_HINT
    assert [pace.rest(failures) for failures in (0, 1, 2, 20)] == [0, 1, 2, pace.LONGEST_REST]


def test_a_receiver_that_asks_for_time_is_left_alone_for_it(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        ops = Ops(fails=lambda _: NotDelivered("429", retry_after=600.0))
        async with outbox(url, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock, 12)
            one = carrier(store, ops, clock)
            await carried(one, clock, timedelta(seconds=570))
            assert len(ops.got) == 4  # Those that were under way when it said so.
            ops.fails = lambda _: None
            await carried(one, clock, timedelta(seconds=60))
            assert len({alert.id for alert in ops.got}) == 12

    asyncio.run(story())


@pytest.mark.slow
def test_two_workers_never_send_the_same_delivery_at_once(database: str) -> None:
    async def story() -> None:
        clock, here, there = ManualClock(), Ops(), Ops()
        async with outbox(database, kinds=()) as store, outbox(database, kinds=()) as other:
            await subscribed(store, here)
            await tell(store, clock, 60)
            one, two = carrier(store, here, clock), carrier(other, there, clock)

            async def all_of(each: Carrier) -> None:
                while await each.once() <= 0:
                    pass

            await asyncio.gather(all_of(one), all_of(two))
            both = [alert.id for alert in (*here.got, *there.got)]
            assert len(both) == len(set(both)) == 60

    asyncio.run(story())


def test_a_sender_that_died_is_followed_by_another_after_its_lease(database: str) -> None:
    async def story() -> None:
        clock, ops = ManualClock(), Ops()
        async with outbox(database, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock)
            now = clock.now()
            (taken,) = cast("list[Errand]", await store.submit(Fetch("ops", now, now + LEASE, 10)))
            one = carrier(store, ops, clock)
            await carried(one, clock, timedelta(seconds=50), SECOND)
            assert ops.got == []
            await carried(one, clock, timedelta(seconds=15), SECOND)
            assert [alert.id for alert in ops.got] == [taken.event.hex()]
            # The dead one was only slow. What it says now changes nothing.
            await store.submit(Missed("ops", taken.event, taken.attempt, clock.now(), "late"))
            assert (await only(store)).delivered_at is not None

    asyncio.run(story())


def test_a_slow_success_counts_although_another_has_the_delivery_now(database: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(database) as store:
            await tell(store, clock)
            (first,), (second,) = await errands(store, 10**16), await errands(store, 10**16 + 5)
            assert (first.attempt, second.attempt, first.event) == (1, 2, second.event)
            await store.submit(Missed("ops", first.event, 1, 5, "slow"))
            await store.submit(Carried("ops", first.event, 1, 7))
            await store.submit(Missed("ops", first.event, 2, 5, "failed"))
            found = await only(store)
            assert (found.due_at, found.error, found.delivered_at is not None) == (None, None, True)

    asyncio.run(story())


def test_a_channel_that_is_gone_is_disabled_and_said_to_be(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        clock = ManualClock()
        ops = Ops(fails=lambda _: NotDelivered("hooks.example answered 410", gone=True))
        async with outbox(url, kinds=()) as store:
            await subscribed(store, ops)
            await tell(store, clock)
            one = carrier(store, ops, clock)
            await carried(one, clock, timedelta(minutes=2))
            await tell(store, clock, 5, first=1)
            await carried(one, clock, HOUR)
            assert len(ops.got) == 1
            assert (await only(store)).failed
            assert await store.next_delivery("ops") is None

    with caplog.at_level("WARNING", logger="statecraft"):
        asyncio.run(story())
    assert any("410" in str(record.__dict__.get("reason")) for record in caplog.records)


# --- a whole courier --------------------------------------------------------------------------------------------------


def courier(store: SqlStore, clock: ManualClock, *channels: object) -> Courier:
    return Courier(store, clock, lambda: 0.5, channels, AlertPolicy(), 1.0)  # type: ignore[arg-type]


def test_a_channel_that_hangs_keeps_no_other_waiting(url: str) -> None:
    async def story() -> None:
        clock, hanging, well = ManualClock(), asyncio.Event(), Ops("well")

        async def hang(_: Alert) -> None:
            hanging.set()
            await asyncio.Event().wait()

        async with outbox(url, kinds=()) as store:
            both = courier(store, clock, Callback("stuck", hang), well)
            await both.start()
            await clock.advance(SECOND)
            await tell(store, clock)
            while not (well.got and hanging.is_set()):
                await clock.advance(SECOND)
                await turns(5)
            await clock.advance(timedelta(seconds=TIME_LIMIT))
            found = {each.channel: each for each in await store.deliveries()}
            while found["stuck"].error is None:
                await turns(5)
                found = {each.channel: each for each in await store.deliveries()}
            assert found["stuck"].error == "no answer in 15 s"
            assert found["well"].delivered_at is not None
            await both.stop()

    asyncio.run(story())


def test_a_process_that_ends_delivers_what_is_due_first(url: str) -> None:
    async def story() -> None:
        clock, ops = ManualClock(), Ops()
        async with outbox(url, kinds=()) as store:
            one = courier(store, clock, ops)
            await one.start()
            await clock.advance(SECOND)
            await tell(store, clock, 30)
            await one.stop()
            assert len(ops.got) == 30
            assert all(each.delivered_at for each in await store.deliveries(limit=100))

    asyncio.run(story())


def test_a_store_that_fails_for_a_while_ends_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        clock, ops, away = ManualClock(), Ops(), [True]
        async with outbox(url, kinds=()) as store:
            one = courier(store, clock, ops)
            await one.start()
            real = store.next_delivery

            async def failing(channel: str) -> int | None:
                if away[0]:
                    raise StoreUnavailable("away")
                return await real(channel)

            monkeypatch.setattr(store, "next_delivery", failing)
            await clock.advance(SECOND)
            await tell(store, clock)
            for _ in range(20):
                await clock.advance(SECOND)
                await turns(2)
            assert ops.got == []
            away[0] = False
            while not ops.got:
                await clock.advance(SECOND)
                await turns(2)
            await one.stop()

    asyncio.run(story())


def test_a_function_that_blocks_runs_in_a_thread_and_a_coroutine_on_the_loop(url: str) -> None:
    async def story() -> None:
        where: list[str] = []
        here = threading.current_thread().name

        def plain(_: Alert) -> None:
            where.append(threading.current_thread().name)

        async def on_loop(_: Alert) -> None:
            where.append(threading.current_thread().name)

        alert = Alert("0" * 32, "test", START, {})
        await Callback("a", plain).send(alert)
        await Callback("b", on_loop).send(alert)
        assert where == ["statecraft alerts a", here]

        def broken(_: Alert) -> None:
            raise ValueError("why")

        with pytest.raises(ValueError, match="why"):
            await Callback("c", broken).send(alert)

    asyncio.run(story())


def test_threads_that_hang_do_not_pile_up() -> None:
    async def story() -> None:
        free = threading.Event()
        channel = Callback("stuck", lambda _: free.wait(30))
        alert = Alert("0" * 32, "test", START, {})
        stuck = [asyncio.create_task(channel.send(alert)) for _ in range(8)]
        await turns()
        with pytest.raises(NotDelivered, match="8 earlier attempts are still under way"):
            await channel.send(alert)
        free.set()
        await asyncio.gather(*stuck)
        await channel.send(alert)

    asyncio.run(story())


def test_the_log_gets_a_line_with_the_command_to_type(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with outbox(url, kinds=()) as store:
            log = Log("log")
            await subscribed(store, log)
            await tell(store, clock)
            await carried(carrier(store, log, clock), clock, SECOND)

    with caplog.at_level("WARNING", logger="statecraft"):
        asyncio.run(story())
    (line,) = [record for record in caplog.records if record.getMessage() == "alert"]
    assert line.__dict__["kind"] == "breaker.opened"
    assert line.__dict__["hint"] == "statecraft runs --status waiting"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("blocks", [True, False])
def test_whatever_a_function_raises_ends_neither_the_worker_nor_its_channel(error: type[BaseException], blocks: bool) -> None:
    async def story() -> None:
        def plain(_: Alert) -> None:
            raise error("a secret")

        async def on_loop(_: Alert) -> None:
            raise error("a secret")

        channel = Callback("a", plain if blocks else on_loop)
        failure = await attempt(ManualClock(), channel, Alert("0" * 32, "test", START, {}))
        assert str(failure) == error.__name__

    asyncio.run(story())


def test_a_channel_that_is_cut_off_from_outside_is_cut_off() -> None:
    async def story() -> None:
        channel = Callback("a", lambda _: asyncio.Event().wait())
        trying = asyncio.create_task(attempt(ManualClock(), channel, Alert("0" * 32, "test", START, {})))
        await turns()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    asyncio.run(story())


def test_a_lambda_around_a_coroutine_delivers_and_does_not_just_say_so() -> None:
    async def story() -> None:
        got: list[Alert] = []

        async def tell(alert: Alert) -> None:
            got.append(alert)

        assert (
            await attempt(ManualClock(), Callback("a", lambda alert: tell(alert=alert)), Alert("0" * 32, "test", START, {}))
            is None
        )
        assert len(got) == 1

    asyncio.run(story())
