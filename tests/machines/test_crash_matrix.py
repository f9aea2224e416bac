"""Every shipped machine, killed at every persistence point of a run that goes through most of it."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import machines
from machines import shop
from machines.drafting import Letter, drafting
from machines.extract import Approved as ApprovedRows
from machines.extract import Batch, extract
from machines.extract_offline import OfflineExtraction
from machines.offline import OfflineModel
from machines.research import Approved, Brief, research
from machines.review import Approved as ApprovedReview
from machines.review import Change, review
from machines.review import settings as review_settings
from machines.review_offline import OfflineReview
from machines.support import Approved as ApprovedReply
from machines.support import Ticket, settings, support
from machines.support_offline import OfflineSupport
from machines.support_prompts import Written
from statecraft import Event, Machine, Settings
from statecraft.engine.children import machines_of
from statecraft.llm import LLM
from statecraft.testing import CrashReport, ScriptedLLM, crash_everywhere
from tests.engine.dying import DEPTH
from tests.machines.desk_cases import ANN, BROKEN
from tests.machines.extract_cases import DOLLAR, NONE, folder_of, table
from tests.machines.review_cases import NEW, OLD, Repo
from tests.servers import OnServer

pytestmark = pytest.mark.slow

SHALLOW = 20
"""Points that are tried unless more depth is asked for, spread evenly."""
ON_SERVER = 4
"""Points that are tried on PostgreSQL, spread evenly. They are the same there."""


@dataclass(frozen=True)
class Case:
    """A run of a machine that goes through most of it."""

    machine: Machine[Any]
    input: Any
    model: LLM
    state: str
    """Where it ends."""
    points: int
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


def reviewing(folder: Path, _: Path) -> Case:
    """A change of two files, each read by a child run, and a review that is posted."""
    repo, out = Repo(folder / "repo"), folder / "out"
    repo.commit({"cart.py": OLD})
    repo.commit({"cart.py": NEW, "shop.py": "x = 1\n"})
    change = Change(repo=str(repo.folder), range="HEAD~1..HEAD", out=str(out))

    def anew() -> None:
        shutil.rmtree(out, ignore_errors=True)

    decisions = {"human_review": ApprovedReview()}
    posted = partial(_files, out)
    return Case(review, change, OfflineReview(), "posted", 60, decisions, review_settings, anew, posted)


def _files(folder: Path) -> dict[str, int]:
    return {"files": sum(each.is_file() for each in folder.rglob("*"))}


def extracting(folder: Path, _: Path) -> Case:
    """Two documents, each read by a child run, and rows in a table."""
    place = folder / "out.db"
    batch = Batch(folder=str(folder_of(folder, f"{DOLLAR} {NONE}")), database=str(place))

    def rows() -> dict[str, int]:
        return {"rows": len(table(folder))} if place.exists() else {}

    decisions = {"human_review": ApprovedRows()}
    return Case(
        extract, batch, OfflineExtraction(), "complete", 40, decisions, None, partial(place.unlink, missing_ok=True), rows
    )


CASES = {
    "research": researching,
    "support": supporting,
    "drafting": drafted,
    "review": reviewing,
    "extract": extracting,
}


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, library: Path) -> Case:
    made: Case = CASES[request.param](tmp_path, library)
    return made


def test_every_shipped_machine_has_a_case_or_is_a_child_of_one_that_has() -> None:
    modules = [importlib.import_module(f"machines.{each.name}") for each in pkgutil.iter_modules(machines.__path__)]
    shipped = {thing.name: thing for module in modules for thing in vars(module).values() if isinstance(thing, Machine)}
    tried = {child.name for name in CASES for child in machines_of(shipped[name].definition)}
    assert shipped.keys() == tried | CASES.keys(), "a machine in machines/ is not crash-tested: give it a case above"


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_no_crash_at_any_point_makes_a_difference(case: Case) -> None:
    report = case.crash(most=SHALLOW if DEPTH == 1 else None)
    assert (report.status, report.state) == ("done", case.state)
    assert report.points >= case.points
    assert len(report.tried) == (min(SHALLOW, report.points) if DEPTH == 1 else report.points)
    assert report.deaths >= len(report.tried) - 2  # Child runs side by side may pass a point in another order.
    print(report)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_nor_does_it_on_a_server(case: Case, on_server: OnServer, tmp_path: Path) -> None:
    report = case.crash(store=lambda: on_server(tmp_path), most=ON_SERVER)
    assert (report.status, report.state) == ("done", case.state)
    assert f"at {ON_SERVER} of {report.points} persistence points, spread evenly" in str(report)
    print(report)
