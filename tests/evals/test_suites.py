from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from statecraft import Approve, RunFilter, Runtime, Settings, Status, seconds
from statecraft.calls.gate import GatePolicy
from statecraft.errors import ConfigError
from statecraft.evals import Case, Contains, Ends, Exact, Report, Suite, Tried, Within, evaluate
from statecraft.llm import LLM
from statecraft.records import Json
from statecraft.testing import ManualClock
from tests.evals import oracle as module
from tests.evals.oracle import Parrot, case, oracle

T = TypeVar("T")
OWN = Settings(take="own")


def with_runtime(url: str, llm: LLM | Mapping[str, LLM], act: Callable[[Runtime], Awaitable[T]], settings: Settings = OWN) -> T:
    async def go() -> T:
        async with Runtime(url, machines=[oracle], llm=llm, settings=settings) as rt:
            return await act(rt)

    return asyncio.run(go())


def run(suite: Suite, url: str, llm: LLM, **more: Any) -> Report:
    return with_runtime(url, llm, lambda rt: suite.run(rt, **more))


def unsure(question: str) -> Json:
    return {"answer": f"About {question}", "sure": 0.1}


def suite_of(*cases: Case, **more: Any) -> Suite:
    return Suite(
        oracle, cases or (case("tea?", state="told"), case("coffee?", state="told")), [Ends(), Contains("answer")], **more
    )


def test_a_suite_reports_each_case_with_what_is_wrong() -> None:
    suite = suite_of(case("tea?", state="told", contains="about tea"), case("milk?", state="silent", contains=["milk", "cow"]))
    report = evaluate(suite, llm=Parrot())
    assert not report.passed
    assert (report.good, report.total, report.rate) == (1, 2, 0.5)
    [failing] = report.failing
    [tried] = failing.trials
    assert tried.problems == ("ends: it is done in told, not in silent", "contains answer: answer lacks 'cow'")
    assert (tried.tokens, tried.calls, tried.steps, tried.status) == (15, 2, 1, Status.DONE)
    text = str(report)
    assert text.startswith("oracle: 1 of 2 cases passed (50%, 95% interval 9% to 91%)\nFAILED  milk?\n")
    assert f"run {tried.run_id} is done in told" in text
    assert "tea?" not in text


def test_one_assert_is_a_test() -> None:
    report = evaluate(suite_of(), llm=Parrot())
    assert report.passed, report


def test_a_case_that_nothing_is_said_about_has_not_passed() -> None:
    [failing] = evaluate(suite_of(Case({"question": "tea?"})), llm=Parrot()).failing
    assert "no grader has anything to say about this case" in failing.trials[0].problems[0]


@pytest.mark.slow
def test_repetitions_are_runs_of_their_own_and_give_a_rate_with_its_interval() -> None:
    llm = Parrot()
    llm.says = lambda question: {"answer": "yes" if len(llm.asked) % 4 else "no", "sure": 1.0}
    suite = Suite(oracle, [case("tea?", answer="yes")], [Exact("answer")], repeat=8, needs=0.5, concurrency=1)
    report = evaluate(suite, llm=llm)
    [found] = report.cases
    assert len({trial.run_id for trial in found.trials}) == 8
    assert [trial.repetition for trial in found.trials] == list(range(1, 9))
    assert (found.good, found.rate, found.passed) == (6, 0.75, True)
    assert found.interval == pytest.approx((0.4093, 0.9285), abs=1e-4)
    assert report.passed


@pytest.mark.slow
def test_people_decide_as_the_case_says_and_a_review_without_an_answer_is_where_it_is_graded(url: str) -> None:
    cases = [
        Case(
            {"question": "a?"},
            {"state": "told", "contains": "better"},
            decisions={"checking": [{"modified": {"answer": "better"}}, "approved"]},
        ),
        Case({"question": "b?"}, {"state": "silent"}, decisions={"checking": {"rejected": {"reason": "no"}}}),
        Case({"question": "c?"}, {"state": "checking"}),
        Case({"question": "d?"}, {"state": "checking"}, decisions={"checking": {"modified": {"answer": "e"}}}),
    ]
    report = run(suite_of(*cases), url, Parrot(unsure))
    assert report.passed, report
    assert [trial.status for trial in report.trials] == [Status.DONE, Status.FAILED, Status.WAITING, Status.WAITING]
    actors = with_runtime(url, Parrot(), lambda rt: _actors(rt, report))
    assert actors == {"eval"}


async def _actors(rt: Runtime, report: Report) -> set[str]:
    return {move.actor for trial in report.trials for move in await rt.history(trial.run_id) if move.actor}


