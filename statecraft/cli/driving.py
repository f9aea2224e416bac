"""Opening a runtime for one verb, and staying with a run until it settles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from statecraft.cli.exits import Exit, exit_of_run
from statecraft.cli.moves import line_of
from statecraft.cli.screen import count, paint, seconds_of
from statecraft.cli.target import Target, find_machine, model_for, settings_for
from statecraft.cli.verb import Session, must_exist
from statecraft.errors import WaitTimeout
from statecraft.records import RunRecord, Status, Waiting

if TYPE_CHECKING:
    from statecraft.runtime import Runtime

Take = Literal["own", "none"]

TROUBLE = ("message", "reason", "error", "errors", "name", "kind", "what", "note", "feedback")
"""Fields of a last event that say why a run failed."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime that knows a run's machine, and the run."""

    rt: Runtime
    run: RunRecord
    target: Target


@asynccontextmanager
async def reading(session: Session) -> AsyncIterator[Runtime]:
    """A runtime that only looks. Refuses a database that does not exist."""
    from statecraft.engine.settings import Settings
    from statecraft.runtime import Runtime

    must_exist(session.database)
    database = session.database
    async with Runtime(database.url, settings=Settings(take="none"), migrate=database.migrate) as rt:
        yield rt


@asynccontextmanager
async def working(session: Session, target: Target, take: Take) -> AsyncIterator[Runtime]:
    """A runtime with one machine and its model. With `take="own"` it runs what this verb starts or resumes."""
    from statecraft.runtime import Runtime

    llm = model_for(target, session) if take == "own" else None
    if llm is not None:
        session.screen.say(f"model: {llm.label}")
    own = settings_for(target)
    settings = replace(own, take=take, pace=session.drive.pace or own.pace, debug=session.screen.debug or own.debug)
    database = session.database
    async with Runtime(database.url, machines=[target.machine], llm=llm, settings=settings, migrate=database.migrate) as rt:
        yield rt


@asynccontextmanager
async def opened(session: Session, text: str, take: Take) -> AsyncIterator[Opened]:
    """Find a run, then its machine, and open a runtime that can work on it."""
    run = await locate(session, text)
    target = find_machine(run.machine, session)
    async with working(session, target, take) as rt:
        yield Opened(rt, run, target)


async def locate(session: Session, text: str) -> RunRecord:
    """The run that RUN means. Raises `NotFound`."""
    async with reading(session) as rt:
        return await rt.find(text)


async def last_position(rt: Runtime, run_id: str) -> int:
    """Where the run's feed ends now, so that only what comes next is shown."""
    after = 0
    while entries := await rt.feed(run_id, after=after):
        after = entries[-1].pos
    return after


async def settle(session: Session, rt: Runtime, run_id: str, after: int = 0) -> Exit:
    """Stay with a run until it ends or waits for a person, showing its moves; report where it stands.

    `--timeout` and Ctrl-C leave the run as it is: it goes on with `statecraft resume`.
    """
    following = asyncio.ensure_future(_show_moves(session, rt, run_id, after))
    try:
        run = await rt.wait(run_id, timeout=session.drive.timeout)
        await following
    except WaitTimeout:
        resume = session.command(f"resume {run_id}")
        session.screen.say(f"not settled after {seconds_of(session.drive.timeout)}; the run goes on: {resume}")
        run = await rt.get(run_id)
        await conclude(session, rt, run)
        return Exit.TIMEOUT
    except asyncio.CancelledError:
        session.screen.say(f"stopped here; the run goes on with: {session.command(f'resume {run_id}')}")
        raise
    finally:
        following.cancel()
    return await conclude(session, rt, run)


async def conclude(session: Session, rt: Runtime, run: RunRecord) -> Exit:
    """Say where the run stands and what can be done next (stderr), or write it as JSON (stdout)."""
    history = await rt.history(run.id)
    if session.screen.as_json:
        session.screen.emit({"run": run})
    for line in standing(session, run, await _trouble(rt, run)):
        session.screen.say(line)
    return exit_of_run(run, history)


def standing(session: Session, run: RunRecord, trouble: str) -> list[str]:
    """Where a run stands, and the command that comes next, as lines."""
    why = f": {trouble}" if trouble else ""
    lines = [f"{paint(run.status)}{' (degraded)' if run.degraded else ''} in {run.state} after {count(run.seq, 'move')}{why}"]
    if run.waiting_for is Waiting.REVIEW:
        lines.append(f"decide with: {session.command(f'review show {run.id}')}")
    elif run.status is Status.DEAD:
        lines.append(f"look with: {session.command(f'dlq show {run.id}')}")
    elif not run.status.closed and run.status is not Status.RUNNING:
        lines.append(f"go on with: {session.command(f'resume {run.id}')}")
    else:
        lines.append(f"look with: {session.command(f'show {run.id}')}")
    return lines


async def _trouble(rt: Runtime, run: RunRecord) -> str:
    """Why a run failed or died, on one line."""
    if run.reason:
        return " ".join(run.reason.split())
    if run.status is not Status.FAILED:
        return ""
    last = (await rt.history(run.id))[-1]
    said = "; ".join(str(value) for name, value in last.payload.items() if name in TROUBLE and value)
    return " ".join(f"{last.event}: {said}".split()) if said else last.event


async def _show_moves(session: Session, rt: Runtime, run_id: str, after: int) -> None:
    if not session.screen.progress:
        return
    async for entry in rt.follow(run_id, after=after):
        if line := line_of(entry):
            session.screen.say(line)


def run_async(main: Callable[[], Awaitable[Exit]]) -> Exit:
    """Run one verb's coroutine; Ctrl-C cancels it and comes out as `KeyboardInterrupt`."""

    async def enter() -> Exit:
        return await main()

    return asyncio.run(enter())
