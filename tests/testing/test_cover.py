"""Which rows were taken, by what is heard of the runs themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from statecraft import CallFailed, Data, Event, Machine, Run, Runtime, StateTimeout, Status
from statecraft.errors import AlreadyDecided, KeyConflict, NotWaiting, StatecraftError
from statecraft.machine.definition import Move
from statecraft.testing import SkippingClock, run_async
from statecraft.testing.cover import Cover, Tally, row_taken, shown
from statecraft.testing.listening import listen
from statecraft.testing.targets import loaded, named
from tests.testing.letters import Approved, Letter, Praised, Tried, Withdrawn, letters

DEFINITION = letters.definition


@contextmanager
def heard() -> Iterator[Tally]:
    """What runtimes say that are built inside."""
    tally = Tally()
    stop = listen(tally.heard)
    try:
        yield tally
    finally:
        stop()


def only(tally: Tally) -> Cover:
    [cover] = tally.covers.values()
    return cover


def rows(cover: Cover) -> set[str]:
    return {shown(cover.rows[place]) for place in cover.taken}


# --- which row it was ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "event", "row"),
    [
        ("trying", Tried(tries=1000), "trying.tried[hopeless] -> lost"),
        ("trying", Tried(tries=2), "trying.tried[enough] -> asking"),
        ("trying", Tried(tries=1), "trying.tried -> trying"),
        ("trying", CallFailed(), "trying.call_failed -> asking"),
        ("trying", StateTimeout(), "anywhere.failure -> lost"),
        ("asking", CallFailed(), "anywhere.failure -> lost"),
        ("asking", Approved(), "asking.approved -> sent"),
        ("asking", Praised(), "asking.praised -> sent"),
        ("asking", Withdrawn(), "anywhere.withdrawn -> lost"),
    ],
)
def test_a_move_is_put_down_to_the_row_that_made_it(state: str, event: Event, row: str) -> None:
    move = DEFINITION.decide(state, event, Letter())
    assert isinstance(move, Move)
    place = row_taken(DEFINITION, state, move.event, move.guards)
    assert place is not None
    assert shown(Cover.of(DEFINITION).rows[place]) == row


def test_what_no_row_declares_is_no_row() -> None:
    assert row_taken(DEFINITION, "", "start", []) is None
    assert row_taken(DEFINITION, "trying", "forked", []) is None
    assert row_taken(DEFINITION, "trying", "unheard_of", []) is None


# --- what is heard ------------------------------------------------------------------------------------------------------


def test_moves_by_handlers_people_time_and_operators_are_heard(url: str) -> None:
    async def go() -> None:
        clock = SkippingClock()
        async with Runtime(url, machines=[letters], clock=clock) as rt:
            late = await rt.start(letters, Letter())
            await clock.skip_until(rt, late.id)
            sent = await rt.wait((await rt.start(letters, Letter())).id)
            await rt.send(sent.id, Praised(), by="ann")

    with heard() as tally:
        run_async(go())
    assert rows(only(tally)) == {
        "trying.tried -> trying",
        "trying.tried[enough] -> asking",
        "asking.review_expired -> lost",
        "asking.praised -> sent",
    }
    assert only(tally).entered == {"trying", "asking", "sent", "lost"}


def test_the_move_of_a_redrive_is_heard(url: str) -> None:
    machine = Machine("fragile", data=Letter, max_steps=5)

    @machine.state(start=True)
    async def waking(run: Run[Letter]) -> Tried:
        raise ValueError("no")

    machine.transitions(waking.on(Tried) >> machine.final("up", ok=True), waking.on(Withdrawn) >> machine.final("withdrawn"))

    async def go() -> None:
        async with Runtime(url, machines=[machine]) as rt:
            dead = await rt.wait((await rt.start(machine, Letter())).id)
            assert dead.status is Status.DEAD
            await rt.redrive(dead.id, by="ann", event=Withdrawn())

    with heard() as tally:
        run_async(go())
    assert only(tally).line() == "fragile: 1/2 rows, 2/3 states; never taken: waking.tried -> up"


def test_what_was_refused_or_written_before_is_not_heard(url: str) -> None:
    async def go(tally: Tally) -> None:
        async with Runtime(url, machines=[letters]) as rt:
            asked = await rt.wait((await rt.start(letters, Letter(), key="k")).id)
            before = set(only(tally).taken)
            await rt.start(letters, Letter(), key="k")
            with pytest.raises(KeyConflict):
                await rt.start(letters, Letter(tries=5), key="k")
            await rt.send(asked.id, Approved(), by="ann")
            taken = set(only(tally).taken)
            assert len(taken) == len(before) + 1
            with pytest.raises((AlreadyDecided, NotWaiting, StatecraftError)):
                await rt.send(asked.id, Praised(), by="ben")
            assert only(tally).taken == taken

    with heard() as tally:
        run_async(go(tally))


def test_nothing_is_heard_after_the_end_and_nothing_stays_behind(url: str) -> None:
    plain = Runtime.__init__
    with heard() as tally:
        rt = Runtime(url, machines=[letters])
        assert Runtime.__init__ is not plain
    assert Runtime.__init__ is plain

    async def go() -> None:
        async with Runtime(url, machines=[letters]) as other:
            await other.wait((await other.start(letters, Letter())).id)

    run_async(go())
    assert rt.url == url
    assert tally.covers == {}


# --- what is said -------------------------------------------------------------------------------------------------------


def test_a_machine_that_never_ran_lists_every_row() -> None:
    cover = Cover.of(DEFINITION)
    assert cover.line().startswith("letters: 0/9 rows, 0/4 states; never taken: trying.tried[hopeless] -> lost, ")
    assert (cover.share, len(cover.never)) == (0, 9)


def test_covers_of_several_processes_add_up() -> None:
    one, other = Tally(), Tally()
    one.heard(DEFINITION, "trying", "tried", "trying", json.dumps([["hopeless", False], ["enough", False]]))
    other.heard(DEFINITION, "", "start", "trying", "[]")
    other.heard(DEFINITION, "asking", "approved", "sent", "[]")
    sent = json.loads(json.dumps([cover.to_plain() for cover in other.covers.values()]))
    one.add(Cover.from_plain(each) for each in sent)
    assert rows(only(one)) == {"trying.tried -> trying", "asking.approved -> sent"}
    assert only(one).entered == {"trying", "sent"}


def test_machines_are_found_by_name_by_module_and_by_package() -> None:
    here = "tests.testing.letters"
    assert [cover.name for cover in named([f"{here}:letters", here]).covers] == ["letters"]
    assert {"research", "support", "drafting"} <= {cover.name for cover in named(["machines"]).covers}
    assert loaded([here]) == {DEFINITION.fingerprint}
    assert loaded(["tests.testing.no_such_module"]) == set()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.testing.letters:Letter", "names no machine: write module:name, a module or a package"),
        ("no_such_module:letters", "cannot be looked at: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_name_that_names_no_machine_is_told(name: str, said: str) -> None:
    assert named([name]).missing == [f"{name} {said}"]


def test_a_machine_that_is_not_closed_is_told_only_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from statecraft import Data, Machine\nclass D(Data): ...\nopen_machine = Machine('open', data=D)\n"
    (tmp_path / "half_done.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert named(["half_done"]).missing == ["half_done names no machine: write module:name, a module or a package"]
    assert "is not closed" in named(["half_done:open_machine"]).missing[0]
    assert issubclass(Letter, Data)
