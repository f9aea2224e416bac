"""What the calls of a visit met: attempts, waits, failures, costs; and what is used of the bounds after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from statecraft.calls.visit import REDRIVE
from statecraft.errors import ErrorKind
from statecraft.explaining.facts import BudgetUse, ExplainedCall, Try
from statecraft.money import BILLION
from statecraft.records import AttemptRecord, CallRecord

_NEVER_MADE = frozenset({ErrorKind.BUDGET, ErrorKind.REJECTED, ErrorKind.LOOP})
Place = tuple[str, int]
"""(digest, occurrence) of a call in its visit."""


def calls_of(calls: Sequence[CallRecord], attempts: Sequence[AttemptRecord], epoch: int) -> tuple[ExplainedCall, ...]:
    """The calls of one visit, those without an outcome last. `epoch` is of the claim that ended the visit, or has it now."""
    tried: dict[Place, list[AttemptRecord]] = {}
    for each in attempts:
        tried.setdefault((each.digest, each.occurrence), []).append(each)
    done = tuple(_finished(call, tried.pop((call.digest, call.occurrence), []), epoch) for call in calls if call.kind != REDRIVE)
    return (*done, *(_unfinished(each) for each in tried.values()))


def _finished(call: CallRecord, tried: Sequence[AttemptRecord], epoch: int) -> ExplainedCall:
    failure: Mapping[str, Any] = {} if call.ok else call.result
    return ExplainedCall(
        idx=call.idx,
        kind=call.kind,
        name=call.name,
        ok=call.ok,
        error=str(failure.get("kind", "")),
        message=str(failure.get("message", "")),
        attempts=call.attempts,
        tries=_tries(tried),
        took=call.finished_at - min([call.started_at, *(each.at for each in tried)]),
        usage=call.usage,
        cached=bool(call.usage.cache_read_tokens),
        cost=call.cost,
        recalled=call.epoch < epoch,
    )


def _unfinished(tried: Sequence[AttemptRecord]) -> ExplainedCall:
    last = tried[-1]
    error = "" if last.kind == "begun" else last.kind
    return ExplainedCall(
        None, "call", last.name, None, error=error, message=last.message, attempts=last.attempt, tries=_tries(tried)
    )


def _tries(tried: Sequence[AttemptRecord]) -> tuple[Try, ...]:
    return tuple(
        Try(each.attempt, each.kind, each.message, each.at, None if each.due_at is None else each.due_at - each.at)
        for each in tried
    )


def redrives_of(calls: Sequence[CallRecord]) -> tuple[str, ...]:
    """What people did to the run when it had died in this visit."""
    return tuple(map(_redrive, (call for call in calls if call.kind == REDRIVE)))


def _redrive(call: CallRecord) -> str:
    wish: Mapping[str, Any] = call.request
    given = [
        f"with {wish['event']}" if wish.get("event") else "to try the visit again",
        f"with {wish['deadline_s']:g} s from there" if wish.get("deadline_s") is not None else "",
        f"with {wish['steps']} more steps" if wish.get("steps") is not None else "",
    ]
    note = f": {wish['note']}" if wish.get("note") else ""
    return f"{call.name} redrove it {', '.join(filter(None, given))} at {call.finished_at:%Y-%m-%d %H:%M:%S}{note}."


class Bounds:
    """What is used of the bounds, step by step. Feed it the visits in order."""

    def __init__(self) -> None:
        self._spent = {"tokens": 0, "money": 0, "calls": 0}
        self._states: dict[str, dict[str, int]] = {}
        self._extra = 0
        self._exact = True

    def after(
        self, spec: Mapping[str, Any], state: Mapping[str, Any], step: int, visit: int, calls: Sequence[CallRecord], wall: int
    ) -> tuple[BudgetUse, ...]:
        """The bounds once the visit with these calls was over, `wall` microseconds after the run began."""
        of_state = self._states.setdefault(str(state.get("name", "")), dict.fromkeys(self._spent, 0))
        for call in calls:
            self._exact = self._exact and call.ok and call.attempts <= 1 and call.kind != "child"
            for unit, amount in _spent(call):
                self._spent[unit] += amount
                of_state[unit] += amount
            if call.kind == REDRIVE and call.request.get("steps") is not None:
                made = step + (call.request.get("event") is not None)
                self._extra = max(self._extra, made + call.request["steps"] - spec["max_steps"])
        found = [BudgetUse("run", "steps", step, spec["max_steps"] + self._extra)]
        if state.get("max_visits") is not None:
            found.append(BudgetUse("state", "visits", visit, state["max_visits"]))
        found += self._budget("run", spec.get("budget"), self._spent, wall)
        found += self._budget("state", state.get("budget"), of_state, 0)
        return tuple(found)

    def _budget(self, scope: str, budget: Mapping[str, Any] | None, spent: Mapping[str, int], wall: int) -> Iterator[BudgetUse]:
        for unit, limit in _limits(budget or {}).items():
            used = wall if unit == "wall" else spent[unit]
            yield BudgetUse(scope, unit, used, limit, exact=unit == "wall" or self._exact)


def _limits(budget: Mapping[str, Any]) -> dict[str, int]:
    limits = {unit: int(budget[unit]) for unit in ("tokens", "calls") if budget.get(unit) is not None}
    if budget.get("money") is not None:
        limits["money"] = int(Decimal(budget["money"]) * BILLION)
    if budget.get("wall_s") is not None:
        limits["wall"] = int(budget["wall_s"] * 1_000_000)
    return limits


def _spent(call: CallRecord) -> Iterator[tuple[str, int]]:
    yield "tokens", call.usage.total
    yield "money", call.cost or 0
    if call.kind in ("llm", "tool") and (call.ok or call.result.get("kind") not in _NEVER_MADE):
        yield "calls", call.attempts
