"""Claims about all runs of a machine: what each of them means, what breaks it, and that the search finds just that."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from statecraft.errors import ConfigError, DefinitionError
from statecraft.machine import proving
from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import (
    BudgetWarning,
    CallFailed,
    Event,
    Failure,
    HandlerFailed,
    LoopDetected,
    OperatorEvent,
    ReviewExpired,
    StepsExhausted,
    VisitsExhausted,
)
from statecraft.machine.properties import Property, always, eventually, never
from statecraft.machine.state import Ask, Final, Row, State


class Text(Data):
    n: int = 0


class Drafted(Event): ...


class Sent(Event): ...


class Again(Event): ...


class Approved(Event): ...


class Blessed(Approved): ...


class Elsewhere(Event): ...


class Skipped(OperatorEvent): ...


def short(event: Drafted, data: Text) -> bool:
    return data.n < 3


class Letters:
    """drafting -> asking (a person) -> sending -> sent, with whatever else a test adds."""

    def __init__(self, **settings: Any) -> None:
        m = Machine("letters", data=Text, **settings)

        @m.state(start=True, max_visits=3)
        async def drafting(run: Run[Text]) -> Drafted:
            raise NotImplementedError

        @m.review(timeout=timedelta(days=1))
        async def asking(run: Run[Text]) -> Ask[Approved | Again]:
            raise NotImplementedError

        @m.state()
        async def sending(run: Run[Text]) -> Sent:
            raise NotImplementedError

        self.m, self.drafting, self.asking, self.sending = m, drafting, asking, sending
        self.sent, self.dropped = m.final("sent", ok=True), m.final("dropped")
        self.rows: list[Row[Text]] = [
            drafting.on(Drafted) >> asking,
            asking.on(Approved) >> sending,
            asking.on(Again) >> drafting,
            sending.on(Sent) >> self.sent,
            m.anywhere.on(Failure) >> self.dropped,
        ]

    def close(self, *rows: Row[Text], properties: list[Property[Text]] | None = None) -> Machine[Text]:
        self.m.transitions(*rows, *self.rows, properties=properties or [])
        return self.m


def told(machine: Machine[Text], claim: Property[Text]) -> str:
    return str(machine.counterexample(claim) or "")


# --- what they mean ---------------------------------------------------------------------------------------------------


def test_never_holds_where_every_path_meets_the_milestone_and_prints_the_path_that_does_not() -> None:
    d = Letters()
    assert told(d.close(), never(d.sending, before=Approved)) == ""
    d = Letters()
    machine = d.close(d.drafting.on(Drafted.when(short)) >> d.sending)
    assert told(machine, never(d.sending, before=Approved)) == ("drafting -(drafted)-> sending: enters sending without Approved")


def test_never_is_content_with_once_and_always_wants_one_for_each_entry() -> None:
    d = Letters()
    machine = d.close(d.sending.on(CallFailed) >> d.sending)
    assert told(machine, never(d.sending, before=Approved)) == ""
    assert told(machine, always(Approved, before=d.sending)) == (
        "drafting -(drafted)-> asking -(approved)-> sending -(call_failed)-> sending: "
        "enters sending without Approved since it entered sending"
    )


def test_since_says_what_undoes_a_milestone() -> None:
    d = Letters()
    again = d.close(d.sending.on(CallFailed) >> d.sending)
    assert told(again, always(Approved, before=d.sending, since=d.drafting)) == ""
    d = Letters()
    redrafted = d.close(d.sending.on(CallFailed) >> d.drafting, d.drafting.on(BudgetWarning) >> d.sending)
    assert told(redrafted, always(Approved, BudgetWarning, before=d.sending, since=d.drafting)) == ""
    assert told(redrafted, always(Drafted, before=d.sending, since=d.drafting)) == (
        "drafting -(budget_warning)-> sending: enters sending without Drafted since it entered drafting"
    )


def test_a_state_is_a_milestone_once_it_is_entered_and_the_start_is_entered_at_once() -> None:
    d = Letters()
    machine = d.close()
    assert told(machine, never(d.sent, before=d.sending)) == ""
    assert told(machine, never(d.sending, before=d.drafting)) == ""
    assert told(machine, always(d.asking, before=d.sending)) == ""
    assert told(machine, never(d.drafting, before=Approved)) == "drafting: a run begins in drafting"
    assert "enters dropped without sending" in told(machine, never(d.dropped, before=d.sending))


def test_one_of_several_milestones_is_enough_and_each_of_several_states_is_guarded() -> None:
    d = Letters()
    machine = d.close(d.drafting.on(BudgetWarning) >> d.sending)
    assert told(machine, never(d.sending, before=Approved)).startswith("drafting -(budget_warning)-> sending:")
    assert told(machine, never(d.sending, before=(Approved, BudgetWarning))) == ""
    assert told(machine, always(Approved, BudgetWarning, before=d.sending)) == ""
    assert "enters dropped" in told(machine, never(d.sent, d.dropped, before=(Approved, BudgetWarning)))


def test_a_subclass_of_the_event_counts_as_the_event() -> None:
    m = Machine("blessing", data=Text)

    @m.state(start=True)
    async def asking(run: Run[Text]) -> Blessed:
        raise NotImplementedError

    done = m.final("done", ok=True)
    m.transitions(asking.on(Blessed) >> done)
    assert m.counterexample(never(done, before=Approved)) is None
    assert m.counterexample(never(done, before=Elsewhere)) is not None


def test_system_events_and_rows_of_anywhere_are_paths_too() -> None:
    d = Letters()
    d.rows[-1] = d.m.anywhere.on(Failure) >> d.sending
    assert told(d.close(d.sending.on(Failure) >> d.dropped), never(d.sending, before=Approved)) == (
        "drafting -(budget_exhausted)-> sending: enters sending without Approved"
    )


def test_an_operator_who_leads_a_run_past_the_milestone_breaks_the_claim_unless_named() -> None:
    d = Letters()
    machine = d.close(d.m.anywhere.on(Skipped) >> d.sending)
    assert told(machine, never(d.sending, before=Approved)) == (
        "drafting -(skipped)-> sending (skipped: sent by an operator): enters sending without Approved"
    )
    assert told(machine, never(d.sending, before=(Approved, Skipped))) == ""
    with pytest.raises(DefinitionError, match="lead Skipped elsewhere, or name it as a milestone too"):
        (e := Letters()).close(e.m.anywhere.on(Skipped) >> e.sending, properties=[never(e.sending, before=Approved)])


def test_bounds_are_counted_before_a_path_is_called_possible() -> None:
    """Drafting is used up only after two rounds through asking, so what its last row leads to was asked before."""
    d = Letters()
    machine = d.close(d.drafting.on(VisitsExhausted) >> d.sending)
    assert told(machine, never(d.sending, before=d.asking)) == ""
    assert told(machine, never(d.sending, before=Approved)) == (
        "drafting -(drafted)-> asking -(again)-> drafting -(drafted)-> asking -(again)-> drafting -(drafted)-> asking "
        "-(again)-> drafting -(visits_exhausted)-> sending: enters sending without Approved"
    )


def used_up(rounds: int) -> tuple[Machine[Text], Property[Text]]:
    m = Machine("looping", data=Text)

    @m.state(start=True)
    async def zero(run: Run[Text]) -> Drafted:
        raise NotImplementedError

    @m.state(max_visits=1)
    async def first(run: Run[Text]) -> Drafted:
        raise NotImplementedError

    @m.state(max_visits=rounds)
    async def second(run: Run[Text]) -> Again:
        raise NotImplementedError

    looped, spent = m.final("looped"), m.final("spent", ok=True)
    rows = zero.on(Drafted) >> first, first.on(Drafted) >> second, first.on(VisitsExhausted) >> second
    m.transitions(*rows, first.on(LoopDetected) >> looped, second.on(Again) >> first, second.on(VisitsExhausted) >> spent)
    return m, always(Drafted, before=looped, since=second)


def test_using_a_state_up_again_and_again_may_be_noticed_as_a_loop() -> None:
    machine, claim = used_up(rounds=2)
    found = machine.counterexample(claim)
    assert found is not None
    assert [edge.event for edge in found.path if edge.source == "first"] == [Drafted, VisitsExhausted, LoopDetected]
    machine, claim = used_up(rounds=1)  # used up once: nothing repeats itself
    assert machine.counterexample(claim) is None


def test_what_happens_once_in_a_run_happens_once_on_a_path() -> None:
    d = Letters()
    machine = d.close(d.drafting.on(BudgetWarning) >> d.asking, d.asking.on(BudgetWarning) >> d.sending)
    assert "-(drafted)-> asking -(budget_warning)-> sending" in told(machine, never(d.sending, before=Approved))
    assert told(machine, never(d.sending, before=(Approved, Drafted))) == ""


def test_a_system_event_that_a_handler_answers_with_may_come_as_often_as_it_likes() -> None:
    m = Machine("warned", data=Text)

    @m.state(start=True)
    async def first(run: Run[Text]) -> Drafted | BudgetWarning:
        raise NotImplementedError

    @m.state()
    async def second(run: Run[Text]) -> Drafted:
        raise NotImplementedError

    done, other = m.final("done", ok=True), m.final("other")
    rows = first.on(Drafted) >> other, first.on(BudgetWarning) >> second, second.on(Drafted) >> other
    m.transitions(*rows, second.on(BudgetWarning) >> done)
    assert told(m, never(done, before=Drafted)).count("budget_warning") == 2


def test_a_path_that_bounds_may_forbid_is_told_as_such_where_they_are_too_many_to_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proving, "MOST_POINTS", 1)
    d = Letters()
    machine = d.close(d.drafting.on(VisitsExhausted) >> d.sending)
    found = machine.counterexample(never(d.sending, before=d.asking))
    assert found is not None
    assert not found.certain
    assert "unless max_visits forbids it" in str(found)
    late = machine.counterexample(eventually(d.sent, d.dropped, within=1))
    assert late is not None
    assert not late.certain


# --- eventually -------------------------------------------------------------------------------------------------------


def test_eventually_counts_moves_on_all_paths_and_heeds_max_visits() -> None:
    d = Letters()
    machine = d.close()
    assert told(machine, eventually(d.sent, d.dropped, within=7)) == ""
    path = told(machine, eventually(d.sent, d.dropped, within=6))
    assert path.endswith(": 6 moves without entering sent or dropped")
    assert path.count("-> drafting") in (2, 3)
    assert told(machine, eventually(d.drafting, within=1)) == ""


def test_eventually_is_broken_by_an_end_elsewhere() -> None:
    d = Letters()
    assert told(d.close(), eventually(d.sent, within=50)).endswith("-> dropped: ends without entering sent")


def going_round(*rows: str, **settings: Any) -> tuple[Machine[Text], Final[Text], Final[Text]]:
    m = Machine("round", data=Text, **settings)

    @m.state(start=True)
    async def one(run: Run[Text]) -> Drafted:
        raise NotImplementedError

    @m.state()
    async def two(run: Run[Text]) -> Again | Sent:
        raise NotImplementedError

    sent, lost = m.final("sent", ok=True), m.final("lost")
    ends = [two.on(StepsExhausted) >> lost, one.on(StepsExhausted) >> lost] if "ends" in rows else []
    m.transitions(one.on(Drafted) >> two, two.on(Again) >> one, two.on(Sent) >> sent, two.on(HandlerFailed) >> lost, *ends)
    return m, sent, lost


def test_eventually_shows_a_round_that_only_max_steps_stops() -> None:
    machine, sent, lost = going_round("ends", max_steps=6)
    found = machine.counterexample(eventually(sent, lost, within=6))
    assert found is not None
    assert str(found) == ("one -(drafted)-> two -(again)-> one: goes round from one again and again, until max_steps=6 stops it")
    assert [edge.target for edge in found.again] == ["two", "one"]
    assert machine.counterexample(eventually(sent, lost, within=7)) is None


def test_max_steps_without_a_row_breaks_eventually_however_many_moves_it_allows() -> None:
    machine, sent, lost = going_round(max_steps=6)
    assert "goes round" in told(machine, eventually(sent, lost, within=60))
    d = Letters(max_steps=2)
    d.rows[-1] = d.m.anywhere.on(HandlerFailed) >> d.dropped
    straight = d.close(d.drafting.on(VisitsExhausted) >> d.dropped, d.asking.on(ReviewExpired) >> d.dropped)
    assert told(straight, eventually(d.sent, d.dropped, within=60)) == (
        "drafting -(drafted)-> asking -(approved)-> sending: max_steps=2 stops the run here, and it is dead"
    )


def test_operators_do_not_count_for_eventually() -> None:
    d = Letters()
    machine = d.close(d.m.anywhere.on(Skipped) >> d.drafting)
    assert told(machine, eventually(d.sent, d.dropped, within=8)) == ""


# --- where they are stated --------------------------------------------------------------------------------------------


def test_claims_of_a_closed_machine_are_kept_and_leave_its_fingerprint_alone() -> None:
    d, plain = Letters(), Letters()
    claim = never(d.sending, before=Approved)
    machine = d.close(properties=[claim, eventually(d.sent, d.dropped, within=8)])
    assert machine.properties == (claim, eventually(d.sent, d.dropped, within=8))
    assert [str(each) for each in machine.properties] == [
        "never(sending, before=Approved)",
        "eventually(sent, dropped, within=8)",
    ]
    assert machine.definition.fingerprint == plain.close().definition.fingerprint


def test_a_claim_reads_as_it_is_written() -> None:
    d = Letters()
    assert str(never(d.sending, d.sent, before=(Approved, d.asking))) == "never(sending, sent, before=(Approved, asking))"
    assert str(always(Approved, before=d.sending)) == "always(Approved, before=sending)"
    assert str(always(Approved, before=d.sending, since=d.drafting)) == "always(Approved, before=sending, since=drafting)"
    assert never(d.sending, before=Approved) == never(d.sending, d.sending, before=(Approved, Approved))


def test_a_claim_that_does_not_hold_refuses_the_machine_with_its_path() -> None:
    d = Letters()
    with pytest.raises(DefinitionError) as caught:
        d.close(
            d.drafting.on(Drafted.when(short)) >> d.sending,
            properties=[never(d.sending, before=Approved), never(d.sent, before=Elsewhere)],
        )
    first, second = caught.value.findings
    assert (first.code, first.where) == ("SC130", "sending")
    assert "never(sending, before=Approved) does not hold. drafting -(drafted)-> sending" in first.message
    assert first.fix == "lead the move drafting -(drafted)-> sending through Approved first"
    assert second.fix == "Elsewhere never happens in this machine: name an event of its rows"
    assert d.m.check() == caught.value.findings


def test_an_open_machine_can_be_checked_and_a_closed_one_gives_its_warnings() -> None:
    d = Letters()
    assert {finding.code for finding in d.m.check()} >= {"SC102", "SC106"}
    machine = d.close(d.sending.on(CallFailed.when(lambda event, data: data.n > 1)) >> d.sending)
    assert [finding.code for finding in machine.check()] == [finding.code for finding in machine.findings] != []


def test_a_claim_about_another_machine_is_refused_wherever_it_is_made() -> None:
    d, other = Letters(), Letters()
    with pytest.raises(DefinitionError) as caught:
        d.close(properties=[never(other.sending, before=Approved), never(d.sending, before=Approved)])
    assert [(found.code, found.where) for found in caught.value.findings] == [("SC101", "letters")]
    assert "names sending, which is no state of letters" in str(caught.value)
    machine = other.close()
    with pytest.raises(ConfigError, match="which is no state of letters"):
        machine.counterexample(never(d.sending, before=Approved))
    with pytest.raises(ConfigError, match="is not closed"):
        d.m.counterexample(never(d.sending, before=Approved))


WRONG: list[tuple[Callable[[Letters], Any], str]] = [
    (lambda d: never("sending", before=Approved), "takes states of a machine, not 'sending'"),  # type: ignore[arg-type]
    (lambda d: never(Approved, before=d.sending), "takes states of a machine"),  # type: ignore[arg-type]
    (lambda d: never(d.sending, before="approved"), "is an event class or a state, not 'approved'"),  # type: ignore[arg-type]
    (lambda d: never(d.sending, before=Event), "is an event class or a state"),
    (lambda d: never(d.sending, before=()), "names nothing that must happen first"),
    (lambda d: never(d.sending, before=d.sending), "asks for sending before sending itself"),
    (lambda d: always(Approved, before=()), "names no state"),
    (lambda d: always(Approved, before=d.sending, since=Approved), "takes states of a machine"),  # type: ignore[arg-type]
    (lambda d: eventually(d.sent, within=0), "a whole number of moves, at least 1, not 0"),
    (lambda d: eventually(d.sent, within=True), "a whole number of moves"),
    (lambda d: d.close(properties=[True]), "properties takes a list"),  # type: ignore[list-item]
    (lambda d: d.close(properties=never(d.sent, before=Sent)), "properties takes a list"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "text"), WRONG, ids=[text for _, text in WRONG])
def test_what_is_no_claim_is_refused_where_it_is_written(make: Callable[[Letters], Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(Letters())
    assert text in str(caught.value)


# --- against every run there is ---------------------------------------------------------------------------------------


class A(Event): ...


class B(Event): ...


class C(Event): ...


EVENTS: list[type[A | B | C]] = [A, B, C]
LONGEST = 7


class Maze:
    """A random machine in which every run can be walked: four states with three events each, some of them bounded."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        m = Machine(f"maze_{seed}", data=Text, max_steps=LONGEST + 20)
        bounds = [chance.choice([None, 1, 2]) for _ in range(4)]
        self.states: list[State[Text, A | B | C]] = [
            m.state(start=not i, max_visits=bounds[i])(handler(f"s{i}")) for i in range(4)
        ]
        self.finals = [m.final("f0", ok=True), m.final("f1")]
        every = [*self.states, *self.finals]
        self.to = {(state.name, event): chance.choice(every).name for state in self.states for event in EVENTS}
        self.spent = {state.name: chance.choice(every).name for state in self.states}
        self.bounds = {state.name: bound for state, bound in zip(self.states, bounds, strict=True)}
        named = {state.name: state for state in every}
        rows = [state.on(event) >> named[self.to[state.name, event]] for state in self.states for event in EVENTS]
        rows += [state.on(VisitsExhausted) >> named[self.spent[state.name]] for state in self.states if self.bounds[state.name]]
        m.transitions(*rows)
        self.machine = m

    def runs(self) -> list[tuple[list[tuple[str, str]], bool]]:
        """Every run as (event, state) pairs, at most `LONGEST` moves of it, and whether it ended by then."""
        found: list[tuple[list[tuple[str, str]], bool]] = []

        def walk(path: list[tuple[str, str]]) -> None:
            state = path[-1][1]
            if state.startswith("f") or len(path) > LONGEST:
                found.append((path, state.startswith("f")))
                return
            bound = self.bounds[state]
            if bound is not None and sum(at == state for _, at in path) > bound:
                walk([*path, ("visits_exhausted", self.spent[state])])
                return
            for event in EVENTS:
                walk([*path, (event.__event_name__, self.to[state, event])])

        walk([("start", "s0")])
        return found


