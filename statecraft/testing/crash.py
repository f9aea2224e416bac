"""Dying at a chosen persistence point, for tests of what survives.

A persistence point is a moment just before or just after a commit. Give one of these to `open_store(url, probe=...)`.
"""

from __future__ import annotations

import os
import signal


class PointCounter:
    """Counts the persistence points a piece of work passes."""

    def __init__(self) -> None:
        self.points = 0

    def __call__(self, _point: str) -> None:
        self.points += 1


class KillAt:
    """Kills this process with SIGKILL at persistence point number `at` (from 0). Nothing runs after that."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.points = 0

    def __call__(self, _point: str) -> None:
        if self.points == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.points += 1
