"""Writes about dead runs: how one died, that it goes on, that it is given up for good."""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.store.journal import Call, Head, Transition


@dataclass(frozen=True, slots=True)
class Death:
    """What is kept of a death, beside the run's head."""

    state: str
    error: str
    """What it died of, in one word."""
    call: str | None
    """The model, tool or machine whose call failed."""
    diagnosis: str
    """JSON: what a person needs who finds the run dead."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """Let a dead run go on. Fenced by (run_id, epoch, seq): `NotDead` unless that is how it lies there.

    `Gone` if it is a child run whose parent has ended, or was told of its death.
    """

    run_id: bytes
    seq: int
    epoch: int
    at: int
    actor: str
    note: str
    entry: Call
    """The journal's row of it, of kind `redrive`, in the visit that died."""
    head: Head
    deadline_at: int | None
    extra_steps: int
    """Steps granted beyond the machine's bound, those of earlier redrives included."""
    transition: Transition | None = None
    """The move by an operator's event; None to try the same visit again."""


@dataclass(frozen=True, slots=True)
class Drop:
    """End a dead run for good: cancelled, epoch + 1. `NotDead` if it is not dead, `NotFound` if there is none."""

    run_id: bytes
    at: int
    actor: str
    reason: str
