"""`statecraft demo`: one run, killed with SIGKILL in the middle, resumed, decided by a person, and proven from its journal."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from statecraft.cli.child import Child, Watched, until_ended, until_inside
from statecraft.cli.config import Database, actor
from statecraft.cli.draw import draw_run
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit, exit_of_run
from statecraft.cli.proof import Proof, proof_lines, prove
from statecraft.cli.question import question_lines
from statecraft.cli.review import NOTE_FIELDS, event_like
from statecraft.cli.screen import Screen, clip, count, dim, paint, program, short_path, strong, table, took, wrap
from statecraft.cli.show import View, path_lines, read_view, visits_of
from statecraft.cli.target import Target, load_target, model_for
from statecraft.cli.verb import Session, Verb
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError, StatecraftError
from statecraft.files import write_whole
from statecraft.records import RunRecord, Usage, Waiting

if TYPE_CHECKING:
    from statecraft.runtime import Runtime

FOLDER = Path("statecraft-demo")
PACE = 0.12
"""Seconds the shown machine waits before each step and model call, so that its moves can be watched, and killed in between."""
ROUNDS = 5
"""Most decisions asked of a person before the demo stops asking."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the acts of the demo share."""

    screen: Screen
    rt: Runtime
    target: Target
    database: Database
    folder: Path
    label: str
    yes: bool

    def title(self, number: int, text: str) -> None:
        """Begin an act."""
        self.write("")
        self.write(f"{click.style(str(number), fg='cyan', bold=True)}  {strong(text)}")

    def line(self, text: str = "") -> None:
        """A line of an act."""
        self.write(f"   {text}" if text else "")

    def write(self, text: str) -> None:
        """A line of the play: the answer of this verb, or talk if that is to be JSON."""
        if self.screen.as_json:
            self.screen.say(text)
        else:
            self.screen.data(text)

    def command(self, words: str) -> str:
        """A command for people to copy."""
        return f"{program()} {words} --db {shlex.quote(short_path(cast(Path, self.database.file)))}"


@click.command(cls=Verb)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True, help="Where to."
)
@click.option("--yes", is_flag=True, help="Approve at the review instead of asking.")
@click.option("--question", metavar="TEXT", help="Ask something else of the Python standard library's documentation.")
@click.pass_obj
def demo(session: Session, folder: Path, yes: bool, question: str | None) -> Exit:
    """A real run, really killed in the middle, resumed, reviewed, explained. Needs no key and no network.

    It asks the shipped research machine a question about the Python standard library.
    """
    target = load_target("research")
    llm = model_for(target, session)
    asked = question or str(getattr(target.module, "DEMO_QUESTION", ""))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder} ({error.strerror}); choose another with --dir") from error
    database = Database(f"sqlite:///{folder / 'runs.db'}", "--db")

    async def main() -> Exit:
        from statecraft.engine.settings import Settings
        from statecraft.runtime import Runtime

        settings = Settings(take="none")
        async with Runtime(database.url, machines=[target.machine], llm=llm, settings=settings) as rt:
            stage = Stage(session.screen, rt, target, database, folder, llm.label, yes)
            return await play(stage, asked)

    return run_async(main)


async def play(stage: Stage, question: str) -> Exit:
    """The whole demo, act by act."""
    show_cast(stage, question)
    watched = await start_and_kill(stage, question)
    killed = await show_journal(stage, watched)
    await resume(stage, watched)
    await decide(stage, watched)
    run = await stage.rt.get(watched.run_id)
    data = await show_answer(stage, run)
    await show_path(stage, run)
    proof, agrees = await show_proof(stage, run, killed)
    picture = await show_places(stage, run)
    if stage.screen.as_json:
        stage.screen.emit(
            {
                "run": run,
                "model": stage.label,
                "answer": data.get("answer"),
                "citations": data.get("citations"),
                "killed": {"seq": killed.run.seq, "state": killed.run.state, "calls": len(killed.calls)},
                "recalled": len(proof.recalled),
                "lost": len(proof.lost),
                "twice": proof.twice,
                "replay_agrees": agrees,
                "picture": picture,
                "database": stage.database.file,
            }
        )
    return exit_of_run(run, await stage.rt.history(run.id))


