"""An explanation in short sentences, a screen a step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from statecraft.explaining.facts import AskedGuard, BudgetUse, ExplainedCall, ExplainedRow, ExplainedStep, Explanation
from statecraft.machine.budget import said
from statecraft.records import Json, ReviewRecord

WIDEST = 100
"""Characters of a value that is quoted; the JSON has all of it."""
MOST_ROWS = 8
"""Lines about rows that were not taken, and about calls, each; what is more is counted."""


def lines_of(explanation: Explanation) -> list[str]:
    """The explanation, line by line."""
    run = explanation.run
    lines = [f"run {run.id} of {run.machine} version {run.version}: {run.status} in {run.state}"]
    if run.forked_from is not None:
        by = f" by {run.forked_by}" if run.forked_by else ""
        note = f": {_clip(run.forked_note)}" if run.forked_note else ""
        lines.append(f"It shares its history up to step {run.forked_step} with run {run.forked_from}; forked{by}{note}")
    if explanation.code == "other":
        lines.append("The machine at hand has another definition; this is explained by the one that the run was made under.")
    for step in explanation.steps:
        lines += ["", *step_lines(step)]
    still = explanation.standstill
    if still is not None and (explanation.asked is None or explanation.asked == run.seq):
        lines += ["", "why it is not moving", f"  {still.why}.", *(f"  {move}" for move in still.moves)]
    return lines


def step_lines(step: ExplainedStep) -> list[str]:
    """One visit and the move that ended it."""
    head = f"step {step.step}  {step.state}, {_nth(step.visit)} visit, entered by {step.entered_by}"
    if not step.rows and step.decider is None:
        return [f"{head}, the end"]
    head = f"{head}, {_took(step.took)}"
    return [head, *(f"  {line}" for line in _inside(step))]


def _inside(step: ExplainedStep) -> Iterator[str]:
    yield from _labelled("redriven", step.redrives)
    yield from _labelled("asked", [_asked(each) for each in step.reviews])
    yield from _labelled("calls", _some([_call(each) for each in step.calls], "calls"))
    if step.decider is None:
        if step.rows:
            yield from _labelled("takes", [", ".join(dict.fromkeys(row.event for row in step.rows))])
    else:
        yield from _labelled("by", [f"{step.decider.text} ({step.at:%Y-%m-%d %H:%M:%S} UTC)"])
        yield from _labelled("payload", [f"{name}: {_short(value)}" for name, value in step.payload.items()])
        yield from _labelled("guards", list(_guards(step)))
        yield from _labelled(
            "row", [_row(row) + f": {row.why}" for row in step.rows if row.verdict == "taken"] or [_unruled(step)]
        )
        yield from _labelled("not taken", _some(list(_not_taken(step)), "rows"))
        yield from _labelled("changed", [", ".join(step.changed)] if step.changed else [])
    yield from _labelled("bounds", [", ".join(map(_bound, step.bounds))] if step.bounds else [])


def _labelled(label: str, lines: Sequence[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"{label if index == 0 else '':<10}{line}"


def _some(lines: list[str], what: str) -> list[str]:
    more = len(lines) - MOST_ROWS
    return lines if more <= 1 else [*lines[:MOST_ROWS], f"and {more} more {what}"]


def _unruled(step: ExplainedStep) -> str:
    return f"none; {step.event} leads from {step.state} to {step.target} without one"


def _guards(step: ExplainedStep) -> Iterator[str]:
    if not step.guards:
        return
    yield ", ".join(map(_guard, step.guards))
    yield f"They saw {step.event} ({_fields(step.payload)})"
    yield f"and the data as of step {step.step} ({_fields(step.data)})."


def _guard(guard: AskedGuard) -> str:
    today = "" if guard.again in (None, guard.answer) else f" (today it says {_yes(guard.again)})"
    return f"{guard.name}: {_yes(guard.answer)}{today}"


def _yes(answer: object) -> str:
    return "yes" if answer else "no"


def _not_taken(step: ExplainedStep) -> Iterator[str]:
    rows = [row for row in step.rows if row.verdict != "taken"]
    for row in rows:
        if row.verdict != "other":
            yield f"{_row(row)}: {row.why}"
    others = list(dict.fromkeys(row.event for row in rows if row.verdict == "other"))
    if others:
        yield f"rows for other events: {', '.join(others)}"


def _row(row: ExplainedRow) -> str:
    condition = f".when({row.guard})" if row.guard else ""
    return f"{row.source or 'anywhere'}.on({row.event}{condition}) >> {row.target}"


def _call(call: ExplainedCall) -> str:
    place = "-" if call.idx is None else str(call.idx)
    outcome = {True: "ok", False: f"failed ({call.error}: {call.message})", None: "no outcome"}[call.ok]
    facts = [
        outcome if call.ok is not False else _clip(outcome),
        _tries(call),
        _took(call.took) if call.took is not None else "",
        f"{call.usage.total:,} tokens{' (partly cached)' if call.cached else ''}" if call.usage.total else "",
        said("money", call.cost) if call.cost else "",
        "recalled from the journal" if call.recalled else "",
    ]
    return f"{place} {call.kind} {call.name}: {', '.join(filter(None, facts))}"


def _tries(call: ExplainedCall) -> str:
    failed = [each for each in call.tries if each.kind != "begun"]
    if not failed:
        return f"{call.attempts} attempts" if call.attempts > 1 else ""
    kinds = ", ".join(dict.fromkeys(each.kind for each in failed))
    waited = sum((each.wait for each in failed if each.wait is not None), timedelta(0))
    return f"{max(call.attempts, len(failed))} attempts ({kinds}; waited {_took(waited)})"


def _asked(review: ReviewRecord) -> str:
    about = f"{review.tool} {_short(review.arguments)}" if review.tool else f'"{_clip(review.question)}"'
    if review.decision is None or review.decided_by is None:
        return f"{about}: {'undecided' if review.decision is None else f'nobody decided, {review.decision}'}"
    when = f" at {review.decided_at:%Y-%m-%d %H:%M:%S} UTC" if review.decided_at is not None else ""
    note = f": {_clip(review.note)}" if review.note else ""
    return f"{about}: {review.decision} by {review.decided_by}{when}{note}"


def _bound(use: BudgetUse) -> str:
    """`2 of 6 calls`; of money and time both amounts have their unit."""
    used, limit = (said(use.unit, amount) for amount in (use.used, use.limit))
    text = f"{used} of {limit}" if use.unit in ("money", "wall") else f"{use.used:,} of {use.limit:,} {use.unit}"
    whose = " of the state" if use.scope == "state" and use.unit != "visits" else ""
    return f"{text}{whose}" if use.exact else f"{text}{whose} (without what child runs and failed attempts used)"


def _fields(values: Mapping[str, Json]) -> str:
    return _clip(", ".join(f"{name}: {_short(value)}" for name, value in values.items()), 2 * WIDEST) or "no fields"


def _short(value: Json) -> str:
    return _clip(json.dumps(value, ensure_ascii=False))


def _clip(text: str, width: int = WIDEST) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _took(gap: timedelta) -> str:
    length = gap.total_seconds()
    if length < 1:
        return f"{length * 1000:.0f} ms"
    if length < 120:
        return f"{length:.1f} s"
    return str(timedelta(seconds=round(length)))
