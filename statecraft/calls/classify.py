"""What an exception means for another attempt: two tables, one for models and one for tools, and the user's own before both.

The class nearest to the exception's own wins, so `ConnectionRefusedError` is looked up before `ConnectionError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite

from statecraft.calls.call import Failure
from statecraft.calls.deadline import AttemptTimeout
from statecraft.errors import ConfigError, ErrorKind, StatecraftError
from statecraft.llm.port import ModelError
from statecraft.tools import ToolArgumentsInvalid

Errors = Mapping[type[Exception], ErrorKind] | Callable[[Exception], ErrorKind | Failure | None]
"""What a user says about exceptions: a table, or a function that answers None for what it does not know."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row's right side."""

    kind: ErrorKind
    most: int | None = None
    """Most attempts, if fewer than the policy grants this kind."""
    maybe_billed: bool = False
    """Whether the work may have been done and charged for."""


UNKNOWN_ATTEMPTS = 2
"""An error of a model that no row names is tried once more: it may pass, and if it is a bug little is lost."""

_K = ErrorKind
MODEL: Mapping[type[Exception], Meaning] = {
    AttemptTimeout: Meaning(_K.TIMEOUT, maybe_billed=True),
    # ModelError: as the adapter has classified it.
    StatecraftError: Meaning(_K.PERMANENT),
    ConnectionRefusedError: Meaning(_K.TRANSIENT),
    ConnectionError: Meaning(_K.TRANSIENT, maybe_billed=True),
    TimeoutError: Meaning(_K.TRANSIENT, maybe_billed=True),
    Exception: Meaning(_K.TRANSIENT, most=UNKNOWN_ATTEMPTS, maybe_billed=True),
}
TOOL: Mapping[type[Exception], Meaning] = {
    AttemptTimeout: Meaning(_K.TIMEOUT, maybe_billed=True),
    ToolArgumentsInvalid: Meaning(_K.INVALID),
    ConnectionRefusedError: Meaning(_K.TRANSIENT),
    ConnectionError: Meaning(_K.TRANSIENT, maybe_billed=True),
    TimeoutError: Meaning(_K.TRANSIENT, maybe_billed=True),
    Exception: Meaning(_K.TOOL, maybe_billed=True),
}


def of_model(error: Exception, errors: Errors | None = None) -> Failure:
    """What a failed attempt at a model means. `errors` are the user's."""
    return _judge(error, MODEL, errors)


def of_tool(error: Exception, errors: Errors | None = None) -> Failure:
    """What a failed attempt at a tool means. What no row names is the tool's own answer."""
    return _judge(error, TOOL, errors)


def check(errors: object) -> None:
    """Raise `ConfigError` if a table of the user has another shape."""
    if not isinstance(errors, Mapping):
        if not callable(errors):
            raise ConfigError(f"settings.errors is a table of exception classes or a function, not {errors!r}")
        return
    for cls, kind in errors.items():
        if not (isinstance(cls, type) and issubclass(cls, Exception) and isinstance(kind, ErrorKind)):
            raise ConfigError(f"settings.errors maps exception classes to ErrorKind, not {cls!r} to {kind!r}")


def said(error: BaseException) -> str:
    """What an error says, as text that can be stored: broken characters are replaced. Some cannot even say it."""
    try:
        return str(error).encode("utf-8", "replace").decode()
    except Exception as second:  # noqa: BLE001 - a class of the user's may do anything here
        return f"(its text cannot be read: {type(second).__name__})"


def _judge(error: Exception, table: Mapping[type[Exception], Meaning], errors: Errors | None) -> Failure:
    hint = _hint(error)
    own = _asked(error, errors) if errors is not None and not isinstance(errors, Mapping) else None
    if isinstance(own, Failure):
        return own
    if own is not None:
        return Failure(own, _named(error), hint, maybe_billed=True)
    listed = errors if isinstance(errors, Mapping) else {}
    for cls in type(error).__mro__:
        if cls in listed:
            return Failure(listed[cls], _named(error), hint, getattr(error, "maybe_billed", True) is not False)
        if cls is ModelError and isinstance(error, ModelError):
            return Failure(error.kind, said(error), hint, error.maybe_billed)
        if cls in table:
            row = table[cls]
            text = said(error) if isinstance(error, (AttemptTimeout, ToolArgumentsInvalid)) else _named(error)
            return Failure(row.kind, text, hint, row.maybe_billed, row.most)
    raise AssertionError("every exception is an Exception")  # pragma: no cover


def _asked(error: Exception, ask: Callable[[Exception], ErrorKind | Failure | None]) -> ErrorKind | Failure | None:
    """The user's answer. A function that itself fails, or answers something else, has said nothing."""
    try:
        answer = ask(error)
    except Exception:  # noqa: BLE001 - the attempt's own error is the one to tell of
        return None
    if isinstance(answer, Failure) and isinstance(answer.kind, ErrorKind):
        return replace(answer, message=str(answer.message or _named(error)), retry_after=_seconds(answer.retry_after))
    return answer if isinstance(answer, ErrorKind) else None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {said(error)}"


def _hint(error: Exception) -> float | None:
    """Seconds that the exception asks to wait (`retry_after`), if it is a sensible number."""
    try:
        return _seconds(getattr(error, "retry_after", None))
    except Exception:  # noqa: BLE001 - it may be computed, by whatever code
        return None


def _seconds(found: object) -> float | None:
    """A wait, if it is a sensible number."""
    if isinstance(found, (int, float)) and not isinstance(found, bool) and isfinite(found):
        return max(0.0, float(found))
    return None
