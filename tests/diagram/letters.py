"""A small machine with every kind of state and row, and runs through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from statecraft.diagram import Overlay, overlay
from statecraft.records import Json, RunRecord, Status, TransitionRecord, Usage

BEGIN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
RUN = "0192ab34" * 4


def state(name: str, kind: str = "work", *, ok: bool = False, **bounds: Json) -> dict[str, Json]:
    return {"name": name, "kind": kind, "ok": ok, "max_visits": None, "timeout_s": None, "tools": [], "doc": "", **bounds}


def row(source: str, event: str, target: str, guard: str = "") -> dict[str, Json]:
    return {"source": source, "event": event, "target": target, "guard": guard}


def machine(states: Sequence[dict[str, Json]], rows: Sequence[dict[str, Json]], name: str = "letters") -> dict[str, Json]:
    first = states[0]["name"]
    return {
        "name": name,
        "version": "2",
        "start": first,
        "max_steps": 20,
        "deadline_s": 600.0,
        "budget": None,
        "states": states,
        "rows": rows,
    }


LETTERS = machine(
    [
        state("draft", max_visits=3, timeout_s=90.0, tools=["search"], doc="Write the letter.\n\nMore about it."),
        state("approval", "review", timeout_s=172800.0),
        state("sent", "final", ok=True),
        state("dropped", "final"),
    ],
    [
        row("draft", "written", "approval", "is_risky"),
        row("draft", "written", "sent"),
        row("draft", "unclear", "draft"),
        row("approval", "approved", "sent"),
        row("approval", "rejected", "dropped"),
        row("", "failure", "dropped"),
    ],
)


@dataclass(frozen=True)
class Did:
    """One move of a made-up run: ten seconds after the last one, with its tokens."""

    event: str
    target: str
    tokens: int = 0
    guards: tuple[tuple[str, bool], ...] = ()
    payload: Mapping[str, Json] = field(default_factory=dict)


def walked(*moves: Did, status: Status, reason: str | None = None, start: str = "draft") -> Overlay:
    history = journal(*moves, start=start)
    return overlay(history, [], head(history, status, reason=reason))


def head(history: Sequence[TransitionRecord], status: Status, **more: Json) -> RunRecord:
    last = history[-1]
    return RunRecord(RUN, "letters", "2", "f" * 64, status, last.target, last.seq, 1, BEGIN, last.at, **more)


def journal(*moves: Did, start: str = "draft", given: Mapping[str, Json] | None = None) -> list[TransitionRecord]:
    history: list[TransitionRecord] = []
    for seq, move in enumerate([Did("start", start, payload=given or {}), *moves]):
        history.append(
            TransitionRecord(
                run_id=RUN,
                seq=seq,
                source=history[-1].target if history else "",
                event=move.event,
                target=move.target,
                at=BEGIN + timedelta(seconds=10 * seq),
                epoch=1,
                payload=move.payload,
                guards=move.guards,
                usage=Usage(move.tokens, 0),
                calls=1 if move.tokens else 0,
            )
        )
    return history
