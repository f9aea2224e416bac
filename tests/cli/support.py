"""What the tests of the command line share: a small machine in a file, and ways to run and read the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from statecraft.cli.app import app

MACHINE = '''
"""A letter is written, and a person decides about it."""

from statecraft import Ask, Data, Event, Failure, Machine, Run, days, tool


class Letter(Data):
    to: str
    copies: int = 1
    text: str = ""
    reason: str = ""


class Written(Event):
    text: str


class Refused(Event):
    reason: str


class Approved(Event):
    note: str = ""


class Rejected(Event):
    reason: str


class Modified(Event):
    text: str


@tool(effect="read")
def greet(name: str) -> str:
    """A greeting."""
    return f"Dear {name}"


letters = Machine("letters", data=Letter, max_steps=20)


@letters.state(start=True, tools=[greet])
async def writing(run: Run[Letter]) -> Written | Refused:
    """Write the letter."""
    if run.data.to == "nobody":
        return Refused(reason="nobody to write to")
    greetings = [await run.tool(greet, run.data.to) for _ in range(run.data.copies)]
    return Written(text="; ".join(greetings))


@letters.review(timeout=days(2))
async def reading(run: Run[Letter]) -> Ask[Approved | Rejected | Modified]:
    """A person reads it."""
    return Ask("Send this letter?", show={"text": run.data.text})


sent = letters.final("sent", ok=True)
thrown_away = letters.final("thrown_away")

letters.transitions(
    writing.on(Written) >> reading,
    writing.on(Refused) >> thrown_away,
    reading.on(Approved) >> sent,
    reading.on(Rejected) >> thrown_away,
    reading.on(Modified) >> reading,
    letters.anywhere.on(Failure) >> thrown_away,
)

number = 7
'''


def cli(*words: str, stdin: str | None = None) -> Result:
    """The command line, in this process."""
    sys.modules.pop("post", None)
    return CliRunner().invoke(app, list(words), input=stdin, prog_name="statecraft")


def fields(result: Result) -> dict[str, Any]:
    """The one JSON object that `--json` wrote."""
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["v"] == 1
    return found


def one_error(result: Result) -> str:
    """The error line: all that stderr holds but for the line that names the model."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("model: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def in_own_process(*words: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The command line as people run it."""
    command = [sys.executable, "-m", "statecraft", *words]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=timeout
    )


def start(*words: str) -> str:
    """Start a run that comes to wait for a person; answers its id."""
    done = cli("start", "post.py:letters", "--set", "to=Ann", *words)
    assert done.exit_code == 4, done.stderr
    return done.stdout.strip()
