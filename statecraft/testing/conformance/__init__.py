"""The behaviours that every store must have, as tests that pytest runs against yours.

    class TestMyStore(FleetConformance):
        @pytest.fixture
        def place(self, tmp_path):
            return tmp_path / "runs"                # empty and new for each test

        def open(self, place, probe=None):
            return MyStore(place, probe=probe)      # not opened yet

`StoreConformance` is what a single store does, in memory or elsewhere. `FleetConformance` adds what holds when several
stores are open on the same place at once, and after a store was closed or crashed.
"""

from __future__ import annotations

import pytest

ROOMS = (
    "batches",
    "calendar",
    "claims",
    "crashes",
    "crew",
    "errands",
    "families",
    "forks",
    "letters",
    "meters",
    "moves",
    "parks",
    "questions",
    "queues",
    "races",
    "reads",
    "starts",
    "together",
    "versions",
    "visits",
)
# So that a failed comparison shows both sides, as in a test of your own.
pytest.register_assert_rewrite(*(f"{__name__}.{room}" for room in (*ROOMS, "suite")))

from statecraft.testing.conformance.batches import Batches  # noqa: E402
from statecraft.testing.conformance.calendar import Calendar  # noqa: E402
from statecraft.testing.conformance.claims import Claims  # noqa: E402
from statecraft.testing.conformance.crashes import Crashes  # noqa: E402
from statecraft.testing.conformance.crew import Crew  # noqa: E402
from statecraft.testing.conformance.errands import Errands  # noqa: E402
from statecraft.testing.conformance.families import Families  # noqa: E402
from statecraft.testing.conformance.forks import Forks  # noqa: E402
from statecraft.testing.conformance.letters import Letters  # noqa: E402
from statecraft.testing.conformance.meters import Meters  # noqa: E402
from statecraft.testing.conformance.moves import Moves  # noqa: E402
from statecraft.testing.conformance.parks import Parks  # noqa: E402
from statecraft.testing.conformance.questions import Questions  # noqa: E402
from statecraft.testing.conformance.queues import Queues  # noqa: E402
from statecraft.testing.conformance.races import Races  # noqa: E402
from statecraft.testing.conformance.reads import Reads  # noqa: E402
from statecraft.testing.conformance.starts import Starts  # noqa: E402
from statecraft.testing.conformance.together import Together  # noqa: E402
from statecraft.testing.conformance.versions import Versions  # noqa: E402
from statecraft.testing.conformance.visits import Visits  # noqa: E402

__all__ = ["FleetConformance", "StoreConformance"]


class StoreConformance(
    Starts,
    Moves,
    Visits,
    Parks,
    Claims,
    Queues,
    Families,
    Forks,
    Versions,
    Questions,
    Letters,
    Meters,
    Calendar,
    Errands,
    Crew,
    Reads,
    Batches,
):
    """What one store does. Override `open` and the fixture `place`."""


class FleetConformance(StoreConformance, Together, Races, Crashes):
    """What one store does, what several do on one database, and what is there after a crash."""
