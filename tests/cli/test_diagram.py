"""`statecraft diagram`: of runs, of a fleet, of two versions; in every form, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import MACHINE, cli, fields, one_error, start
from tests.diagram.seen import Page


@pytest.mark.slow
def test_a_run_becomes_one_page_that_can_be_opened_anywhere(place: Path) -> None:
    run_id = start()
    (place / "post.py").unlink()
    done = cli("diagram", "--run", run_id, "-o", "run.html", "--json")
    assert (done.exit_code, fields(done)["format"]) == (0, "html")
    page = Page((place / "run.html").read_text())
    assert page.loads == []
    assert '"event": "written"' in page.blocks["data"]
    assert "waiting here" in page.blocks["data"]


@pytest.mark.slow
def test_a_fleet_is_drawn_from_the_database_on_the_targets_machine() -> None:
    start()
    start()
    dot = cli("diagram", "post.py:letters", "--fleet", "-f", "dot").stdout
    assert "2 wait for a person" in dot
    assert "2 runs open now · 0 dead · 2 moves since" in dot
    assert "2 · 100 %" in dot
    assert "◆ 2 · 100 %" in cli("diagram", "post.py:letters", "--fleet", "--hours", "1").stdout


def test_a_fleet_without_a_database_is_refused() -> None:
    done = cli("diagram", "post.py:letters", "--fleet")
    assert done.exit_code == 2
    assert "there is no database" in one_error(done)


def test_two_files_are_compared(place: Path) -> None:
    changed = MACHINE.replace("timeout=days(2)", "timeout=days(3)").replace("    writing.on(Refused) >> thrown_away,\n", "")
    changed = changed.replace("-> Written | Refused:", "-> Written:").replace(
        'return Refused(reason="nobody to write to")', "..."
    )
    (place / "later.py").write_text(changed)
    done = cli("diagram", "--diff", "post.py:letters", "later.py:letters", "-f", "dot")
    assert done.exit_code == 0, done.stderr
    assert "was ≤ 2 d" in done.stdout
    assert "removed: 1 row" in done.stdout


@pytest.mark.slow
def test_a_definition_of_the_database_is_compared_with_the_code_of_today(place: Path) -> None:
    run_id = start()
    fingerprint = fields(cli("show", run_id, "--json"))["run"]["fingerprint"]
    (place / "later.py").write_text(MACHINE.replace("max_steps=20", "max_steps=30"))
    done = cli("diagram", "--diff", fingerprint[:12], "later.py:letters", "-f", "dot")
    assert done.exit_code == 0, done.stderr
    assert "bounds: ≤ 30 steps, was ≤ 20 steps" in done.stdout
    missing = cli("diagram", "--diff", "0123456789ab", "later.py:letters")
    assert missing.exit_code not in (0, 1)
    assert "is the fingerprint of no definition in" in one_error(missing)


@pytest.mark.parametrize("form", ["html", "mermaid", "dot"])
def test_texts_need_no_renderer(form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("statecraft.diagram.picture.find_spec", lambda name: None)
    assert cli("diagram", "post.py:letters", "-f", form).exit_code == 0


def test_without_a_renderer_a_picture_says_what_to_install_and_what_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("statecraft.diagram.picture.find_spec", lambda name: None)
    done = cli("diagram", "post.py:letters", "-o", "letters.png")
    assert done.exit_code == 2
    assert "pip install 'statecraft-agents[render]'; html, mermaid and dot need neither" in one_error(done)
    assert not (tmp_path / "letters.png").exists()
