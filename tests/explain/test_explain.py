"""Why this edge and not the others: told from the record alone, and by the code where that is at hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from statecraft import Append, Ask, Budget, Data, Event, Failure, HandlerFailed, Machine, Run, RunRecord, Runtime, Settings, days
from statecraft.clock import instant
from statecraft.errors import NotFound
from statecraft.explaining import ExplainedStep, Explanation
from statecraft.explaining.deciding import decider
from statecraft.explaining.past import Stored, folded, visit_numbers
from statecraft.explaining.standstill import Scene, standstill
from statecraft.explaining.table import rows_of
from statecraft.explaining.words import step_lines
from statecraft.records import CallRecord, Status, TransitionRecord, Waiting
from statecraft.testing import ManualClock
from tests.cli.support import MACHINE, cli, fields
from tests.explain.desk import Office, desk

T = TypeVar("T")


def asked(office: Office, ask: Callable[[Runtime], Awaitable[T]], *machines: Machine[Any]) -> T:
    """Ask a runtime that was given these machines, or none."""

    async def look() -> T:
        async with Runtime(office.url, machines=machines, clock=office.clock, settings=Settings(take="none")) as rt:
            return await ask(rt)

    return asyncio.run(look())


def explain(office: Office, sort: str, step: int | None = None) -> Explanation:
    """An explanation from the database alone."""
    return asked(office, lambda rt: rt.explain(office.runs[sort].id, step))


def verdicts(step: ExplainedStep) -> dict[str, str]:
    """By row, what became of it."""
    return {f"{row.source or 'anywhere'}.{row.event}[{row.guard}]>{row.target}": row.verdict for row in step.rows}


def test_it_tells_the_row_taken_the_guards_asked_and_why_not_the_other_rows(office: Office) -> None:
    step = explain(office, "approved", 0).steps[0]
    assert [(guard.name, guard.answer, guard.again) for guard in step.guards] == [
        ("is_short", False, None),
        ("is_calm", True, None),
    ]
    found = verdicts(step)
    assert found["sorting.sorted[is_short]>sent"] == "refused"
    assert found["sorting.sorted[is_calm]>asking"] == "taken"
    assert found["sorting.sorted[]>failed"] == "later"
    assert found["sorting.unclear[]>sorting"] == "other"
    why = next(row.why for row in step.rows if row.verdict == "refused")
    assert why == "guard is_short said no"


@pytest.mark.slow
def test_it_tells_what_guards_saw_and_what_the_event_changed(office: Office) -> None:
    step = explain(office, "refused", 0).steps[0]
    assert step.payload == {"answer": "a long answer", "notes": ["answered"]}
    assert step.data == {"question": "long", "mood": "angry", "answer": "", "notes": []}
    assert step.changed == ("answer", "notes")
    assert [guard.answer for guard in step.guards] == [False, False]
    assert (step.event, step.target) == ("sorted", "failed")


@pytest.mark.slow
def test_the_data_of_a_step_is_what_the_machine_itself_folds(office: Office) -> None:
    async def compare(rt: Runtime) -> None:
        for run in office.runs.values():
            for step in (await rt.explain(run.id)).steps:
                assert step.data == (await rt.data(run.id, at=step.step)).model_dump(mode="json")

    asked(office, compare, desk())


@pytest.mark.slow
def test_the_taken_row_is_one_and_leads_where_the_run_went_in_every_step_of_every_run(office: Office) -> None:
    for sort in office.runs:
        for step in explain(office, sort).steps:
            taken = [row for row in step.rows if row.verdict == "taken"]
            assert [row.target for row in taken] == ([] if step.target is None else [step.target]), (sort, step)


@pytest.mark.parametrize(
    ("sort", "step", "kind", "name", "words"),
    [
        ("well", 0, "model", "scripted", "answer is from call 1 (llm scripted)"),
        ("parent", 0, "handler", "", "answer is from call 0 (child piece)"),
        ("unclear", 0, "handler", "", "The handler of sorting answered unclear."),
        ("unclear", 2, "bound", "visits_exhausted", "once more than its 2 visits"),
        ("greedy", 0, "bound", "budget_exhausted", "6 calls of 6 calls"),
        ("slow", 0, "timer", "state_timeout", "longer than its 600 s"),
        ("expired", 1, "timer", "review_expired", "nobody decided asking"),
        ("approved", 1, "person", "ann", 'ann answered approved to "Send it?"'),
        ("rejected", 1, "person", "bob", "bob answered rejected"),
        ("closed", 0, "operator", "eve", "eve redrove the dead run with close"),
    ],
)
def test_it_tells_who_decided(office: Office, sort: str, step: int, kind: str, name: str, words: str) -> None:
    found = explain(office, sort, step).steps[0].decider
    assert found is not None
    assert (found.kind, found.name) == (kind, name)
    assert words in found.text


def test_a_row_of_anywhere_that_takes_a_bound_is_told_as_taken(office: Office) -> None:
    assert verdicts(explain(office, "greedy", 0).steps[0])["anywhere.budget_exhausted[]>failed"] == "taken"


def test_calls_tell_their_failed_attempts_and_bounds_what_is_left(office: Office) -> None:
    step = explain(office, "flaky", 0).steps[0]
    look = step.calls[0]
    assert (look.name, look.ok, look.attempts, [each.kind for each in look.tries]) == ("look", True, 3, ["transient"] * 2)
    assert [each.wait for each in look.tries] == [timedelta(0)] * 2
    assert {each.unit: (each.used, each.limit, each.left) for each in step.bounds} == {
        "steps": (1, 9, 8),
        "visits": (1, 2, 1),
        "calls": (4, 6, 2),
    }


def test_a_call_that_was_refused_tells_the_kind_of_its_failure(office: Office) -> None:
    last = explain(office, "greedy", 0).steps[0].calls[-1]
    assert (last.ok, last.error) == (False, "budget")
    assert "for the budget of the run" in last.message


def test_visits_of_one_state_are_numbered(office: Office) -> None:
    assert [(step.state, step.visit) for step in explain(office, "unclear").steps[:3]] == [
        ("sorting", 1),
        ("sorting", 2),
        ("sorting", 3),
    ]


def test_a_dead_run_tells_what_it_died_of_and_what_would_move_it(office: Office) -> None:
    still = explain(office, "broken").standstill
    assert still is not None
    assert "handler_failed in sorting has no row: LookupError: no such drawer" in still.why
    assert any("a row for handler_failed" in move for move in still.moves)
    assert any("operator's event: close" in move for move in still.moves)


def test_a_waiting_run_tells_the_question_and_until_when(office: Office) -> None:
    found = explain(office, "waiting")
    still = found.standstill
    assert still is not None
    assert 'decide "Send it?"' in still.why
    assert still.due == found.run.due_at
    assert any("approved or rejected until" in move for move in still.moves)
    assert any("since the review expires" in move for move in still.moves)
    assert {row.verdict for row in found.steps[-1].rows} == {"open"}


def test_a_run_that_ended_stands_nowhere_and_its_last_step_is_the_end(office: Office) -> None:
    found = explain(office, "well")
    assert found.standstill is None
    assert str(found).splitlines()[-1] == "step 1  sent, 1st visit, entered by sorted, the end"


@pytest.mark.slow
def test_every_step_fits_on_a_screen_and_is_plain_text(office: Office) -> None:
    for sort in ("flaky", "greedy", "expired", "closed"):
        for step in explain(office, sort).steps:
            assert len(step_lines(step)) <= 40
            assert max(map(len, step_lines(step))) <= 320


@pytest.mark.slow
def test_code_at_hand_answers_its_guards_again_and_other_code_is_named_as_such(office: Office) -> None:
    run_id = office.runs["approved"].id

    async def ask(rt: Runtime) -> Explanation:
        return await rt.explain(run_id, 0)

    same = asked(office, ask, desk())
    assert (same.code, [guard.again for guard in same.steps[0].guards]) == ("same", [False, True])
    edited = asked(office, ask, desk(short=99))
    assert (edited.code, [guard.again for guard in edited.steps[0].guards]) == ("same", [True, None])
    assert "is_short: no (today it says yes)" in str(edited)
    other = asked(office, ask, desk(steps=8))
    assert other.code == "other"
    assert "another definition" in str(other)
    assert explain(office, "approved", 0).code == "none"


def test_a_step_that_does_not_exist_is_refused(office: Office) -> None:
    with pytest.raises(NotFound, match="has steps 0 to 1, not 2"):
        explain(office, "well", 2)


# --- rows, without a run ------------------------------------------------------------------------------------------------


class Bag(Data):
    n: int = 0
    seen: Append[list[int]] = []


class Found(Event):
    n: int = 0
    seen: list[int] = []


class FoundMuch(Found): ...


def bags() -> Machine[Bag]:
    machine = Machine("bags", data=Bag)

    @machine.state(start=True)
    async def looking(run: Run[Bag]) -> Found | FoundMuch:
        return Found()

    @machine.state()
    async def packing(run: Run[Bag]) -> FoundMuch:
        return FoundMuch()

    ended, failed = machine.final("ended", ok=True), machine.final("failed")

    def full(event: Found, data: Bag) -> bool:
        return event.n > 3

    machine.transitions(
        looking.on(Found) >> packing,
        looking.on(FoundMuch.when(full)) >> failed,
        looking.on(HandlerFailed) >> ended,
        packing.on(FoundMuch) >> ended,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


def stored(machine: Machine[Any]) -> Stored:
    definition = machine.definition
    return Stored(json.loads(definition.spec), frozenset(definition.edges))


START = instant(ManualClock().now())


def moved(seq: int, source: str, event: str, target: str, **facts: Any) -> TransitionRecord:
    return TransitionRecord("0" * 32, seq, source, event, target, START, 1, facts.pop("payload", {}), **facts)


def test_a_more_specific_row_goes_before_a_wider_one_and_the_states_own_before_anywhere() -> None:
    def found(move: TransitionRecord) -> dict[str, str]:
        return {f"{row.source}.{row.event}": row.verdict for row in rows_of(stored(bags()), "looking", move)}

    refused = {"looking.found_much": "refused", "looking.found": "taken"}
    others = {"looking.handler_failed": "other", ".failure": "other"}
    assert found(moved(1, "looking", "found_much", "packing", guards=(("full", False),))) == {**refused, **others}
    taken = {"looking.found_much": "taken", "looking.found": "wider"}
    assert found(moved(1, "looking", "found_much", "failed", guards=(("full", True),))) == {**taken, **others}
    own = {"looking.handler_failed": "taken", ".failure": "wider"}
    rest = {"looking.found_much": "other", "looking.found": "other"}
    assert found(moved(1, "looking", "handler_failed", "ended")) == {**own, **rest}


def test_a_definition_stored_without_its_wider_classes_still_tells_where_the_row_led() -> None:
    kept = stored(bags())
    old = Stored({key: value for key, value in kept.spec.items() if key != "wider"}, kept.edges)
    move = moved(1, "looking", "found_more", "packing")
    assert [row.event for row in rows_of(old, "looking", move) if row.verdict == "taken"] == ["found"]


def test_every_decision_of_the_kernel_is_explained_as_the_kernel_took_it() -> None:
    definition, kept = bags().definition, stored(bags())
    for event in (Found(n=1), FoundMuch(n=1), FoundMuch(n=9)):
        decided: Any = definition.decide("looking", event, Bag())
        move = moved(1, "looking", decided.event, decided.target, guards=decided.guards)
        assert [row.target for row in rows_of(kept, "looking", move) if row.verdict == "taken"] == [decided.target]


def test_rewrites_put_data_in_place_count_as_no_visit_and_are_told_as_what_they_are() -> None:
    kept = stored(bags())
    history = [
        moved(0, "", "start", "looking", payload={"n": 1, "seen": [1]}),
        moved(1, "looking", "forked", "looking", payload={"run": "ab", "step": 0, "by": "ann", "note": "what if", "data": None}),
        moved(
            2,
            "looking",
            "forked",
            "looking",
            payload={"run": "ab", "step": 0, "by": "ann", "note": "", "data": {"n": 5, "seen": []}},
        ),
        moved(3, "looking", "migrated", "looking", payload={"fingerprint": "f" * 64, "data": {"n": 6, "seen": [6]}}),
        moved(4, "looking", "found", "ended", payload={"n": 7, "seen": [7]}),
    ]
    data = folded(history, [kept] * 5)
    assert [each["n"] for each in data] == [1, 1, 5, 6, 7]
    assert data[-1]["seen"] == [6, 7]
    assert visit_numbers(history) == [1, 1, 1, 1, 1]
    said = [decider(move, kept, (), ()) for move in history[1:4]]
    assert [each.kind for each in said] == ["fork", "fork", "migration"]
    assert "ann forked it from step 0 of run ab; its data stayed. They said: what if" in said[0].text
    assert "its data was put in place whole" in said[1].text
    assert "migrated from definition ffffffffffff" in said[2].text
    assert {row.verdict for row in rows_of(kept, "looking", history[1])} == {"other"}


def test_a_model_that_wrote_only_brackets_is_explained_like_any_other() -> None:
    kept = Stored({"states": [], "rows": []}, frozenset())
    brackets = {"text": "[" * 100_000}
    call = CallRecord("0" * 32, 0, 0, "llm", "m", "d", 0, True, {}, brackets, 1, START, START, 1)
    move = moved(1, "looking", "seen", "looking", payload={"what": "it"})
    assert decider(move, kept, [call], ()).kind == "handler"


@pytest.mark.slow
def test_time_counts_anew_from_a_fork_and_from_when_a_delayed_start_began(tmp_path: Path) -> None:
    office, machine = Office(tmp_path), Machine("shelf", data=Bag, budget=Budget(wall=days(30)))

    @machine.state(start=True)
    async def looking(run: Run[Bag]) -> Found:
        return Found(n=1)

    @machine.review(timeout=days(20))
    async def asking(run: Run[Bag]) -> Ask[Found]:
        return Ask("Well?")

    failed = machine.anywhere.on(Failure) >> machine.final("failed")
    machine.transitions(looking.on(Found) >> asking, asking.on(Found) >> machine.final("ended", ok=True), failed)

    async def look() -> tuple[Explanation, Explanation]:
        async with office.runtime(machine) as rt:
            first = await rt.wait((await rt.start(machine, Bag())).id)
            await office.clock.advance(timedelta(days=2))
            fork = await rt.wait((await rt.fork(first.id, at=1)).id)
            late = await rt.start(machine, Bag(), delay=timedelta(days=1))
            await office.clock.advance(timedelta(days=1))
            await rt.wait(late.id)
            return await rt.explain(fork.id), await rt.explain(late.id)

    fork, late = asyncio.run(look())
    used = [{each.unit: each.used for each in told.steps[-1].bounds}["wall"] for told in (fork, late)]
    assert [timedelta(microseconds=amount) for amount in used] == [timedelta(days=1), timedelta(0)]
    assert (fork.steps[1].took, late.steps[0].took) == (timedelta(days=1), timedelta(0))


# --- standing still -----------------------------------------------------------------------------------------------------


def head(**facts: Any) -> RunRecord:
    known: dict[str, Any] = {"status": Status.WAITING, "updated_at": START, "created_at": START, **facts}
    return RunRecord("0" * 32, "bags", "1", "f" * 64, state="looking", seq=1, epoch=1, **known)


def scene(run: RunRecord, **facts: Any) -> Scene:
    empty: dict[str, Any] = {"open_reviews": (), "attempts": (), "children": (), "diagnosis": None, "rows": ()}
    return Scene(run, facts.pop("now", START), **{**empty, **facts})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"waiting_for": Waiting.TIMER}, "sleeps"),
        ({"waiting_for": Waiting.RETRY}, "backs off"),
        ({"waiting_for": Waiting.QUOTA}, "spending limit"),
        ({"waiting_for": Waiting.BREAKER}, "breaker is open"),
        ({"waiting_for": Waiting.LIMIT}, "rate limit"),
        ({"waiting_for": Waiting.START}, "start is delayed"),
        ({"waiting_for": Waiting.CHILD}, "waits for 0 child runs"),
        ({"status": Status.READY, "attempts": 3}, "claimed 3 times without getting on"),
        ({"status": Status.CANCELLED, "reason": "enough"}, "cancelled in looking: enough"),
        (
            {"status": Status.RUNNING, "owner": "w1", "lease_until": START - timedelta(seconds=1)},
            "w1 holds it, and has not renewed",
        ),
    ],
)
def test_each_way_to_stand_still_is_told(facts: dict[str, Any], words: str) -> None:
    still = standstill(scene(head(**facts)))
    assert still is not None
    assert words in still.why


def test_what_is_due_waits_for_a_worker_and_what_is_not_for_its_time() -> None:
    run = head(waiting_for=Waiting.TIMER, due_at=START + timedelta(hours=1))
    later = standstill(scene(run))
    assert later is not None
    assert "goes on in any case" in later.moves[0]
    due = standstill(scene(run, now=START + timedelta(hours=2)))
    assert due is not None
    assert "no worker has taken it" in due.why
    assert "queue default" in due.moves[0]


def test_a_run_that_is_worked_on_does_not_stand_still() -> None:
    assert standstill(scene(head(status=Status.RUNNING, owner="w1", lease_until=START + timedelta(seconds=9)))) is None


def test_a_child_that_is_waited_for_is_named_with_what_it_waits_for_itself() -> None:
    child = replace(head(waiting_for=Waiting.REVIEW), id="c" * 32)
    still = standstill(scene(head(waiting_for=Waiting.CHILD), children=[child]))
    assert still is not None
    assert still.moves == (f"The end of child run {'c' * 32} of bags (waiting in looking, waits for review).",)


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_verb_needs_no_target_and_its_json_has_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECRAFT_URL", "STATECRAFT_MACHINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "post.py").write_text(MACHINE)
    run_id = cli("start", "post.py:letters", "--set", "to=Ann").stdout.strip()
    (tmp_path / "post.py").unlink()
    said = cli("explain", run_id)
    assert said.exit_code == 0, said.stderr
    assert "writing.on(written) >> reading: it is the row for this event" in said.stdout
    assert "why it is not moving" in said.stdout
    found = fields(cli("explain", run_id, "--step", "0", "--json"))["explanation"]
    assert [step["step"] for step in found["steps"]] == [0]
    assert set(found) == {"run", "steps", "standstill", "code", "asked"}
    assert found["steps"][0]["decider"]["kind"] == "handler"
    assert found["standstill"]["moves"]
    assert cli("explain", run_id, "--step", "9").exit_code == 3
