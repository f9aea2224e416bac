"""The few numbers a runtime is run by."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from statecraft.calls.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Settings:
    """How a runtime holds and takes runs. The defaults suit one process on one machine."""

    lease: timedelta = timedelta(seconds=30)
    """A run whose holder has not renewed for this long may be claimed by anybody. Renewed every third of it."""
    poll: timedelta = timedelta(seconds=1)
    """How often to look for runs that became due elsewhere. What happens in this process is seen at once."""
    take: Literal["all", "own", "none"] = "all"
    """Which due runs to claim: any of the machines given, only those this runtime started or was asked about, or none."""
    concurrency: int = 64
    """Most runs held at once."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    call_timeout: timedelta = timedelta(seconds=120)
    """Wall-clock limit of one attempt at a model. Tools declare their own."""
    pace: float = 0.0
    """Seconds to wait before each step, so that people can watch. For demonstrations."""
    debug: bool = False
    """Compare `run.data` before and after each handler and raise `DataMutated` if it changed in place."""
