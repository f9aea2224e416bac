"""Why a run is not moving now, and what would move it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from statecraft.explaining.facts import ExplainedRow, Standstill
from statecraft.records import AttemptRecord, Json, ReviewRecord, RunRecord, Status, Waiting


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a run at this moment."""

    run: RunRecord
    now: datetime
    open_reviews: Sequence[ReviewRecord]
    attempts: Sequence[AttemptRecord]
    """Of the visit it is in."""
    children: Sequence[RunRecord]
    """Its child runs that are open."""
    diagnosis: Mapping[str, Any] | None
    rows: Sequence[ExplainedRow]
    """Of the state it is in."""


def standstill(scene: Scene) -> Standstill | None:
    """None for a run that ended by itself, and for one that somebody works on."""
    run = scene.run
    match run.status:
        case Status.DONE | Status.FAILED:
            return None
        case Status.CANCELLED:
            return Standstill(f"It was cancelled in {run.state}: {run.reason or 'no reason was given'}", (), run.updated_at)
        case Status.DEAD:
            return _dead(scene)
        case Status.RUNNING:
            return _held(scene)
        case Status.READY:
            return _ready(scene)
        case _:
            return _waiting(scene)


def _dead(scene: Scene) -> Standstill:
    run, told = scene.run, scene.diagnosis or {}
    moves = [f"Redrive it; it needs {told['needs']}."] if told.get("needs") else ["Redrive it once the cause is removed."]
    operators = sorted({row.event for row in scene.rows if row.by == "operator"})
    if operators:
        moves.append(f"Redrive it with an operator's event: {' or '.join(operators)}.")
    moves.append("Drop it, to give it up.")
    return Standstill(
        f"It died in {run.state}: {run.reason or told.get('reason', 'nobody knows of what')}", tuple(moves), run.updated_at
    )


def _held(scene: Scene) -> Standstill | None:
    run = scene.run
    if run.lease_until is None or scene.now < run.lease_until:
        return None
    why = f"{run.owner} holds it, and has not renewed its lease since {_at(run.lease_until)}"
    return Standstill(why, (f"{_worker(run)} takes it over.",), run.updated_at, run.lease_until)


def _ready(scene: Scene) -> Standstill:
    run = scene.run
    times = f"; it was claimed {run.attempts} times without getting on" if run.attempts > 1 else ""
    why = f"It is ready, and no worker has taken it{times}"
    return Standstill(why, (f"{_worker(run)} takes it.",), run.updated_at, run.due_at)


def _waiting(scene: Scene) -> Standstill:
    run = scene.run
    why, moves = _REASONS.get(run.waiting_for or Waiting.TIMER, _time)(scene)
    due = run.due_at
    if due is not None and due <= scene.now:
        return Standstill(
            f"{why}. It is due since {_at(due)}, and no worker has taken it", (f"{_worker(run)} takes it.",), run.updated_at, due
        )
    if due is not None:
        moves = [*moves, f"At {_at(due)} it goes on in any case{_bound(scene, due)}."]
    return Standstill(why, tuple(moves), run.updated_at, due)


def _review(scene: Scene) -> tuple[str, list[str]]:
    whys, moves = [], []
    for each in scene.open_reviews:
        about = f"about {each.tool} {_short(each.arguments)}" if each.tool else f'"{each.question}"'
        whys.append(f"It waits for a person to decide {about}, since {_at(each.requested_at)}")
        choices = " or ".join(each.events)
        until = f" until {_at(each.expires_at)}" if each.expires_at is not None else ""
        moves.append(f"A person decides review {each.id} with {choices}{until}.")
    return "; ".join(whys) or "It waits for a person", moves


def _call(scene: Scene) -> tuple[str, list[str]]:
    last = scene.attempts[-1] if scene.attempts else None
    what = "a call" if last is None else f"{last.name}, whose attempt {last.attempt} met {last.kind}: {last.message}"
    return f"It backs off before it calls again: {what}", []


def _child(scene: Scene) -> tuple[str, list[str]]:
    named = [f"{child.id} of {child.machine} ({_doing(child)})" for child in scene.children]
    moves = [f"The end of child run {name}." for name in named]
    return f"It waits for {len(named)} child run{'' if len(named) == 1 else 's'}", moves


def _doing(run: RunRecord) -> str:
    return f"{run.status} in {run.state}" + (f", waits for {run.waiting_for}" if run.waiting_for else "")


def _time(scene: Scene) -> tuple[str, list[str]]:
    return {
        Waiting.TIMER: "Its handler sleeps (run.sleep)",
        Waiting.QUOTA: "A spending limit of the provider is reached",
        Waiting.BREAKER: "A dependency is failing, and its breaker is open",
        Waiting.LIMIT: "A rate limit has no room for its call",
        Waiting.START: "Its start is delayed",
    }.get(scene.run.waiting_for or Waiting.TIMER, "It waits"), []


_REASONS = {Waiting.REVIEW: _review, Waiting.RETRY: _call, Waiting.CHILD: _child}


def _bound(scene: Scene, due: datetime) -> str:
    if scene.run.deadline_at is not None and scene.run.deadline_at <= due:
        return ", since its deadline passes"
    if any(each.expires_at == due for each in scene.open_reviews):
        return ", since the review expires"
    return ""


def _worker(run: RunRecord) -> str:
    return f"A worker with machine {run.machine} (definition {run.fingerprint[:12]}) and queue {run.queue}"


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
