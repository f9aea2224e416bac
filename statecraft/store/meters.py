"""Writes about meters: budgets that are reserved and charged, and the small states of limiters and breakers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Amount:
    """A share of one budget that a call asks for before it is made."""

    meter: str
    """`<draw>:<unit>`, such as `run:<id>:tokens`."""
    amount: int
    limit: int
    """What the meter may reach, everybody's reservations included."""
    told: bool = False
    """Whether channels are told when it does not fit."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call really used of one budget."""

    meter: str
    amount: int
    limit: int | None = None
    """Of the budget it is charged to, if channels are told of it."""
    shares: tuple[float, ...] = ()
    """The shares of the limit that channels are told of, each once."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The answer to `Reserve`."""

    refused: Amount | None
    """The first amount that did not fit; then nothing is reserved."""
    used: Mapping[str, int] = field(default_factory=dict)
    """What each meter asked for has been charged so far."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set amounts aside for a call, all or none. Fenced by (run_id, epoch, seq). Answers `Reserved`.

    Refused if for any meter: charged + reserved by others + amount > limit. A second reservation of the same call
    replaces the first. Reservations of a run end with the call that made them (`Call`, `Settle`), when the run is
    given up (`Park`) or claimed again, and with its end.
    """

    run_id: bytes
    seq: int
    epoch: int
    digest: bytes
    occurrence: int
    amounts: tuple[Amount, ...]
    at: int = 0
    """When it is asked; for what people are told of it."""


@dataclass(frozen=True, slots=True)
class Settle:
    """End a call's reservation and charge what it used, for a call that is not recorded (yet). Fenced like `Reserve`."""

    run_id: bytes
    seq: int
    epoch: int
    digest: bytes
    occurrence: int
    charges: tuple[Charge, ...] = ()
    at: int = 0
    """As in `Reserve`."""


@dataclass(frozen=True, slots=True)
class Adjust:
    """Change the state of one meter by a pure function that nobody else's change can come between.

    Answers the function's answer. It may be applied more than once before one outcome is kept.
    """

    meter: str
    change: Callable[[str | None], tuple[str, object]]
    """From the stored state (None: there is none yet) to the new state and the answer."""
