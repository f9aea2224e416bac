"""Run a state's handler and turn whatever happens into an answer: an event, a question, or a reason to park."""

from __future__ import annotations

import asyncio
from typing import Any

from statecraft.calls.classify import said
from statecraft.calls.park import Park
from statecraft.clock import Clock
from statecraft.engine.context import StepRun
from statecraft.engine.held import Held
from statecraft.engine.limits import time_left, time_over
from statecraft.errors import CallError, DataMutated, Looped, OutputInvalid, OverBudget, ReviewUnanswered
from statecraft.machine.definition import Handler
from statecraft.machine.event import (
    BudgetExhausted,
    CallFailed,
    DeadlinePassed,
    Event,
    HandlerFailed,
    InvalidOutput,
    LoopDetected,
    ReviewExpired,
    StateTimeout,
    event_name,
)
from statecraft.machine.state import Ask

Answer = Event | Ask[Any] | Park


async def handle(run: StepRun[Any], held: Held, clock: Clock, *, debug: bool = False, limited: bool = True) -> Answer:
    """The handler's answer. Nothing a handler does leaves the run in limbo: every exception becomes a system event.

    Only the end of its visit passes through (`Visit.over`: the store refused a write, or the run was lost): then nothing
    may be decided here, whatever the handler made of it. `limited` False lets it run without the state's timeout and
    the run's deadline, as a replay must.
    """
    handler = held.definition.handlers[held.state]
    left, bound = time_left(held, clock.now()) if limited else (None, "")
    before = held.data.model_dump_json() if debug else ""
    limit = None if left is None else clock.timeout(left)
    try:
        if limit is None:
            answer = _checked(held, await _invoke(handler, run))
        else:
            async with limit:
                answer = _checked(held, await _invoke(handler, run))
    except asyncio.CancelledError as error:
        if _cancelled_from_outside():
            raise
        answer = _failed(held, error)
    except Park as park:
        answer = park
    except Exception as error:  # noqa: BLE001 - a handler may raise anything; no run stays in limbo
        answer = _event_of(held, error)
    except BaseExceptionGroup as group:
        # Of a task group: parks, and what else went wrong beside them, which will again.
        if (parked := held.visit.parked) is None or not isinstance(group.split(Park)[1], Exception | None):
            raise
        answer = parked
    if held.visit.over is not None:
        raise held.visit.over
    if limit is not None and (limit.expired() or (left == 0.0 and held.visit.parked is not None)):
        return _overdue(held, bound, clock.now())  # Also if the handler caught the cancellation, or would wait beyond its bound.
    if held.visit.parked is not None:
        return held.visit.parked
    if debug and held.data.model_dump_json() != before:
        return _failed(held, DataMutated(f"the handler of {held.state} changed run.data in place; answer with an event instead"))
    return answer


def _cancelled_from_outside() -> bool:
    """Whether somebody cancels this task; if not, the handler let a cancellation of its own making escape."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _invoke(handler: Handler, run: StepRun[Any]) -> object:
    if handler.is_async:
        return await handler.fn(run)
    return await asyncio.to_thread(_contained, handler, run)


def _contained(handler: Handler, run: StepRun[Any]) -> object:
    try:
        return handler.fn(run)
    except StopIteration as error:
        # A future cannot carry this one: the handler would never be heard of again.
        raise RuntimeError("the handler raised StopIteration") from error
    except SystemExit as error:
        # In a thread of its own it is the handler's, and must not end everybody's process.
        raise RuntimeError(f"the handler called sys.exit({error.code!r})") from error


def _checked(held: Held, answer: object) -> Answer:
    """The answer, if the state declares it. Annotations bind the type checker; this binds the rest."""
    spec = held.definition.states[held.state]
    if spec.kind == "review" and isinstance(answer, Ask):
        return answer
    if spec.kind == "work" and isinstance(answer, Event):
        name = event_name(type(answer))
        if name in spec.events and held.definition.events[name] is type(answer):
            return answer
    given = event_name(type(answer)) if isinstance(answer, Event) else type(answer).__name__
    declared = "an Ask" if spec.kind == "review" else " or ".join(spec.events)
    return HandlerFailed(
        state=held.state, error="TypeError", message=f"the handler of {held.state} answered {given}; it declares {declared}"
    )


def _overdue(held: Held, bound: str, now: int) -> Event:
    if bound == "budget" and (over := time_over(held, now)) is not None:
        return over
    if bound == "deadline":
        return DeadlinePassed(message=f"the run's deadline passed in {held.state}")
    timeout = held.definition.states[held.state].timeout
    seconds = timeout.total_seconds() if timeout is not None else 0.0
    return StateTimeout(state=held.state, seconds=seconds, message=f"{held.state} took longer than {seconds:g} s")


def _event_of(held: Held, error: Exception) -> Event:
    """The system event that tells of an error; of the only one in a group, since a task group wraps whatever it raises."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return _event_of(held, error.exceptions[0])
    if isinstance(error, OutputInvalid):
        message = said(error)
        return InvalidOutput(name=error.name, errors=message.splitlines()[:20], message=message)
    if isinstance(error, OverBudget):
        return BudgetExhausted(used=error.used, limit=error.limit, unit=error.unit, scope=error.scope, message=said(error))
    if isinstance(error, Looped):
        return LoopDetected(what=error.name, message=said(error))
    if isinstance(error, ReviewUnanswered):
        return ReviewExpired(state=held.state, message=said(error))
    if isinstance(error, CallError):
        return CallFailed(name=error.name, kind=error.kind.value, attempts=error.attempts, message=said(error))
    return _failed(held, error)


def _failed(held: Held, error: BaseException) -> Event:
    return HandlerFailed(state=held.state, error=type(error).__name__, message=f"{type(error).__name__}: {said(error)}"[:2000])
