from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from statecraft.cli.eval_model import load_suite, models_for
from statecraft.errors import ConfigError
from tests.cli.support import cli, fields, one_error

SUITE = '''
"""Questions about drinks."""

import json
import os
import signal
from pathlib import Path

from statecraft import Data, Event, Failure, Machine, Run
from statecraft.evals import Case, Contains, Ends, Judge, Suite
from statecraft.testing import ScriptedLLM


class Question(Data):
    question: str
    answer: str = ""


class Answered(Event):
    answer: str


drinks = Machine("drinks", data=Question)


@drinks.state(start=True)
async def answering(run: Run[Question]) -> Answered:
    """Answer."""
    return Answered(answer=await run.llm.ask(run.data.question))


drinks.transitions(
    answering.on(Answered) >> drinks.final("told", ok=True),
    drinks.anywhere.on(Failure) >> drinks.final("silent"),
)


def answer(request):
    said = request.messages[-1]["content"]
    with Path("asked.txt").open("a") as file:
        file.write(said[:10] + "\\n")
    if Path("interrupt").exists() and "milk" in said:
        os.kill(os.getpid(), signal.SIGINT)
    return Path("answer.txt").read_text().format(said)


def model():
    return ScriptedLLM(answer, model="barkeeper")


def offline():
    return ScriptedLLM(lambda request: "Offline, about " + request.messages[-1]["content"], model="offline")


cases = [
    Case({"question": "tea?"}, {"contains": "tea"}, tags=("hot",)),
    Case({"question": "milk?"}, {"contains": "milk"}),
]
suite = Suite(drinks, cases, [Ends("told"), Contains("answer")], concurrency=1)
judged = Suite(drinks, [Case({"question": "tea?"})], [Judge(["is about tea"])], name="judged")
number = 7
'''

STERN = """
def judge():
    said = {"marks": [{"number": 1, "reason": "so", "met": False}]}
    return ScriptedLLM([json.dumps(said)], model="stern")
"""


