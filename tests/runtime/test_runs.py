"""A runtime over a real SQLite file: starting, waiting, deciding, resuming, cancelling, and every way a run can end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    Append,
    Ask,
    Budget,
    BudgetWarning,
    CallFailed,
    Data,
    DeadlinePassed,
    Event,
    Failure,
    HandlerFailed,
    InvalidOutput,
    Machine,
    ReviewExpired,
    Run,
    RunFilter,
    Runtime,
    Settings,
    StateTimeout,
    Status,
    StepsExhausted,
    VisitsExhausted,
    tool,
)
from statecraft.errors import (
    AlreadyDecided,
    IllegalEvent,
    InvalidPayload,
    KeyConflict,
    NotFound,
    NotWaiting,
    RunClosed,
    WaitTimeout,
)
from statecraft.llm.scripted import ScriptedLLM
from statecraft.records import RunRecord, Waiting
from statecraft.testing import ManualClock


class Note(Data):
    text: str = ""
    seen: Append[list[str]] = []


class Next(Event):
    seen: list[str] = []


class Stop(Event):
    text: str = ""


class Yes(Event):
    text: str = ""


class No(Event): ...


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave the library's logger as it was found."""
    logger = logging.getLogger("statecraft")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def one_state(handler: Callable[[Run[Note]], Awaitable[Stop]], **bounds: Any) -> Machine[Note]:
    """A machine whose start state runs `handler`; every failure leads to `failed`."""
    machine = Machine("one", data=Note)

    async def work(run: Run[Note]) -> Stop:
        return await handler(run)

    start = machine.state(start=True, **bounds)(work)
    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(start.on(Stop) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def asking(timeout: timedelta = timedelta(days=2)) -> Machine[Note]:
    """A machine that asks a person at once."""
    machine = Machine("asking", data=Note)

    @machine.state(start=True)
    async def begin(run: Run[Note]) -> Next:
        return Next(seen=["begun"])

    @machine.review(timeout=timeout)
    async def question(run: Run[Note]) -> Ask[Yes | No]:
        return Ask("Go on?", show={"seen": run.data.seen})

    done, refused, late = machine.final("done", ok=True), machine.final("refused"), machine.final("late")
    machine.transitions(
        begin.on(Next) >> question,
        question.on(Yes) >> done,
        question.on(No) >> refused,
        question.on(ReviewExpired) >> late,
        machine.anywhere.on(Failure) >> refused,
    )
    return machine


def heard(event: str) -> asyncio.Event:
    """Set when the library logs this event."""
    told = asyncio.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == event:
                told.set()

    logger = logging.getLogger("statecraft")
    logger.setLevel(logging.INFO)
    logger.addHandler(Ear())
    return told


async def run_to_end(url: str, machine: Machine[Note], data: Note, **options: Any) -> tuple[RunRecord, list[str]]:
    """(settled run, path of events and states)."""
    async with Runtime(url, machines=[machine], **options) as runtime:
        run = await runtime.wait((await runtime.start(machine, data)).id)
        assert await runtime.verify(run.id) == []
        return run, [f"{move.event}>{move.target}" for move in await runtime.history(run.id)]


def test_a_run_goes_to_its_end_and_its_data_is_folded_from_the_events(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        assert (run.state, run.visit, run.step, run.data.text) == ("work", 1, 0, "hello")
        return Stop(text="bye")

    async def go() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note(text="hello"))).id)
            assert (run.status, run.state, run.seq, run.owner) == (Status.DONE, "done", 1, None)
            assert (await runtime.data(run.id)) == Note(text="bye")
            assert (await runtime.data(run.id, at=0)) == Note(text="hello")

    asyncio.run(go())


def test_starting_with_the_same_key_answers_the_same_run(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine]) as runtime:
            first = await runtime.start(machine, Note(text="a"), key="order-17")
            again = await runtime.start(machine, Note(text="a"), key="order-17")
            assert again.id == first.id
            with pytest.raises(KeyConflict, match="order-17"):
                await runtime.start(machine, Note(text="b"), key="order-17")
            assert len(await runtime.runs()) == 1

    asyncio.run(go())


