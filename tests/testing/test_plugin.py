"""The pytest plugin, in pytest sessions of its own.

Sessions inside this process forget afterwards what they were the first to import, so all that they use is imported here.
"""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from statecraft import Runtime
from statecraft.errors import ConfigError
from statecraft.testing import FakeMessagesAPI, MakeRuntime, SkippingClock, path_of, run_async
from statecraft.testing.cover import Cover
from statecraft.testing.fixtures import MakeAPI
from statecraft.testing.plugin_cover import Counting
from statecraft.testing.postgres import PostgresServer
from tests.testing.letters import Letter, letters

ROOT = Path(__file__).parents[2]
LOAD = [] if entry_points(group="pytest11", name="statecraft") else ["-p", "statecraft.testing.plugin"]
ONLY = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio"]

LATE = """
    from statecraft.testing import path_of, run_async
    from tests.testing.letters import Letter, letters

    def test_it_comes_too_late(statecraft_runtime, manual_clock):
        async def go():
            async with statecraft_runtime(letters) as rt:
                run = await manual_clock.skip_until(rt, (await rt.start(letters, Letter())).id)
                assert path_of(await rt.history(run.id)) == "trying -> trying -> asking -(review_expired)-> lost"
        run_async(go())
"""
SENT = """
    import pytest
    from statecraft.testing import run_async
    from tests.testing.letters import Approved, Letter, letters

    def test_it_is_sent(statecraft_runtime):
        async def go():
            async with statecraft_runtime(letters) as rt:
                run = await rt.wait((await rt.start(letters, Letter())).id)
                await rt.send(run.id, Approved(), by="ann")
        run_async(go())
"""
LETTERS = "--statecraft-coverage=tests.testing.letters:letters"


@pytest.fixture(scope="module", autouse=True)
def _everything_is_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run, so that what loads on first use is loaded."""

    async def go() -> None:
        clock = SkippingClock()
        make = MakeRuntime(f"sqlite:///{tmp_path_factory.mktemp('warm') / 'runs.db'}", clock)
        async with make(letters) as rt:
            run = await clock.skip_until(rt, (await rt.start(letters, Letter())).id)
            assert path_of(await rt.history(run.id)) == "... -> lost"

    run_async(go())
    assert FakeMessagesAPI.__name__
    assert Runtime.__name__


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A place for a session that finds what is under test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return pytester


def run(session: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return session.runpytest_inprocess(*LOAD, *ONLY, "-p", "no:xdist", *arguments)


def told(result: pytest.RunResult) -> list[str]:
    """What the summary says of rows."""
    lines = [str(line) for line in result.outlines]
    begins = [place for place, line in enumerate(lines) if "statecraft: rows taken" in line]
    if not begins:
        return []
    after = lines[begins[0] + 1 :]
    end = next((place for place, line in enumerate(after) if line.startswith("=") or " passed" in line), len(after))
    return [line for line in after[:end] if line]


# --- fixtures -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_database_of_each_kind_is_new_for_each_test(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import pytest
        from statecraft.testing import run_async
        from tests.testing.letters import Letter, letters

        @pytest.mark.parametrize("again", [1, 2])
        def test_it(statecraft_runtime, statecraft_store_url, again):
            async def go():
                assert statecraft_runtime.url == statecraft_store_url
                async with statecraft_runtime(letters) as rt:
                    assert await rt.runs() == []
                    await rt.start(letters, Letter(), detach=True)
            run_async(go())
    """)
    result = run(session, "-v", "--statecraft-stores=memory,sqlite")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_it?memory-1?*", "*test_it?sqlite-2?*"])


