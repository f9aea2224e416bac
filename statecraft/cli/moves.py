"""The feed as lines for people: what a run does, while it does it."""

from __future__ import annotations

from collections.abc import Mapping

import click

from statecraft.cli.screen import count, dim, strong
from statecraft.records import FeedEntry, Json


def line_of(entry: FeedEntry) -> str | None:
    """One feed entry as a line; None for those that only matter to programs."""
    detail = entry.detail
    match entry.kind:
        case "started":
            return _move("start", _text(detail, "target") or _text(detail, "state"))
        case "transition":
            return _move(f"{_text(detail, 'source')} ─ {_text(detail, 'event')}", _text(detail, "target"))
        case "call":
            return dim(f"    · {_call(detail)}")
        case "attempt":
            said = f"{_text(detail, 'name')}: {_text(detail, 'kind')} {_text(detail, 'message')}"
            return click.style(f"    ! {said}".rstrip(), fg="yellow")
        case "waiting":
            why = _text(detail, "waiting_for") or _text(detail, "reason") or "parked"
            return click.style(f"  waiting: {why}", fg="yellow")
        case "decided":
            what = f"{_text(detail, 'tool')}: {_text(detail, 'decision')} by {_text(detail, 'by')}"
            return click.style(f"  decided: {what}", fg="yellow")
        case "alert":
            return click.style(f"  alert: {_text(detail, 'text')}", fg="yellow")
        case "redriven":
            why = f": {_text(detail, 'note')}" if _text(detail, "note") else ""
            return click.style(f"  redriven by {_text(detail, 'actor')}{why}", fg="yellow")
        case "forked":
            return click.style(f"  forked from {_text(detail, 'run')} at step {_text(detail, 'step')}", fg="yellow")
        case "cancelled" | "dead":
            return click.style(f"  {entry.kind}: {_text(detail, 'reason')}", fg="red")
        case _:
            return None


def _move(left: str, target: str) -> str:
    return f"  {left} → {strong(target)}"


def _call(detail: Mapping[str, Json]) -> str:
    tokens = detail.get("tokens")
    spent = f"  {count(tokens, 'token')}" if isinstance(tokens, int) and tokens else ""
    failed = "" if detail.get("ok", True) else "  failed"
    return f"{_text(detail, 'kind') or 'call'} {_text(detail, 'name')}{spent}{failed}"


def _text(detail: Mapping[str, Json], name: str) -> str:
    value = detail.get(name)
    return "" if value is None else str(value)
