"""A person's decision about one call: found, checked against the tool, and written in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from statecraft.calls.call import canonical
from statecraft.clock import Clock, stamp
from statecraft.decisions import Decision, Happened, Modify, decision_name, decision_note
from statecraft.engine.migrating import Bring
from statecraft.errors import (
    AlreadyDecided,
    DecisionLate,
    IllegalEvent,
    InvalidPayload,
    NotFound,
    NotWaiting,
    RunClosed,
    VersionMismatch,
)
from statecraft.machine.definition import Definition
from statecraft.records import ReviewRecord, RunRecord
from statecraft.store import port
from statecraft.tools import Tool, ToolArgumentsInvalid, ToolResultInvalid


async def record(
    store: port.Store,
    clock: Clock,
    definition: Definition,
    run_id: bytes,
    decision: Decision,
    by: str,
    review: str | None,
    bring: Bring | None = None,
) -> None:
    """Write the decision down. A run of an older definition is not migrated by that, but its question is looked at as it will
    be then, by `bring`. Raises a `Refused` or `NotFound` that says why not; then nothing was written."""
    run = await store.run(run_id)
    waiting = await store.reviews(run_id, open_only=True)
    about = pick(run, await store.reviews(run_id), waiting, review)
    name, now = decision_name(decision), clock.now()
    check(run, about, name, now)
    if bring is not None and run.fingerprint != definition.fingerprint:
        run = (await bring(await store.load(run_id))).loaded.run
    # A migration may have renamed the state since the question was put.
    here = run.state if about.id in {each.id for each in waiting} else about.state
    answer = _answer(tool_of(definition, replace(about, state=here)), decision)
    digest, occurrence, turn = about.call or ("", 0, 0)
    await store.submit(
        port.Decide(
            run_id=run_id,
            seq=about.seq,
            digest=bytes.fromhex(digest),
            occurrence=occurrence,
            round=turn,
            action=bytes.fromhex(about.action or ""),
            decision=name,
            by=by,
            at=now,
            note=decision_note(decision),
            answer=answer,
        )
    )


def pick(run: RunRecord, every: Sequence[ReviewRecord], waiting: Sequence[ReviewRecord], review: str | None) -> ReviewRecord:
    """The question about a call that is meant: the one so named, or the only open one."""
    ours = [item for item in every if item.kind != "state"]
    if review is not None:
        found = [item for item in ours if item.id.startswith(review)] if review else []
        if len(found) == 1:
            return found[0]
        raise NotFound(f"run {run.id} has {len(found) or 'no'} reviews of a call named {review!r}; it has: {listed(ours)}")
    if run.status.closed:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state}; it takes no more decisions")
    found = [item for item in waiting if item.kind != "state"]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"run {run.id} asks about {len(found)} calls; say which with review=...: {listed(found)}")
    if waiting:
        raise NotWaiting(f"run {run.id} in {run.state} waits for one of its events, not for a decision about a call; use send")
    if late := [item for item in ours if item.decision is None and item.seq == run.seq]:
        raise DecisionLate(f"the review of {late[-1].tool} in run {run.id} expired at {late[-1].expires_at}")
    raise NotWaiting(f"run {run.id} is {run.status} in {run.state}; it waits for no decision about a call")


def check(run: RunRecord, about: ReviewRecord, name: str, now: int) -> None:
    """Whether the question can be answered so, and still at all. The store has the last word about races."""
    what = f"the review {about.id} of {about.tool} in run {run.id}"
    if about.decision is not None:
        raise AlreadyDecided(f"{what} was decided by {about.decided_by}: {about.decision}")
    if run.status.closed:
        raise RunClosed(f"run {run.id} is {run.status} in {run.state}; {what} needs no decision any more")
    if about.expires_at is not None and now >= stamp(about.expires_at):
        raise DecisionLate(f"{what} expired at {about.expires_at.isoformat()}")
    if name not in about.events:
        raise IllegalEvent(f"{what} takes {' or '.join(about.events)}, not {name}")


def tool_of(definition: Definition, about: ReviewRecord) -> Tool[..., Any]:
    """The tool that a question is about, as the state declares it now. Raises `VersionMismatch`."""
    handler = definition.handlers.get(about.state)
    for tool in () if handler is None else handler.tools:
        if isinstance(tool, Tool) and tool.name == about.tool:
            return tool
    raise VersionMismatch(f"state {about.state} of {definition.name} has no tool {about.tool!r} any more")


def listed(items: Sequence[ReviewRecord]) -> str:
    """Questions about calls, short: id, kind, tool, arguments."""
    return ", ".join(f"{item.id} ({item.kind}: {item.tool} {canonical(item.arguments)})" for item in items) or "none"


def _answer(tool: Tool[..., Any], decision: Decision) -> str | None:
    try:
        if isinstance(decision, Modify):
            return _arguments(tool, decision.arguments)
        return tool.accept(decision.result) if isinstance(decision, Happened) else None
    except (ToolArgumentsInvalid, ToolResultInvalid) as error:
        raise InvalidPayload(str(error)) from error


def _arguments(tool: Tool[..., Any], arguments: Mapping[str, Any]) -> str:
    try:
        text = canonical(dict(arguments))
    except (TypeError, ValueError) as error:
        raise InvalidPayload(f"arguments of {tool.name} are plain JSON values: {error}") from error
    tool.validate(arguments)
    return text
