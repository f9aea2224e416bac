"""No run is left in limbo: whatever a handler, a value, a person or the store does, it moves, waits or ends, and says why."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field

from statecraft import Ask, Data, Event, Failure, Machine, Run, Runtime, Settings, Status, tool
from statecraft.calls.park import Park
from statecraft.errors import InvalidPayload, StoreError, StoreFull, WriteRefused
from statecraft.records import RunRecord, Waiting
from statecraft.store import open_store, port
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock


class Measured(Data):
    model_config = ConfigDict(populate_by_name=True)

    count: int = 0
    ratio: float = 0.0
    title: str = Field(default="", alias="heading")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return 2 * self.count


class Counted(Event):
    count: float = 0.0
    ratio: float = 0.0
    note: str = ""


class Told(Event):
    count: float


Work = Callable[[Run[Measured]], Awaitable[Counted]]


def measuring(work: Work, *, rows: bool = True, tools: Any = (), **bounds: Any) -> Machine[Measured]:
    machine = Machine("measuring", data=Measured, max_steps=10)

    @machine.state(start=True, tools=tools, **bounds)
    async def working(run: Run[Measured]) -> Counted:
        return await work(run)

    done = machine.final("done", ok=True)
    machine.transitions(working.on(Counted) >> done, *([machine.anywhere.on(Failure) >> machine.final("failed")] if rows else []))
    return machine


def ended(url: str, machine: Machine[Measured], data: Measured | None = None, **options: Any) -> tuple[RunRecord, dict[str, Any]]:
    """(settled run, payload of its last move), with everything verified."""

    async def go() -> tuple[RunRecord, dict[str, Any]]:
        async with Runtime(url, machines=[machine], **options) as rt:
            run = await asyncio.wait_for(rt.wait((await rt.start(machine, data or Measured())).id), 30)
            assert await rt.verify(run.id) == []
            assert (await rt.replay(run.id)).agrees
            return run, dict((await rt.history(run.id))[-1].payload)

    return asyncio.run(go())


def test_an_answer_that_does_not_fit_the_data_is_a_failure_of_its_handler(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        return Counted(count=1.5)

    run, payload = ended(url, measuring(work))
    assert (run.state, payload["error"]) == ("failed", "InvalidPayload")
    assert "count" in payload["message"]


def test_an_answer_that_is_no_json_is_a_failure_of_its_handler(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        return Counted(note="\ud800")

    run, payload = ended(url, measuring(work))
    assert (run.state, payload["error"]) == ("failed", "InvalidPayload")


def test_an_error_whose_text_is_no_json_is_a_failure_all_the_same(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        raise ValueError("\ud800")

    run, payload = ended(url, measuring(work))
    assert (run.state, payload["message"]) == ("failed", "ValueError: ?")


def test_a_handler_that_lets_its_own_cancellation_escape_has_failed(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        task = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        task.cancel()
        await task
        return Counted()

    run, payload = ended(url, measuring(work))
    assert (run.state, payload["error"]) == ("failed", "CancelledError")


def test_a_plain_handler_that_raises_stop_iteration_has_failed(url: str) -> None:
    machine = Machine("plain", data=Measured)

    @machine.state(start=True)
    def working(run: Run[Measured]) -> Counted:
        return next(iter(list[Counted]()))

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(working.on(Counted) >> done, machine.anywhere.on(Failure) >> failed)
    run, payload = ended(url, machine)
    assert (run.state, payload["error"]) == ("failed", "RuntimeError")


def test_a_plain_handler_that_would_end_the_program_has_failed(url: str) -> None:
    machine = Machine("plain", data=Measured)

    @machine.state(start=True)
    def working(run: Run[Measured]) -> Counted:
        sys.exit("usage: ...")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(working.on(Counted) >> done, machine.anywhere.on(Failure) >> failed)
    run, payload = ended(url, machine)
    assert (run.state, payload["message"]) == ("failed", "RuntimeError: the handler called sys.exit('usage: ...')")


def test_a_run_without_a_row_for_its_failure_dies_even_if_its_data_are_no_numbers(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        raise LookupError("nothing")

    async def go() -> None:
        machine = measuring(work, rows=False)
        loose = Settings(take="own")
        async with Runtime(url, machines=[machine], settings=loose) as rt:
            run = await rt.start(machine, Measured(ratio=math.inf))
            run = await asyncio.wait_for(rt.wait(run.id), 30)
            assert run.status is Status.DEAD
            assert "handler_failed" in json.loads(str(await rt.diagnosis(run.id)))["needs"]

    asyncio.run(go())


def test_data_with_other_names_numbers_that_are_none_and_computed_fields_survives_a_restart(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        assert (run.data.title, math.isnan(run.data.ratio), run.data.doubled) == ("t", True, 6)
        return Counted(count=4.0, ratio=math.inf)

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.start(machine, Measured(count=3, heading="t", ratio=math.nan), detach=True)
        async with Runtime(url, machines=[machine]) as rt:
            run = await asyncio.wait_for(rt.wait(run.id), 30)
            assert (run.status, run.reason) == (Status.DONE, None)
            data = await rt.data(run.id)
            assert isinstance(data, Measured)
            assert (data.count, data.ratio, data.title) == (4, math.inf, "t")
            assert (await rt.replay(run.id)).agrees

    asyncio.run(go())


def test_a_number_that_json_would_lose_fails_its_handler_and_is_named(url: str) -> None:
    class Point(BaseModel):
        x: float

    class Plotted(Event):
        points: list[Point]

    machine = Machine("plotting", data=Measured)

    @machine.state(start=True)
    async def working(run: Run[Measured]) -> Plotted:
        return Plotted(points=[Point(x=1.0), Point(x=math.inf)])

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(working.on(Plotted) >> done, machine.anywhere.on(Failure) >> failed)
    run, payload = ended(url, machine)
    assert (run.state, payload["error"]) == ("failed", "InvalidPayload")
    assert "plotted cannot be kept as JSON: points[1].x is not a finite number" in payload["message"]


def test_input_that_would_not_read_back_is_refused_before_anything_is_written(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        return Counted()

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine]) as rt:
            with pytest.raises(InvalidPayload, match="Measured"):
                await rt.start(machine, Measured.model_construct(count="many"))
            with pytest.raises(InvalidPayload, match="Measured"):
                await rt.start(machine, Measured(heading="\ud800"))
            assert await rt.runs() == []

    asyncio.run(go())


def test_a_decision_that_does_not_fit_the_data_is_refused_and_the_run_goes_on_waiting(url: str) -> None:
    machine = Machine("asking", data=Measured)

    @machine.review(timeout=timedelta(days=1))
    async def question(run: Run[Measured]) -> Ask[Told]:
        return Ask("How many?")

    @machine.state(start=True)
    async def begin(run: Run[Measured]) -> Counted:
        return Counted()

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(begin.on(Counted) >> question, question.on(Told) >> done, machine.anywhere.on(Failure) >> failed)

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Measured())).id)
            with pytest.raises(InvalidPayload, match="count"):
                await rt.send(run.id, Told(count=1.5), by="ann")
            assert await rt.get(run.id) == run
            await rt.send(run.id, Told(count=2.0), by="ann")
            assert (await rt.wait(run.id)).status is Status.DONE

    asyncio.run(go())


def over_time(url: str, work: Work) -> tuple[list[str], int]:
    """(events, claims) of a run whose state may take 10 s, while an hour passes."""

    async def go() -> tuple[list[str], int]:
        machine, clock = measuring(work, timeout=timedelta(seconds=10)), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock, settings=Settings(lease=timedelta(days=9))) as rt:
            run = await rt.start(machine, Measured())
            for _ in range(3600):
                if (run := await rt.get(run.id)).status.closed:
                    break
                await clock.advance(timedelta(seconds=1))
            claims = sum(entry.kind == "claimed" for entry in await rt.feed(run.id, limit=10_000))
            return [move.event for move in await rt.history(run.id)], claims

    return asyncio.run(go())


def test_a_sleep_beyond_the_time_of_its_state_ends_in_that_time_and_is_not_claimed_over_and_over(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        await run.sleep(timedelta(hours=2))
        return Counted()

    events, claims = over_time(url, work)
    assert events == ["start", "state_timeout"]
    assert claims <= 3


def test_a_handler_that_catches_its_timeout_is_too_late_whatever_it_answers(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return Counted(count=7)
        return Counted()

    assert over_time(url, work)[0] == ["start", "state_timeout"]


def test_a_handler_that_fails_while_it_is_timed_out_was_timed_out(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise ValueError("while cleaning up")

    assert over_time(url, work)[0] == ["start", "state_timeout"]


@pytest.mark.parametrize("then", ["answers", "raises"])
def test_a_park_that_the_handler_catches_still_parks(url: str, then: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        try:
            await run.sleep(timedelta(hours=2))
        except Park:
            if then == "raises":
                raise ValueError("instead") from None
        return Counted()

    async def go() -> None:
        machine, clock = measuring(work), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Measured())
            async for entry in rt.follow(run.id):
                if entry.kind in {"waiting", "transition"}:
                    break
            assert (await rt.get(run.id)).waiting_for is Waiting.TIMER

    asyncio.run(go())


@tool(effect="read")
async def look(n: int) -> int:
    """A number."""
    return n


def test_a_park_in_one_branch_lets_the_others_finish_and_they_are_not_made_again(url: str) -> None:
    made: list[int] = []

    @tool(effect="read")
    async def noted(n: int) -> int:
        """Counts its calls."""
        await asyncio.sleep(0)
        made.append(n)
        return n

    async def work(run: Run[Measured]) -> Counted:
        await run.gather(run.sleep(timedelta(hours=1)), *(run.tool(noted, n) for n in range(3)))
        return Counted(count=sum(made))

    async def go() -> None:
        machine, clock = measuring(work, tools=[noted]), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as rt:
            run = await rt.start(machine, Measured())
            while not (run := await rt.get(run.id)).status.closed:
                await clock.advance(timedelta(minutes=5))
            assert (run.status, await rt.verify(run.id)) == (Status.DONE, [])

    asyncio.run(go())
    assert sorted(made) == [0, 1, 2]


class Refusing:
    """A real store that refuses the writes it is told to, a number of times."""

    def __init__(self, url: str, refuse: Callable[[port.Write], StoreError | None]) -> None:
        inner = open_store(url)
        assert isinstance(inner, SqlStore)
        self.inner, self.refuse = inner, refuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def submit(self, write: port.Write) -> object:
        if (error := self.refuse(write)) is not None:
            raise error
        return await self.inner.submit(write)


def refusing(url: str, refuse: Callable[[port.Write], StoreError | None]) -> Any:
    return Refusing(url, refuse)


def test_a_handler_that_catches_a_refused_write_decides_nothing_and_the_run_goes_on_later(url: str) -> None:
    full = [True]

    def refuse(write: port.Write) -> StoreError | None:
        return StoreFull("no space") if isinstance(write, port.Call) and full[0] else None

    async def work(run: Run[Measured]) -> Counted:
        try:
            await run.tool(look, 1)
        except Exception:
            return Counted(count=-1)
        return Counted(count=1)

    async def go() -> None:
        machine = measuring(work, tools=[look])
        async with Runtime(url, machines=[machine], store=refusing(url, refuse), settings=Settings(take="own")) as rt:
            run = await rt.start(machine, Measured())
            with pytest.raises(StoreFull):
                await asyncio.wait_for(rt.wait(run.id), 30)
            assert (await rt.get(run.id)).seq == 0
            full[0] = False
            await rt.resume(run.id)
            run = await rt.wait(run.id)
            assert await rt.verify(run.id) == []
            assert (await rt.data(run.id)) == Measured(count=1)

    asyncio.run(go())


def test_a_move_that_the_database_refuses_for_good_ends_the_run_with_a_diagnosis(url: str) -> None:
    def refuse(write: port.Write) -> StoreError | None:
        return WriteRefused("too big") if isinstance(write, port.Move) else None

    async def work(run: Run[Measured]) -> Counted:
        return Counted()

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine], store=refusing(url, refuse)) as rt:
            run = await asyncio.wait_for(rt.wait((await rt.start(machine, Measured())).id), 30)
            assert (run.status, run.state) == (Status.DEAD, "working")
            assert "too big" in str(run.reason)
            assert json.loads(str(await rt.diagnosis(run.id)))["data"]["count"] == 0

    asyncio.run(go())


def test_a_handler_that_ends_like_a_program_is_told_to_who_waits(url: str) -> None:
    class Ended(BaseException): ...

    async def work(run: Run[Measured]) -> Counted:
        raise Ended

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine]) as rt:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            run = await rt.start(machine, Measured())
            with pytest.raises(Ended):
                await asyncio.wait_for(rt.wait(run.id), 30)

    asyncio.run(go())


def test_a_runtime_that_cannot_open_leaves_nothing_open(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        return Counted()

    async def go() -> None:
        store, closed = refusing(url, lambda write: None), asyncio.Event()
        close = store.inner.close

        async def broken(machine: port.MachineSpec) -> int:
            raise StoreFull("no space")

        async def closing() -> None:
            await close()
            closed.set()

        store.register, store.close = broken, closing
        with pytest.raises(StoreFull):
            async with Runtime(url, machines=[measuring(work)], store=store):
                raise AssertionError("unreachable")
        assert closed.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())


@pytest.mark.slow
def test_a_replay_does_not_wait_for_what_was_waited_for(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        await run.sleep(0.01)
        await run.gather(run.sleep(0.02), run.now())
        return Counted()

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Measured())).id)
        # A clock that is years behind the record, and stands still.
        async with Runtime(url, machines=[machine], clock=ManualClock()) as rt:
            replayed = await asyncio.wait_for(rt.replay(run.id), 30)
            assert replayed.agrees, str(replayed.divergence)

    asyncio.run(go())


def test_a_recorded_payload_that_no_longer_fits_is_a_divergence(url: str) -> None:
    async def work(run: Run[Measured]) -> Counted:
        return Counted(note="long enough")

    def stricter() -> Machine[Measured]:
        fields = {"count": float, "ratio": float, "note": str}
        values = {"count": 0.0, "ratio": 0.0, "note": Field(default="", max_length=3)}
        strict: Any = type("Counted", (Event,), {"__module__": __name__, "__annotations__": fields, **values})
        machine = Machine("measuring", data=Measured)

        async def working(run: Run[Measured]) -> Any: ...

        working.__annotations__["return"] = strict
        start: Any = machine.state(start=True)(working)
        done, failed = machine.final("done", ok=True), machine.final("failed")
        machine.transitions(start.on(strict) >> done, machine.anywhere.on(Failure) >> failed)
        return machine

    async def go() -> None:
        machine = measuring(work)
        async with Runtime(url, machines=[machine]) as rt:
            run = await rt.wait((await rt.start(machine, Measured())).id)
            found = (await rt.replay(run.id, stricter())).divergence
            assert found is not None
            assert ("no longer fits" in found.what, "long enough" in found.recorded) == (True, True), str(found)

    asyncio.run(go())


def test_a_script_advances_its_own_run_and_leaves_the_others_alone(url: str) -> None:
    import statecraft

    async def work(run: Run[Measured]) -> Counted:
        return Counted()

    machine = measuring(work)

    async def leave_one() -> str:
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            return (await rt.start(machine, Measured(), detach=True)).id

    async def look_at(run_id: str) -> RunRecord:
        async with Runtime(url, machines=[machine], settings=Settings(take="none")) as rt:
            return await rt.get(run_id)

    other = asyncio.run(leave_one())
    assert statecraft.run(machine, Measured(count=1), url=url).run.status is Status.DONE
    assert (asyncio.run(look_at(other)).status, asyncio.run(look_at(other)).epoch) == (Status.READY, 0)