def test_gated_calls_are_decided_by_tool(url: str) -> None:
    settings = Settings(take="own", gate=GatePolicy(max_auto_risk="safe"))
    cases = [
        Case({"question": "a?"}, {"state": "told"}, decisions={"look_up": "approve"}),
        Case({"question": "b?"}, {"state": "silent"}, decisions={"look_up": {"reject": {"reason": "not this"}}}),
        Case({"question": "c?"}, {"state": "told"}, decisions={"look_up": [{"modify": {"arguments": {"word": "x"}}}, Approve()]}),
        Case({"question": "d?"}, {"state": "answering"}),
    ]
    report = with_runtime(url, Parrot(), lambda rt: suite_of(*cases).run(rt), settings)
    assert report.passed, report


def test_a_decision_that_the_run_refuses_fails_its_trial_only(url: str) -> None:
    settings = Settings(take="own", gate=GatePolicy(max_auto_risk="safe"))
    wrong = Case({"question": "a?"}, {"state": "told"}, decisions={"look_up": {"modify": {"arguments": {"wurd": "x"}}}})
    right = Case({"question": "b?"}, {"state": "told"}, decisions={"look_up": "approve"})
    report = with_runtime(url, Parrot(), lambda rt: suite_of(wrong, right).run(rt), settings)
    assert [each.passed for each in report.cases] == [False, True]
    assert "the case's decision was refused" in report.failing[0].trials[0].problems[0]


# --- going on, and paying once -------------------------------------------------------------------------------------------


def test_a_second_evaluation_pays_nothing_and_says_the_same(url: str) -> None:
    first, second = Parrot(), Parrot()
    reports = [run(suite_of(repeat=2), url, llm) for llm in (first, second)]
    assert (len(first.asked), len(second.asked)) == (4, 0)
    assert [trial.run_id for trial in reports[0].trials] == [trial.run_id for trial in reports[1].trials]
    assert [trial.recalled for each in reports for trial in each.trials] == [False] * 4 + [True] * 4
    assert reports[0].rate == reports[1].rate == 1.0


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(url: str) -> None:
    suite = suite_of(*(case(f"{n}?", state="told") for n in range(5)), concurrency=1)

    async def interrupted(rt: Runtime) -> int:
        going: asyncio.Task[Report] = asyncio.ensure_future(suite.run(rt, told=stop_after_two))
        await asyncio.wait([going])
        assert going.cancelled()
        return len(seen)

    seen: list[str] = []

    def stop_after_two(number: int, total: int, name: str, tried: Tried) -> None:
        seen.append(name)
        assert total == 5
        if number == 2:
            raise asyncio.CancelledError

    first, second = Parrot(), Parrot()
    assert with_runtime(url, first, interrupted) == 2
    report = run(suite, url, second)
    assert report.passed
    assert len(first.asked) + len(second.asked) == 5
    assert sum(trial.recalled for trial in report.trials) >= 2


@pytest.mark.slow
def test_a_trial_that_was_cut_off_goes_on_and_repeats_no_finished_call(url: str) -> None:
    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    async def cut_off(rt: Runtime) -> None:
        going = asyncio.ensure_future(suite.run(rt))
        await asyncio.wait_for(asked.wait(), 30)
        going.cancel()
        await asyncio.wait([going])

    asked = asyncio.Event()
    suite = suite_of(case("tea?", state="told"))
    stuck = Parrot()
    stuck.before = never
    with_runtime(url, stuck, cut_off)
    report = run(suite, url, Parrot())
    assert report.passed, report
    looked_up = with_runtime(url, Parrot(), lambda rt: rt.calls(next(report.trials).run_id))
    assert [call.kind for call in looked_up] == ["tool", "llm"]
    assert len(with_runtime(url, Parrot(), lambda rt: rt.runs())) == 1


@pytest.mark.slow
def test_code_that_would_do_something_else_is_run_anew_without_being_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(suite_of(), url, Parrot())
    monkeypatch.setitem(module.PROMPT, "text", "Say at once: {}")
    llm = Parrot()
    report = run(suite_of(), url, llm)
    assert llm.asked == ["Say at once: tea?", "Say at once: coffee?"]
    assert [(trial.round, trial.recalled) for trial in report.trials] == [(2, False), (2, False)]
    assert [trial.recalled for trial in run(suite_of(), url, Parrot()).trials] == [True, True]


@pytest.mark.slow
def test_a_guard_of_today_decides_whether_yesterdays_trial_counts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    barely = Parrot(lambda question: {"answer": "x", "sure": 0.6})
    run(suite_of(case("tea?", state="told")), url, barely)
    stricter = _machine_with_a_stricter_guard(monkeypatch)
    report = run(Suite(stricter, [case("tea?", state="told")], [Ends()]), url, barely)
    assert not report.passed


def _machine_with_a_stricter_guard(monkeypatch: pytest.MonkeyPatch) -> Any:
    def is_sure(event: Any, data: Any) -> bool:
        return bool(event.sure >= 0.9)

    monkeypatch.setattr(module.is_sure, "__code__", is_sure.__code__)
    return oracle