def test_a_decision_moves_the_run_and_names_who_made_it(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            assert (run.status, run.waiting_for, run.owner) == (Status.WAITING, Waiting.REVIEW, None)
            (review,) = await runtime.reviews(run.id, open_only=True)
            assert (review.question, review.show, review.events) == ("Go on?", {"seen": ["begun"]}, ("yes", "no"))
            await runtime.send(run.id, Yes(text="fine"), by="ann")
            run = await runtime.wait(run.id)
            assert (run.status, run.state) == (Status.DONE, "done")
            assert (await runtime.history(run.id))[-1].actor == "ann"
            (review,) = await runtime.reviews(run.id)
            assert (review.decision, review.decided_by) == ("yes", "ann")

    asyncio.run(go())


def test_a_refused_event_writes_nothing(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            with pytest.raises(IllegalEvent, match="question takes yes or no, not stop"):
                await runtime.send(run.id, Stop(), by="ann")
            assert await runtime.get(run.id) == run
            await runtime.send(run.id, No(), by="ann")
            closed = await runtime.wait(run.id)
            with pytest.raises(RunClosed, match="failed in refused"):
                await runtime.send(run.id, Yes(), by="bob")
            with pytest.raises(RunClosed):
                await runtime.resume(run.id)
            with pytest.raises(RunClosed):
                await runtime.cancel(run.id, by="bob", reason="late")
            assert await runtime.get(run.id) == closed
            with pytest.raises(NotFound):
                await runtime.get("0" * 32)
            with pytest.raises(NotFound):
                await runtime.get("nonsense")
            with pytest.raises(InvalidPayload):
                await runtime.start(machine, "text")  # type: ignore[misc]

    asyncio.run(go())


def test_of_two_deciders_one_wins_and_the_other_is_told(url: str) -> None:
    async def go() -> None:
        machine = asking()
        async with (
            Runtime(url, machines=[machine]) as one,
            Runtime(url, machines=[machine], settings=Settings(take="none")) as two,
        ):
            run = await one.wait((await one.start(machine, Note())).id)
            results = await asyncio.gather(
                one.send(run.id, Yes(), by="ann"), two.send(run.id, No(), by="bob"), return_exceptions=True
            )
            refused = [result for result in results if isinstance(result, Exception)]
            assert len(refused) == 1
            assert isinstance(refused[0], AlreadyDecided | RunClosed | NotWaiting)
            assert len([move for move in await one.history(run.id) if move.actor]) == 1

    asyncio.run(go())


def test_a_review_that_nobody_decides_expires_after_days_in_no_time(url: str) -> None:
    async def go() -> None:
        machine, clock = asking(timedelta(days=2)), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            await clock.advance(timedelta(days=1))
            assert (await runtime.get(run.id)).status is Status.WAITING
            entries = runtime.follow(run.id)
            await clock.advance(timedelta(days=1, seconds=1))
            while (await runtime.get(run.id)).status is Status.WAITING:
                await clock.advance(timedelta(seconds=1))
            run = await runtime.wait(run.id)
            assert (run.status, run.state) == (Status.FAILED, "late")
            assert "waiting" in [entry.kind async for entry in entries]
            (review,) = await runtime.reviews(run.id)
            assert review.decision == "review_expired"

    asyncio.run(go())


@pytest.mark.slow
def test_a_long_sleep_parks_the_run_and_time_wakes_it(url: str) -> None:
    woken: list[int] = []

    async def work(run: Run[Note]) -> Stop:
        woken.append(run.step)
        await run.sleep(timedelta(hours=3))
        return Stop(text="slept")

    async def go() -> None:
        machine, clock = one_state(work), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as runtime:
            run = await runtime.start(machine, Note())
            async for entry in runtime.follow(run.id):
                if entry.kind == "waiting":
                    break
            run = await runtime.get(run.id)
            assert (run.waiting_for, run.owner) == (Waiting.TIMER, None)
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(minutes=10))
            assert (run.status, run.state) == (Status.DONE, "done")
            assert len(woken) == 2

    asyncio.run(go())


def test_a_handler_that_raises_becomes_an_event_and_names_the_error(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        raise ZeroDivisionError("oops")

    async def go() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            assert (run.status, run.state) == (Status.FAILED, "failed")
            last = (await runtime.history(run.id))[-1]
            assert (last.event, last.payload["error"]) == ("handler_failed", "ZeroDivisionError")

    asyncio.run(go())


def test_a_failure_without_a_row_kills_the_run_with_a_diagnosis(url: str) -> None:
    machine = Machine("bare", data=Note)

    @machine.state(start=True)
    async def work(run: Run[Note]) -> Stop:
        raise LookupError("no such thing")

    done = machine.final("done", ok=True)
    machine.transitions(work.on(Stop) >> done)

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note(text="kept"))).id)
            assert (run.status, run.state, run.seq) == (Status.DEAD, "work", 0)
            assert "handler_failed in work has no row" in str(run.reason)
            diagnosis = json.loads(str(await runtime.diagnosis(run.id)))
            assert diagnosis["data"]["text"] == "kept"
            assert "a row for handler_failed in work" in diagnosis["needs"]

    asyncio.run(go())


