"""The write by which a new run shares the history of another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fork:
    """A new run with steps 0 to `step` of `source` and all that their ended visits left; ready, at the beginning of the visit
    that follows. Answers the id of the run that now owns the key.

    What the ended visits used is charged to the new run's own meters, and to nobody else's. If `key` belongs to a run
    already, nothing is written and that run's id is the answer. `NotFound` if there is no such run, or no such step.
    """

    source: bytes
    step: int
    run_id: bytes
    at: int
    by: str
    note: str
    key: str | None
    deadline_at: int | None
    trace_id: str
    max_steps: int
    """The bound of its machine, which redrives may have raised."""
    degraded: bool = False
    data: str | None = None
    """The payload of a further move, `forked`, that puts this data in place (JSON); None: there is no such move."""
    snapshot: str | None = None
    """The data it begins with (JSON), if it is worth a snapshot."""
    share: float = 1.0
    """The tenant's share of its queue."""
