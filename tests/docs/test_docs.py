"""What the pages say is true: their code runs, their commands work, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "machines" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOT_RUN = "<!-- not run"
"""Above a block that needs what a test must not have, such as a key. Its Python is still compiled."""
MAY_ANSWER = {0, 4}
"""Exit codes of a command on a page: it worked, or it stopped at a person."""
SAID = {
    "01_first_machine": "done in sent with: At nine.\n",
    "02_tools_side_by_side": "[7, 19] Nairobi, with 22 degrees.\n",
    "03_a_person_decides": "waiting in deciding\nRefund 40? | approved, rejected\ndone in paid | ann\n",
    "05_a_gated_refund": "waiting for a person: 0 paid\n"
    "refund {'amount': 4000, 'order': '17'} ['its risk is high, above medium']\n"
    "done in answered [40]\n",
    "06_children_under_a_budget": "done with 3 findings from children\nasked: big big big small\n",
    "07_a_fleet_in_one_file": "taken: Bob\ntaken: Ann\ntaken: the landlord\n2 runs wait, 1 for a person\n"
    "told: review.requested, Pay 7000 to Bob?\n",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    run: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks, in order."""
    found: list[Block] = []
    inside, language, run, before = [""], "", True, ""
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            if fenced:
                found.append(Block(language, "\n".join(inside) + "\n", run))
            else:
                inside, language, run = [], line[3:].strip(), not before.startswith(NOT_RUN)
            fenced = not fenced
        elif fenced:
            inside.append(line)
        if line.strip():
            before = line
    assert not fenced, f"{page.name}: a block is not closed"
    return found


def commands(page: Path) -> list[str]:
    """The commands of the shell blocks: each line, or in a `console` block each line behind a `$`."""
    found: list[str] = []
    for block in blocks(page):
        lines = block.text.splitlines()
        if block.run and block.language == "console":
            found += [line[2:] for line in lines if line.startswith("$ ")]
        elif block.run and block.language == "sh":
            found += [line for line in lines if line.strip()]
    return [command.split("  #")[0].strip() for command in found]


def environment() -> dict[str, str]:
    """Of a machine that has neither keys nor settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STATECRAFT_", "ANTHROPIC_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run(arguments: list[str], folder: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=folder,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    python = [block for block in blocks(page) if block.language == "python"]
    for block in python:
        compile(block.text, name(page), "exec")
    script = tmp_path / "page.py"
    script.write_text("\n".join(block.text for block in python if block.run))
    done = run([sys.executable, "-W", "error", str(script)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_of_a_page_work_in_order(page: Path, tmp_path: Path) -> None:
    """Beside the page's own Python, which is there as the files it names."""
    for example in EXAMPLES:
        (tmp_path / example.name).write_text(example.read_text())
    for command in commands(page):
        words = shlex.split(command)
        if words[0] != "statecraft":
            continue
        done = run([str(Path(sysconfig.get_path("scripts")) / "statecraft"), *words[1:]], tmp_path)
        assert done.returncode in MAY_ANSWER, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {words[-1] for words in map(str.split, commands(page)) if words[0] == "make"}
    assert used <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_on_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|src=\"([^\"]+)\"", page.read_text())
    local = [one or other for one, other in targets if not (one or other).startswith(("http://", "https://", "mailto:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_index_names_every_page_once() -> None:
    listed = re.findall(r"^\S+ \[[^\]]+\]\(([a-z-]+\.md)\)", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_every_page_on_a_concern_has_an_example_that_checks_itself() -> None:
    to_look_up = {"README", "cli", "glossary", "performance"}  # What was measured has nothing to declare.
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.stem not in to_look_up]
    assert [
        page.stem
        for page in pages
        if not any("assert " in block.text for block in blocks(page) if block.language == "python" and block.run)
    ] == []


@pytest.mark.slow
def test_the_python_of_the_pages_satisfies_a_strict_type_checker(tmp_path: Path) -> None:
    """Each page is a module of its own, as a reader would paste it."""
    modules: list[str] = []
    for page in PAGES:
        python = [block.text for block in blocks(page) if block.language == "python" and block.run]
        if python:
            modules.append(f"page_{page.parent.name}_{page.stem}.py".replace("-", "_"))
            (tmp_path / modules[-1]).write_text("\n".join(python))
    checked = run([sys.executable, "-m", "mypy", "--strict", "--no-incremental", *modules], tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_the_readme_shows_the_first_example_as_it_is() -> None:
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    assert shown == (ROOT / "examples" / "01_first_machine.py").read_text()


def test_the_pages_show_every_command() -> None:
    from statecraft.cli import app

    text = "\n".join(page.read_text() for page in PAGES)
    assert [verb for verb in app.app.commands if f"statecraft {verb}" not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_says_what_it_should(example: Path, tmp_path: Path) -> None:
    done = run([sys.executable, "-W", "error", str(example)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAID.get(example.stem, done.stdout)
    assert done.stdout.strip()


@pytest.mark.slow
def test_replay_after_an_edit_names_what_differs(tmp_path: Path) -> None:
    done = run([sys.executable, str(ROOT / "examples" / "04_replay.py")], tmp_path)
    assert done.stdout.startswith("as recorded: None | asked the model 1 time\nafter an edit: step 0 in naming, call 0: ")
    assert "Find a SHORT title" in done.stdout
