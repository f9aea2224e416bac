"""Every error of the library, drawn as one tree, and the one word that says what kind of failure a call met.

    StatecraftError
    ├── DefinitionError            a machine that must not run (lists every finding)
    ├── ConfigError                a missing key, a bad target, a setting that cannot be
    ├── NotFound                   no such run, machine or review
    ├── Refused                    the run says no; nothing was written
    │   ├── IllegalEvent           no row of this state takes the event
    │   ├── InvalidPayload         the event's or the input's fields do not validate
    │   ├── RunClosed              the run has ended
    │   ├── NotWaiting             the run is not waiting for a person
    │   ├── AlreadyDecided         somebody else decided first
    │   ├── DecisionLate           the review expired before the decision came
    │   ├── Superseded             the run went on without the call that the review was about
    │   ├── KeyConflict            the start key belongs to a run with another input
    │   ├── RunHeld                another live process holds the run
    │   ├── VersionMismatch        the run was started by another definition of the machine
    │   ├── NotDead                only a dead run is redriven or dropped
    │   ├── WouldDieAgain          what the run died of would kill it again at once; says what it needs
    │   └── Gone                   the run is a child run whose parent has ended or went on
    ├── WaitTimeout                `wait` gave up; the run goes on
    ├── StoreError                 the database could not do what was asked
    │   ├── StoreUnavailable       cannot be opened, read or written
    │   ├── StoreFull              the disk is full
    │   ├── SchemaTooNew           written by a newer statecraft
    │   ├── WriteRefused           a constraint of the schema said no
    │   └── Fenced                 this process no longer holds the run
    ├── CallError                  a model or tool call failed for good
    │   ├── OutputInvalid          the model's answer does not validate after all repairs
    │   ├── InDoubt                a `once` call began and its outcome is unknown
    │   ├── OverBudget             the call could cost more than a budget has left; it was not made
    │   ├── Rejected               a person refused the call
    │   │   └── ReviewUnanswered   nobody decided about it in time
    │   ├── Looped                 the model repeats itself and was told so
    │   └── ChildFailed            a child run did not end well
    ├── DataMutated                a handler changed `run.data` in place
    └── NotAllowed                 a handler asked for what its state does not declare

Messages say what happened, where, and what to do. Library code raises nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class StatecraftError(Exception):
    """Base of every error this library raises on purpose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a machine's definition."""

    code: str
    """Stable code such as `SC103`."""
    level: Literal["error", "warning"]
    """`error` stops the definition; `warning` is only reported."""
    where: str
    """The state, event or row it is about."""
    message: str
    """What is wrong, in one sentence."""
    fix: str
    """What to change."""

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.message}. Fix: {self.fix}"


class DefinitionError(StatecraftError):
    """The machine is not sound. Lists every finding, so one import shows them all."""

    def __init__(self, machine: str, findings: Sequence[Finding]) -> None:
        self.machine = machine
        self.findings = tuple(findings)
        lines = "\n".join(f"  {finding}" for finding in self.findings)
        super().__init__(f"machine {machine!r} has {len(self.findings)} error(s):\n{lines}")

    def __reduce__(self) -> tuple[type[DefinitionError], tuple[str, tuple[Finding, ...]]]:
        return DefinitionError, (self.machine, self.findings)


class ConfigError(StatecraftError):
    """A setting, key or target is missing or cannot be used."""


class NotFound(StatecraftError):
    """No run, machine or review of that name in this database."""


class Refused(StatecraftError):
    """The run refused the request. Nothing was written."""


class IllegalEvent(Refused):
    """The state has no row for the event, or every guard refused it."""


class InvalidPayload(Refused):
    """The fields of an event or of a run's input do not validate."""


class RunClosed(Refused):
    """The run has ended (done, failed, cancelled or dead)."""


class NotWaiting(Refused):
    """The run is not waiting for a person's decision."""


class AlreadyDecided(Refused):
    """The review was decided by somebody else first."""


class DecisionLate(Refused):
    """The review had expired when the decision came."""


class Superseded(Refused):
    """The run moved on without the call that the review was about, or the question was replaced by another one."""


class KeyConflict(Refused):
    """The start key already belongs to a run of another machine or with another input."""


class RunHeld(Refused):
    """Another live process holds the run's lease."""