@pytest.mark.slow
def test_another_model_or_another_mark_is_another_trial(url: str) -> None:
    run(suite_of(), url, Parrot())
    for llm, more in ((Parrot(name="crow"), {}), (Parrot(), {"mark": "tape 2"})):
        assert [trial.recalled for trial in run(suite_of(), url, llm, **more).trials] == [False, False]
        assert len(llm.asked) == 2


def test_a_changed_expectation_is_graded_anew_without_another_run(url: str) -> None:
    run(suite_of(case("tea?", state="told")), url, Parrot())
    llm = Parrot()
    report = run(suite_of(case("tea?", state="silent")), url, llm)
    assert not report.passed
    assert not llm.asked
    assert next(report.trials).recalled


@pytest.mark.slow
def test_since_counts_only_what_was_started_from_then_on(url: str) -> None:
    run(suite_of(), url, Parrot())
    llm = Parrot()
    later = datetime.now(UTC) + timedelta(hours=1)
    report = run(suite_of(), url, llm, since=later)
    assert (len(llm.asked), [trial.round for trial in report.trials]) == (2, [2, 2])
    before = datetime.now(UTC) - timedelta(hours=1)
    again = run(suite_of(), url, Parrot(), since=before)
    assert [(trial.round, trial.recalled) for trial in again.trials] == [(2, True), (2, True)]


@pytest.mark.slow
def test_a_run_that_was_cancelled_or_died_is_tried_anew(url: str) -> None:
    report = run(suite_of(case("tea?", state="checking")), url, Parrot(unsure))
    with_runtime(url, Parrot(), lambda rt: rt.cancel(next(report.trials).run_id, by="ann", reason="enough"))
    again = run(suite_of(case("tea?", state="checking")), url, Parrot(unsure))
    assert again.passed
    assert next(again.trials).round == 2


def test_the_keys_name_suite_case_and_repetition(url: str) -> None:
    report = run(suite_of(case("tea?", state="told"), name="drinks", repeat=2), url, Parrot())
    keys = [each.key or "" for each in with_runtime(url, Parrot(), lambda rt: rt.runs(RunFilter(machine="oracle")))]
    assert sorted(key.rsplit(":", 2)[0][:12] + key.split(":")[3] for key in keys) == ["eval:drinks:1", "eval:drinks:2"]
    assert report.suite == "drinks"


# --- what does not end ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trial_that_does_not_settle_in_time_fails_and_the_others_do_not() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    class Slow(Parrot):
        async def complete(self, request: Any) -> Any:
            if "coffee" in str(request.messages[-1]["content"]):
                asked.set()
                await asyncio.Event().wait()
            return await super().complete(request)

    async def go() -> Report:
        clock, suite = ManualClock(), suite_of(timeout=seconds(1))
        async with Runtime("sqlite://", llm=Slow(), clock=clock, settings=OWN) as rt:
            running = asyncio.ensure_future(suite.run(rt, told=lambda *_: told.set()))
            await asked.wait()
            await told.wait()  # of tea: no time has passed
            while not running.done():
                await clock.advance(seconds(1))
            return await running

    report = asyncio.run(go())
    assert [each.passed for each in report.cases] == [True, False]
    assert report.failing[0].trials[0].problems[0] == "run: not settled after 0:00:01: it is running in answering"


def test_no_more_trials_run_at_once_than_are_allowed() -> None:
    full = asyncio.Event()

    class Counting(Parrot):
        at_once = most = 0

        async def complete(self, request: Any) -> Any:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            if self.at_once == 3:
                full.set()
            await full.wait()  # Nobody is answered before there are three.
            for _ in range(20):  # If a fourth were let in, here it would be seen.
                await asyncio.sleep(0)
            self.at_once -= 1
            return await super().complete(request)

    llm = Counting()
    suite = suite_of(*(case(f"{n}?", state="told") for n in range(9)), concurrency=3)
    assert evaluate(suite, llm=llm).passed
    assert llm.most == 3


def test_a_model_that_cannot_be_asked_fails_every_trial() -> None:
    class Keyless(Parrot):
        async def complete(self, request: Any) -> Any:
            raise ConfigError("no key")

    report = evaluate(suite_of(), llm=Keyless())
    assert not report.passed
    assert [trial.state for trial in report.trials] == ["silent", "silent"]


def test_progress_is_told_trial_by_trial() -> None:
    heard: list[tuple[int, int, str, bool]] = []
    suite = Suite(oracle, [case("tea?", state="told"), case("milk?", state="silent")], [Ends(), Within(steps=5)], concurrency=1)

    async def go() -> Report:
        async with Runtime("sqlite://", llm=Parrot(), settings=OWN) as rt:
            return await suite.run(rt, told=lambda n, total, name, tried: heard.append((n, total, name, tried.passed)))

    asyncio.run(go())
    assert heard == [(1, 2, "tea?", True), (2, 2, "milk?", False)]
