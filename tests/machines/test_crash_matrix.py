"""Every shipped machine, killed at every persistence point of a run that goes through most of it."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import machines
from machines import shop
from machines.drafting import Letter, drafting
from machines.offline import OfflineModel
from machines.research import Approved, Brief, research
from machines.support import Approved as ApprovedReply
from machines.support import Ticket, settings, support
from machines.support_offline import OfflineSupport
from machines.support_prompts import Written
from statecraft import Event, Machine, Settings
from statecraft.llm import LLM
from statecraft.testing import CrashReport, ScriptedLLM, crash_everywhere
from tests.machines.desk_cases import ANN, BROKEN
from tests.servers import OnServer

pytestmark = pytest.mark.slow

ON_SERVER = 5
"""Points that are tried on PostgreSQL, spread evenly. They are the same there."""


@dataclass(frozen=True)
class Case:
    """A run of a machine that goes through most of it."""

    machine: Machine[Any]
    input: Any
    model: LLM
    state: str
    """Where it ends."""
    deaths: int
    """At least so many persistence points it has."""
    decisions: Mapping[str, Event] | None = None
    settings: Settings | None = None
    before_each: Callable[[], object] | None = None
    effects: Callable[[], Mapping[str, int]] | None = None

    def crash(self, **options: Any) -> CrashReport:
        return crash_everywhere(
            self.machine,
            self.input,
            self.model,
            decisions=self.decisions,
            settings=self.settings,
            before_each=self.before_each,
            effects=self.effects,
            **options,
        )


def researching(folder: Path, library: Path) -> Case:
    """Twice to the sources, then to a person."""
    brief = Brief(question="How is green tea brewed with a laser over Bluetooth?", folder=str(library))
    return Case(research, brief, OfflineModel(), "complete", 40, {"human_review": Approved(note="good enough")})


def supporting(folder: Path, _: Path) -> Case:
    """A refund behind a gate, a reply that a child run writes, and a person who sends it."""
    place = folder / "shop.db"

    def anew() -> None:
        for file in folder.glob("shop.db*"):
            file.unlink()
        shop.create(place)

    def outside() -> dict[str, int]:
        with closing(sqlite3.connect(place)) as tables:
            return {name: tables.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("refunds", "notes")}

    ticket = Ticket(email=ANN, message=BROKEN, shop=str(place))
    decisions = {"human_review": ApprovedReply()}
    return Case(support, ticket, OfflineSupport(), "answered", 70, decisions, settings, anew, outside)


def drafted(folder: Path, _: Path) -> Case:
    """A first draft that says what is not so, and a second one."""
    said = [Written(text="We have refunded it.", confidence=0.9), Written(text="It is on its way.", confidence=0.9)]
    return Case(drafting, Letter(message="Where is order 1042?", outcome="answered"), ScriptedLLM(said), "ready", 12)


CASES = {"research": researching, "support": supporting, "drafting": drafted}


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, library: Path) -> Case:
    made: Case = CASES[request.param](tmp_path, library)
    return made


def test_every_shipped_machine_has_a_case() -> None:
    modules = [importlib.import_module(f"machines.{each.name}") for each in pkgutil.iter_modules(machines.__path__)]
    shipped = {thing.name for module in modules for thing in vars(module).values() if isinstance(thing, Machine)}
    assert shipped == set(CASES), "a machine in machines/ is not crash-tested: give it a case above"


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_no_crash_at_any_point_makes_a_difference(case: Case) -> None:
    report = case.crash()
    assert (report.status, report.state) == ("done", case.state)
    assert report.deaths == len(report.tried) == report.points >= case.deaths
    print(report)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_nor_does_it_on_a_server(case: Case, on_server: OnServer, tmp_path: Path) -> None:
    report = case.crash(store=lambda: on_server(tmp_path), most=ON_SERVER)
    assert (report.status, report.state) == ("done", case.state)
    assert f"at {ON_SERVER} of {report.points} persistence points, spread evenly" in str(report)
    print(report)
