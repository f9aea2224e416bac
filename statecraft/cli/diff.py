"""`statecraft diff`: two runs, or two steps of a run, side by side on one screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import clip, count, dim, strong, table
from statecraft.cli.verb import DrivingVerb, Session
from statecraft.cli.verify import with_machines
from statecraft.money import shown
from statecraft.records import CallRecord, Json, TransitionRecord

if TYPE_CHECKING:
    from statecraft.engine.contrast import CallChange, Contrast, Spent

MOST = 8
"""Fields and calls that are shown, each; `--json` has all."""
WIDTH = 60
"""Characters of one value."""


@click.command(cls=DrivingVerb)
@click.argument("one", metavar="RUN[:STEP]")
@click.argument("other", metavar="RUN[:STEP]")
@click.pass_obj
def diff(session: Session, one: str, other: str) -> Exit:
    """Compare two runs, or two steps: the first move that differs, data, calls, cost.

    Exit code 1 if anything differs.
    """

    async def main() -> Exit:
        async with reading(session) as rt:
            runs = [await rt.find(text.partition(":")[0]) for text in (one, other)]
        sides = [run.id + "".join(text.partition(":")[1:]) for run, text in zip(runs, (one, other), strict=True)]
        async with with_machines(session, {run.machine for run in runs}) as rt:
            found = await rt.diff(*sides)
        if session.screen.as_json:
            session.screen.emit({"diff": found, "equal": found.equal})
        else:
            for line in diff_lines(found):
                session.screen.data(line)
        return Exit.DONE if found.equal else Exit.FAILED

    return run_async(main)


def diff_lines(found: Contrast) -> list[str]:
    """All that differs, in words."""
    head = ("", "RUN", "STEP", "STATE", "CALLS", "TOKENS", "COST")
    lines = table([_row("one", found.one), _row("other", found.other)], head=head, right=frozenset({2, 4, 5, 6}))
    lines += ["", *_parting(found)]
    if found.fields:
        changed = [(dim(f"  {name}"), _text(one), "→", _text(other)) for name, (one, other) in found.fields.items()]
        lines += ["", strong("data"), *_most(table(changed), "field")]
    if found.calls:
        lines += ["", strong("calls"), *_most(table([_call(change) for change in found.calls]), "call")]
    return [*lines, *(dim(f"note: {problem}") for problem in found.problems)]


def _row(name: str, side: Spent) -> tuple[str, ...]:
    cost = shown(side.cost) if side.cost else ""
    return (name, side.run_id, str(side.step), side.state, str(side.calls), f"{side.usage.total:,}", cost)


def _parting(found: Contrast) -> list[str]:
    if found.parting is None:
        return [f"the same {count(found.shared, 'move')}"]
    step = found.parting.step
    rows = [("  one", _move(found.parting.one)), ("  other", _move(found.parting.other))]
    return [f"the same up to step {step - 1}; then, at step {step}" if step else "different from the start", *table(rows)]


def _move(move: TransitionRecord | None) -> str:
    if move is None:
        return dim("(ends before)")
    who = f" by {move.actor}" if move.actor else ""
    return f"{move.source or '·'} ─ {move.event} → {move.target}{who}  {dim(_text(dict(move.payload)))}"


def _call(change: CallChange) -> tuple[str, ...]:
    place = f"  visit {change.step}"
    if change.one is not None and change.other is not None:
        return place, "answered otherwise", _named(change.one), f"{_text(change.one.result)} → {_text(change.other.result)}"
    call = change.one or change.other
    assert call is not None
    return place, change.what, _named(call), _text(call.request)


def _named(call: CallRecord) -> str:
    return f"{call.kind} {call.name}"


def _text(value: Json) -> str:
    return clip(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), WIDTH)


def _most(lines: Sequence[str], what: str) -> list[str]:
    left = len(lines) - MOST
    return [*lines[:MOST], *([dim(f"  and {count(left, what)} more (--json has all)")] if left > 0 else [])]
