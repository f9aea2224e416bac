"""Where and when a run starts: queues, priorities, delays, tenants' shares, limits of machines, a model for each machine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from statecraft import Run, Runtime, Settings, Status
from statecraft.clock import micros
from statecraft.errors import ConfigError, NotAllowed
from statecraft.ids import RandomIds
from statecraft.machine.event import StateTimeout, event_name
from statecraft.records import RunFilter, Waiting
from statecraft.store import port
from statecraft.testing import ManualClock, ScriptedLLM
from tests.worker.test_worker import Note, Stop, one_state, slow_polls

NONE = Settings(take="none")


async def talk(run: Run[Note]) -> Stop:
    return Stop(text=await run.llm.ask("?"))


def test_a_worker_takes_its_queues_only_and_a_runtime_drives_what_it_started_itself(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=slow_polls(queues=("a", "b"))) as rt:
            other, ours = await rt.start(machine, Note(), queue="other"), await rt.start(machine, Note(), queue="b", priority=3)
            await asyncio.wait_for(rt.wait(ours.id), 20)
            await asyncio.wait_for(rt.idle(), 20)
            found = await rt.get(other.id)
            assert (found.status, found.queue, found.epoch) == (Status.READY, "other", 0)
            assert [run.id for run in await rt.runs(RunFilter(queue="b"))] == [ours.id]
            assert (await rt.get(ours.id)).priority == 3
        async with Runtime(url, machines=[machine], settings=slow_polls(take="own", concurrency=1)) as rt:
            runs = [await rt.start(machine, Note(), queue=f"q{number}") for number in range(4)]
            ended = [await asyncio.wait_for(rt.wait(run.id), 20) for run in runs]
            assert {run.status for run in ended} == {Status.DONE}

    asyncio.run(go())


def test_a_delayed_start_waits_for_its_time_and_counts_its_bounds_from_there(url: str) -> None:
    async def go() -> None:
        clock = ManualClock()
        one, held = one_state(timeout=timedelta(minutes=10)), Settings(poll=timedelta(hours=9))
        async with Runtime(url, machines=[one], clock=clock, settings=held) as rt:
            run = await rt.start(one, Note(), at=datetime(2026, 1, 1, 2, tzinfo=UTC), key="k")
            assert (run.status, run.waiting_for, run.due_at) == (
                Status.WAITING,
                Waiting.START,
                run.created_at + timedelta(hours=2),
            )
            assert (await rt.start(one, Note(), key="k", delay=timedelta(hours=5))).id == run.id
            await clock.advance(timedelta(hours=2, minutes=5))
            rt._worker.poke()
            ended = await asyncio.wait_for(rt.wait(run.id), 20)
            assert ended.status is Status.DONE
            assert ended.created_at == datetime(2026, 1, 1, 2, tzinfo=UTC)
            (begun, moved) = await rt.history(run.id)
            assert (begun.at, moved.event) == (datetime(2026, 1, 1, tzinfo=UTC), "stop")
            assert await rt.verify(run.id) == []

    asyncio.run(go())


def test_the_timeout_of_the_first_state_still_holds_after_a_delayed_start(url: str) -> None:
    async def hang(run: Run[Note]) -> Stop:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    async def go() -> None:
        clock, machine = ManualClock(), one_state(hang, timeout=timedelta(seconds=10))
        async with Runtime(url, machines=[machine], clock=clock, settings=slow_polls()) as rt:
            run = await rt.start(machine, Note(), delay=timedelta(hours=1))
            await clock.advance(timedelta(hours=1))
            while not rt._worker._driving:
                rt._worker.poke()
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            await clock.advance(timedelta(seconds=10))
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.FAILED
            assert (await rt.history(run.id))[-1].event == event_name(StateTimeout)

    asyncio.run(go())


def test_a_delayed_run_can_be_resumed_at_once_or_cancelled(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            first, second = [await rt.start(machine, Note(), delay=timedelta(days=9)) for _ in range(2)]
            await rt.resume(first.id)
            assert (await asyncio.wait_for(rt.wait(first.id), 20)).status is Status.DONE
            assert (await rt.cancel(second.id, by="ann", reason="no")).status is Status.CANCELLED

    asyncio.run(go())


def test_a_time_that_has_passed_delays_nothing(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            run = await rt.start(machine, Note(), at=datetime(2020, 1, 1, tzinfo=UTC))
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE

    asyncio.run(go())


def test_a_sleep_past_all_dates_keeps_nobody_from_looking(url: str) -> None:
    async def go() -> None:
        async def work(run: Run[Note]) -> Stop:
            await run.sleep(timedelta(days=4_000_000))
            return Stop()

        machine = one_state(work)
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt, asyncio.timeout(20):
            run = await rt.start(machine, Note())
            while run.status is not Status.WAITING:
                run = await rt.get(run.id)
            assert (run.status, run.due_at) == (Status.WAITING, datetime.max.replace(tzinfo=UTC))
            assert [each.id for each in await rt.runs()] == [run.id]
            assert (await rt.stats()).runs["waiting"] == 1

    asyncio.run(go())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"at": datetime(2026, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is what is refused
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "delay": timedelta(1)}, "not both"),
        ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))}, "after the year 9999"),
        ({"delay": timedelta.max}, "after the year 9999"),
        ({"queue": ""}, "a queue has a name"),
        ({"priority": 2**40}, "32 bits"),
    ],
)
def test_a_place_that_is_none_is_refused(url: str, place: dict[str, Any], said: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=NONE) as rt:
            with pytest.raises(ConfigError, match=said):
                await rt.start(machine, Note(), **place)
            assert await rt.runs() == []

    asyncio.run(go())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"queues": ()}, "tuple of names"),
        ({"queues": "default"}, "tuple of names"),
        ({"shares": {"ann": 0}}, "shares"),
        ({"machine_limits": {"one": 0}}, "at least 1"),
    ],
)
def test_settings_of_a_fleet_are_checked(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**wrong)


@pytest.mark.slow
def test_a_limited_machine_never_has_more_runs_in_hand_over_all_runtimes(url: str) -> None:
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
        limited = Settings(machine_limits={"one": 2}, poll=timedelta(milliseconds=5))
        async with (
            Runtime(url, machines=[machine], settings=limited) as one,
            Runtime(url, machines=[machine], settings=limited) as two,
        ):
            runs = [await rt.start(machine, Note()) for rt in (one, two) for _ in range(12)]
            ended = await asyncio.wait_for(asyncio.gather(*(one.wait(run.id) for run in runs)), 30)
            assert {run.status for run in ended} == {Status.DONE}

    asyncio.run(go())
    assert 1 <= most <= 2


@pytest.mark.slow
def test_shares_of_settings_decide_the_order_of_claims(url: str) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=Settings(take="none", shares={"ann": 3.0})) as rt:
            for tenant in ("bob", "ann"):
                for _ in range(12):
                    await rt.start(machine, Note(), tenant=tenant)
        async with Runtime(url, machines=[machine], settings=slow_polls(concurrency=1)) as rt:
            await asyncio.wait_for(rt.idle(), 20)
            entries = [entry for entry in await rt.feed(limit=1_000) if entry.kind == "claimed"]
            tenants = [(await rt.get(entry.run_id)).tenant for entry in entries[:12]]
            assert 8 <= tenants.count("ann") <= 10

    asyncio.run(go())


def test_each_machine_asks_its_own_model_and_each_model_is_closed_once(url: str) -> None:
    class Counted(ScriptedLLM):
        closed = 0

        async def close(self) -> None:
            self.closed += 1

    async def go() -> None:
        one, two = Counted(["from one"]), Counted([])
        machine = one_state(talk)
        async with Runtime(url, machines=[machine], llm={"one": one, "two": two, "three": two}, settings=slow_polls()) as rt:
            run = await rt.start(machine, Note())
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE
            assert (await rt.data(run.id, Note)).text == "from one"
            assert (await rt.replay(run.id)).divergence is None
        assert (one.closed, two.closed) == (1, 1)
        async with Runtime(url, machines=[machine], llm={"other": two}, settings=slow_polls()) as rt:
            run = await asyncio.wait_for(rt.wait((await rt.start(machine, Note())).id), 20)
            assert NotAllowed.__name__ in str((await rt.history(run.id))[-1].payload)

    asyncio.run(go())


def test_polls_are_drawn_between_half_and_the_whole_interval(url: str) -> None:
    async def go() -> None:
        async with Runtime(url, ids=RandomIds(1), settings=Settings(poll=timedelta(seconds=8))) as rt:
            pauses = [rt._worker._poll() for _ in range(200)]
            assert 4 <= min(pauses) < 4.5
            assert 7.5 < max(pauses) <= 8

    asyncio.run(go())


@pytest.mark.parametrize("key", ["schedule:nightly:2026-01-02T00:00:00Z", "child:3.0"])
def test_keys_that_the_library_gives_are_not_given_by_hand(url: str, key: str) -> None:
    """A run under the key of an instant would be taken for the run of its schedule, which then has none."""

    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=slow_polls()) as rt:
            with pytest.raises(ConfigError, match="are given by the library"):
                await rt.start(machine, Note(), key=key)
            assert await rt.runs() == []

    asyncio.run(go())


@pytest.mark.parametrize("take", ["own", "none"])
def test_a_runtime_that_may_take_nothing_is_idle(url: str, take: Any) -> None:
    async def go() -> None:
        machine = one_state()
        async with Runtime(url, machines=[machine], settings=slow_polls(take="none")) as rt:
            await rt.start(machine, Note())
        async with Runtime(url, machines=[machine], settings=slow_polls(take=take)) as rt:
            await asyncio.wait_for(rt.idle(), 20)

    asyncio.run(go())


def test_runs_that_only_a_version_without_workers_could_take_over_do_not_use_up_the_limit_of_their_machine(url: str) -> None:
    """Their holder crashed, and the deployment after it brought another version."""

    async def go() -> None:
        clock, lease = ManualClock(), timedelta(seconds=30)
        old, new = one_state(max_visits=3), one_state(max_visits=4)
        async with Runtime(
            url,
            machines=[
                old,
            ],
            settings=slow_polls(take="none"),
            clock=clock,
        ) as rt:
            dead = [await rt.start(old, Note()) for _ in range(2)]
            until = clock.now() + micros(lease)
            for run in dead:
                await rt._store.submit(port.Claim(bytes.fromhex(run.id), "gone", clock.now(), until))
        limited = Settings(machine_limits={"one": 2}, poll=timedelta(seconds=1), lease=lease)
        async with Runtime(url, machines=[new], settings=limited, clock=clock) as rt:
            run = await rt.start(new, Note())
            await clock.advance(lease)
            await asyncio.wait_for(rt.idle(), 20)
            assert (await rt.get(run.id)).status is Status.READY  # Somebody may still take the others over.
            await clock.advance(lease)
            rt._worker.poke()
            assert (await asyncio.wait_for(rt.wait(run.id), 20)).status is Status.DONE
            assert {(await rt.get(each.id)).status for each in dead} == {Status.RUNNING}

    asyncio.run(go())
