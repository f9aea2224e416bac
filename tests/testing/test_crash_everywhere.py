"""The crash test finds what is planted, and passes what is sound."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from statecraft import (
    Append,
    Ask,
    Budget,
    CallInfo,
    Data,
    ErrorKind,
    Event,
    Failure,
    GatePolicy,
    Happened,
    Machine,
    Modify,
    Run,
    Settings,
    days,
    hours,
    tool,
)
from statecraft.errors import ConfigError
from statecraft.llm.port import ModelError, Request
from statecraft.records import ReviewRecord
from statecraft.testing import CrashReport, ScriptedLLM, crash_everywhere
from statecraft.testing.facts import Facts, RunFacts, differences


class Order(Data):
    item: str = "tea"
    receipt: str = ""
    note: str = ""
    slips: Append[list[str]] = []


class Paid(Event):
    receipt: str


class Approved(Event):
    note: str = ""


class Sent(Event):
    slips: list[str]


Outside = list[str]
Pay = Callable[[Run[Order], "Shop"], Awaitable[str]]


class Shop:
    """An outside, and a machine that acts on it."""

    def __init__(self, pay: Pay | None = None) -> None:
        self.seen: Outside = []
        self.calls = 0
        shop = self

        @tool(effect="read")
        async def look(item: str) -> str:
            """Look at an item."""
            return f"a nice {item}"

        @tool(effect="once")
        async def charge(item: str) -> str:
            """Take the money."""
            shop.seen.append(f"charged {item}")
            return f"paid {item}"

        @tool(effect="idempotent")
        async def ship(info: CallInfo, item: str) -> str:
            """Send it, once for each key."""
            shop.calls += 1
            if info.key not in shop.seen:
                shop.seen.append(info.key)
            return f"slip for {item}"

        self.look, self.charge, self.ship = look, charge, ship
        self.machine = self._machine(pay)

    def _machine(self, pay: Pay | None) -> Machine[Order]:
        machine = Machine("shop", data=Order, budget=Budget(100_000, calls=50))

        @machine.state(start=True, tools=[self.look, self.charge])
        async def paying(run: Run[Order]) -> Paid:
            if pay is not None:
                return Paid(receipt=await pay(run, self))
            wish = await run.llm.ask(f"What about {run.data.item}?", tools=[self.look])
            return Paid(receipt=f"{wish}: {await run.tool(self.charge, run.data.item)}")

        @machine.review(timeout=days(2))
        async def asking(run: Run[Order]) -> Ask[Approved]:
            return Ask("Send it?")

        @machine.state(tools=[self.ship])
        async def sending(run: Run[Order]) -> Sent:
            await run.sleep(hours(3))
            both = await run.gather(run.tool(self.ship, "cup"), run.tool(self.ship, "pot"))
            return Sent(slips=[*both, str(await run.random() < 2)])

        machine.transitions(
            paying.on(Paid) >> asking,
            asking.on(Approved) >> sending,
            sending.on(Sent) >> machine.final("sent", ok=True),
            machine.anywhere.on(Failure) >> machine.final("failed"),
        )
        return machine

    def put_back(self, *others: list[Any]) -> None:
        """Nothing has happened yet."""
        for each in (self.seen, *others):
            each.clear()

    def crash(self, **options: object) -> CrashReport:
        return crash_everywhere(
            self.machine,
            Order(),
            ScriptedLLM(["Yes"]),
            decisions={"asking": Approved(note="go")},
            effects=lambda: self.seen,
            **options,  # type: ignore[arg-type]
        )


@pytest.mark.slow
def test_a_sound_machine_survives_a_death_at_some_points_of_its_run() -> None:
    report = Shop().crash(points=[8, 11])
    assert (report.machine, report.status, report.state) == ("shop", "done", "sent")
    assert (report.deaths, report.tried) == (2, ((8,), (11,)))


def test_a_point_that_was_named_twice_counts_once() -> None:
    tried = tuple((8,) for _ in range(26))
    report = CrashReport("shop", "memory", "done", "sent", 26, tried, 26, 0, {}, named=True)
    assert str(report).splitlines()[0] == "shop on memory: 26 deaths, at 1 of 26 persistence points, as named"


@pytest.mark.slow
def test_a_sound_machine_survives_a_death_at_any_point_of_its_run() -> None:
    report = Shop().crash()
    assert report.deaths == report.points > 20
    assert report.doubts >= 1
    assert report.repeated["model"] >= 1
    assert report.repeated["idempotent"] >= 1
    assert "once" not in report.repeated
    said = str(report)
    assert said.startswith(f"shop on memory: {report.deaths} deaths, at all {report.points} persistence points\n")
    assert "every run ended done in sent" in said
    assert "put to a person and never made twice" in said


@pytest.mark.slow
def test_two_deaths_in_one_run_are_tried_at_pairs_of_points() -> None:
    report = Shop().crash(pairs=True, most=12)
    assert len(report.tried) == 12
    assert all(len(points) == 2 for points in report.tried)
    assert all(first <= second for first, second in report.tried)  # What is written already is not written again.
    assert f"12 of {report.points * (report.points + 1) // 2} pairs of points, spread evenly" in str(report)


@pytest.mark.slow
def test_in_files_and_in_one_database_for_all_runs_it_is_the_same(tmp_path: Path) -> None:
    for store in ("sqlite", f"sqlite:///{tmp_path / 'all.db'}", lambda: f"sqlite:///{tmp_path / os.urandom(4).hex()}.db"):
        report = Shop().crash(store=store, most=2)
        assert (report.state, report.deaths) == ("sent", 2)


# --- what is planted --------------------------------------------------------------------------------------------------


async def mail(run: Run[Order], shop: Shop) -> str:
    """Acts on the world by itself."""
    shop.seen.append("a letter to Ann")
    return await run.tool(shop.charge, run.data.item)


@pytest.mark.slow
def test_an_effect_outside_the_journal_is_found() -> None:
    with pytest.raises(AssertionError) as caught:
        Shop(mail).crash()
    said = str(caught.value)
    told = r"effects: [56], undisturbed 4 \(a handler acts on the world without run\.tool, or a tool twice\)"
    assert re.search(told, said)  # Once more for the crash, and once more if the person is asked about the payment.
    assert re.search(r"process died at point \d+ of \d+, before the commit of .* in step 0 \(the journal had", said)
    assert "(the journal had step 0 in paying), is not what it should be" in said
    assert "to see it: crash_everywhere(..., points=[" in said


@pytest.mark.slow
def test_a_number_or_a_name_for_each_effect_is_found_as_well() -> None:
    shop = Shop(mail)
    with pytest.raises(AssertionError, match=r"effects of letters: [23], undisturbed 1"):
        crash_everywhere(
            shop.machine,
            Order,
            decisions={"asking": Approved()},
            effects=lambda: {"letters": sum("letter" in each for each in shop.seen)},
        )


async def dither(run: Run[Order], shop: Shop) -> str:
    """Charges for something else each time it runs."""
    shop.calls += 1
    return await run.tool(shop.charge, ["tea", "coffee", "milk"][shop.calls % 3])


@pytest.mark.slow
def test_an_outside_that_is_not_put_back_is_told_of() -> None:
    with pytest.raises(AssertionError, match="before_each leaves something of the outside, which knows the idempotency keys"):
        Shop().crash(before_each=lambda: None)


@pytest.mark.slow
def test_a_handler_that_draws_for_itself_cannot_be_judged_and_is_told_so() -> None:
    with pytest.raises(AssertionError, match=r"a second run that nobody disturbed(?s:.*)outside run\.\* differs from run to run"):
        Shop(dither).crash()


@pytest.mark.slow
def test_a_call_that_the_journal_does_not_know_is_found() -> None:
    async def otherwise(run: Run[Order], shop: Shop) -> str:
        """Charges for tea; a process that finds the outside changed already charges for milk."""
        receipt = await run.tool(shop.charge, "milk" if "charged tea" in shop.seen else "tea")
        shop.seen.clear()
        return receipt

    shop = Shop(otherwise)
    with pytest.raises(AssertionError) as caught:
        crash_everywhere(shop.machine, Order(), decisions={"asking": Approved()}, before_each=shop.seen.clear)
    said = str(caught.value)
    assert "calls of charge: 1, undisturbed 0 (it acted, and the journal has no such call" in said
    assert "the intent of charge in step 0 has no outcome" in said


@pytest.mark.slow
def test_what_a_handler_reads_from_the_process_is_found() -> None:
    memory: list[int] = []

    async def remember(run: Run[Order], shop: Shop) -> str:
        """Keeps a count in the process, where no crash can find it."""
        memory.append(1)
        await run.tool(shop.look, "all")
        visits = len(memory)
        memory.clear()
        return f"visit {visits}"

    shop = Shop(remember)
    with pytest.raises(AssertionError, match=r"run, data: (?s:.*)visit 2(?s:.*)undisturbed: (?s:.*)visit 1"):
        shop.crash(before_each=lambda: shop.put_back(memory))


@pytest.mark.slow
def test_a_handler_that_replays_otherwise_is_found_before_anything_dies() -> None:
    memory: list[int] = []

    async def count(run: Run[Order], shop: Shop) -> str:
        memory.append(1)
        return f"visit {len(memory)}"

    with pytest.raises(
        AssertionError, match=r"the run that nobody disturbed is not what it should be\n  - replay: step \d in paying"
    ):
        Shop(count).crash(before_each=memory.clear)


# --- people and settings ----------------------------------------------------------------------------------------------


def test_a_review_that_nobody_said_how_to_answer_is_named() -> None:
    with pytest.raises(AssertionError, match=r"asking asks a person for approved; say which: decisions=\{'asking': \.\.\.\}"):
        crash_everywhere(Shop().machine, Order(), ScriptedLLM(["Yes"]))


@pytest.mark.slow
def test_gates_are_approved_or_answered_by_a_function() -> None:
    def decide(review: ReviewRecord) -> Event | Modify | Happened | None:
        if review.kind == "state":
            return Approved()
        if review.kind == "gate":
            return Modify({"item": "milk"}, approve=True)
        return None

    settings = Settings(gate=GatePolicy(max_auto_risk="low", risks={"look": "safe", "ship": "safe"}))
    for decisions, seen in ((decide, "charged milk"), ({"asking": [Approved(note="go")]}, "charged tea")):
        shop = Shop()
        report = crash_everywhere(
            shop.machine,
            Order(),
            lambda: ScriptedLLM(["Yes"]),
            decisions=decisions,
            settings=settings,
            effects=lambda shop=shop: [each for each in shop.seen if "charged" in each],  # type: ignore[misc]
            most=9,
        )
        assert report.state == "sent"
        assert set(shop.seen) >= {seen}


@pytest.mark.slow
def test_a_model_that_is_overloaded_at_first_is_waited_for() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str | ModelError:
        asked.append(request)
        return ModelError("busy", kind=ErrorKind.OVERLOADED) if len(asked) < 3 else "Yes"

    shop = Shop()
    report = crash_everywhere(
        shop.machine,
        Order(),
        ScriptedLLM(answer),
        decisions={"asking": Approved()},
        effects=lambda: len(shop.seen),
        before_each=lambda: shop.put_back(asked),
        most=12,
    )
    assert report.state == "sent"


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_processes_are_really_killed(tmp_path: Path) -> None:
    place = tmp_path / "outside"
    place.touch()

    @tool(effect="once")
    async def write(text: str) -> str:
        """Write a line."""
        with place.open("a") as file:
            file.write(f"{text}\n")
        return "written"

    machine = Machine("writer", data=Order)

    @machine.state(start=True, tools=[write])
    async def writing(run: Run[Order]) -> Paid:
        return Paid(receipt=await run.tool(write, await run.llm.ask("What?")))

    machine.transitions(writing.on(Paid) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("no"))
    model = ScriptedLLM(lambda request: "a line")
    report = crash_everywhere(
        machine, Order(), model, store="sqlite", processes=True, most=8, effects=lambda: place.read_text().splitlines()
    )
    assert report.deaths >= 6
    assert report.doubts >= 1
    assert report.status == "done"


@pytest.mark.slow
def test_points_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"persistence points 0 to \d+, not \(999,\)"):
        Shop().crash(points=[999])


@pytest.mark.parametrize("none", [{"points": []}, {"points": [()]}, {"most": 0}, {"most": -3}])
def test_a_test_that_tries_no_point_is_refused(none: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a crash test that tries no point proves nothing"):
        crash_everywhere(Shop().machine, Order(), **none)


def test_effects_that_are_no_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="answers a number, something with a length, or a number for each name, not NoneType"):
        crash_everywhere(Shop().machine, Order(), effects=lambda: cast(Any, None))


def test_a_run_that_does_not_replay_is_told_with_how_it_ended() -> None:
    with pytest.raises(AssertionError, match=r"it ended failed in \w+, by 1. .*the runtime was given none"):
        crash_everywhere(Shop().machine, Order(), decisions={"asking": Approved()})


@pytest.mark.slow
def test_a_process_that_fails_by_itself_shows_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"the process failed:\nTraceback"):
        crash_everywhere(Shop().machine, Order(), ScriptedLLM(lambda request: "Yes"), store="sqlite", processes=True)


def test_an_event_loop_that_runs_already_is_in_the_way() -> None:
    async def inside() -> None:
        crash_everywhere(Shop().machine, Order())

    with pytest.raises(ConfigError, match="call it from a plain `def` test"):
        asyncio.run(inside())


def test_processes_need_a_store_that_outlives_them() -> None:
    with pytest.raises(ConfigError, match='processes=True, store="sqlite"'):
        crash_everywhere(Shop().machine, Order(), processes=True)


# --- what is compared -------------------------------------------------------------------------------------------------

RUN = RunFacts("run", "done", "sent", "{}", ("0. start", "1. paid"), ("a call",), (), (), ())
CALM = Facts((RUN,), {"<run>:tokens": 7}, {}, {"": 1})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (CALM, []),
        (Facts((), {"<run>:tokens": 7}, {}, {"": 1}), ["runs: 0 in the family, undisturbed 1"]),
        (Facts((RUN,), {"<run>:tokens": 9}, {}, {"": 1}), ["budget of <run>:tokens: 9, undisturbed 7"]),
        (Facts((RUN,), {"<run>:tokens": 7}, {"pay": 1}, {"": 1}), ["calls of pay: 1, undisturbed 0"]),
        (Facts((RUN,), {"<run>:tokens": 7}, {}, {}), ["effects: 0, undisturbed 1"]),
    ],
)
def test_a_difference_is_told_with_both_sides(found: Facts, said: list[str]) -> None:
    assert [each.split(" (")[0] for each in differences(found, CALM)] == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "dead"}, "run: ends dead in sent, undisturbed done in sent"),
        ({"history": ("0. start",)}, "run, history: nothing\n      undisturbed: 1. paid"),
        ({"data": '{"a": 1}'}, 'run, data: {"a": 1}\n      undisturbed: {}'),
        ({"open": ("ann still holds it under a lease",)}, "run: ann still holds it under a lease"),
        ({"problems": ("transition 1: hash differs",)}, "run, verify: transition 1: hash differs"),
        ({"calls": ()}, "run, calls: nothing\n      undisturbed: a call"),
    ],
)
def test_a_difference_within_a_run_is_told_with_both_sides(change: dict[str, object], said: str) -> None:
    from dataclasses import replace

    assert differences(replace(CALM, runs=(replace(RUN, **change),)), CALM) == [said]  # type: ignore[arg-type]