@pytest.fixture(autouse=True)
def bar(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The suite's file, and a barkeeper who repeats the question."""
    (place / "bar.py").write_text(SUITE)
    say(place, "About {}")
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    return place


def say(place: Path, text: str) -> None:
    (place / "answer.txt").write_text(text)


def asked(place: Path) -> int:
    file = place / "asked.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.slow
def test_a_suite_that_passes_is_exit_code_0_and_is_not_paid_for_twice(place: Path) -> None:
    first, second = cli("eval", "bar.py:suite"), cli("eval", "bar.py:suite")
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr
    assert first.stdout.splitlines()[0] == "drinks: 2 of 2 cases passed (100%, 95% interval 34% to 100%)"
    assert first.stderr == "model: barkeeper (scripted, no model)\n"
    assert second.stdout.splitlines()[1].endswith("2 of the runs were there already")
    assert asked(place) == 2


@pytest.mark.slow
def test_a_failing_case_can_be_looked_at_with_the_commands_that_are_printed(place: Path) -> None:
    say(place, "Something else")
    done = cli("eval", "bar.py:suite", "--db", "e.db")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "failed: 2 cases of 2 failed"
    commands = [line.strip() for line in done.stdout.splitlines() if line.endswith(" --db e.db")]
    verbs = ("show", "explain", "replay", "fork")
    assert [next(verb for verb in verbs if f" {verb} " in command) for command in commands] == [*verbs, *verbs]
    for command in commands[:4]:
        words = shlex.split(command)
        begins = next(place for place, word in enumerate(words) if word in verbs)
        assert cli(*words[begins:]).exit_code == 0, command


@pytest.mark.slow
def test_again_runs_every_trial_anew_and_since_goes_on_with_it(place: Path) -> None:
    cli("eval", "bar.py:suite")
    assert cli("eval", "bar.py:suite", "--again").exit_code == 0
    assert asked(place) == 4
    assert cli("eval", "bar.py:suite", "--since", "2026-01-01T00:00:00Z").exit_code == 0
    assert asked(place) == 4


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(place: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    (place / "interrupt").touch()
    done = cli("eval", "bar.py:suite", "--again", "--tag", "hot", "--tag", "", "--repeat", "1", "--case", "tea?")
    assert done.exit_code == 0, done.stderr
    done = cli("eval", "bar.py:suite", "--again", "--repeat", "1")
    assert done.exit_code == 130, done.stderr
    lines = done.stderr.splitlines()
    assert "stopped after 1 of 2 trials, which are kept" in lines
    command = next(line for line in lines if line.startswith("go on with: ")).removeprefix("go on with: ")
    (place / "interrupt").unlink()
    words = shlex.split(command)
    words = words[words.index("eval") :]
    assert words[:4] == ["eval", "bar.py:suite", "--repeat", "1"]
    assert words[4] == "--since"
    counted = asked(place)
    assert cli(*words).exit_code == 0
    assert asked(place) - counted <= 1
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow
def test_a_baseline_fails_for_what_got_worse_only(place: Path) -> None:
    say(place, "It is about tea")
    assert cli("eval", "bar.py:suite", "--save-baseline", "b.json").exit_code == 1
    assert cli("eval", "bar.py:suite", "--baseline", "b.json").exit_code == 0
    say(place, "Nothing")
    worse = cli("eval", "bar.py:suite", "--baseline", "b.json", "--again")
    assert worse.exit_code == 1
    assert "regression: tea?: 0 of 1 passed, 1 of 1 before" in worse.stdout.splitlines()
    assert worse.stderr.splitlines()[-1] == "failed: 1 regression since b.json"
    part = cli("eval", "bar.py:suite", "--baseline", "b.json", "--case", "milk?")
    assert part.exit_code == 0
    assert "gone" not in part.stdout


@pytest.mark.parametrize(("bar_at", "code"), [("0.5", 0), ("0.51", 1)])
def test_a_bar_takes_the_place_of_perfection(place: Path, bar_at: str, code: int) -> None:
    say(place, "It is about tea")
    assert cli("eval", "bar.py:suite", "--fail-under", bar_at).exit_code == code


def test_json_junit_and_the_page_say_the_same(place: Path) -> None:
    say(place, "It is about tea")
    done = cli("eval", "bar.py:suite", "--json", "--junit", "j.xml", "--html", "h.html", "--repeat", "2")
    found = fields(done)
    assert (done.exit_code, found["passed"], found["report"]["rate"]) == (1, False, 0.5)
    assert [case["passed"] for case in found["report"]["cases"]] == [True, False]
    assert ET.parse(place / "j.xml").getroot().get("failures") == "1"
    page = (place / "h.html").read_text()
    assert "drinks: 1 of 2 cases passed" in page
    assert found["report"]["cases"][1]["trials"][0]["run"] in page


def test_a_file_that_cannot_be_written_does_not_keep_back_what_was_found(place: Path) -> None:
    done = cli("eval", "bar.py:suite", "--junit", "nowhere/report.xml")
    assert done.exit_code == 2
    assert "2 of 2 cases passed" in done.stdout
    assert "nowhere/report.xml cannot be written (No such file or directory)" in done.stderr


def test_progress_names_each_trial(place: Path) -> None:
    cli("eval", "bar.py:suite", "--case", "tea?")
    lines = cli("eval", "bar.py:suite", "--progress").stderr.splitlines()
    assert lines[1:] == ["  1/2 passed  tea?  recalled", "  2/2 passed  milk?"]


@pytest.mark.slow
def test_what_was_recorded_answers_again_without_the_model(place: Path) -> None:
    assert cli("eval", "bar.py:suite", "--model", "record:tape.jsonl").exit_code == 0
    assert cli("eval", "bar.py:suite", "--model", "record:tape.jsonl", "--db", "other.db").exit_code == 0
    assert len((place / "tape.jsonl").read_text().splitlines()) == 2
    counted = asked(place)
    done = cli("eval", "bar.py:suite", "--model", "cassette:tape.jsonl")
    assert done.exit_code == 0
    assert done.stderr.startswith("model: barkeeper (recorded, no model)")
    assert asked(place) == counted
    lines = (place / "tape.jsonl").read_text()
    (place / "tape.jsonl").write_text(lines.replace("About milk", "About cows"))
    assert cli("eval", "bar.py:suite", "--model", "cassette:tape.jsonl").exit_code == 1, "another tape, other trials"


@pytest.mark.slow
def test_recording_goes_on_where_it_was_cut_off(place: Path) -> None:
    (place / "interrupt").touch()
    cut = cli("eval", "bar.py:suite", "--model", "record:tape.jsonl")
    assert cut.exit_code == 130
    command = next(line for line in cut.stderr.splitlines() if line.startswith("go on with: "))
    (place / "interrupt").unlink()
    words = shlex.split(command)
    assert cli(*words[words.index("eval") :]).exit_code == 0
    tape = [json.loads(line)["request"]["messages"][0]["content"] for line in (place / "tape.jsonl").read_text().splitlines()]
    assert tape[0] == "tea?"
    assert set(tape) == {"tea?", "milk?"}
    assert cli("eval", "bar.py:suite", "--model", "cassette:tape.jsonl").exit_code == 0


def test_the_offline_model_is_what_the_suite_says(place: Path) -> None:
    done = cli("eval", "bar.py:suite", "--model", "offline")
    assert done.exit_code == 0
    assert done.stderr.startswith("model: offline (scripted, no model)")
    assert asked(place) == 0


@pytest.mark.slow
def test_judges_may_ask_a_model_of_their_own(place: Path) -> None:
    (place / "bar.py").write_text(SUITE + STERN)
    done = cli("eval", "bar.py:judged", "--model", "record:tape.jsonl")
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "model: barkeeper (scripted, no model) (recording); judge: stern (scripted, no model) (recording)"
    )
    assert "judge: 'is about tea' is not met: so" in done.stdout
    assert "1 verdict, " in done.stdout
    played = cli("eval", "bar.py:judged", "--model", "cassette:tape.jsonl")
    assert (played.exit_code, asked(place)) == (1, 1)
    assert "is not met: so" in played.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bar.py:nothing"], "bar.py:nothing is not there; it has suite, judged"),
        (["bar.py:number"], "bar.py:number is a int, not a suite"),
        (["bar.py:drinks"], "bar.py:drinks is a Machine, not a suite"),
        (["bar.py"], "TARGET 'bar.py' names no suite: write bar.py:suite"),
        (["post.py:letters"], "is a Machine, not a suite; it has no suite"),
        (["nowhere.py:suite"], "there is no file nowhere.py; TARGET is package.module:suite"),
        (
            ["reserch"],
            "there is no module 'reserch'; did you mean research? TARGET is package.module:suite, path/to/file.py:suite or",
        ),
        (["review"], "no suite comes with review; suites come with research and extract"),
        (["bar.py:suite", "--case", "beer?"], "suite 'drinks' has no case 'beer?'"),
        (["bar.py:suite", "--tag", "cold"], "no case with the tag cold; it has hot"),
        (["bar.py:suite", "--baseline", "no.json"], "the baseline no.json cannot be read"),
        (["bar.py:suite", "--model", "cassette:no.jsonl"], "the cassette no.jsonl cannot be read"),
        pytest.param(["bar.py:suite", "--model", "live"], "ANTHROPIC_API_KEY", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_and_exit_code_2(words: list[str], said: str) -> None:
    done = cli("eval", *words)
    assert done.exit_code == 2, done.stdout
    assert said in one_error(done)


def test_a_suite_without_an_offline_model_says_so(place: Path) -> None:
    (place / "bar.py").write_text(SUITE.replace("def offline", "def elsewhere"))
    assert "has no offline()" in one_error(cli("eval", "bar.py:suite", "--model", "offline"))
    (place / "bar.py").write_text(SUITE.replace('return ScriptedLLM(answer, model="barkeeper")', "return 7"))
    assert "model() for bar.py:suite must answer a model" in one_error(cli("eval", "bar.py:suite"))


def test_the_shipped_suite_has_a_name_and_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    by_name, by_file = load_suite("research"), load_suite("machines/research_eval.py:suite")
    assert by_name.suite is by_file.suite
    assert by_name.machine_flag == ""
    assert models_for(by_name, "offline").label == "offline model (extractive, not an LLM)"
    with pytest.raises(ConfigError, match="research:suit is not there"):
        load_suite("machines.research:suit")
