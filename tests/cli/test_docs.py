"""docs/cli.md and the command line say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from statecraft.cli.app import SECTIONS, app
from statecraft.cli.exits import Exit
from statecraft.cli.verb import drive_options, input_options, shared_options

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_has_its_heading_and_every_heading_its_command() -> None:
    headings = set(re.findall(r"^#{3,4} `(statecraft [^`]*)`$", TEXT, re.MULTILINE))
    written = {
        " ".join(word for word in heading.split() if word.islower() and word.replace("-", "").isalpha()) for heading in headings
    }
    assert written == {path for path, _ in commands(app, "statecraft")}


def test_every_option_is_documented_with_its_command_or_as_shared() -> None:
    shared = {name for option in (*shared_options(), *drive_options(), *input_options()) for name in option.opts}
    missing = [name for name in shared if f"`{name}" not in TEXT]
    for path, command in commands(app, "statecraft"):
        section = re.split(rf"^#+ `{path}\b.*$", TEXT, flags=re.MULTILINE)[1]
        section = re.split(r"^#", section, flags=re.MULTILINE)[0]
        own = [option for option in command.params if isinstance(option, click.Option) and not set(option.opts) <= shared]
        missing += [f"{path} {option.opts[-1]}" for option in own if f"`{option.opts[-1]}" not in section]
    assert not missing


def test_every_exit_code_is_documented() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert table == {int(code) for code in Exit}


def test_every_verb_is_in_one_section_of_the_help() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(app.commands)


@pytest.mark.parametrize("columns", [40, 80])
def test_what_a_verb_does_is_never_cut_in_a_list_of_verbs(columns: int) -> None:
    runner = CliRunner()
    groups = [(), *((name,) for name, command in app.commands.items() if isinstance(command, click.Group))]
    for words in groups:
        told = runner.invoke(app, [*words, "--help"], terminal_width=columns).stdout
        assert not re.search(r"[\w,]\.\.\.", told), told
