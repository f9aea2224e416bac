"""What we rely on in the `transitions` package, so that another version of it cannot change a decision unnoticed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel
from transitions import EventData, Machine, MachineError, State, Transition
from transitions.core import Condition


class Cursor:
    __slots__ = ("state",)

    def __init__(self, state: str = "a") -> None:
        self.state = state


class Record(BaseModel):
    state: str = "a"


def build(rows: list[dict[str, Any]], **settings: Any) -> Machine:
    states = [State("a"), State("b"), State("c", final=True)]
    return Machine(model=None, states=states, transitions=rows, initial="a", auto_transitions=False, send_event=True, **settings)


GO = {"trigger": "go", "source": "a", "dest": "b"}


@pytest.mark.parametrize("model", [Cursor(), Record()], ids=["slots", "pydantic"])
def test_an_object_that_was_never_registered_is_moved(model: Any) -> None:
    machine = build([GO])
    assert machine.events["go"].trigger(model) is True
    assert model.state == "b"
    assert machine.models == []


def test_an_event_unknown_to_the_machine_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        _ = build([GO]).events["stop"]


def test_an_event_without_a_row_in_the_state_is_a_machine_error() -> None:
    cursor = Cursor("b")
    with pytest.raises(MachineError):
        build([GO]).events["go"].trigger(cursor)
    assert cursor.state == "b"


def test_guards_that_all_refuse_answer_false_and_move_nothing() -> None:
    cursor = Cursor()
    machine = build([{**GO, "conditions": [lambda _: False]}])
    assert machine.events["go"].trigger(cursor) is False
    assert cursor.state == "a"


def test_a_guard_is_compared_with_true_which_is_why_ours_converts_the_answer() -> None:
    machine = build([{**GO, "conditions": [lambda _: "yes"]}])
    assert machine.events["go"].trigger(Cursor()) is False


def test_a_condition_class_of_our_own_is_asked_in_its_place() -> None:
    asked: list[object] = []

    class Truth(Condition):
        def check(self, event_data: EventData) -> bool:
            asked.append(event_data.model)
            return bool("yes")

    class Edge(Transition):
        condition_cls = Truth

    class Table(Machine):
        transition_cls = Edge

    machine = Table(model=None, states=["a", "b"], initial="a", auto_transitions=False, send_event=True)
    machine.add_transition("go", "a", "b", conditions=[print])
    cursor = Cursor()
    assert machine.events["go"].trigger(cursor) is True
    assert asked == [cursor]


def test_rows_are_tried_in_order_until_one_holds() -> None:
    machine = build([{**GO, "conditions": [lambda _: False]}, {**GO, "dest": "c"}, GO])
    cursor = Cursor()
    assert machine.events["go"].trigger(cursor) is True
    assert cursor.state == "c"


def test_an_unknown_destination_is_accepted_at_first_which_is_why_we_check_targets() -> None:
    machine = build([{**GO, "dest": "nowhere"}])
    with pytest.raises(ValueError, match="nowhere"):
        machine.events["go"].trigger(Cursor())


def test_an_error_in_a_last_callback_is_swallowed_which_is_why_we_have_none() -> None:
    def broken(_: EventData) -> None:
        raise OSError

    assert build([GO], finalize_event=[broken]).events["go"].trigger(Cursor()) is True


def test_an_error_after_the_change_leaves_the_model_moved_which_is_why_ours_is_thrown_away() -> None:
    def broken(_: EventData) -> None:
        raise ZeroDivisionError

    cursor = Cursor()
    with pytest.raises(ZeroDivisionError):
        build([GO], after_state_change=[broken]).events["go"].trigger(cursor)
    assert cursor.state == "b"


def test_an_error_in_a_guard_comes_out_as_it_is() -> None:
    def broken(_: EventData) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build([{**GO, "conditions": [broken]}]).events["go"].trigger(Cursor())


def test_an_event_inside_a_callback_moves_first_which_is_why_nothing_of_ours_hangs_on_callbacks() -> None:
    seen: list[str] = []

    def onward(event_data: EventData) -> None:
        machine.events["on"].trigger(event_data.model)

    def after(event_data: EventData) -> None:
        seen.append(getattr(event_data.model, "state", ""))

    machine = build([{**GO, "after": [after]}, {"trigger": "on", "source": "b", "dest": "c"}])
    machine.states["b"].on_enter.append(onward)
    machine.events["go"].trigger(Cursor())
    assert seen == ["c"]


def test_unguarded_rows_may_repeat_and_final_states_may_have_exits_which_is_why_we_check_both() -> None:
    machine = build([GO, GO, {"trigger": "back", "source": "c", "dest": "a"}])
    cursor = Cursor("c")
    assert machine.events["back"].trigger(cursor) is True
    assert cursor.state == "a"


def test_one_machine_serves_many_threads() -> None:
    machine = build([GO, {"trigger": "back", "source": "b", "dest": "a"}])
    wrong: list[str] = []

    def spin() -> None:
        for _ in range(500):
            cursor = Cursor()
            machine.events["go"].trigger(cursor)
            machine.events["back"].trigger(cursor)
            if cursor.state != "a":
                wrong.append(cursor.state)

    threads = [threading.Thread(target=spin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