def test_without_a_postgresql_its_tests_are_skipped_and_say_why(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> PostgresServer:
        raise ConfigError("no PostgreSQL for tests: install the programs")

    monkeypatch.setattr(PostgresServer, "for_tests", missing)
    session.makepyfile("def test_it(statecraft_store_url): assert statecraft_store_url.startswith('sqlite')")
    result = run(session, "-rs")
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*statecraft: no PostgreSQL for tests: install the programs"])


def test_the_settings_file_chooses_the_databases(session: pytest.Pytester) -> None:
    session.makepyprojecttoml('[tool.pytest.ini_options]\nstatecraft_stores = ["memory"]\n')
    session.makepyfile("def test_it(statecraft_store_url): assert statecraft_store_url == 'sqlite://'")
    run(session, "--strict-config").assert_outcomes(passed=1)


@pytest.mark.parametrize("said", ['"memory, sqlite"', '["memory,sqlite"]', '["memory", "sqlite"]'])
def test_names_in_the_settings_file_may_have_commas_between_them(session: pytest.Pytester, said: str) -> None:
    session.makepyprojecttoml(f"[tool.pytest.ini_options]\nstatecraft_stores = {said}\n")
    session.makepyfile("def test_it(statecraft_store_url): assert statecraft_store_url.startswith('sqlite:')")
    run(session).assert_outcomes(passed=2)


def test_a_database_of_no_known_kind_is_refused(session: pytest.Pytester) -> None:
    session.makepyfile("def test_it(statecraft_store_url): ...")
    result = run(session, "--statecraft-stores=oracle")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*statecraft stores are memory, sqlite, postgresql; not oracle"])


@pytest.mark.slow
def test_postgresql_is_one_of_them(session: pytest.Pytester) -> None:
    session.makepyfile(LATE.replace("manual_clock)", "manual_clock, statecraft_store_url)"))
    run(session, "--statecraft-stores=postgresql").assert_outcomes(passed=1)


def test_models_and_apis_say_what_they_are_told_to(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import urllib.error, urllib.request
        from statecraft.llm import Request
        from statecraft.testing import run_async

        def ask(model):
            return run_async(model.complete(Request("", [{"role": "user", "content": "tea?"}]))).text

        def test_models(scripted_llm):
            assert ask(scripted_llm(["Yes."])) == "Yes."
            assert ask(scripted_llm.rules([("coffee", "No.")], "Perhaps.")) == "Perhaps."

        def test_apis(fake_messages_api):
            api = fake_messages_api("529")
            try:
                urllib.request.urlopen(urllib.request.Request(api.url + "/v1/messages", data=b"{}"))
            except urllib.error.HTTPError as error:
                assert error.code == 529
                error.close()
            assert len(api.requests) == 1
    """)
    run(session).assert_outcomes(passed=2)


@pytest.mark.slow
def test_the_fixtures_serve_tests_of_anyio(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import pytest
        from tests.testing.letters import Letter, letters

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_it(statecraft_runtime, manual_clock):
            async with statecraft_runtime(letters) as rt:
                run = await manual_clock.skip_until(rt, (await rt.start(letters, Letter())).id)
                assert run.state == "lost"
    """)
    result = session.runpytest_inprocess(*LOAD, *ONLY[:-2], "-p", "no:xdist")
    result.assert_outcomes(passed=1)


# --- differences --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failed_comparison_shows_both_paths_side_by_side(session: pytest.Pytester) -> None:
    session.makepyfile(LATE.replace("asking -(review_expired)-> lost", "asking -(approved)-> sent").replace("> trying ->", ">"))
    result = run(session)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*the run took another path:",
            "E*expected*actual",
            "E*>*-(tried)-> trying     (refused by hopeless, enough)",
            "E*-(approved)-> sent   -(review_expired)-> lost",
        ]
    )


@pytest.mark.slow
def test_two_paths_are_shown_side_by_side_too_and_other_things_as_ever(session: pytest.Pytester) -> None:
    session.makepyfile("""
        from statecraft.testing.taken import Stop, TakenPath

        def test_paths():
            assert TakenPath((Stop("a"), Stop("b", "e"))) == TakenPath((Stop("a"), Stop("c", "e")))

        def test_texts():
            assert "one" == "other"
    """)
    result = run(session)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E*> -(e)-> c   -(e)-> b", "E*- other"])


# --- coverage -----------------------------------------------------------------------------------------------------------


def test_the_answers_that_the_page_asks_of_the_fake_api_are_there() -> None:
    scripts = re.findall(r"fake_messages_api\(script=(\[.*?\])\)", (ROOT / "docs/pytest.md").read_text() + str(MakeAPI.__doc__))
    assert len(scripts) == 2
    for script in scripts:
        with FakeMessagesAPI(script=json.loads(script)) as api:
            assert api.url


@pytest.mark.slow
def test_nothing_is_counted_unless_asked(session: pytest.Pytester) -> None:
    session.makepyfile(LATE)
    assert told(run(session)) == []


@pytest.mark.slow
def test_the_summary_says_what_was_never_taken(session: pytest.Pytester) -> None:
    session.makepyfile(test_late=LATE, test_sent=SENT)
    result = run(session, LETTERS)
    assert result.ret == 0
    never = "trying.tried[hopeless] -> lost, trying.call_failed -> asking, asking.praised -> sent, anywhere.withdrawn -> lost"
    assert told(result) == [f"letters: 4/9 rows, 4/4 states; never taken: {never}, anywhere.failure -> lost"]


@pytest.mark.slow
def test_too_little_fails_a_session_whose_tests_passed(session: pytest.Pytester) -> None:
    session.makepyfile(LATE)
    result = run(session, LETTERS, "--statecraft-cover-fail-under=34")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert told(result)[-1] == "FAIL: less than 34% of the rows were taken of letters"
    assert run(session, LETTERS, "--statecraft-cover-fail-under=33").ret == 0


@pytest.mark.parametrize("said", ["nan", "101", "-1"])
def test_what_is_no_percentage_is_refused(session: pytest.Pytester, said: str) -> None:
    session.makepyfile("def test_it(): ...")
    result = run(session, f"--statecraft-cover-fail-under={said}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*statecraft_cover_fail_under is a percentage from 0 to 100, not *"])


