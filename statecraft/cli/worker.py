"""`statecraft worker`: take due runs and advance them until told to stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from statecraft import trace
from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.leaving import Leaving, on_signals
from statecraft.cli.logs import log_lines
from statecraft.cli.span import Span
from statecraft.cli.target import Target, load_target, model_for, project_targets
from statecraft.cli.verb import LIMIT, Session, Verb
from statecraft.errors import ConfigError
from statecraft.store import shown

if TYPE_CHECKING:
    from statecraft.engine.settings import Settings
    from statecraft.llm.port import LLM
    from statecraft.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """What the options of the verb ask for; None leaves the module's setting."""

    concurrency: int | None
    queues: tuple[str, ...]
    poll: timedelta | None
    lease: timedelta | None


@click.command(cls=Verb)
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--concurrency", type=LIMIT, metavar="N", help="Runs held at once, at most (default 64).")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Queue to take runs from; may be given several times.")
@click.option("--drain", is_flag=True, help="Leave when nothing is due or in hand.")
@click.option("--grace", type=Span(), default="10s", show_default=True, metavar="T", help="How long calls may finish on SIGTERM.")
@click.option("--poll", type=Span(), metavar="T", help="How often to look for due runs (default 1s).")
@click.option("--lease", type=Span(), metavar="T", help="How long a run is held without being renewed (default 30s).")
@click.pass_obj
def worker(session: Session, /, targets: Sequence[str], drain: bool, grace: timedelta, **given: Any) -> Exit:
    """Work on due runs of the TARGETs, or of the project file's machines.

    SIGTERM or Ctrl-C once: take nothing more, let calls under way finish, hand the rest back, leave. Twice: leave at once.
    """
    found = [load_target(text) for text in targets or project_targets(session, "a worker")]
    settings = adjusted(agreed_settings(found), Options(**given))
    models = models_of(found, session)

    leaving = Leaving(grace.total_seconds())

    async def main() -> Exit:
        from statecraft.runtime import Runtime

        machines, database = [target.machine for target in found], session.database
        with on_signals(leaving):
            async with Runtime(database.url, machines=machines, llm=models, settings=settings, migrate=database.migrate) as rt:
                await rt.announced()  # Who cannot write would only look as if it were waiting.
                await work(rt, found, shown(database.url), drain, leaving)
        leaving.done()
        return Exit.DONE

    with log_lines(session.screen.as_json), leaving:
        return run_async(main)


async def work(rt: Runtime, targets: Sequence[Target], database: str, drain: bool, leaving: Leaving) -> None:
    """Work until a signal comes or, with `drain`, until nothing is left to do."""
    machines = ",".join(target.machine.name for target in targets)
    queues = ",".join(rt.settings.queues)
    trace.emit(
        "worker.started", {"owner": rt.owner, "machines": machines, "queues": queues, "database": database, "pid": os.getpid()}
    )
    await _first(leaving.asked.wait(), *((rt.idle(),) if drain else ()))
    if leaving.asked.is_set():
        trace.emit("worker.draining", {"owner": rt.owner, "grace": leaving.grace})
    await _first(rt.drain(timedelta(seconds=leaving.grace)), leaving.at_once.wait())
    if leaving.at_once.is_set():
        await rt.drain(timedelta(0))
    counts = {name.replace(" ", "_"): count for name, count in rt.counts.items()}
    trace.emit("worker.stopped", {"owner": rt.owner, **counts})


async def _first(*things: Any) -> None:
    """Wait for the first of these; the others are cut off."""
    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def agreed_settings(targets: Sequence[Target]) -> Settings:
    """The `settings` that the machines' modules agree on. Raises `ConfigError` naming what they differ in."""
    from statecraft.engine.settings import Settings

    found = [(target, getattr(target.module, "settings", None)) for target in targets]
    hooks = [(target, settings) for target, settings in found if isinstance(settings, Settings)]
    if not hooks:
        return Settings()
    first, settings = hooks[0]
    for target, other in hooks[1:]:
        differ = [field.name for field in fields(Settings) if getattr(settings, field.name) != getattr(other, field.name)]
        if differ:
            raise ConfigError(
                f"{first.text} and {target.text} have different settings ({', '.join(differ)}), and a worker has one: "
                f"make them agree, or run a worker for each"
            )
    return settings


def adjusted(settings: Settings, options: Options) -> Settings:
    """The settings with what the options say instead. A worker takes every due run of its machines and queues."""
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    return replace(settings, take="all", **{name: value for name, value in given.items() if value not in (None, ())})


def models_of(targets: Sequence[Target], session: Session) -> dict[str, LLM]:
    """By machine, the model of its module. Machines that are only run as children get that of the machine above."""
    from statecraft.engine.children import machines_of

    models: dict[str, LLM] = {}
    for target in targets:
        models[target.machine.name] = model_for(target, session)
    for target in targets:
        below = [target.machine.definition]
        while below:
            for child in machines_of(below.pop()):
                if child.name not in models:
                    models[child.name] = models[target.machine.name]
                    below.append(child.definition)
    return models
