"""Questions to people as they read them: what is asked, what is shown with it, and what can be answered."""

from __future__ import annotations

import json
from collections.abc import Collection

from statecraft.cli.screen import dim, strong, wrap
from statecraft.records import Json, ReviewRecord

UNSAID = ("modify_and_approve",)
"""Decisions that are a way to give another one (`modify --approve`)."""


def headline(item: ReviewRecord) -> str:
    """What is asked, on one line."""
    if item.kind == "state":
        return item.question
    call = f"{item.tool} {json.dumps(item.arguments, ensure_ascii=False)}"
    return f"may {call} run?" if item.kind == "gate" else f"did {call} happen?"


def choices(item: ReviewRecord) -> list[str]:
    """What it takes, in the words of the command line."""
    if item.kind == "state":
        return list(item.events)
    return [event.replace("_", "-") for event in item.events if event not in UNSAID]


def question_lines(item: ReviewRecord, *, without: Collection[str] = ()) -> list[str]:
    """A review as people read it: the question, then what is shown with it, but for the fields left out."""
    lines = [strong(item.question)]
    if item.kind != "state":
        lines += ["", f"{dim('review')}  {item.id}", f"{dim('tool')}    {item.tool}"]
        lines += ["", dim("arguments"), *(f"  {line}" for line in wrap(shown_lines(item.arguments)))]
    shown = item.show if isinstance(item.show, dict) else {"": item.show} if item.show is not None else {}
    for name, value in shown.items():
        if name not in without:
            lines += ["", dim(str(name))] if name else [""]
            lines += [f"  {line}" for line in wrap(shown_lines(value))]
    return [*lines, "", f"{dim('decide')}  {' | '.join(choices(item))}"]


def _item(item: Json) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{name}: {' '.join(str(value).split())}" for name, value in item.items())
    return " ".join(str(item).split())


def shown_lines(value: Json) -> list[str]:
    """Any JSON value as readable lines: texts as they are, lists item by item, the rest as indented JSON."""
    if isinstance(value, str):
        return value.splitlines() or [""]
    if isinstance(value, (int, float)):
        return [str(value)]
    if isinstance(value, list):
        return [f"- {_item(item)}" for item in value] or [dim("none")]
    return json.dumps(value, indent=2, ensure_ascii=False).splitlines()
