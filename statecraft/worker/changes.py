"""Who waits for a run to change, and how they hear of it."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

ANY = b""
"""In the place of a run's id: whichever run changes."""


class Changes:
    """Changes of runs in this process."""

    def __init__(self) -> None:
        self._changed: WeakValueDictionary[bytes, asyncio.Event] = WeakValueDictionary()
        """Lives as long as somebody waits."""

    def signal(self, run_id: bytes) -> None:
        """Wake whoever waits for a change of the run in this process."""
        for key in (run_id, ANY):
            changed = self._changed.pop(key, None)
            if changed is not None:
                changed.set()

    def changing(self, run_id: bytes) -> asyncio.Event:
        """Set at the next change of the run (or of `ANY`) in this process. Ask for it before looking at the run, then
        `until` it."""
        return self._changed.setdefault(run_id, asyncio.Event())
