"""Every recorded run as a test of today's code: which ones diverge, where, and in what."""

from __future__ import annotations

import asyncio
import hashlib
import os
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import Data, Event, Failure, Machine, Replay, Run, Runtime, Settings
from statecraft.cli.junit import junit_file
from statecraft.divergence import LONGEST_DIFF, texts, values
from statecraft.errors import ConfigError
from statecraft.llm import Reply, Request
from statecraft.testing import ScriptedLLM
from tests.cli.support import MACHINE, cli, fields
from tests.explain.desk import Letter, Office, Sorted, desk


class Raises:
    """A model that nobody may ask."""

    model = label = "scripted"

    async def complete(self, request: Request) -> Reply:
        raise AssertionError(request)

    async def close(self) -> None: ...


def replays(office: Office, machine: Machine[Any], **which: Any) -> list[Replay]:
    """What `replay_all` finds, in a runtime that was given no machine and a model that raises."""

    async def look() -> list[Replay]:
        async with Runtime(office.url, llm=Raises(), clock=office.clock, settings=Settings(take="none")) as rt:
            return [found async for found in rt.replay_all(machine, **which)]

    return asyncio.run(look())


def sorts(office: Office, found: list[Replay]) -> set[str]:
    """The sorts of the runs that diverge."""
    names = {run.id: sort for sort, run in office.runs.items()}
    return {names[each.run_id] for each in found if each.divergence is not None}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.stat().st_size}


def test_runs_of_every_sort_replay_as_they_were_recorded(office: Office) -> None:
    found = replays(office, desk())
    assert len(found) == len(office.runs)
    assert [str(each.divergence) for each in found if not each.agrees] == []
    assert {each.run_id: each.steps for each in found} == {run.id: run.seq for run in office.runs.values()}
    assert {each.machine for each in found} == {"desk"}


def test_a_replay_writes_nothing_and_asks_no_model(office: Office) -> None:
    before = contents(office.folder)
    assert any(not each.agrees for each in replays(office, desk(prompt="Reply")))
    assert contents(office.folder) == before


def test_a_changed_prompt_diverges_at_its_run_step_and_call_with_the_lines_that_differ(office: Office) -> None:
    found = replays(office, desk(prompt="Reply"))
    assert sorts(office, found) == {"well", "refused", "approved", "rejected", "flaky", "expired", "waiting"}
    one = next(each for each in found if each.run_id == office.runs["approved"].id)
    assert one.divergence is not None
    assert (one.divergence.seq, one.divergence.state, one.divergence.call) == (0, "sorting", 1)
    changed = [line for line in one.divergence.diff if line[0] in "+-"]
    assert changed == ["-Answer: found long", "+Reply: found long"]


def test_a_changed_guard_diverges_where_it_leads_elsewhere_and_nowhere_else(office: Office) -> None:
    found = replays(office, desk(short=99))
    assert sorts(office, found) == {"refused", "approved", "rejected", "expired", "waiting"}
    one = next(each for each in found if each.run_id == office.runs["waiting"].id)
    assert one.divergence is not None
    assert (one.divergence.what, one.divergence.recorded, one.divergence.actual) == ("sorted leads elsewhere", "asking", "sent")


def other_desk(mark: str) -> Machine[Letter]:
    """A machine of the same name whose definition differs: it has only what short answers need."""
    machine = Machine("desk", data=Letter, version=mark)

    @machine.state(start=True)
    async def sorting(run: Run[Letter]) -> Sorted:
        return Sorted(answer="never asked")

    sent, failed = machine.final("sent", ok=True), machine.final("failed")
    machine.transitions(sorting.on(Sorted) >> sent, machine.anywhere.on(Failure) >> failed)
    return machine


def test_runs_of_another_definition_are_tried_and_counted_apart_with_the_reason_if_it_lacks_something(office: Office) -> None:
    found = {each.run_id: each for each in replays(office, other_desk("2"))}
    unclear, well = found[office.runs["unclear"].id], found[office.runs["well"].id]
    assert (unclear.agrees, unclear.divergence) == (False, None)
    assert "started by another definition, and the event is gone from the machine: unclear" in unclear.skipped
    assert well.divergence is not None
    assert "was not made" in well.divergence.what


