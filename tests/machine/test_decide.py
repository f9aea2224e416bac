"""`Definition.decide`: which row takes an event, and what a refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition, Move, Refusal
from statecraft.machine.event import BudgetWarning, CallFailed, Event, Failure, HandlerFailed, SystemEvent, event_name
from statecraft.machine.kernel import Kernel
from statecraft.machine.table import ANYWHERE, Declaration, DeclaredRow, DeclaredState, expand


class Scores(Data):
    best: int = 0


class Scored(Event):
    score: int


class HighScored(Scored): ...


class Quit(Event): ...


def beats(event: Scored, data: Scores) -> bool:
    return event.score > data.best


def huge(event: Scored, data: Scores) -> bool:
    return event.score > 100


def broken(event: Scored, data: Scores) -> bool:
    raise LookupError("no such score")


def truthy(event: Scored, data: Scores) -> bool:
    return [event.score]  # type: ignore[return-value]


def overloaded(event: CallFailed, data: Scores) -> bool:
    return event.kind == "overloaded"


def game() -> Definition:
    m = Machine("game", data=Scores)

    @m.state(start=True, max_visits=5)
    async def play(run: Run[Scores]) -> Scored | HighScored | Quit:
        raise NotImplementedError

    @m.state()
    async def risky(run: Run[Scores]) -> Scored:
        raise NotImplementedError

    won, lost, odd = m.final("won", ok=True), m.final("lost"), m.final("odd")
    m.transitions(
        play.on(Scored.when(huge)) >> odd,
        play.on(Scored.when(beats)) >> won,
        play.on(Scored) >> play,
        play.on(HighScored.when(huge)) >> risky,
        play.on(Quit) >> lost,
        play.on(CallFailed.when(overloaded)) >> play,
        risky.on(Scored.when(broken)) >> won,
        risky.on(Scored) >> lost,
        m.anywhere.on(Failure) >> lost,
        m.anywhere.on(HandlerFailed) >> odd,
    )
    return m.definition


GAME = game()


@pytest.mark.parametrize(
    ("state", "event", "move"),
    [
        ("play", Quit(), Move("play", "quit", "lost", ())),
        ("play", Scored(score=101), Move("play", "scored", "odd", (("huge", True),))),
        ("play", Scored(score=50), Move("play", "scored", "won", (("huge", False), ("beats", True)))),
        ("play", Scored(score=1), Move("play", "scored", "play", (("huge", False), ("beats", False)))),
        ("play", HighScored(score=101), Move("play", "high_scored", "risky", (("huge", True),))),
    ],
)
def test_the_first_row_whose_guard_holds_is_taken(state: str, event: Event, move: Move) -> None:
    assert GAME.decide(state, event, Scores(best=9)) == move


def test_rows_of_a_more_general_class_follow_when_the_specific_ones_refuse() -> None:
    move = GAME.decide("play", HighScored(score=50), Scores(best=9))
    assert move == Move("play", "high_scored", "won", (("huge", False), ("huge", False), ("beats", True)))


def test_rows_of_the_state_come_before_rows_of_anywhere() -> None:
    assert GAME.decide("play", CallFailed(kind="overloaded"), Scores()) == Move(
        "play", "call_failed", "play", (("overloaded", True),)
    )
    assert GAME.decide("play", CallFailed(kind="timeout"), Scores()) == Move(
        "play", "call_failed", "lost", (("overloaded", False),)
    )


def test_the_most_specific_row_of_anywhere_wins_although_it_comes_later() -> None:
    assert GAME.decide("risky", HandlerFailed(), Scores()) == Move("risky", "handler_failed", "odd", ())


def test_a_budget_warning_is_no_failure() -> None:
    refusal = GAME.decide("play", BudgetWarning(), Scores())
    assert refusal == Refusal("play", "budget_warning", "play has no row for budget_warning; it takes scored, high_scored, quit")


def test_an_event_of_another_state_is_refused() -> None:
    refusal = GAME.decide("risky", Quit(), Scores())
    assert refusal == Refusal("risky", "quit", "risky has no row for quit; it takes scored")


def test_an_event_of_another_machine_is_refused_even_if_it_has_the_same_name() -> None:
    stranger = type("Quit", (Event,), {})
    assert isinstance(GAME.decide("play", stranger(), Scores()), Refusal)


def test_no_event_leaves_a_final_state() -> None:
    assert GAME.decide("won", Quit(), Scores()) == Refusal("won", "quit", "won is final; no event leaves it")


def test_an_unknown_state_is_refused() -> None:
    assert GAME.decide("nowhere", Quit(), Scores()) == Refusal("nowhere", "quit", "the machine has no state 'nowhere'")


def test_a_guard_that_raises_is_a_refusal_that_names_guard_and_error() -> None:
    refusal = GAME.decide("risky", Scored(score=1), Scores())
    assert refusal == Refusal("risky", "scored", "guard broken raised LookupError: no such score")


def test_deciding_changes_nothing() -> None:
    data, event = Scores(best=1), Scored(score=2)
    GAME.decide("play", event, data)
    assert (data, event) == (Scores(best=1), Scored(score=2))


def decide_with(rows: list[DeclaredRow], event: Event) -> Move | Refusal:
    states = (DeclaredState("a", "work", start=True, events=(Scored,)), DeclaredState("b", "final"))
    declaration = Declaration("m", "1", Scores, states, tuple(rows), 100, None, None)
    return Kernel("m", ["a", "b"], ["b"], expand(declaration)).decide("a", event, Scores())


def test_a_guard_answers_by_truth_not_by_equality() -> None:
    move = decide_with([DeclaredRow("a", Scored, "b", truthy)], Scored(score=1))
    assert move == Move("a", "scored", "b", (("truthy", True),))


def test_when_every_guard_refuses_the_refusal_lists_them() -> None:
    rows = [DeclaredRow("a", Scored, "b", huge), DeclaredRow("a", Scored, "b", beats)]
    refusal = decide_with(rows, Scored(score=-1))
    assert refusal == Refusal("a", "scored", "every guard of a.scored refused (huge, beats)", (("huge", False), ("beats", False)))


# --- the kernel equals a table one can read ---------------------------------------------------------------------------


class Red(Event):
    n: int = 0


class DarkRed(Red): ...


class Blue(Event):
    n: int = 0


EVENTS: list[type[Event]] = [Red, DarkRed, Blue, CallFailed, HandlerFailed, BudgetWarning]
PATTERNS: list[type[Event]] = [*EVENTS, Failure, SystemEvent]
STATES = ["s0", "s1", "s2", "end"]


def make_guard(bit: int) -> Any:
    def guard(event: Event, data: Scores) -> bool:
        return bool(data.best >> bit & 1)

    guard.__name__ = f"bit{bit}"
    return guard


GUARDS = [None, *(make_guard(bit) for bit in range(3))]
ROWS = st.builds(
    DeclaredRow,
    source=st.sampled_from([ANYWHERE, "s0", "s1", "s2"]),
    event=st.sampled_from(PATTERNS),
    target=st.sampled_from(STATES),
    guard=st.sampled_from(GUARDS),
)


def walk(rows: list[DeclaredRow], state: str, event: Event, data: Scores) -> tuple[str | None, list[tuple[str, bool]]]:
    """The rule, as plainly as it can be said: own rows first, specific classes first, then the order written."""
    asked: list[tuple[str, bool]] = []
    for source in (state, ANYWHERE):
        for cls in type(event).__mro__:
            for row in rows:
                if row.source != source or row.event is not cls:
                    continue
                if row.guard is None:
                    return row.target, asked
                asked.append((row.guard_name, row.guard(event, data)))
                if asked[-1][1]:
                    return row.target, asked
    return None, asked


@pytest.mark.slow
@given(
    rows=st.lists(ROWS, max_size=12),
    state=st.sampled_from(STATES[:-1]),
    event=st.sampled_from(EVENTS),
    bits=st.integers(0, 7),
)
def test_the_kernel_decides_like_a_walk_through_the_rows(
    rows: list[DeclaredRow], state: str, event: type[Event], bits: int
) -> None:
    states = tuple(DeclaredState(name, "work", events=(Red, DarkRed, Blue)) for name in STATES[:-1])
    declaration = Declaration("m", "1", Scores, (*states, DeclaredState("end", "final")), tuple(rows), 100, None, None)
    kernel = Kernel("m", STATES, ["end"], expand(declaration))
    data = Scores(best=bits)
    target, asked = walk(rows, state, event(), data)
    answer = kernel.decide(state, event(), data)
    assert list(answer.guards) == asked
    assert (answer.target if isinstance(answer, Move) else None) == target
    assert (event_name(event) in kernel.enabled[state]) == (target is not None or bool(asked))
