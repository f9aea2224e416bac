"""Child runs: they start once, their parent waits as a row, and whatever ends it ends them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from statecraft import Data, Event, Failure, Machine, Run, RunFilter, Runtime, Settings, StateTimeout, Status
from statecraft.engine.children import DEEPEST
from statecraft.errors import ChildFailed, ConfigError, ErrorKind
from statecraft.machine.child import Child
from statecraft.records import Waiting
from statecraft.testing import ManualClock
from tests.children.kin import Done, Piece, Whole, Workshop, Yes, children_of, ended, opened, parent_of, sound, told, until
from tests.cli.support import cli, fields

FAMILY = timedelta(minutes=5)


@pytest.mark.slow
def test_a_child_is_a_run_of_its_own_and_its_data_comes_back(url: str) -> None:
    shop = Workshop()
    seen: list[Child[Piece]] = []

    async def work(run: Run[Whole]) -> list[str]:
        seen.append(child := await run.child(shop.machine, Piece(n=7)))
        return [child.data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await runtime.wait((await runtime.start(machine, Whole())).id)
            assert shop.begun == [7]
            await sound(runtime)
            assert (run.status, (await runtime.data(run.id)).parts) == (Status.DONE, ["piece 7"])  # type: ignore[attr-defined]
            (child,) = await children_of(runtime, run)
            assert (child.machine, child.status, child.parent) == ("piece", Status.DONE, run.id)
            assert child.trace_id == run.trace_id
            assert {(each.run_id, each.status, each.state) for each in seen} == {(child.id, Status.DONE, "made")}
            assert seen[0].data == Piece(n=7, made="piece 7")
            (call,) = await runtime.calls(run.id)
            assert (call.kind, call.name, call.ok) == ("child", "piece", True)
            assert call.request == {"machine": "piece", "input": {"n": 7, "mood": "well", "made": ""}}
            assert child.key is not None
            assert child.key.startswith("child:")
            assert [each.id for each in await runtime.runs(RunFilter(parent=run.id))] == [child.id]

    told(story)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "status", "words"), [("ill", "failed", "is failed in spoiled: by "), ("dead", "dead", "is dead in making: ")]
)
def test_a_child_that_ends_badly_raises_in_its_parent_or_is_looked_at(url: str, mood: str, status: str, words: str) -> None:
    shop = Workshop()
    caught: list[ChildFailed] = []

    async def work(run: Run[Whole]) -> list[str]:
        try:
            await run.child(shop.machine, Piece(mood=mood))
        except ChildFailed as error:
            caught.append(error)
        child = await run.child(shop.machine, Piece(n=2, mood=mood), ok_only=False)
        assert child.data.n == 2
        return [child.status, child.state]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            child, other = await children_of(runtime, run)
            assert (run.status, child.status, other.status) == ("done", status, status)
            assert {error.kind for error in caught} == {ErrorKind.CHILD}
            assert child.id in caught[0].message
            assert words in caught[0].message
            assert (await runtime.data(run.id)).parts == [status, other.state]  # type: ignore[attr-defined]

    told(story)


def test_a_child_that_ends_badly_and_is_not_caught_is_a_failed_call(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(mood="ill"))).data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            last = (await runtime.history(run.id))[-1]
            assert (run.status, last.event, last.payload["kind"]) == (Status.FAILED, "call_failed", "child")

    told(story)


@pytest.mark.slow
def test_a_parent_waits_as_a_row_and_goes_on_when_its_child_is_decided(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(mood="asks"))).data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await runtime.start(machine, Whole())
            await until(runtime, run.id, "waiting")
            (child,) = await children_of(runtime, run)
            await runtime.wait(child.id)
            run = await runtime.get(run.id)
            assert (run.status, run.waiting_for, run.owner, run.due_at) == (Status.WAITING, Waiting.CHILD, None, None)
            assert runtime._worker.free == runtime.settings.concurrency
            await runtime.send(child.id, Yes(), by="ann")
            run = await runtime.wait(run.id)
            assert run.status is Status.DONE
            await sound(runtime)

    told(story)


def test_a_child_cancelled_by_a_person_is_told_to_its_parent(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        child = await run.child(shop.machine, Piece(mood="asks"), ok_only=False)
        return [child.status, child.reason or ""]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await runtime.start(machine, Whole())
            await until(runtime, run.id, "waiting")
            (child,) = await children_of(runtime, run)
            await runtime.wait(child.id)
            await runtime.cancel(child.id, by="ann", reason="too dear")
            run = await runtime.wait(run.id)
            assert (await runtime.data(run.id)).parts == ["cancelled", "too dear"]  # type: ignore[attr-defined]

    told(story)


@pytest.mark.slow
def test_cancelling_a_run_ends_everything_below_it_and_stops_it_at_once(url: str) -> None:
    shop = Workshop()

    async def hang(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=5, mood="hangs"))).data.made]

    middle = parent_of(shop.machine, hang, name="middle")

    async def work(run: Run[Whole]) -> list[str]:
        return (await run.child(middle, Whole())).data.parts

    async def story() -> None:
        machine = parent_of(middle, work)
        async with opened(url, machine) as runtime:
            run = await runtime.start(machine, Whole())
            await shop.hanging.wait()
            assert shop.stopped == []
            await runtime.cancel(run.id, by="ann", reason="enough")
            runs = await runtime.runs()
            assert [(each.machine, each.status) for each in runs] == [
                (name, "cancelled") for name in ("piece", "middle", "whole")
            ]
            await asyncio.sleep(0)
            assert shop.stopped == [5]
            assert runtime._worker.free == runtime.settings.concurrency
            await sound(runtime)

    told(story)


def test_the_deadline_of_a_parent_counts_while_it_waits_and_ends_its_children(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=3, mood="hangs"))).data.made]

    async def story() -> None:
        machine, clock = parent_of(shop.machine, work, deadline=FAMILY), ManualClock()
        async with opened(url, machine, clock=clock, settings=Settings(lease=timedelta(days=1))) as runtime:
            run = await runtime.start(machine, Whole())
            await shop.hanging.wait()
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(seconds=20))
            assert (run.status, (await runtime.history(run.id))[-1].event) == (Status.FAILED, "deadline_passed")
            (child,) = await children_of(runtime, run)
            assert child.status is Status.CANCELLED
            assert shop.stopped == [3]

    told(story)


def test_a_state_whose_time_is_up_leaves_no_child_behind(url: str) -> None:
    shop = Workshop()
    machine = Machine("patient", data=Whole)

    @machine.state(start=True, timeout=FAMILY, children=[shop.machine])
    async def working(run: Run[Whole]) -> Done:
        return Done(parts=[(await run.child(shop.machine, Piece(mood="hangs"))).data.made])

    @machine.state(children=[shop.machine])
    async def instead(run: Run[Whole]) -> Done:
        (child,) = await children_of(runtimes[0], await runtimes[0].get(run.id))
        return Done(parts=[child.status])

    done = machine.final("done", ok=True)
    failed = machine.final("failed")
    machine.transitions(
        working.on(Done) >> done,
        working.on(StateTimeout) >> instead,
        instead.on(Done) >> done,
        machine.anywhere.on(Failure) >> failed,
    )
    runtimes: list[Runtime] = []

    async def story() -> None:
        clock = ManualClock()
        async with opened(url, machine, clock=clock, settings=Settings(lease=timedelta(days=1))) as runtime:
            runtimes.append(runtime)
            run = await runtime.start(machine, Whole())
            await shop.hanging.wait()
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(seconds=20))
            assert (await runtime.data(run.id)).parts == ["cancelled"]  # type: ignore[attr-defined]

    told(story)


@pytest.mark.slow
def test_of_a_hundred_children_never_more_than_four_are_open(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            return (await run.child(shop.machine, Piece(n=n))).data.made

        return await run.map(one, range(run.data.count), concurrency=4)

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await asyncio.wait_for(runtime.wait((await runtime.start(machine, Whole(count=100))).id), 60)
            assert (await runtime.data(run.id)).parts == [f"piece {n}" for n in range(100)]  # type: ignore[attr-defined]
            assert (await runtime.replay(run.id)).agrees
            now, most, order = 0, 0, []
            for entry in await runtime.feed(limit=10_000):
                if entry.run_id != run.id and entry.kind == "started":
                    order.append(entry.run_id)
                    now += 1
                    most = max(most, now)
                if entry.run_id != run.id and entry.kind == "transition":
                    now -= 1
            assert (now, most, len(order)) == (0, 4, 100)
            assert [(await runtime.data(each, at=0)).n for each in order] == list(range(100))  # type: ignore[attr-defined]
            assert sorted(shop.begun) == list(range(100))

    told(story)


@pytest.mark.slow
def test_two_runtimes_share_a_family(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=1))).data.made]

    async def story() -> None:
        machine, clock = parent_of(shop.machine, work), ManualClock()
        starts = Settings(take="none")
        async with (
            opened(url, machine, clock=clock, settings=starts) as starter,
            opened(url, machine, clock=clock) as other,
        ):
            run = await starter.start(machine, Whole())
            while not (await starter.get(run.id)).status.closed:
                await clock.advance(timedelta(milliseconds=50))  # Slow enough for real threads to renew a lease in.
            assert (await starter.get(run.id)).status is Status.DONE
            await sound(other)

    told(story)


@pytest.mark.slow
def test_a_runtime_that_takes_only_its_own_runs_takes_their_children(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=1))).data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine, settings=Settings(take="own")) as runtime:
            stranger = await runtime.start(machine, Whole(mood="stranger"), detach=True)
            run = await ended(runtime, machine, Whole())
            assert run.status is Status.DONE
            assert (await runtime.get(stranger.id)).status is Status.READY

    told(story)


@pytest.mark.slow
def test_one_place_is_enough_for_a_family(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        one, two = await run.gather(run.child(shop.machine, Piece(n=1)), run.child(shop.machine, Piece(n=2)))
        return [one.data.made, two.data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine, settings=Settings(concurrency=1)) as runtime:
            assert (await ended(runtime, machine, Whole())).status is Status.DONE

    told(story)


@pytest.mark.slow
def test_equal_children_are_two_children(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        one = await run.child(shop.machine, Piece(n=1))
        two = await run.child(shop.machine, Piece(n=1))
        return [] if one.run_id == two.run_id else [one.data.made, two.data.made]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            assert len((await runtime.data(run.id)).parts) == 2  # type: ignore[attr-defined]

    told(story)


def test_a_machine_that_the_state_does_not_declare_is_refused_before_anything_is_written(url: str) -> None:
    shop, other = Workshop(), Machine("other", data=Whole)

    @other.state(start=True)
    async def idle(run: Run[Whole]) -> Done:
        return Done()

    other.transitions(idle.on(Done) >> other.final("done", ok=True))

    async def work(run: Run[Whole]) -> list[str]:
        return (await run.child(other, Whole())).data.parts

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine, other) as runtime:
            run = await ended(runtime, machine, Whole())
            last = (await runtime.history(run.id))[-1]
            assert (last.event, last.payload["error"]) == ("handler_failed", "NotAllowed")
            assert "add it to children=[...]" in last.payload["message"]
            assert len(await runtime.runs()) == 1
            assert await runtime.calls(run.id) == []

    told(story)


def test_a_child_is_started_with_its_machines_data(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        await run.child(shop.machine, Whole())  # type: ignore[misc]
        return []

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            last = (await runtime.history((await ended(runtime, machine, Whole())).id))[-1]
            assert (last.event, last.payload["error"]) == ("handler_failed", "InvalidPayload")
            assert "started with Piece, not Whole" in last.payload["message"]

    told(story)


@pytest.mark.slow
def test_a_machine_that_runs_itself_without_end_is_told_so(url: str) -> None:
    endless = Machine("endless", data=Whole)

    @endless.state(start=True, children=[endless])
    async def again(run: Run[Whole]) -> Done:
        return Done(parts=(await run.child(endless, Whole(count=run.data.count + 1))).data.parts)

    failed = endless.final("failed")
    endless.transitions(again.on(Done) >> endless.final("done", ok=True), endless.anywhere.on(Failure) >> failed)

    async def story() -> None:
        async with opened(url, endless) as runtime:
            run = await ended(runtime, endless, Whole())
            assert run.status is Status.FAILED
            runs = await runtime.runs()
            assert len(runs) == DEEPEST + 1
            (call,) = await runtime.calls(runs[0].id)
            assert (call.ok, call.result["class"]) == (False, "ChildFailed")
            assert f"generation {DEEPEST}" in call.result["message"]

    told(story)


class Odd(Event): ...


class Bare(Data): ...


def test_children_are_machines_and_change_the_fingerprint_only_where_declared() -> None:
    shop = Workshop()

    def made(**state: object) -> str:
        machine = Machine("bare", data=Bare)

        async def go(run: Run[Bare]) -> Odd:
            return Odd()

        start = machine.state(start=True, **state)(go)  # type: ignore[arg-type]
        machine.transitions(start.on(Odd) >> machine.final("done", ok=True))
        return machine.definition.fingerprint

    assert made() == made(children=[])
    assert made() != made(children=[shop.machine])
    with pytest.raises(ConfigError, match="list of machines"):
        made(children=[Piece])


@pytest.mark.slow
def test_a_child_may_be_run_by_a_runtime_that_knows_no_parent(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=1))).data.made]

    async def story() -> None:
        machine, none = parent_of(shop.machine, work), Settings(take="none")
        async with opened(url, machine, settings=none) as ours:
            run = await ours.start(machine, Whole())
            await ours.resume(run.id)
            await until(ours, run.id, "waiting")
            async with opened(url, shop.machine) as theirs:
                (child,) = await children_of(theirs, run)
                assert (await theirs.wait(child.id)).status is Status.DONE
            run = await ours.get(run.id)
            assert (run.status, run.due_at is not None) == (Status.WAITING, True)
            await ours.resume(run.id)
            assert (await ours.wait(run.id)).status is Status.DONE

    told(story)


@pytest.mark.slow
def test_the_command_line_names_parent_and_children(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        return [(await run.child(shop.machine, Piece(n=1))).data.made]

    found: list[str] = []

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            found.extend([run.id, (await children_of(runtime, run))[0].id])

    told(story)
    parent, child = found
    assert child in cli("show", parent, "--db", url).stdout
    assert parent in cli("show", child, "--db", url).stdout
    assert fields(cli("show", parent, "--json", "--db", url))["children"] == [child]
    assert [run["id"] for run in fields(cli("runs", "--parent", parent[:30], "--json", "--db", url))["runs"]] == [child]
