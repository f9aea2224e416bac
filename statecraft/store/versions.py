"""What is kept of definitions, and the write by which a run goes on under another one."""

from __future__ import annotations

from dataclasses import dataclass

from statecraft.store.journal import Transition
from statecraft.store.meters import Charge

MIGRATED = "migrated"
"""The event of a migration. The step it makes does not end the visit."""
FORKED = "forked"
"""The event of a fork. Neither of the two enters a state."""


@dataclass(frozen=True, slots=True)
class Version:
    """A definition that the store knows, as short as workers need it."""

    number: int
    name: str
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Migrate:
    """A run goes on under another definition. Fenced by (run_id, epoch, seq - 1) of its transition, whose `machine` is the
    new definition and whose event is `migrated`. Head and lease stay as they are, and the step does not count.

    `Fenced` unless the run is held (with `held`), or waits or is dead (without): nobody's work is changed under them.
    """

    transition: Transition
    snapshot: str
    """The whole data after it, as JSON."""
    held: bool
    """Whether the writer holds the run."""
    events: tuple[str, ...] | None = None
    """The decisions that the open review of the run's state takes from now on; None if none is open."""
    charges: tuple[Charge, ...] = ()
    """What states are charged for what they used under other names."""
