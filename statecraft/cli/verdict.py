"""Decisions about one call of a run: from words and fields to the value that the runtime takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from statecraft.cli.driving import conclude, last_position, locate, opened, reading, settle
from statecraft.cli.exits import Exit
from statecraft.cli.fields import Fields
from statecraft.cli.question import choices
from statecraft.cli.verb import Session
from statecraft.decisions import Approve, Decision, DidNotHappen, GiveUp, Happened, Modify, Reject, decision_name
from statecraft.errors import ConfigError, IllegalEvent, NotFound
from statecraft.records import Json, ReviewRecord

if TYPE_CHECKING:
    from statecraft.cli.driving import Take


async def question_of(session: Session, text: str, review: str | None) -> ReviewRecord | None:
    """The question about a call that RUN asks, or the one called `review`; None if it asks none.

    Raises `NotFound` if there are several and none is named, or none is called so.
    """
    run = await locate(session, text)
    async with reading(session) as rt:
        every = await rt.reviews(run.id) if review else await rt.reviews(run.id, open_only=True)
    found = [item for item in every if item.kind != "state" and item.id.startswith(review or "")]
    if len(found) == 1:
        return found[0]
    if not found and not review:
        return None
    listed = "; ".join(f"{item.id} {item.tool} {json.dumps(item.arguments, ensure_ascii=False)}" for item in found)
    problem = f"several questions: {listed}; say which with --review ID" if found else f"no review {review!r} of a call"
    raise NotFound(f"run {run.id} has {problem}")


def decision_for(item: ReviewRecord, word: str, given: Fields, note: str | None = None) -> Decision:
    """The decision called `word`, with `--set`, `--input` and the note. Raises `IllegalEvent`, or `ConfigError` for
    fields that it does not have."""
    name = word.replace("-", "_")
    if name not in item.events:
        raise IllegalEvent(f"the review {item.id} of {item.tool} takes {', '.join(choices(item))}, not {word!r}")
    values = dict(given.values)
    if name in ("modify", "modify_and_approve"):
        return Modify(_arguments(item.arguments, given), note or "", approve=name == "modify_and_approve")
    said = note or str(values.pop("reason", "") or values.pop("note", "") or "")
    result = values.pop("result", None)
    if values:
        raise ConfigError(f"{word} has no field {next(iter(values))!r}; it takes a note" + (", result" * (name == "happened")))
    decisions: Mapping[str, Decision] = {
        "approve": Approve(said),
        "reject": Reject(said),
        "happened": Happened(result, said),
        "did_not_happen": DidNotHappen(said),
        "give_up": GiveUp(said),
    }
    return decisions[name]


def _arguments(before: Json, given: Fields) -> dict[str, Json]:
    """The arguments with the fields given in place. What was a text stays one: `--set to=42` may well mean the text."""
    if not given.values:
        raise ConfigError("modify changes nothing: add --set ARGUMENT=VALUE, or --input with arguments")
    texts = {name: raw for name, raw in given.raw.items() if isinstance(before.get(name), str)}
    return {**before, **given.values, **texts}


async def decide_call(session: Session, item: ReviewRecord, decision: Decision, *, by: str, detach: bool) -> Exit:
    """Record a decision and, unless detached, stay until the run settles again."""
    take: Take = "none" if detach else "own"
    async with opened(session, item.run_id, take) as found:
        after = await last_position(found.rt, item.run_id)
        record = await found.rt.decide(item.run_id, decision, by=by, review=item.id)
        session.screen.say(f"recorded {decision_name(decision)} of {item.tool} by {by}")
        if detach:
            await conclude(session, found.rt, record)
            return Exit.DONE
        return await settle(session, found.rt, record.id, after)