class VersionMismatch(Refused):
    """The run was started by a definition that differs from the one at hand."""


class NotDead(Refused):
    """The run is not dead, so it is neither redriven nor dropped."""


class WouldDieAgain(Refused):
    """What the run died of would kill it again at once. The message says what it needs."""


class Gone(Refused):
    """The dead run is a child run, and nobody waits for its end any more."""


class WaitTimeout(StatecraftError):
    """The run did not settle in the time given. It goes on."""


class StoreError(StatecraftError):
    """The database could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, read or written."""


class StoreFull(StoreError):
    """The disk (or the database's size limit) is full. What was acknowledged before is safe."""


class SchemaTooNew(StoreError):
    """The database was written by a newer statecraft than this one."""


class WriteRefused(StoreError):
    """A constraint of the schema refused the write, and nothing of it was kept."""


class Fenced(StoreError):
    """The run was claimed by somebody else or moved on; this process must stop working on it."""


class ErrorKind(StrEnum):
    """What kind of failure a call met. It decides whether another attempt makes sense."""

    RATE_LIMITED = "rate_limited"
    """Too many requests; the server may say when to come back."""
    OVERLOADED = "overloaded"
    """The provider is out of capacity."""
    TRANSIENT = "transient"
    """Connection, 5xx, timeout on the wire: may well work next time."""
    PROTOCOL = "protocol"
    """An answer arrived but is not usable."""
    TIMEOUT = "timeout"
    """Our own wall-clock deadline for one attempt passed."""
    QUOTA = "quota"
    """A spending limit or a billing hold; another attempt cannot succeed for long."""
    CONTEXT = "context"
    """The request is too large for the model."""
    PERMANENT = "permanent"
    """The request or the key is wrong; another attempt fails the same way."""
    TOOL = "tool"
    """A tool raised."""
    REFUSAL = "refusal"
    """The model declined, or stopped in a way this library does not know."""
    INVALID = "invalid"
    """The answer does not fit the declared type."""
    IN_DOUBT = "in_doubt"
    """A `once` call began and nobody knows whether it took effect."""
    BUDGET = "budget"
    """A budget has too little left for the call; nothing was sent."""
    REJECTED = "rejected"
    """A person refused the call, or nobody decided about it in time."""
    LOOP = "loop"
    """The model made the same call with the same result again and again."""
    CHILD = "child"
    """A child run ended otherwise than well."""


class CallError(StatecraftError):
    """A model or tool call failed for good, after every attempt its kind allows.

    It is part of the record: a resumed or replayed handler meets the same error again.
    """

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.PERMANENT, name: str = "", attempts: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.name = name
        """The model or tool that was called."""
        self.attempts = attempts
        """How many attempts were made."""


class OutputInvalid(CallError):
    """The model's answer does not validate against the declared output, after all repair rounds."""


class InDoubt(CallError):
    """A `once` call began before a crash; its outcome is unknown, so it is never run again blindly."""


class OverBudget(CallError):
    """The call could cost more than a budget has left, so it was not made."""

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind = ErrorKind.BUDGET,
        name: str = "",
        attempts: int = 1,
        unit: str = "tokens",
        scope: str = "run",
        used: float = 0,
        limit: float = 0,
    ) -> None:
        super().__init__(message, kind=kind, name=name, attempts=attempts)
        self.unit = unit
        """`tokens`, `money` (dollars), `calls`, or `wall` (seconds)."""
        self.scope = scope
        """Whose budget: `run`, `state`, `parent` (of a run that this one is a child of), or `tenant`."""
        self.used = used
        """So far, in `unit`. What calls under way have reserved is not in it."""
        self.limit = limit
        """The whole budget, in `unit`."""


class Rejected(CallError):
    """A person refused the call."""


class ReviewUnanswered(Rejected):
    """Nobody decided about the call before its review expired."""


class Looped(CallError):
    """The model made the same call with the same result too often, although it was told."""


class ChildFailed(CallError):
    """A child run ended in a final state that is not `ok`, was cancelled, or is dead."""


class DataMutated(StatecraftError):
    """A handler changed `run.data` in place. Such a change is not kept: answer with an event instead."""


class NotAllowed(StatecraftError):
    """A handler asked for a tool or a model that its state or runtime does not offer."""
