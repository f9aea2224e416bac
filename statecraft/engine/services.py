"""What every handler of a runtime shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from statecraft.calls.call import Next
from statecraft.engine.live import Hub
from statecraft.engine.nursery import Nursery
from statecraft.engine.settings import Settings
from statecraft.ids import Ids
from statecraft.llm.port import LLM


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that a runtime lends to each visit."""

    stack: Next
    """The call stack (`calls.stack.build`)."""
    ids: Ids
    llm: LLM | Mapping[str, LLM] | None
    """One for all machines, or one for each by its name."""
    settings: Settings
    nursery: Nursery | None = None
    """For child runs."""
    live: Hub = field(default_factory=Hub)
    """Who listens to runs while they go."""

    def llm_of(self, machine: str) -> LLM | None:
        """The model that runs of a machine ask."""
        return self.llm.get(machine) if isinstance(self.llm, Mapping) else self.llm
