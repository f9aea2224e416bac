from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from statecraft.cli.explain import _broken
from tests.cli.support import cli, fields, start


def test_start_prints_only_the_id_and_says_the_rest_on_stderr() -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann")
    assert done.exit_code == 4
    assert len(done.stdout.strip()) == 32
    assert "waiting in reading" in done.stderr
    assert f"statecraft review show {done.stdout.strip()}" in done.stderr


def test_start_shows_moves_on_stderr_when_asked() -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--progress")
    assert "start → writing" in done.stderr
    assert "tool greet" in done.stderr
    assert "writing ─ written → reading" in done.stderr
    assert "→" not in done.stdout


def test_start_with_json_prints_the_run() -> None:
    run = fields(cli("start", "post.py:letters", "--input", '{"to": "Ann"}', "--json"))["run"]
    assert (run["machine"], run["status"], run["state"], run["waiting_for"]) == ("letters", "waiting", "reading", "review")
    assert run["created_at"].endswith("Z")


@pytest.mark.slow
def test_start_with_the_same_key_gives_the_same_run() -> None:
    assert start("--key", "a") == start("--key", "a") != start("--key", "b")


def test_start_says_on_whose_behalf_a_run_is() -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--tenant", "acme", "--json")
    assert fields(done)["run"]["tenant"] == "acme"


@pytest.mark.slow
def test_a_detached_run_is_only_recorded_until_somebody_resumes_it() -> None:
    done = cli("start", "post.py:letters", "--set", "to=Ann", "--detach")
    assert done.exit_code == 0
    run_id = done.stdout.strip()
    assert fields(cli("show", run_id, "--json"))["run"]["status"] == "ready"
    assert cli("resume", run_id, "-m", "post.py:letters").exit_code == 4
    assert fields(cli("show", run_id, "--json"))["run"]["state"] == "reading"


def test_a_run_that_fails_ends_with_1_and_says_why() -> None:
    done = cli("start", "post.py:letters", "--set", "to=nobody")
    assert done.exit_code == 1
    assert "failed in thrown_away" in done.stderr
    assert "nobody to write to" in done.stderr


@pytest.mark.slow
def test_runs_are_listed_newest_first_and_by_filter() -> None:
    first, second = start(), start("--key", "b")
    assert [run["id"] for run in fields(cli("runs", "--json"))["runs"]] == [second, first]
    assert [run["id"] for run in fields(cli("runs", "--json", "--key", "b"))["runs"]] == [second]
    assert fields(cli("runs", "--json", "--status", "done"))["runs"] == []
    assert first in cli("runs", "--state", "reading").stdout
    assert len(cli("runs", "--limit", "1").stdout.splitlines()) == 2


@pytest.mark.slow
def test_a_run_is_found_by_prefix_and_as_the_last_one() -> None:
    start()
    last = start()
    assert fields(cli("show", "@last", "--json"))["run"]["id"] == last
    assert fields(cli("show", last[:-1], "--json"))["run"]["id"] == last


@pytest.mark.slow
def test_show_tells_path_calls_and_question() -> None:
    run_id = start()
    text = cli("show", run_id).stdout
    assert run_id in text
    assert "letters version 1" in text
    assert "Send this letter?" in text
    assert "approved | rejected | modified" in text
    assert "tool  greet" in cli("show", run_id, "--steps").stdout
    step = cli("show", run_id, "--step", "0").stdout
    assert "Dear Ann" in step
    assert "ended by written → reading" in step


@pytest.mark.slow
def test_show_gives_the_data_of_now_and_of_then() -> None:
    run_id = start()
    target = ("-m", "post.py:letters")
    assert fields(cli("show", run_id, "--data", "--json", *target))["data"]["text"] == "Dear Ann"
    assert fields(cli("show", run_id, "--at", "0", "--json", *target))["data"]["text"] == ""
    assert '"text": "Dear Ann"' in cli("show", run_id, "--data", *target).stdout


@pytest.mark.slow
def test_show_verifies_the_stored_history() -> None:
    run_id = start()
    assert "holds" in cli("show", run_id, "--verify").stdout
    assert fields(cli("show", run_id, "--verify", "--json"))["problems"] == []


