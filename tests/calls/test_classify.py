"""What an exception means: the tables, the user's rows before them, and the hints that exceptions carry."""

from __future__ import annotations

from typing import Any

import pytest

from statecraft import Settings
from statecraft.calls import classify
from statecraft.calls.call import Failure
from statecraft.calls.deadline import AttemptTimeout
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.port import ModelError
from statecraft.tools import ToolArgumentsInvalid


class Busy(Exception):
    retry_after = 12


class VeryBusy(Busy):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "most", "billed"),
    [
        (ModelError("x", kind=ErrorKind.CONTEXT), ErrorKind.CONTEXT, None, False),
        (ModelError("x", kind=ErrorKind.TRANSIENT, maybe_billed=True), ErrorKind.TRANSIENT, None, True),
        (AttemptTimeout("slow"), ErrorKind.TIMEOUT, None, True),
        (ConnectionRefusedError("nobody"), ErrorKind.TRANSIENT, None, False),
        (ConnectionResetError("cut"), ErrorKind.TRANSIENT, None, True),
        (TimeoutError("slow"), ErrorKind.TRANSIENT, None, True),
        (ConfigError("no key"), ErrorKind.PERMANENT, None, False),
        (TypeError("what?"), ErrorKind.TRANSIENT, classify.UNKNOWN_ATTEMPTS, True),
    ],
)
def test_what_a_model_raises(error: Exception, kind: ErrorKind, most: int | None, billed: bool) -> None:
    found = classify.of_model(error)
    assert (found.kind, found.most, found.maybe_billed) == (kind, most, billed)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AttemptTimeout("slow"), ErrorKind.TIMEOUT),
        (ToolArgumentsInvalid("t", ("a: no",)), ErrorKind.INVALID),
        (ConnectionRefusedError("nobody"), ErrorKind.TRANSIENT),
        (TimeoutError("slow"), ErrorKind.TRANSIENT),
        (KeyError("gone"), ErrorKind.TOOL),
        (ModelError("inner", kind=ErrorKind.OVERLOADED, retry_after=3.0), ErrorKind.OVERLOADED),
    ],
)
def test_what_a_tool_raises(error: Exception, kind: ErrorKind) -> None:
    assert classify.of_tool(error).kind is kind


def test_the_nearest_class_of_a_users_table_counts() -> None:
    errors = {Exception: ErrorKind.PERMANENT, Busy: ErrorKind.RATE_LIMITED, VeryBusy: ErrorKind.OVERLOADED}
    kinds = [classify.of_tool(error, errors).kind for error in (KeyError(), Busy(), VeryBusy(), AttemptTimeout("slow"))]
    assert kinds == [ErrorKind.PERMANENT, ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED, ErrorKind.TIMEOUT]


def test_a_users_row_stands_before_the_librarys_for_the_same_class() -> None:
    assert classify.of_tool(ConnectionResetError(), {ConnectionError: ErrorKind.PERMANENT}).kind is ErrorKind.PERMANENT


def test_a_users_function_is_asked_first_and_may_pass() -> None:
    def ours(error: Exception) -> ErrorKind | Failure | None:
        if isinstance(error, Busy):
            return Failure(ErrorKind.RATE_LIMITED, "", retry_after=99.0)
        return ErrorKind.TRANSIENT if str(error) == "'again'" else None

    busy = classify.of_tool(Busy("later"), ours)
    assert (busy.kind, busy.retry_after, busy.message) == (ErrorKind.RATE_LIMITED, 99.0, "Busy: later")
    assert classify.of_tool(KeyError("again"), ours).kind is ErrorKind.TRANSIENT
    assert classify.of_tool(KeyError("gone"), ours).kind is ErrorKind.TOOL


def test_a_users_function_that_fails_itself_has_said_nothing() -> None:
    def broken(error: Exception) -> ErrorKind | None:
        raise RuntimeError("my own bug")

    found = classify.of_tool(KeyError("gone"), broken)
    assert (found.kind, found.message) == (ErrorKind.TOOL, "KeyError: 'gone'")


@pytest.mark.parametrize("said", ["transient", 429, True, Failure("transient", "?")])  # type: ignore[arg-type]
def test_a_users_function_that_answers_something_else_has_said_nothing(said: Any) -> None:
    assert classify.of_tool(KeyError("gone"), lambda _: said).kind is ErrorKind.TOOL


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "soon"])
def test_a_users_hint_that_is_no_number_of_seconds_is_none(given: Any) -> None:
    found = classify.of_tool(KeyError("gone"), lambda _: Failure(ErrorKind.QUOTA, "used up", retry_after=given))
    assert (found.kind, found.retry_after) == (ErrorKind.QUOTA, None)


def test_a_users_row_for_a_models_error_counts_and_one_for_every_exception_does_not() -> None:
    class Weekend(ModelError):
        pass

    error = Weekend("closed", kind=ErrorKind.PERMANENT)
    found = classify.of_model(error, {Weekend: ErrorKind.TRANSIENT, Exception: ErrorKind.TOOL})
    assert (found.kind, found.maybe_billed) == (ErrorKind.TRANSIENT, False)
    assert classify.of_model(error, {Exception: ErrorKind.TOOL}).kind is ErrorKind.PERMANENT


def test_an_exception_that_cannot_say_anything_is_judged_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("my own bug")

        @property
        def retry_after(self) -> float:
            raise KeyError("no header")

    found = classify.of_tool(Mute())
    assert (found.kind, found.retry_after) == (ErrorKind.TOOL, None)
    assert found.message == "Mute: (its text cannot be read: RuntimeError)"


@pytest.mark.parametrize(
    ("given", "hint"), [(12, 12.0), (-1, 0.0), (float("nan"), None), ("soon", None), (True, None), (None, None)]
)
def test_an_exception_may_carry_a_hint_in_seconds(given: object, hint: float | None) -> None:
    error = Busy()
    error.retry_after = given  # type: ignore[assignment]
    assert classify.of_tool(error).retry_after == hint


@pytest.mark.parametrize("errors", [{"ValueError": ErrorKind.TOOL}, {ValueError: "tool"}, {KeyboardInterrupt: ErrorKind.TOOL}, 7])
def test_a_table_of_another_shape_is_refused(errors: object) -> None:
    with pytest.raises(ConfigError, match="errors"):
        Settings(errors=errors)  # type: ignore[arg-type]
