"""Runs in hand: room, claims that race, leases that are lost, a store that fails, and what is kept of runs that ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Ask, Data, Event, Failure, Machine, Run, RunFilter, Runtime, Settings, Status
from statecraft.errors import StoreFull, StoreUnavailable
from statecraft.records import Waiting
from statecraft.store import open_store, port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock

FAR = 10**16
"""An instant of the year 2286."""


class Note(Data):
    text: str = ""


class Stop(Event):
    text: str = ""


class Yes(Event): ...


Work = Callable[[Run[Note]], Awaitable[Stop]]


async def stop_at_once(run: Run[Note]) -> Stop:
    return Stop()


def one_state(work: Work = stop_at_once, **bounds: Any) -> Machine[Note]:
    machine = Machine("one", data=Note)

    async def working(run: Run[Note]) -> Stop:
        return await work(run)

    start = machine.state(start=True, **bounds)(working)
    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(start.on(Stop) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def asking() -> Machine[Note]:
    machine = Machine("asking", data=Note)

    @machine.review(timeout=timedelta(days=2))
    async def question(run: Run[Note]) -> Ask[Yes]:
        return Ask("Go on?")

    @machine.state(start=True)
    async def begin(run: Run[Note]) -> Stop:
        return Stop()

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(begin.on(Stop) >> question, question.on(Yes) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


class Wrapped:
    """A real store whose `submit` goes through a function first."""

    def __init__(self, url: str, before: Callable[[SqlStore, port.Write], Awaitable[None]]) -> None:
        inner = open_store(url)
        assert isinstance(inner, SqlStore)
        self.inner, self.before = inner, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def submit(self, write: port.Write) -> object:
        await self.before(self.inner, write)
        return await self.inner.submit(write)


def wrapped(url: str, before: Callable[[SqlStore, port.Write], Awaitable[None]]) -> Any:
    return Wrapped(url, before)


def slow_polls(**more: Any) -> Settings:
    """Only what happens in this process wakes anybody: a missed signal is a test that hangs."""
    return Settings(poll=timedelta(hours=1), lease=timedelta(hours=3), **more)


def test_more_runs_than_there_is_room_for_all_end_and_never_more_than_that_at_once(url: str) -> None:
    most, now = 0, 0

    async def work(run: Run[Note]) -> Stop:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await run.now()
        now -= 1
        return Stop()

    async def go() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine], settings=slow_polls(concurrency=3)) as rt:
            started = await asyncio.gather(*(rt.start(machine, Note()) for _ in range(40)))
            ended = await asyncio.wait_for(asyncio.gather(*(rt.wait(run.id) for run in started)), 60)
            assert {run.status for run in ended} == {Status.DONE}
            assert rt._worker.free == 3

    asyncio.run(go())
    assert most <= 3


@pytest.mark.slow
def test_five_hundred_parked_runs_hold_no_tasks(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine], settings=Settings(take="own", concurrency=600)) as rt:
            before = len(asyncio.all_tasks())
            started = await asyncio.gather(*(rt.start(machine, Note()) for _ in range(500)))
            parked = await asyncio.gather(*(rt.wait(run.id) for run in started))
            assert {run.waiting_for for run in parked} == {Waiting.REVIEW}
            while rt._worker._driving:
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) <= before + 2
            gc.collect()
            assert (len(rt._worker._changed), len(rt._worker._taking), len(rt._worker.failures)) == (0, 0, 0)

    asyncio.run(go())


@pytest.mark.slow
@pytest.mark.parametrize("take", ["all", "own"])
def test_nothing_is_kept_of_runs_that_ended(url: str, take: Any) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=Settings(take=take)) as rt:
            for _ in range(20):
                await rt.wait((await rt.start(machine, Note())).id)
            while rt._worker._driving:
                await asyncio.sleep(0)
            gc.collect()
            assert (len(rt._worker._own), len(rt._worker._changed), len(rt._worker.failures)) == (0, 0, 0)

    asyncio.run(go())


@pytest.mark.slow
def test_two_runtimes_on_one_file_share_the_work_and_double_no_move(url: str) -> None:
    async def go() -> None:
        both, in_hand = asyncio.Event(), list[str]()

        async def work(run: Run[Note]) -> Stop:
            in_hand.append(run.id)
            if len(in_hand) > 4:  # One runtime alone has no room for so many.
                both.set()
            await both.wait()
            return Stop()

        machine, quick = one_state(work), Settings(concurrency=4, poll=timedelta(milliseconds=5))
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            ids = [(await rt.start(machine, Note(), detach=True)).id for _ in range(60)]
        async with (
            Runtime(url, machines=[machine], settings=quick) as one,
            Runtime(url, machines=[machine], settings=quick) as two,
        ):
            ended = await asyncio.gather(*(one.wait(run_id) for run_id in ids))
            assert {(run.status, run.seq, run.epoch) for run in ended} == {(Status.DONE, 1, 1)}
            owners = {entry.detail["owner"] for entry in await two.feed(limit=1000) if entry.kind == "claimed"}
            assert owners == {one._worker.owner, two._worker.owner}
            assert [await one.verify(run_id) for run_id in ids] == [[]] * 60

    asyncio.run(go())


def test_two_runtimes_that_start_with_one_key_at_once_start_one_run(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine]) as one, Runtime(url, machines=[machine]) as two:
            both = await asyncio.gather(*(rt.start(machine, Note(), key="k") for rt in (one, two, one, two)))
            assert len({run.id for run in both}) == 1
            assert (await two.wait(both[0].id)).waiting_for is Waiting.REVIEW
            assert len(await one.runs()) == 1

    asyncio.run(go())


def test_a_run_that_was_taken_over_between_claim_and_load_is_left_alone(url: str) -> None:
    """Otherwise it would be advanced under the epoch of the one who took it."""
    thief = "thief"
    calls: list[str] = []

    async def work(run: Run[Note]) -> Stop:
        calls.append(run.id)
        return Stop()

    async def go() -> None:
        machine = one_state(work)
        stolen = asyncio.Event()

        async def nothing(store: SqlStore, write: port.Write) -> None: ...

        store = wrapped(url, nothing)
        load = store.inner.load

        async def stolen_before_load(run_id: bytes) -> port.Loaded:
            run = await store.inner.run(run_id)
            await store.inner.submit(port.Claim(run_id, thief, FAR, FAR + 1, run.epoch))
            stolen.set()
            loaded: port.Loaded = await load(run_id)
            return loaded

        store.load = stolen_before_load
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            run = await rt.start(machine, Note(), detach=True)
        async with Runtime(url, machines=[machine], store=store, settings=Settings(take="none")) as rt:
            await rt.resume(run.id)
            assert rt._worker._driving == {}
            found = await rt.get(run.id)
            assert (found.owner, found.epoch, found.seq) == (thief, 2, 0)

    asyncio.run(go())
    assert calls == []


def test_a_renewal_that_comes_back_late_does_not_stop_the_next_execution(url: str) -> None:
    async def go() -> None:
        begun: asyncio.Queue[asyncio.Event] = asyncio.Queue()

        async def work(run: Run[Note]) -> Stop:
            gate = asyncio.Event()
            begun.put_nowait(gate)
            await gate.wait()
            return Stop()

        held_back, go_on = asyncio.Event(), asyncio.Event()

        async def late(store: SqlStore, write: port.Write) -> None:
            if isinstance(write, port.Renew) and write.held and not go_on.is_set():
                held_back.set()
                await go_on.wait()

        machine, store = one_state(work), wrapped(url, late)
        async with Runtime(url, machines=[machine], store=store, settings=slow_polls(take="own")) as rt:
            run = await rt.start(machine, Note())
            await begun.get()
            renewal = asyncio.ensure_future(rt._worker._renew())
            await held_back.wait()
            claimed = port.Claim(bytes.fromhex(run.id), rt._worker.owner, 0, rt._worker.lease_until, run.epoch)
            await rt._worker._take(
                await store.submit(claimed), rt._clock.now()
            )  # As after a lease that ended: claimed again, by ourselves.
            gate = await begun.get()
            go_on.set()
            await renewal
            gate.set()
            assert (await asyncio.wait_for(rt.wait(run.id), 30)).status is Status.DONE
            assert (await rt.get(run.id)).epoch == 2

    asyncio.run(go())


def test_a_runtime_that_closes_in_the_middle_of_a_claim_hands_the_run_back(url: str) -> None:
    async def go() -> None:
        machine, loading = one_state(), asyncio.Event()

        async def nothing(store: SqlStore, write: port.Write) -> None: ...

        store = wrapped(url, nothing)

        async def never(run_id: bytes) -> port.Loaded:
            loading.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("unreachable")

        store.load = never
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            run = await rt.start(machine, Note(), detach=True)
        async with Runtime(url, machines=[machine], store=store):
            await loading.wait()
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            assert (await rt.get(run.id)).status is Status.READY

    asyncio.run(go())


def test_a_handler_that_catches_its_cancellation_does_not_keep_a_runtime_from_closing(url: str) -> None:
    rounds: list[int] = []

    async def go() -> None:
        begun = asyncio.Event()
        machine = Machine("round", data=Note, max_steps=1000)

        @machine.state(start=True)
        async def around(run: Run[Note]) -> Stop:
            rounds.append(run.step)
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
            return Stop()

        failed = machine.final("failed")
        machine.transitions(around.on(Stop) >> around, machine.anywhere.on(Failure) >> failed)
        async with asyncio.timeout(30):
            async with Runtime(url, machines=[machine]) as rt:
                run = await rt.start(machine, Note())
                await begun.wait()
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            assert ((await rt.get(run.id)).status, (await rt.get(run.id)).seq) == (Status.READY, 0)

    asyncio.run(go())
    assert rounds == [0]


def test_a_cancelled_run_makes_no_further_call_even_if_its_handler_catches_the_cancellation(url: str) -> None:
    async def go() -> None:
        begun, ended, errors = asyncio.Event(), asyncio.Event(), list[Exception]()

        async def work(run: Run[Note]) -> Stop:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
            try:
                await run.random()
            except Exception as error:
                errors.append(error)
            ended.set()
            return Stop()

        machine = one_state(work)
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.start(machine, Note())
            await begun.wait()
            await rt.cancel(run.id, by="ann", reason="enough")
            await ended.wait()
            assert "cancelled" in str(errors[0])
            assert await rt.calls(run.id) == []

    asyncio.run(go())


def test_a_store_that_fails_the_poller_again_and_again_is_told_to_who_waits(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def full(store: SqlStore, write: port.Write) -> None:
        if isinstance(write, port.ClaimDue):
            raise StoreFull("no space left")

    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            run = await rt.start(machine, Note(), detach=True)
        quick = Settings(poll=timedelta(milliseconds=1))
        async with Runtime(url, machines=[machine], store=wrapped(url, full), settings=quick) as rt:
            with pytest.raises(StoreFull):
                await asyncio.wait_for(rt.wait(run.id), 30)

    with caplog.at_level(logging.WARNING, logger="statecraft"):
        asyncio.run(go())
    assert any(record.getMessage() == "store.failed" for record in caplog.records)


def test_one_run_that_cannot_be_loaded_does_not_keep_the_others_of_its_batch(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            ids = [(await rt.start(machine, Note(), detach=True)).id for _ in range(5)]

        async def nothing(store: SqlStore, write: port.Write) -> None: ...

        store = wrapped(url, nothing)
        load = store.inner.load

        async def fails(run_id: bytes) -> port.Loaded:
            if run_id.hex() == ids[0]:
                raise StoreUnavailable("away")
            loaded: port.Loaded = await load(run_id)
            return loaded

        store.load = fails
        async with Runtime(url, machines=[machine], store=store, settings=slow_polls()) as rt:
            rest = await asyncio.wait_for(asyncio.gather(*(rt.wait(run_id) for run_id in ids[1:])), 30)
            assert {run.status for run in rest} == {Status.DONE}
            with pytest.raises(StoreUnavailable):
                await rt.wait(ids[0])

    asyncio.run(go())


def test_of_two_runtimes_that_find_the_same_dead_holder_both_open(url: str) -> None:
    """Each sees a run whose process is gone; the slower one must not fail because the other took it."""

    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            run = await rt.start(machine, Note(), detach=True)
            host, namespace, _, _, _ = rt._worker.owner.split("/")
            gone = "/".join([host, namespace, str(2**22 + 1), "1", "x"])
            await rt._store.submit(port.Claim(bytes.fromhex(run.id), gone, 0, FAR))

        async def other_first(store: SqlStore, write: port.Write) -> None:
            if isinstance(write, port.Claim):
                await store.submit(port.Claim(write.run_id, "other", write.now, write.lease_until, write.epoch))

        async with Runtime(url, machines=[machine], store=wrapped(url, other_first)) as rt:
            assert (await rt.get(run.id)).owner == "other"

    asyncio.run(go())


@pytest.mark.slow
def test_a_decision_wakes_the_run_without_waiting_for_the_poll(url: str) -> None:
    async def go() -> None:
        machine = asking()
        for take in ("all", "own"):
            async with Runtime(url, machines=[machine], settings=slow_polls(take=take, concurrency=1)) as rt:
                run = await rt.wait((await rt.start(machine, Note())).id)
                await rt.send(run.id, Yes(), by="ann")
                assert (await asyncio.wait_for(rt.wait(run.id), 30)).status is Status.DONE
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            assert len(await rt.runs(RunFilter(status=Status.DONE))) == 2

    asyncio.run(go())


def test_the_clock_of_a_lease_does_not_make_our_own_run_look_abandoned(url: str) -> None:
    """The process was kept from renewing for longer than a lease: it renews before it looks for abandoned runs."""

    async def go() -> None:
        gate, begun = asyncio.Event(), list[int]()

        async def work(run: Run[Note]) -> Stop:
            begun.append(1)
            await gate.wait()
            return Stop()

        machine, clock = one_state(work), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock, settings=Settings(lease=timedelta(seconds=9))) as rt:
            run = await rt.start(machine, Note())
            clock._now += 60_000_000  # Nobody could run for a minute.
            await rt._worker._claim_due()
            gate.set()
            run = await rt.wait(run.id)
            assert (run.status, run.epoch, begun) == (Status.DONE, 1, [1])

    asyncio.run(go())
