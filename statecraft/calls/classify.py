"""What an exception means for another attempt. One small table per sort of call."""

from __future__ import annotations

from statecraft.calls.call import Failure
from statecraft.calls.deadline import AttemptTimeout
from statecraft.errors import ErrorKind
from statecraft.llm.port import ModelError


def said(error: BaseException) -> str:
    """What an error says, as text that can be stored: broken characters are replaced."""
    return str(error).encode("utf-8", "replace").decode()


def of_model(error: Exception) -> Failure:
    """A failed attempt at a model: the adapter has classified it already."""
    if isinstance(error, AttemptTimeout):
        return Failure(ErrorKind.TIMEOUT, said(error), maybe_billed=True)
    if isinstance(error, ModelError):
        return Failure(error.kind, said(error), error.retry_after, error.maybe_billed)
    return Failure(ErrorKind.PERMANENT, f"{type(error).__name__}: {said(error)}")


def of_tool(error: Exception) -> Failure:
    """A failed attempt at a tool. The connection kind of errors may pass; anything else is the tool's own answer."""
    if isinstance(error, AttemptTimeout):
        return Failure(ErrorKind.TIMEOUT, said(error), maybe_billed=True)
    if isinstance(error, ConnectionError | TimeoutError):
        billed = not isinstance(error, ConnectionRefusedError)
        return Failure(ErrorKind.TRANSIENT, f"{type(error).__name__}: {said(error)}", maybe_billed=billed)
    return Failure(ErrorKind.TOOL, f"{type(error).__name__}: {said(error)}")