def show_cast(stage: Stage, question: str) -> None:
    """Who plays: question, model, machine, database."""
    machine = stage.target.machine
    rows = [
        (dim("question"), strong(question)),
        (
            dim("machine"),
            f"{machine.name} ({len(machine.definition.states)} states), reads the documentation of this Python's library",
        ),
        (dim("model"), stage.label),
        (dim("database"), short_path(cast(Path, stage.database.file))),
    ]
    for line in table(rows):
        stage.write(line)


async def start_and_kill(stage: Stage, question: str) -> Watched:
    """Start a run in a process of its own and kill it while a state is half done."""
    stage.title(1, "A process starts the run")
    child = await Child.start(["start", "research", "--set", f"question={_as_json(question)}", "--pace", str(PACE), *_db(stage)])
    run_id = await child.first_line()
    watched = Watched(run_id)
    await until_inside(stage.rt, watched, child, stage.line)
    died = await child.kill()
    stage.title(2, f"kill -9 {child.pid}")
    run = await stage.rt.get(run_id)
    if died:
        stage.line(f"The process is dead (SIGKILL), in the middle of {strong(run.state)}. It could not save or say anything.")
    else:
        stage.line("The run was over before it could be killed: a shorter question than most.")
    return watched


async def show_journal(stage: Stage, watched: Watched) -> View:
    """What is left of the run right after the kill: the database."""
    view = await read_view(stage.rt, await stage.rt.get(watched.run_id))
    here = visits_of(view)[-1]
    stage.line(f"The journal holds {count(view.run.seq, 'move')} and {count(len(view.calls), 'finished call')}:")
    for line in path_lines(view, instant(SystemClock().now())):
        stage.line(f"  {line}")
    if here.calls:
        stage.line(f"{count(len(here.calls), 'call')} of the unfinished visit to {here.entered.target} must not run again:")
        for call in here.calls:
            stage.line(f"  {call.kind} {call.name}, finished at {call.finished_at:%H:%M:%S.%f}"[:-3])
        stage.line("A call that was under way left no result; it will be made again.")
    return view


async def resume(stage: Stage, watched: Watched) -> None:
    """Let another process go on with the run."""
    if (await stage.rt.get(watched.run_id)).status.closed:
        return
    child = await Child.start(["resume", watched.run_id, "--pace", str(PACE), *_db(stage)])
    stage.title(3, f"Another process (pid {child.pid}) resumes it")
    await until_ended(stage.rt, watched, child, stage.line)


async def decide(stage: Stage, watched: Watched) -> None:
    """Put the run's questions to the person, until there are none."""
    for _ in range(ROUNDS):
        run = await stage.rt.get(watched.run_id)
        if run.waiting_for is not Waiting.REVIEW:
            return
        review = (await stage.rt.reviews(run.id, open_only=True))[-1]
        stage.title(4, "The run waits for a person: now it is only a row in the database, no process holds it")
        for line in question_lines(review, without=("question", "citations", "problems")):
            stage.line(line)
        asks = sys.stdin.isatty() and not stage.yes
        verb, *more = _ask(stage) if asks else _assume(stage)
        event, by = event_like(review, verb), actor(None) if asks else "the flag --yes"
        child = await Child.start(["review", "decide", run.id, event, *more, "--by", by, "--pace", str(PACE), *_db(stage)])
        stage.line(f"{strong(event)} by {by}, through a third process (pid {child.pid})")
        await until_ended(stage.rt, watched, child, stage.line)


def _assume(stage: Stage) -> list[str]:
    stage.line()
    why = "The flag --yes is given" if stage.yes else "There is no terminal to ask on"
    stage.line(click.style(f"{why}: the demo approves by flag (--yes).", fg="yellow"))
    return ["approve"]


def _ask(stage: Stage) -> list[str]:
    choice = click.prompt(
        "   approve, reject or modify?", type=click.Choice(["approve", "reject", "modify"]), default="approve", show_choices=False
    )
    if choice == "approve":
        return ["approve"]
    name = "modif" if choice == "modify" else choice
    field = _text_field(stage, name)
    text = click.prompt("   what should change?" if choice == "modify" else "   why?") if field else ""
    return [name, *(["--set", f"{field}={_as_json(text)}"] if field else [])]


