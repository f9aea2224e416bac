"""Writes about schedules: putting them down, moving them on, holding them, taking them away.

Each is one look and one change. What moves a schedule on says what it believes to be next, so that of several workers
that fire the same instant one moves it, and the others change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PutSchedule:
    """Put a schedule down, or replace the one of that name. Answers `created`, `unchanged` or `replaced`.

    A paused schedule stays paused. One that keeps its rule keeps its next instant too; else `next_at` counts.
    """

    name: str
    machine: str
    rule: str
    """Canonical JSON, as `statecraft.schedules.rule` writes it."""
    next_at: int
    input: str
    """JSON of the data that its runs are started with."""
    queue: str
    priority: int
    tenant: str | None
    missed: str
    overlap: str
    at: int


@dataclass(frozen=True, slots=True)
class Fired:
    """Move a schedule on from the instant `at`. Answers whether it did: only if `at` is still its next instant and
    `rule` still its rule."""

    name: str
    rule: str
    at: int
    next_at: int
    ran: bool
    """Whether a run was started for `at`; then it becomes the schedule's last instant."""


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    """Let a schedule fire no more until it is resumed. One that is paused stays as it is. `NotFound` if there is none."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    """Let a paused schedule fire again, at `next_at` for the first time. Answers whether it goes on now: not if its rule
    is not `rule` any more. `NotFound` if there is none."""

    name: str
    rule: str
    next_at: int
    at: int


@dataclass(frozen=True, slots=True)
class DropSchedule:
    """Take a schedule away; its runs stay. `NotFound` if there is none."""

    name: str


ScheduleWrite = PutSchedule | Fired | PauseSchedule | ResumeSchedule | DropSchedule