def handler(name: str) -> Callable[[Run[Text]], Any]:
    async def work(run: Run[Text]) -> A | B | C:
        raise NotImplementedError

    work.__name__ = name
    return work


def mazes(number: int) -> list[Maze]:
    found: list[Maze] = []
    seed = 0
    while len(found) < number:
        seed += 1
        try:
            found.append(Maze(seed))
        except DefinitionError:  # a state that nothing leads to, a trap
            continue
    return found


def breaks_early(path: list[tuple[str, str]], target: str, event: str, since: str | None) -> int | None:
    """At which move, counted by hand, the target is entered without the event."""
    met = False
    for number, (name, state) in enumerate(path):
        met = met or name == event
        if state == target and not met:
            return number
        if state == since:
            met = False
    return None


def test_the_search_agrees_with_a_walk_through_every_run() -> None:
    broken = held = 0
    for maze in mazes(9):
        runs = maze.runs()
        for state in (maze.states[2], maze.states[3], maze.finals[1]):
            for claim, since in (
                (never(state, before=A), None),
                (always(A, before=state), state.name),
                (always(A, before=state, since=maze.states[1]), "s1"),
            ):
                by_hand = [at for path, _ in runs if (at := breaks_early(path, state.name, "a", since)) is not None]
                found = maze.machine.counterexample(claim)
                if found is not None and len(found.path) > LONGEST:
                    assert not by_hand
                    continue
                assert (found is None) == (not by_hand), (maze.machine, str(claim), str(found))
                if found is not None:
                    assert len(found.path) == min(by_hand)
                    broken += 1
                else:
                    held += 1
    assert broken > 10
    assert held > 10


def test_the_longest_run_agrees_with_a_walk_through_every_run() -> None:
    late = 0
    for maze in mazes(9):
        runs = maze.runs()
        for within in (2, 4, LONGEST):
            found = maze.machine.counterexample(eventually(*maze.finals, within=within))
            assert (found is not None) == any(
                len(path) - 1 > within or not over for path, over in runs if over or len(path) > within
            )
            late += found is not None
    assert late > 3
