"""Dead letters and their patterns as lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from statecraft.cli.screen import Screen, clip, dim, strong, table
from statecraft.clock import SystemClock, instant
from statecraft.letters import DeadLetter, DeadPattern
from statecraft.records import Json


def letter_rows(screen: Screen, letters: Sequence[DeadLetter]) -> list[str]:
    """One line for each dead letter."""
    now = instant(SystemClock().now())
    rows = [
        (each.run_id, each.machine, each.state, each.error, each.call, screen.when(each.at, now), clip(each.reason, 60))
        for each in letters
    ]
    return table(rows, head=("RUN", "MACHINE", "STATE", "ERROR", "CALL", "DIED", "WHY"))


def pattern_rows(screen: Screen, patterns: Sequence[DeadPattern]) -> list[str]:
    """One line for each pattern, with the hours of the day (UTC) in which most died."""
    now = instant(SystemClock().now())
    rows = [
        (
            str(each.count),
            each.machine,
            each.state,
            each.error,
            each.call,
            screen.when(each.first_at, now),
            screen.when(each.last_at, now),
            _hours(each.hours),
            each.runs[0],
        )
        for each in patterns
    ]
    head = ("RUNS", "MACHINE", "STATE", "ERROR", "CALL", "FIRST", "LAST", "HOURS (UTC)", "SUCH AS")
    return table(rows, head=head, right=frozenset({0}))


def _hours(counts: Sequence[int]) -> str:
    """The fullest hours, at most three: `3h: 12, 4h: 5`."""
    fullest = sorted(((number, hour) for hour, number in enumerate(counts) if number), key=lambda each: (-each[0], each[1]))
    return ", ".join(f"{hour}h: {number}" for number, hour in fullest[:3])


def letter_lines(letter: DeadLetter) -> list[str]:
    """All that is kept of a death."""
    state = "dead" if letter.open else "was redriven or dropped since"
    facts = [
        ("machine", f"{letter.machine} {letter.version}"),
        ("died in", f"{letter.state}, after {letter.seq} moves"),
        ("of", " ".join(word for word in (letter.error, letter.call and f"({letter.call})") if word)),
        ("reason", letter.reason),
        ("needs", letter.needs),
        ("deaths", str(letter.deaths)),
    ]
    lines = [f"{strong(letter.run_id)}  {state}", *table([(dim(f"  {name}"), told) for name, told in facts if told])]
    lines += _section("path", letter.path)
    lines += _section("last calls", [_call(each) for each in letter.last_calls])
    lines += _section("calls without an outcome", [_call(each) for each in letter.unfinished])
    return [
        *lines,
        "",
        dim("data"),
        *(f"  {line}" for line in json.dumps(letter.data, indent=2, ensure_ascii=False).splitlines()),
    ]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", dim(title), *(f"  {line}" for line in lines)] if lines else []


def _call(call: Mapping[str, Json]) -> str:
    outcome = {True: "ok", False: "failed"}.get(call.get("ok"), "")  # type: ignore[arg-type]
    facts = [
        str(call.get("kind", "")),
        str(call.get("name", "")),
        outcome,
        f"attempts: {call.get('attempts', call.get('attempt'))}",
    ]
    return "  ".join([fact for fact in facts if fact] + [clip(str(call.get("message") or ""), 100)]).rstrip()
