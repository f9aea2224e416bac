"""What a person can decide about one call of a run: values for `Runtime.decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statecraft.errors import IllegalEvent
from statecraft.records import Json

GATE = ("approve", "reject", "modify", "modify_and_approve")
"""The decisions that a `gate` review takes (may this call be made?), as they are recorded."""
DOUBT = ("happened", "did_not_happen", "give_up")
"""The decisions that a `doubt` review takes (did this call take effect?), as they are recorded."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Make the call exactly as it was shown. Good for this one call only."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """Do not make the call. The handler meets `errors.Rejected`; a model reads that it was not executed, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Modify:
    """Make the call with other arguments.

    It is another action then: validated, with a new digest and idempotency key, and judged by the policy again.
    """

    arguments: Mapping[str, Json]
    """All arguments, as plain JSON values; they take the place of those proposed."""
    note: str = ""
    approve: bool = False
    """Whether this decision approves the changed call too, so that nobody is asked a second time."""


@dataclass(frozen=True, slots=True)
class Happened:
    """The call in doubt did take effect: this is its result, and it is not made again."""

    result: Any = None
    """Of the type that the tool returns, or its plain JSON form."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """The call in doubt took no effect: it is made again, as the next attempt with the same idempotency key."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody can tell what became of the call: the handler meets `errors.InDoubt`, and it is not made again."""

    reason: str = ""


Decision = Approve | Reject | Modify | Happened | DidNotHappen | GiveUp

_NAMES: Mapping[type[Decision], str] = {
    Approve: "approve",
    Reject: "reject",
    Modify: "modify",
    Happened: "happened",
    DidNotHappen: "did_not_happen",
    GiveUp: "give_up",
}


def decision_name(decision: Decision) -> str:
    """The word that is recorded for a decision. Raises `IllegalEvent` for anything else."""
    found = _NAMES.get(type(decision))
    if found is None:
        raise IllegalEvent(f"a decision is one of {', '.join(kind.__name__ for kind in _NAMES)}, not {decision!r}")
    return "modify_and_approve" if isinstance(decision, Modify) and decision.approve else found


def decision_note(decision: Decision) -> str:
    """What the decider said with it."""
    return decision.reason if isinstance(decision, Reject | GiveUp) else decision.note