def test_an_answer_the_state_does_not_declare_is_refused(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Next()  # type: ignore[return-value]

    run, path = asyncio.run(run_to_end(url, one_state(work), Note()))
    assert path[-1] == "handler_failed>failed"
    assert run.status is Status.FAILED


def loop(max_visits: int | None = None, max_steps: int = 100, budget: Budget | None = None) -> Machine[Note]:
    """Goes round until a bound stops it."""
    machine = Machine("round", data=Note, max_steps=max_steps, budget=budget)

    @machine.state(start=True, max_visits=max_visits)
    async def around(run: Run[Note]) -> Next:
        if budget is not None:
            await run.llm.ask("again", max_tokens=64)
        return Next(seen=[str(run.visit)])

    stopped = machine.final("stopped", ok=True)
    machine.transitions(
        around.on(Next) >> around,
        around.on(VisitsExhausted) >> stopped,
        around.on(StepsExhausted) >> stopped,
        around.on(BudgetWarning) >> stopped,
    )
    return machine


def test_visits_are_bounded_and_the_handler_does_not_run_beyond_the_bound(url: str) -> None:
    run, path = asyncio.run(run_to_end(url, loop(max_visits=3), Note()))
    assert path == ["start>around", "next>around", "next>around", "next>around", "visits_exhausted>stopped"]
    assert run.state == "stopped"


def test_steps_are_bounded(url: str) -> None:
    run, path = asyncio.run(run_to_end(url, loop(max_steps=7), Note()))
    assert path[-1] == "steps_exhausted>stopped"
    assert run.seq == 8


@pytest.mark.slow
def test_a_budget_warns_once_four_fifths_are_used(url: str) -> None:
    model = ScriptedLLM(lambda request: "x" * 40)
    run, path = asyncio.run(run_to_end(url, loop(budget=Budget(tokens=1000)), Note(), llm=model))
    assert path[-1] == "budget_warning>stopped"
    assert run.status is Status.DONE


def test_a_state_that_takes_too_long_times_out(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        await asyncio.get_running_loop().create_future()
        return Stop()

    async def go() -> None:
        machine, clock = one_state(work, timeout=timedelta(seconds=10)), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as runtime:
            run = await runtime.start(machine, Note())
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(seconds=1))
            assert (await runtime.history(run.id))[-1].event == "state_timeout"

    asyncio.run(go())


def test_the_deadline_of_a_run_ends_it_wherever_it_is(url: str) -> None:
    machine = Machine("slow", data=Note, deadline=timedelta(minutes=5))

    @machine.state(start=True)
    async def work(run: Run[Note]) -> Stop:
        await run.sleep(timedelta(hours=1))
        return Stop()

    done, partial = machine.final("done", ok=True), machine.final("partial", ok=True)
    machine.transitions(work.on(Stop) >> done, work.on(DeadlinePassed) >> partial)

    async def go() -> None:
        clock = ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as runtime:
            run = await runtime.start(machine, Note())
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(seconds=30))
            assert run.state == "partial"
            assert (await runtime.history(run.id))[-1].event == "deadline_passed"

    asyncio.run(go())


@tool(effect="read")
async def double(n: int) -> int:
    """Twice a number."""
    if n < 0:
        raise ValueError("negative")
    return n * 2