@pytest.mark.slow
def test_a_share_that_is_asked_of_all_machines_fails_where_none_ran(session: pytest.Pytester) -> None:
    session.makepyfile("def test_it(): ...")
    result = run(session, "--statecraft-cover-fail-under=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert told(result) == ["FAIL: less than 1% of the rows were taken, for no machine ran"]
    assert run(session, LETTERS, "--statecraft-cover-fail-under=1", "--collect-only").ret == 0
    assert run(session, "--statecraft-coverage=all").ret == 0


def test_a_machine_that_never_ran_is_listed_and_one_that_does_not_exist_fails(session: pytest.Pytester) -> None:
    session.makepyfile("def test_it(): ...")
    result = run(session, LETTERS, "--statecraft-coverage=tests.testing.letters:leters")
    never, missing = told(result)
    assert never.startswith("letters: 0/9 rows, 0/4 states; never taken: ")
    assert missing == "tests.testing.letters:leters names no machine: write module:name, a module or a package"
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.slow
def test_all_machines_that_ran_can_be_counted(session: pytest.Pytester) -> None:
    session.makepyfile(LATE)
    [line] = told(run(session, "--statecraft-coverage=all"))
    assert line.startswith("letters: 3/9 rows, 3/4 states; never taken: ")


SETTINGS = """
    [tool.pytest.ini_options]
    testpaths = ["."]
    statecraft_coverage = ["tests.testing.letters"]
    statecraft_cover_fail_under = "100"
    markers = ["slow"]
"""


@pytest.mark.slow
def test_what_the_settings_file_asks_for_holds_for_the_whole_suite(session: pytest.Pytester) -> None:
    session.makepyprojecttoml(SETTINGS)
    session.makepyfile(test_late=LATE, test_sent=SENT)
    result = run(session, "--strict-config")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert told(result)[0].startswith("letters: 4/9 rows")


@pytest.mark.parametrize("part", ["test_late.py", "-k=late", "-m=not slow", "--deselect=test_sent.py::test_it_is_sent"])
def test_and_not_for_a_part_of_it(session: pytest.Pytester, part: str) -> None:
    session.makepyprojecttoml(SETTINGS)
    session.makepyfile(test_late="def test_late(): ...", test_sent="def test_it_is_sent(): ...")
    result = run(session, part)
    assert result.ret == 0
    assert told(result) == []


def test_a_plugin_that_leaves_tests_out_makes_a_part_of_it_too(session: pytest.Pytester) -> None:
    session.makepyprojecttoml(SETTINGS)
    session.makeconftest("""
        def pytest_collection_modifyitems(config, items):
            config.hook.pytest_deselected(items=items[1:])
            items[1:] = []
    """)
    session.makepyfile(test_late="def test_late(): ...", test_sent="def test_it_is_sent(): ...")
    assert told(run(session)) == []


@pytest.mark.slow
def test_the_workers_of_xdist_add_up(session: pytest.Pytester) -> None:
    session.makepyprojecttoml(SETTINGS)
    session.makepyfile(test_late=LATE, test_sent=SENT)
    result = session.runpytest_subprocess(*LOAD, *ONLY, "-n2", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert told(result)[0].startswith("letters: 4/9 rows, 4/4 states; ")


def test_what_one_worker_left_out_the_session_left_out(session: pytest.Pytester) -> None:
    """As pytest-xdist tells it: each worker with what it heard, one of them with a test deselected by a plugin of its own."""
    session.makepyprojecttoml(SETTINGS)
    counting = Counting(session.parseconfig(*LOAD, *ONLY))
    heard = Cover.of(letters.definition)
    heard.taken.add(1)
    for partial in (False, True):
        node = SimpleNamespace(
            workerinput={}, workeroutput={"statecraft_heard": [heard.to_plain()], "statecraft_partial": partial}
        )
        counting.pytest_configure_node(node)
        assert node.workerinput == {"statecraft_count": not counting.partial}
        counting.pytest_testnodedown(node)
        assert counting.partial is partial
    counting.pytest_testnodedown(SimpleNamespace())  # one that crashed has nothing to say


# --- what it costs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_session_that_does_not_use_it_loads_nothing_but_the_plugin(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import json, sys

        def test_it():
            ours = sorted(name for name in sys.modules if name.split(".")[0] == "statecraft")
            heavy = [name for name in ("pydantic", "sqlalchemy") if name in sys.modules]
            open("loaded.json", "w").write(json.dumps([ours, heavy]))
    """)
    session.runpytest_subprocess(*LOAD, *ONLY, "-p", "no:xdist").assert_outcomes(passed=1)
    loaded = json.loads((session.path / "loaded.json").read_text())
    assert loaded == [["statecraft", "statecraft.testing", "statecraft.testing.plugin"], []]


def test_the_plugin_itself_imports_nothing_but_pytest_and_typing() -> None:
    import ast

    from statecraft.testing import plugin

    tree = ast.parse(Path(plugin.__file__).read_text())
    found = {
        alias.name if isinstance(item, ast.Import) else str(item.module)
        for item in tree.body
        if isinstance(item, ast.Import | ast.ImportFrom)
        for alias in item.names
    }
    assert found == {"__future__", "pytest", "sys", "typing"}