@pytest.mark.slow
def test_the_machine_of_a_run_may_come_from_the_environment_or_the_project(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start(), start()
    monkeypatch.setenv("STATECRAFT_MACHINES", "post:letters")
    assert cli("send", first, "approved").exit_code == 0
    monkeypatch.delenv("STATECRAFT_MACHINES")
    (place / "statecraft.toml").write_text('machines = ["post:letters"]\n')
    assert cli("send", second, "approved").exit_code == 0


@pytest.mark.slow
def test_an_event_is_sent_in_the_name_of_whoever_sends_it() -> None:
    run_id = start()
    done = cli("send", run_id, "Approved", "--set", "note=fine", "--by", "bea", "-m", "post.py:letters")
    assert done.exit_code == 0, done.stderr
    last = fields(cli("show", run_id, "--json"))["path"][-1]
    assert (last["event"], last["actor"], last["payload"]) == ("approved", "bea", {"note": "fine"})


@pytest.mark.slow
def test_reviews_are_listed_shown_and_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECRAFT_MACHINES", "post.py:letters")
    run_id = start()
    assert "Send this letter?" in cli("review").stdout
    assert [item["run_id"] for item in fields(cli("review", "--json"))["reviews"]] == [run_id]
    shown = cli("review", "show", run_id)
    assert "Dear Ann" in shown.stdout
    assert f"statecraft review decide {run_id} approved" in shown.stderr
    assert fields(cli("review", "show", run_id, "--json"))["review"]["events"] == ["approved", "rejected", "modified"]
    assert cli("review", "modify", run_id, "--set", "text=Hi").exit_code == 4
    assert "Hi" in cli("review", "show", run_id).stdout
    assert cli("review", "approve", run_id, "--note", "good").exit_code == 0
    assert cli("review").stdout == ""


@pytest.mark.slow
def test_options_of_a_group_hold_for_its_verbs(place: Path) -> None:
    run_id = start("--db", "other.db")
    done = cli("review", "--db", "other.db", "show", run_id)
    assert done.exit_code == 0, done.stderr
    assert not (place / "statecraft.db").exists()


@pytest.mark.slow
def test_a_rejected_run_ends_with_5_and_keeps_the_reason() -> None:
    run_id = start()
    done = cli("review", "reject", run_id, "--reason", "too short", "-m", "post.py:letters")
    assert done.exit_code == 5
    assert fields(cli("show", run_id, "--json"))["path"][-1]["payload"] == {"reason": "too short"}


@pytest.mark.slow
def test_a_decision_may_be_recorded_only() -> None:
    run_id = start()
    done = cli("review", "decide", run_id, "modified", "--set", "text=Hi", "--detach", "-m", "post.py:letters")
    assert done.exit_code == 0
    assert fields(cli("show", run_id, "--json"))["run"]["status"] == "ready"


@pytest.mark.slow
def test_a_cancelled_run_keeps_the_reason_and_watch_ends_with_5() -> None:
    run_id = start()
    assert cli("cancel", run_id, "--reason", "no longer needed").exit_code == 0
    assert fields(cli("show", run_id, "--json"))["run"]["reason"] == "no longer needed"
    assert cli("watch", run_id).exit_code == 5


def test_watch_tells_the_moves_and_ends_with_the_outcome() -> None:
    run_id = start()
    done = cli("watch", run_id)
    assert done.exit_code == 4
    assert "writing ─ written → reading" in done.stdout
    kinds = [entry["kind"] for entry in fields(cli("watch", run_id, "--json"))["entries"]]
    assert kinds[0] == "started"
    assert "call" in kinds


@pytest.mark.parametrize("limit", ["0", "0.05"])
def test_watch_gives_up_after_its_timeout_with_6(limit: str) -> None:
    run_id = cli("start", "post.py:letters", "--set", "to=Ann", "--detach").stdout.strip()
    done = cli("watch", run_id, "--timeout", limit)
    assert done.exit_code == 6
    assert f"has not settled after {limit} s; it goes on" in done.stderr


@pytest.mark.parametrize("limit", ["nan", "1e300", "-1", "soon"])
def test_a_timeout_that_is_no_length_of_time_is_a_usage_error(limit: str) -> None:
    for words in (("watch", "@last"), ("start", "post.py:letters", "--set", "to=Ann")):
        done = cli(*words, f"--timeout={limit}")
        assert done.exit_code == 2
        assert "write 10s, 500ms, 2m, 1.5h or 3d" in done.stderr


@pytest.mark.slow
def test_replay_agrees_with_the_code_that_ran_and_tells_the_first_difference_to_other_code(place: Path) -> None:
    run_id = start()
    agrees = cli("replay", run_id, "-m", "post.py:letters")
    assert agrees.exit_code == 0, agrees.stderr
    assert "replay agrees: 1 move and 1 call" in agrees.stdout
    (place / "post.py").write_text((place / "post.py").read_text().replace("run.data.to) for", 'run.data.to + "!") for'))
    differs = cli("replay", run_id, "-m", "post.py:letters")
    assert differs.exit_code == 1
    assert "replay differs at" in differs.stdout
    assert "Ann!" in differs.stdout
    assert fields(cli("replay", run_id, "-m", "post.py:letters", "--json"))["agrees"] is False


def test_check_tells_findings_and_exits_1_for_errors(place: Path) -> None:
    sound = cli("check", "post.py:letters")
    assert sound.exit_code == 0, sound.stdout
    assert "letters is sound" in sound.stdout
    text = (place / "post.py").read_text().replace("    reading.on(Rejected) >> thrown_away,\n", "")
    (place / "unsound.py").write_text(text)
    unsound = cli("check", "unsound.py:letters")
    assert unsound.exit_code == 1
    assert "rejected" in unsound.stdout
    assert "fix:" in unsound.stdout
    found = fields(cli("check", "unsound.py:letters", "--json"))
    assert found["sound"] is False
    assert found["findings"][0]["code"].startswith("SC")


def test_check_of_the_environment_never_shows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-very-secret-key")
    done = cli("check")
    assert done.exit_code == 0, done.stdout
    assert "ANTHROPIC_API_KEY is set" in done.stdout
    assert "secret" not in done.output
    facts = {fact["name"]: fact for fact in fields(cli("check", "--json"))["checks"]}
    assert facts["database"]["ok"] is True
    start()
    assert "reachable" in cli("check").stdout


def test_a_diagram_is_written_in_each_text_form(place: Path) -> None:
    assert "stateDiagram-v2" in cli("diagram", "post.py:letters").stdout
    assert "digraph" in cli("diagram", "post.py:letters", "-f", "dot").stdout
    done = cli("diagram", "post.py:letters", "-o", "letters.dot", "--json")
    assert fields(done)["format"] == "dot"
    assert "digraph" in (place / "letters.dot").read_text()
    told = fields(cli("diagram", "post.py:letters", "--json"))
    assert (told["file"], told["format"]) == (None, "mermaid")
    assert told["text"] == cli("diagram", "post.py:letters").stdout


def test_a_diagram_of_a_run_needs_no_code(place: Path) -> None:
    run_id = start()
    (place / "post.py").unlink()
    assert "writing" in cli("diagram", "--run", run_id, "-f", "dot").stdout


def test_a_diagram_that_cannot_be_written_leaves_nothing(place: Path) -> None:
    done = cli("diagram", "post.py:letters", "-o", "nowhere/letters.dot")
    assert done.exit_code == 2
    assert "nowhere/letters.dot cannot be written" in done.stderr
    (place / "taken.svg").mkdir()
    assert cli("diagram", "post.py:letters", "-f", "dot", "-o", "taken.svg").exit_code == 2
    assert sorted(path.name for path in place.iterdir() if "svg" in path.name or "dot" in path.name) == ["taken.svg"]


def test_a_diagram_goes_through_a_link_and_into_a_pipe_and_replaces_neither(place: Path) -> None:
    (place / "real.dot").touch()
    (place / "link.dot").symlink_to("real.dot")
    assert cli("diagram", "post.py:letters", "-o", "link.dot").exit_code == 0
    assert (place / "link.dot").is_symlink()
    drawn = (place / "real.dot").read_text()
    assert "writing" in drawn
    os.mkfifo(place / "pipe.dot")
    reader = os.open(place / "pipe.dot", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert cli("diagram", "post.py:letters", "-o", "pipe.dot").exit_code == 0
        assert os.read(reader, 1_000_000).decode() == drawn
    finally:
        os.close(reader)


@pytest.mark.slow
def test_times_are_iso_when_not_on_a_terminal() -> None:
    run_id = start()
    created = fields(cli("show", run_id, "--json"))["run"]["created_at"]
    assert created in cli("show", run_id).stdout


@pytest.mark.slow
def test_colour_is_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = start()
    assert "\x1b[" not in cli("show", run_id).stdout
    assert "\x1b[" in cli("show", run_id, "--color", "always").stdout
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[" not in cli("show", run_id, "--color", "never").stdout


DRAWN = [("diagram", "--run", "@last", "-f", form) for form in ("mermaid", "dot", "html")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("runs",), ("show", "@last"), ("review",), ("review", "list"), ("check",), ("watch", "@last"), *DRAWN]
)
def test_json_is_one_object_on_stdout(words: tuple[str, ...]) -> None:
    start()
    done = cli(*words, "--json")
    assert json.loads(done.stdout)["v"] == 1
    assert len(done.stdout.splitlines()) == 1


def test_a_dead_run_shows_its_diagnosis(place: Path) -> None:
    text = (place / "post.py").read_text()
    text = text.replace("    letters.anywhere.on(Failure) >> thrown_away,\n", "").replace(
        "    reading.on(Approved)", "    reading.on(Failure) >> thrown_away,\n    reading.on(Approved)"
    )
    (place / "fragile.py").write_text(text.replace('if run.data.to == "nobody":', "if 1 / 0:"))
    done = cli("start", "fragile.py:letters", "--set", "to=Ann")
    assert done.exit_code == 1
    assert "dead in writing" in done.stderr
    shown = cli("show", "@last").stdout
    assert "diagnosis" in shown
    assert "ZeroDivisionError" in shown


def test_a_line_that_is_wider_than_the_terminal_is_broken_under_its_text() -> None:
    line = "  by        The handler of writing answered written: text is from call 0 (tool greet)."
    assert _broken(line, 0) == _broken(line, 200) == [line]
    told = _broken(line, 50)
    assert max(map(len, told)) <= 50
    assert [part[:12] for part in told] == ["  by        ", " " * 12, " " * 12]
    assert " ".join(" ".join(told).split()) == " ".join(line.split())


@pytest.mark.slow
def test_a_stream_that_is_closed_is_no_error() -> None:
    start()
    done = subprocess.run(f"{sys.executable} -m statecraft runs >&- 2>errors <&-", shell=True, check=False, timeout=60)
    assert (done.returncode, Path("errors").read_text()) == (0, "")