def test_tools_run_in_parallel_in_order_and_are_recorded(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        many = await run.map(lambda n: run.tool(double, n), range(5), concurrency=2)
        a, b = await run.gather(run.tool(double, 10), run.random())
        return Stop(text=json.dumps([many, a, 0 <= b < 1, (await run.now()).year]))

    async def go() -> None:
        machine = one_state(work, tools=[double])
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            data = await runtime.data(run.id)
            assert isinstance(data, Note)
            assert json.loads(data.text)[:3] == [[0, 2, 4, 6, 8], 20, True]
            calls = await runtime.calls(run.id)
            assert [call.idx for call in calls] == list(range(8))
            assert (await runtime.replay(run.id)).agrees

    asyncio.run(go())


def test_a_tool_the_state_does_not_declare_is_not_called(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Stop(text=str(await run.tool(double, 1)))

    _, path = asyncio.run(run_to_end(url, one_state(work), Note()))
    assert path[-1] == "handler_failed>failed"


def test_a_tool_that_raises_is_a_failed_call_and_the_handler_may_catch_it(url: str) -> None:
    from statecraft import CallError

    async def work(run: Run[Note]) -> Stop:
        try:
            await run.tool(double, -1)
        except CallError as error:
            return Stop(text=error.message)
        return Stop()

    async def go() -> None:
        machine = one_state(work, tools=[double])
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            assert await runtime.data(run.id) == Note(text="ValueError: negative")
            assert (await runtime.replay(run.id)).agrees

    asyncio.run(go())


def test_a_call_that_fails_for_good_is_an_event_with_its_kind(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Stop(text=str(await run.tool(double, -1)))

    async def go() -> None:
        machine = one_state(work, tools=[double])
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            payload = (await runtime.history(run.id))[-1].payload
            assert (payload["name"], payload["kind"], payload["attempts"]) == ("double", "tool", 1)

    asyncio.run(go())


def test_plain_functions_are_handlers_too(url: str) -> None:
    machine = Machine("plain", data=Note)

    @machine.state(start=True)
    def work(run: Run[Note]) -> Stop:
        return Stop(text=run.data.text.upper())

    done = machine.final("done", ok=True)
    machine.transitions(work.on(Stop) >> done)
    run, _ = asyncio.run(run_to_end(url, machine, Note(text="a")))
    assert run.status is Status.DONE


def test_cancelling_stops_the_handler_and_closes_the_run(url: str) -> None:
    async def go() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work(run: Run[Note]) -> Stop:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()
            return Stop()

        machine = one_state(work)
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.start(machine, Note())
            await begun.wait()
            cancelled = await runtime.cancel(run.id, by="ann", reason="not needed")
            await ended.wait()
            assert (cancelled.status, cancelled.state, cancelled.reason) == (Status.CANCELLED, "work", "not needed")
            assert await runtime.verify(run.id) == []

    asyncio.run(go())


def test_waiting_gives_up_after_its_timeout_and_the_run_goes_on(url: str) -> None:
    async def go() -> None:
        release = asyncio.Event()

        async def work(run: Run[Note]) -> Stop:
            await release.wait()
            return Stop()

        machine, clock = one_state(work), ManualClock()
        async with Runtime(url, machines=[machine], clock=clock) as runtime:
            run = await runtime.start(machine, Note())
            waiting = asyncio.ensure_future(runtime.wait(run.id, timeout=timedelta(seconds=5)))
            while not waiting.done():
                await clock.advance(timedelta(seconds=1))
            with pytest.raises(WaitTimeout):
                waiting.result()
            release.set()
            assert (await runtime.wait(run.id)).status is Status.DONE

    asyncio.run(go())


def test_a_closed_runtime_hands_its_runs_back_and_another_goes_on_without_repeating_calls(url: str) -> None:
    called: list[int] = []

    @tool(effect="read")
    async def count() -> int:
        """Counts its calls."""
        called.append(1)
        return len(called)

    async def go() -> None:
        blocked, release = asyncio.Event(), asyncio.Event()

        async def work(run: Run[Note]) -> Stop:
            n = await run.tool(count)
            blocked.set()
            await release.wait()
            return Stop(text=str(n))

        machine = one_state(work, tools=[count])
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.start(machine, Note())
            await blocked.wait()
        release.set()
        async with Runtime(url, machines=[machine]) as runtime:
            assert (await runtime.get(run.id)).status in {Status.READY, Status.RUNNING, Status.DONE}
            run = await runtime.wait(run.id)
            assert (run.status, run.epoch) == (Status.DONE, 2)
            assert await runtime.data(run.id) == Note(text="1")

    asyncio.run(go())
    assert called == [1]


def test_a_holder_whose_run_was_taken_over_writes_nothing_more(url: str) -> None:
    async def go() -> None:
        gates: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        lost = heard("run.lost")
        holders = iter(["holder 1", "holder 2"])

        async def work(run: Run[Note]) -> Stop:
            name, gate = next(holders), asyncio.Event()
            gates.put_nowait(gate)
            await gate.wait()
            return Stop(text=name)

        machine = one_state(work)
        own = Settings(take="own")
        async with Runtime(url, machines=[machine], settings=own) as one, Runtime(url, machines=[machine], settings=own) as two:
            run = await one.start(machine, Note())
            first = await gates.get()
            await two.resume(run.id, force=True)
            second = await gates.get()
            first.set()
            await lost.wait()
            assert (await one.get(run.id)).seq == 0
            second.set()
            assert (await two.wait(run.id)).status is Status.DONE
            assert await two.data(run.id) == Note(text="holder 2")

    asyncio.run(go())


def test_runs_are_listed_by_status_state_and_machine(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Stop()

    async def go() -> None:
        quick, slow = one_state(work), asking()
        async with Runtime(url, machines=[quick, slow]) as runtime:
            done = await runtime.wait((await runtime.start(quick, Note())).id)
            waiting = await runtime.wait((await runtime.start(slow, Note())).id)
            assert [run.id for run in await runtime.runs()] == [waiting.id, done.id]
            assert [run.id for run in await runtime.runs(RunFilter(status=Status.DONE))] == [done.id]
            assert [run.id for run in await runtime.runs(RunFilter(state="question"))] == [waiting.id]
            assert [run.id for run in await runtime.runs(RunFilter(machine="one"))] == [done.id]
            assert (await runtime.find("@last")).id == waiting.id
            assert (await runtime.find(done.id[:31])).id == done.id
            with pytest.raises(NotFound, match="no run 'ffff'"):
                await runtime.find("ffff")

    asyncio.run(go())


def test_the_feed_tells_everything_in_order_and_can_be_resumed(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        await run.tool(double, 2)
        return Stop()

    async def go() -> None:
        machine = one_state(work, tools=[double])
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.start(machine, Note())
            entries = [entry async for entry in runtime.follow(run.id)]
            assert [entry.kind for entry in entries if entry.kind != "claimed"] == ["started", "call", "transition"]
            rest = [entry.pos async for entry in runtime.follow(run.id, after=entries[0].pos)]
            assert rest == [entry.pos for entry in entries[1:]]

    asyncio.run(go())


def test_an_invalid_answer_of_the_model_is_an_event_after_its_repairs(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        return Stop(text=str(await run.llm.ask("how many?", output=int)))

    async def go() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine], llm=ScriptedLLM(lambda request: "many")) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            assert (await runtime.history(run.id))[-1].event == "invalid_output"
            assert len(await runtime.calls(run.id)) >= 2

    asyncio.run(go())


def test_a_change_of_the_data_in_place_is_told_in_debug_mode(url: str) -> None:
    async def work(run: Run[Note]) -> Stop:
        run.data.seen.append("sneaked in")
        return Stop()

    async def go() -> None:
        machine = one_state(work)
        async with Runtime(url, machines=[machine], settings=Settings(debug=True)) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            assert (await runtime.history(run.id))[-1].payload["error"] == "DataMutated"

    asyncio.run(go())


def test_every_system_event_is_a_failure_but_the_warning() -> None:
    for event in (CallFailed, HandlerFailed, InvalidOutput, StateTimeout, DeadlinePassed, VisitsExhausted, StepsExhausted):
        assert issubclass(event, Failure)
    assert not issubclass(BudgetWarning, Failure)
