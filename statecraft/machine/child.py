"""What a handler gets back from a child run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from statecraft.machine.data import D
from statecraft.records import Status


@dataclass(frozen=True, slots=True)
class Child(Generic[D]):
    """How a child run ended."""

    run_id: str
    """32 hex digits."""
    status: Status
    """`done`, or with `ok_only=False` any other end."""
    state: str
    """The state it ended in."""
    data: D
    """Its data at the end."""
    reason: str | None = None
    """Why it was cancelled or is dead."""
