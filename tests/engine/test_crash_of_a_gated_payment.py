"""A payment that a person must approve, by processes that die: never made twice without a person saying so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from statecraft import CallError, CallInfo, Data, Event, Failure, GatePolicy, Machine, Run, tool
from statecraft.decisions import Approve, Decision, DidNotHappen, Happened, Modify
from statecraft.records import ReviewRecord
from tests.engine.dying import SETTINGS, Databases, World, in_file, lives, pairs, some
from tests.servers import OnServer


class Invoice(Data):
    receipt: str = ""


class Paid(Event):
    receipt: str


Place = World[Invoice]
POLICY = GatePolicy(max_auto_risk="low")


def office(place: list[Place], strikes: list[str]) -> Machine[Invoice]:
    """The process dies `before` or `after` a payment takes effect, as `strikes` says for each time it is tried."""

    @tool(effect="once", risk="high")
    async def pay(info: CallInfo, amount: int) -> str:
        """Pay, which must not happen twice."""
        world = place[0]
        end = strikes.pop(0) if strikes else ""
        if end != "before":
            world.effects.append((world.life, info.key))
        if end:
            assert world.probe is not None
            world.probe.die()
            await asyncio.Event().wait()
        return f"paid {amount}"

    machine = Machine("office", data=Invoice, max_steps=5)

    @machine.state(start=True, tools=[pay])
    async def paying(run: Run[Invoice]) -> Paid:
        try:
            return Paid(receipt=await run.tool(pay, 12))
        except CallError as error:
            return Paid(receipt=error.kind.value)

    paid, failed = machine.final("paid", ok=True), machine.final("failed")
    machine.transitions(paying.on(Paid) >> paid, machine.anywhere.on(Failure) >> failed)
    return machine


def careful(place: Place, review: ReviewRecord) -> Decision:
    """Approves less than was asked for; and when asked what became of it, looks."""
    if review.kind == "gate":
        return Approve() if review.arguments == {"amount": 7} else Modify({"amount": 7})
    assert review.arguments == {"amount": 7}
    made = any(name == review.show["key"] for _, name in place.effects)
    return Happened("paid 7") if made else DidNotHappen()


def careless(place: Place, review: ReviewRecord) -> Decision:
    """Approves everything, and says of everything that it did not happen."""
    return Approve() if review.kind == "gate" else DidNotHappen()


class Stage:
    """One machine for one world after another."""

    def __init__(self, databases: Databases = in_file) -> None:
        self.databases = databases
        self.place: list[Place] = []
        self.strikes: list[str] = []
        self.machine = office(self.place, self.strikes)

    def live(self, folder: Path, points: Sequence[int] = (), strikes: Sequence[str] = (), *, look: bool) -> Place:
        folder.mkdir(parents=True)
        self.strikes[:] = strikes
        settings = replace(SETTINGS, gate=POLICY)
        verdict = careful if look else careless
        world = World(folder, self.machine, Invoice(), verdict=verdict, settings=settings, databases=self.databases)
        self.place[:] = [world]
        ended = lives(world, points) if not strikes else None
        while ended is None:
            ended = world.live()
        assert ended.state == "paid"
        world.sound()
        assert world.noises == []
        return world


def decisions(world: Place, kind: str) -> list[str]:
    return [said for (said,) in world.ask(f"SELECT decision FROM call_reviews WHERE kind = '{kind}' ORDER BY round")]


def assert_sound(world: Place, receipt: str, *, look: bool) -> None:
    ((request, result),) = world.ask("SELECT request, result FROM calls")
    assert result == f'"{receipt}"'
    assert ('"changed"' in request) is look
    assert decisions(world, "gate") == (["modify", "approve"] if look else ["approve"])
    again = decisions(world, "doubt").count("did_not_happen")
    assert len(world.effects) == 1 if look else 1 <= len(world.effects) <= 1 + again
    assert len({key for _, key in world.effects}) == 1


STRIKES = [strikes for length in (1, 2) for strikes in itertools.product(("before", "after"), repeat=length)]


@pytest.mark.slow
@pytest.mark.parametrize("strikes", STRIKES, ids="-".join)
@pytest.mark.parametrize("look", [True, False])
def test_a_process_that_dies_around_the_payment_leaves_a_question(tmp_path: Path, look: bool, strikes: tuple[str, ...]) -> None:
    world = Stage().live(tmp_path / "world", strikes=strikes, look=look)
    assert_sound(world, "paid 7" if look else "paid 12", look=look)
    if look:  # The first payment that took effect is seen, and it is the only one.
        unseen = strikes.index("after") if "after" in strikes else len(strikes)
        assert decisions(world, "doubt") == ["did_not_happen"] * unseen + ["happened"] * ("after" in strikes)
    else:
        assert decisions(world, "doubt") == ["did_not_happen"] * len(strikes)
        assert len(world.effects) == 1 + strikes.count("after")


@pytest.mark.slow
@pytest.mark.parametrize("look", [True, False])
def test_a_process_that_dies_at_any_commit_pays_once_for_each_time_a_person_said_so(tmp_path: Path, look: bool) -> None:
    stage, receipt = Stage(), "paid 7" if look else "paid 12"
    calm = stage.live(tmp_path / "calm", look=look)
    assert_sound(calm, receipt, look=look)
    assert decisions(calm, "doubt") == []
    for at in range(calm.points[0]):
        assert_sound(stage.live(tmp_path / str(at), [at], look=look), receipt, look=look)


@pytest.mark.slow
@pytest.mark.parametrize("look", [True, False])
def test_processes_that_die_one_after_another_pay_once_for_each_time_a_person_said_so(tmp_path: Path, look: bool) -> None:
    stage, receipt = Stage(), "paid 7" if look else "paid 12"
    points = stage.live(tmp_path / "calm", look=look).points[0]
    for first, second in pairs(points, points, most=30, seed=20261121):
        assert_sound(stage.live(tmp_path / f"{first}-{second}", [first, second], look=look), receipt, look=look)


@pytest.mark.slow
@pytest.mark.parametrize("look", [True, False])
def test_on_a_server_it_pays_as_carefully(on_server: OnServer, tmp_path: Path, look: bool) -> None:
    stage, receipt = Stage(on_server), "paid 7" if look else "paid 12"
    calm = stage.live(tmp_path / "calm", look=look)
    assert_sound(calm, receipt, look=look)
    for at in some(calm.points[0], step=5):
        assert_sound(stage.live(tmp_path / str(at), [at, calm.points[0] - at], look=look), receipt, look=look)
    for strikes in (("before", "after"), ("after", "after")):
        assert_sound(stage.live(tmp_path / "-".join(strikes), strikes=strikes, look=look), receipt, look=look)