@pytest.mark.slow
def test_since_and_limit_choose_runs_and_a_page_ends_where_the_next_begins(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statecraft.replaying.PAGE", 5)
    everything = [each.run_id for each in replays(office, desk(), concurrency=2)]
    assert len(set(everything)) == len(everything) == len(office.runs)
    assert [each.run_id for each in replays(office, desk(), limit=7, concurrency=1)] == everything[:7]
    late = office.runs["waiting"].created_at
    assert [each.run_id for each in replays(office, desk(), since=late)] == [office.runs["waiting"].id]
    assert replays(office, desk(), since=late + timedelta(days=1)) == []


def test_a_limit_or_a_concurrency_below_one_is_refused(office: Office) -> None:
    for wrong in ({"limit": 0}, {"concurrency": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            replays(office, desk(), **wrong)


def test_code_that_breaks_in_one_run_is_told_of_that_run_alone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(store: Any, clock: Any, definition: Any, services: Any, run_id: bytes) -> Replay:
        if run_id.hex() == office.runs["well"].id:
            raise KeyError("drawer")
        return Replay(run_id.hex(), 0, 0, None, definition.name)

    monkeypatch.setattr("statecraft.replaying.replay", broken)
    found = [each for each in replays(office, desk()) if not each.agrees]
    assert [each.run_id for each in found] == [office.runs["well"].id]
    assert "KeyError" in str(found[0].divergence)


def test_no_more_runs_than_asked_for_are_in_memory_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most = 0, 0

    async def slow(store: Any, clock: Any, definition: Any, services: Any, run_id: bytes) -> Replay:
        nonlocal held, most
        held, most = held + 1, max(most, held + 1)
        await asyncio.sleep(0)
        held -= 1
        return Replay(run_id.hex(), 0, 0, None, definition.name)

    monkeypatch.setattr("statecraft.replaying.replay", slow)
    assert len(replays(office, desk(), concurrency=3)) == len(office.runs)
    assert most == 3


def test_a_long_diff_is_cut_and_says_how_much_is_missing() -> None:
    lines = texts("\n".join(f"old {n}" for n in range(100)), "\n".join(f"new {n}" for n in range(100)))
    assert len(lines) == LONGEST_DIFF + 1
    assert lines[-1] == f"… {201 - LONGEST_DIFF} more lines"
    assert texts("same", "same") == ()


def test_a_diff_ends_lines_where_the_text_does_and_not_at_every_backslash() -> None:
    found = values({"at": "C:\\new\none"}, {"at": "C:\\new\ntwo"})
    assert found[-4:] == ('  "at": "C:\\\\new', '-one"', '+two"', " }")


# --- three hundred runs -------------------------------------------------------------------------------------------------


class Count(Data):
    n: int = 0


class Counted(Event):
    n: int


def counter(step: int = 1) -> Machine[Count]:
    machine = Machine("counter", data=Count)

    @machine.state(start=True, max_visits=3)
    async def counting(run: Run[Count]) -> Counted:
        return Counted(n=int(await run.llm.ask(f"after {run.data.n}")) + (step if run.data.n == 299 else 1) - 1)

    def goes_on(event: Counted, data: Count) -> bool:
        return event.n % 3 != 0

    machine.transitions(
        counting.on(Counted.when(goes_on)) >> counting,
        counting.on(Counted) >> machine.final("counted", ok=True),
        machine.anywhere.on(Failure) >> machine.final("failed"),
    )
    return machine


@pytest.mark.slow
def test_three_hundred_recorded_runs_replay_and_the_three_that_differ_are_found(tmp_path: Path) -> None:
    office = Office(tmp_path)

    def after(request: Any) -> str:
        return str(int(str(request.messages[-1]["content"]).split()[-1]) + 1)

    counter_machine = counter()

    async def record_all() -> None:
        async with office.runtime(counter_machine, llm=ScriptedLLM(after)) as rt:
            for n in range(300):
                await rt.start(counter_machine, Count(n=n))
            await rt.idle()

    asyncio.run(record_all())
    same = replays(office, counter())
    assert (len(same), sum(each.agrees for each in same)) == (300, 300)
    found = [each for each in replays(office, counter(step=3)) if not each.agrees]
    differ = "in counting: the handler answers otherwise"
    assert [str(each.divergence).splitlines()[0] for each in found] == [f"step {n} {differ}" for n in (0, 1, 2)]


# --- the command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the machine's file, and none of the caller's settings."""
    for name in ("STATECRAFT_URL", "STATECRAFT_MACHINES", "STATECRAFT_ACTOR", "STATECRAFT_MODEL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "post.py").write_text(MACHINE)
    return tmp_path


@pytest.fixture
def place(folder: Path) -> Path:
    """The same, with two recorded runs."""
    for to in ("Ann", "nobody"):
        done = cli("start", "post.py:letters", "--set", f"to={to}")
        assert done.exit_code in (1, 4), done.stderr
    return folder


def edit(place: Path, old: str, new: str) -> None:
    text = (place / "post.py").read_text()
    assert old in text
    (place / "post.py").write_text(text.replace(old, new))


def test_replay_all_counts_and_exits_1_only_if_a_run_diverges(place: Path) -> None:
    same = cli("replay", "--all", "-m", "post.py:letters", "--since", "1d")
    assert (same.exit_code, same.stdout) == (0, "2 same, 0 diverge\n"), same.stderr
    edit(place, "run.data.to) for", 'run.data.to + "!") for')
    before = contents(place)
    differs = cli("replay", "--all", "-m", "post.py:letters", "--junit", "out.xml", "--progress")
    assert differs.exit_code == 1, differs.stderr
    assert "1 same, 1 diverge" in differs.stdout
    assert "in writing, call 0" in differs.stdout
    after = contents(place)
    after.pop("out.xml")
    assert {name: text for name, text in after.items() if "db" in name} == {
        name: text for name, text in before.items() if "db" in name
    }
    suite = ET.parse(place / "out.xml").getroot()
    assert [int(suite.attrib[name]) for name in ("tests", "failures", "skipped")] == [2, 1, 0]
    assert len(suite.findall("testcase/failure")) == 1


def test_replay_all_as_json_lists_divergences_and_reasons(place: Path) -> None:
    edit(place, "class Refused", "class Declined")
    edit(place, "Written | Refused", "Written | Declined")
    edit(place, "return Refused", "return Declined")
    edit(place, "writing.on(Refused)", "writing.on(Declined)")
    edit(place, "run.data.to) for", 'run.data.to + "!") for')
    done = cli("replay", "--all", "-m", "post.py:letters", "--json")
    found = fields(done)
    assert (done.exit_code, found["same"], found["diverge"], found["not_replayed"]) == (1, 0, 1, 1)
    assert found["divergences"][0]["divergence"]["call"] == 0
    assert any("Ann!" in line for line in found["divergences"][0]["divergence"]["diff"])
    assert found["reasons"][0]["runs"] == 1
    assert "refused" in found["reasons"][0]["reason"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("@last", "--all"),
        ("--all", "--continue"),
        ("@last", "--limit", "3"),
        ("--all",),
        ("--all", "-m", "post.py:letters", "--since", "x"),
    ],
    ids=["nothing", "both", "continue all", "limit of one", "no machine", "since what"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(folder: Path, words: tuple[str, ...]) -> None:
    done = cli("replay", *words)
    assert done.exit_code == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("error: ")


def test_a_junit_file_says_anything_in_legal_xml_and_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    with junit_file(path) as junit:
        junit.add(Replay("r<1>", 0, 0, None, 'm"&'))
        junit.add(Replay("r2", 0, 0, None, "m", skipped="bad \x00 \ud800 byte"))
    assert [case.attrib["name"] for case in ET.parse(path).getroot()] == ["r<1>", "r2"]
    broken = tmp_path / "broken.xml"
    with pytest.raises(IndexError), junit_file(broken) as junit:  # noqa: PT012
        junit.add(Replay("r1", 0, 0, None))
        raise IndexError
    assert list(tmp_path.iterdir()) == [path]


def test_a_junit_file_takes_the_place_of_no_link_and_no_pipe(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.xml", tmp_path / "link.xml"
    link.symlink_to(kept)
    reading, writing = os.pipe()
    for path in (link, Path(f"/dev/fd/{writing}")):  # as /dev/stdout is one
        with junit_file(path) as junit:
            junit.add(Replay("r1", 0, 0, None, "m"))
    said = os.read(reading, 10_000)
    os.close(reading)
    os.close(writing)
    assert link.is_symlink()
    assert said == kept.read_bytes()
    assert len(ET.fromstring(said)) == 1


@pytest.mark.parametrize("path", [Path("nowhere/out.xml"), Path()])
def test_a_junit_file_that_cannot_be_written_is_refused_before_anything_is_replayed(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"), junit_file(path):
        pytest.fail("it was opened")


# --- going on from a divergence -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_diverges_is_forked_there_and_goes_on_live(tmp_path: Path) -> None:
    office = Office(tmp_path)

    async def story() -> None:
        machine = desk()
        async with office.runtime(machine) as rt:
            run = await office.write(rt, machine, question="long")
            assert (await rt.replay(run.id, fork=True)).fork is None
        before = len(office.llm.requests)
        async with office.runtime(desk(prompt="Reply")) as rt:
            found = await rt.replay(run.id, fork=True, by="ann")
            assert found.divergence is not None
            assert found.fork is not None
            fork = await rt.wait(found.fork)
            assert (fork.forked_from, fork.forked_step, fork.forked_by) == (run.id, 0, "ann")
            assert (fork.status, fork.state, fork.seq) == ("waiting", "asking", 1)
            assert [str(each.messages[-1]["content"]) for each in office.llm.requests[before:]] == ["Reply: found long"]
            assert (await rt.get(run.id)) == run
            assert (await rt.replay(fork.id)).agrees
            told = str(await rt.explain(fork.id))
            assert f"shares its history up to step 0 with run {run.id}; forked by ann: replay: " in told

    asyncio.run(asyncio.wait_for(story(), 60))


@pytest.mark.slow
def test_a_fork_with_other_data_replays_and_explains_as_what_it_is(tmp_path: Path) -> None:
    office = Office(tmp_path)

    async def story() -> None:
        machine = desk()
        async with office.runtime(machine) as rt:
            run = await office.write(rt, machine, question="long")
            fork = await rt.wait((await rt.fork(run.id, at=0, data={"question": "2+2"}, by="bob")).id)
            assert (fork.state, (await rt.replay(fork.id)).agrees) == ("sent", True)
            steps = (await rt.explain(fork.id)).steps
            assert [(step.event, step.visit) for step in steps] == [("forked", 1), ("sorted", 1), (None, 1)]
            assert [step.data["question"] for step in steps] == ["long", "2+2", "2+2"]
            assert steps[0].decider is not None
            assert (steps[0].decider.kind, steps[0].decider.name, steps[0].changed) == ("fork", "bob", ("question",))

    asyncio.run(asyncio.wait_for(story(), 60))


def test_going_on_needs_the_runtimes_own_machine(office: Office) -> None:
    async def go_on() -> None:
        async with Runtime(office.url, clock=office.clock, settings=Settings(take="none")) as rt:
            with pytest.raises(ConfigError, match="own machine"):
                await rt.replay(office.runs["well"].id, desk(), fork=True)

    asyncio.run(go_on())


@pytest.mark.slow
def test_replay_continue_says_the_fork_and_stays_with_it(place: Path) -> None:
    run_id = fields(cli("runs", "--state", "reading", "--json"))["runs"][0]["id"]
    agrees = cli("replay", run_id, "--continue", "-m", "post.py:letters")
    assert (agrees.exit_code, "replay agrees" in agrees.stdout) == (0, True)
    edit(place, "run.data.to) for", 'run.data.to + "!") for')
    forked = cli("replay", run_id, "--continue", "-m", "post.py:letters")
    assert forked.exit_code == 4, forked.stderr
    fork_id = forked.stdout.strip()
    assert fields(cli("show", fork_id, "--json"))["run"]["forked_from"] == run_id
    assert "replay differs at step 0 in writing, call 0" in forked.stderr
