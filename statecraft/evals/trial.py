"""A trial: one run of a case, as graders see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from statecraft.evals.case import Case
from statecraft.machine.data import Data
from statecraft.records import CallRecord, Json, RunRecord, Status, TransitionRecord, Usage


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model said as judge: see `statecraft.evals.judge`."""

    run_id: str
    """The judge's own run."""
    met: tuple[tuple[str, bool, str], ...] = ()
    """Each criterion, whether it is met, and why."""
    problem: str = ""
    """Why there is no verdict."""
    usage: Usage = Usage()
    cost: int | None = 0
    """Billionths of a dollar; None if no price is known."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a case. All of it comes from the record, so grading it again gives the same."""

    case: Case
    repetition: int
    """From 1."""
    run: RunRecord
    data: Data
    history: tuple[TransitionRecord, ...]
    calls: tuple[CallRecord, ...] = ()
    """Finished calls in order, those of child runs behind those of their parent."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    """What judges said, by the judge's name."""
    trouble: str = ""
    """Why the run did not come to an end that can be graded; empty if it did."""

    @property
    def states(self) -> tuple[str, ...]:
        """The states it was in, in order; twice if twice in a row."""
        return tuple(move.target for move in self.history)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """The moves it made: source, event, target."""
        return tuple((move.source, move.event, move.target) for move in self.history[1:])

    @property
    def tools(self) -> tuple[tuple[str, Mapping[str, Json]], ...]:
        """Calls of tools, by handlers and by the model, that succeeded: name and arguments, in order of completion."""
        made = (call for call in self.calls if call.kind == "tool" and call.ok)
        return tuple((call.name, dict(call.request.get("arguments", {}))) for call in made)

    @property
    def usage(self) -> Usage:
        """Tokens of all its calls."""
        return sum((call.usage for call in self.calls), Usage())

    @property
    def cost(self) -> int | None:
        """Billionths of a dollar; None if the price of one of its model calls is not known."""
        return cost_of(self.calls)

    @property
    def asked(self) -> int:
        """Calls of models and tools."""
        return sum(call.kind in ("llm", "tool") for call in self.calls)

    @property
    def seconds(self) -> float:
        """From its start to its last move."""
        return (self.history[-1].at - self.history[0].at).total_seconds()

    def value(self, path: str) -> Json:
        """What the data holds at a dotted path, as JSON: `answer`, `citations.0.document`. Raises `LookupError`."""
        found: Json = self.data.model_dump(mode="json")
        for part in path.split("."):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise LookupError(f"the data has no {path!r}")
        return found


def cost_of(calls: tuple[CallRecord, ...]) -> int | None:
    """Billionths of a dollar of some calls; None if a model was asked whose price is not known."""
    if any(call.kind == "llm" and call.cost is None for call in calls):
        return None
    return sum(call.cost or 0 for call in calls)


def trouble_of(run: RunRecord) -> str:
    """Why a settled run came to no end that can be graded. A final state that is not `ok` is such an end: it may be the
    right one, and so may be a question to a person."""
    if run.status in (Status.DEAD, Status.CANCELLED):
        return f"the run is {run.status} in {run.state}: {' '.join((run.reason or '').split())}"
    return ""