def _text_field(stage: Stage, verb: str) -> str:
    """The first field of the event that begins like the verb; empty if it has none."""
    events = stage.target.machine.definition.events
    model = next((model for name, model in events.items() if name.startswith(verb)), None)
    known = model.model_fields if model else {}
    return next((name for name in ("instructions", *NOTE_FIELDS) if name in known), "")


async def show_answer(stage: Stage, run: RunRecord) -> dict[str, Any]:
    """The answer with its citations, or why there is none."""
    data = (await stage.rt.data(run.id)).model_dump(mode="json")
    stage.title(5, f"The answer ({run.status}, by {stage.label})")
    for line in answer_lines(data):
        stage.line(line)
    return data


def answer_lines(data: dict[str, Any]) -> list[str]:
    """Answer and citations of a research run's data."""
    lines = wrap(str(data.get("answer") or "There is no answer.").splitlines())
    cited = [
        (dim(f"[{item['number']}]"), item["document"], dim(clip(f"“{item['quote']}”", 96))) for item in data.get("citations", [])
    ]
    return [*lines, "", *table(cited)]


async def show_path(stage: Stage, run: RunRecord) -> None:
    """The path with times and tokens."""
    view = await read_view(stage.rt, run, verify=True)
    spent = sum((call.usage for call in view.calls), Usage())
    stage.title(6, "The path it took")
    for line in path_lines(view, instant(SystemClock().now())):
        stage.line(line)
    length = took(view.history[-1].at - view.history[0].at)
    stage.line()
    sums = [count(run.seq, "move"), count(len(view.calls), "call"), count(spent.total, "token"), length]
    stage.line(f"{paint(run.status)}: {', '.join(sums)}")


async def show_proof(stage: Stage, run: RunRecord, killed: View) -> tuple[Proof, bool]:
    """That no finished call ran twice, from the journal, and that a replay agrees."""
    history, after = await stage.rt.history(run.id), await stage.rt.calls(run.id)
    proof = prove(killed.calls, after, killed.run.seq)
    stage.title(7, "No finished call ran twice")
    for line in proof_lines(proof, {move.seq: move.target for move in history}):
        stage.line(line)
    if not proof.holds:
        raise StatecraftError("the journal does not prove that no call ran twice")
    problems = await stage.rt.verify(run.id)
    result = await stage.rt.replay(run.id)
    stage.line("The chain of hashes holds." if not problems else f"The chain of hashes does not hold: {problems[0]}")
    if result.agrees:
        stage.line(
            f"Replayed: {count(result.calls, 'call')} answered from the journal, nothing left this process, every move agrees."
        )
    else:
        stage.line(f"Replayed: differs at {result.divergence}")
    return proof, result.agrees


async def show_places(stage: Stage, run: RunRecord) -> Path:
    """Where picture and database are, and how to look further."""
    stage.title(8, "Look further")
    picture = await _picture(stage, run)
    rows = [
        (dim("picture"), short_path(picture)),
        (dim("database"), short_path(cast(Path, stage.database.file))),
    ]
    words = ("show @last --steps", "show @last --step 1", "replay @last", "runs")
    rows += [(dim("try") if place == 0 else "", stage.command(word)) for place, word in enumerate(words)]
    for line in table(rows):
        stage.line(line)
    return picture


async def _picture(stage: Stage, run: RunRecord) -> Path:
    """An SVG of the run over its machine; Mermaid text where nothing can draw."""
    try:
        form, suffix, drawn = "svg", "svg", await draw_run(stage.rt, run.id, "svg")
    except ConfigError:
        form, suffix = "mermaid", "mmd"
        drawn = await draw_run(stage.rt, run.id, form)
    path = stage.folder / f"run-{run.id[:12]}.{suffix}"
    write_whole(path, drawn)
    return path


def _db(stage: Stage) -> list[str]:
    return ["--db", stage.database.url]


def _as_json(text: str) -> str:
    import json

    return json.dumps(text)
