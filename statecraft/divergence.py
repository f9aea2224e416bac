"""What differs between the record of a run and the code of today, as a value and as a diff for people."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from statecraft.calls.call import Call
from statecraft.errors import NotFound
from statecraft.records import CallRecord, Json
from statecraft.store.port import Store

LONGEST_DIFF = 60
"""Lines of a diff; what is beyond them is only counted."""
WIDEST = 400
"""Characters of a line of a diff."""
ESCAPE = re.compile(r"\\.")
"""Read whole, so that the `n` after a backslash of the text itself, as in a path, is no end of a line."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first point where today's code does something else than the record."""

    seq: int
    """The step: number of the transition that entered the visit's state, as in `show --step` and `fork(at=...)`."""
    state: str
    call: int | None
    """Index of the recorded call it is about, if it is about one."""
    what: str
    """What differs, in one sentence."""
    recorded: str
    """What the record says."""
    actual: str
    """What the code did now."""
    diff: tuple[str, ...] = ()
    """The two as lines of a unified diff: `-` is the record, `+` is now. Empty if they are too short to need one."""
    foreign: bool = False
    """Whether the definition of today lacks what the record needs: a state, an event, a field of the data."""

    def __str__(self) -> str:
        call = "" if self.call is None else f", call {self.call}"
        head = f"step {self.seq} in {self.state}{call}: {self.what}"
        if self.diff:
            return "\n".join((head, *(f"  {line}" for line in self.diff)))
        return f"{head}\n  recorded: {self.recorded}\n  now:      {self.actual}"


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    run_id: str
    steps: int
    """Moves that were re-executed and agree, or were taken from the record."""
    calls: int
    """Recorded calls that answered again."""
    divergence: Divergence | None
    machine: str = ""
    """The machine's name."""
    skipped: str = ""
    """Why the run could not be replayed at all; empty if it was."""
    fork: str | None = None
    """The run that goes on from the first divergence, if one was asked for and there was a divergence."""

    @property
    def agrees(self) -> bool:
        """Whether the code of today does what the record says."""
        return self.divergence is None and not self.skipped


async def requests(store: Store, recorded: CallRecord | None, call: Call | None) -> tuple[str, ...]:
    """How the request that the code made differs from the recorded one, as lines of a diff."""
    if recorded is None or call is None:
        return ()
    before, now = await _of_record(store, recorded), await _of_call(store, call)
    if (recorded.kind, recorded.name) != (call.kind, call.name):
        return texts(f"{recorded.kind} {recorded.name}\n{_text(before)}", f"{call.kind} {call.name}\n{_text(now)}")
    return texts(_text(before), _text(now))


def texts(before: str, now: str) -> tuple[str, ...]:
    """Two texts as a unified diff without its heading; empty if they are equal."""
    lines = list(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=2))[2:]
    kept = [line if len(line) <= WIDEST else f"{line[: WIDEST - 1]}…" for line in lines[:LONGEST_DIFF]]
    more = len(lines) - len(kept)
    return (*kept, f"… {more} more lines") if more else tuple(kept)


def values(before: Json, now: Json) -> tuple[str, ...]:
    """Two JSON values as a diff of their canonical texts, a field a line."""
    return texts(pretty(before), pretty(now))


def pretty(value: Json) -> str:
    """A JSON value with its keys sorted, a field a line; the lines of a text of several lines below each other."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    return ESCAPE.sub(lambda found: "\n" if found[0] == "\\n" else found[0], text)


def _text(request: Json) -> str:
    """A request for people: of a model its settings, then its messages one below the other."""
    if not isinstance(request, dict) or "messages" not in request:
        return pretty(request)
    settings = {name: value for name, value in request.items() if name != "messages"}
    return "\n".join((pretty(settings), *(_message(body) for body in request["messages"])))


def _message(body: str) -> str:
    """A message of a transcript: who says it, then the text as it stands."""
    message = json.loads(body)
    content, role = message.get("content"), message.get("role", "?")
    if isinstance(content, list):
        parts = [part["text"] if _is_text(part) else pretty(part) for part in content]
        content = "\n".join(parts)
    return f"[{role}]\n{content if isinstance(content, str) else pretty(content)}"


def _is_text(part: Json) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


async def _of_record(store: Store, call: CallRecord) -> Json:
    """A recorded request, with a model's messages, tools and output in place of their names."""
    if call.kind != "llm" or not isinstance(call.request, dict):
        return call.request
    return await _whole(store, call.request, await _messages(store, call.request.get("head")), {})


async def _of_call(store: Store, call: Call) -> Json:
    request = json.loads(call.request)
    if call.kind != "llm":
        return request
    if not call.nodes:  # All its messages are known, so all of them are stored.
        return await _whole(store, request, await _messages(store, request.get("head")), call_blobs(call))
    first = call.nodes[0].parent
    before = [] if first is None else await _messages(store, first.hex())
    return await _whole(store, request, [*before, *(each.body for each in call.nodes)], call_blobs(call))


def call_blobs(call: Call) -> dict[str, str]:
    """The large fixed parts of a request that was not recorded, by the hex of their hash."""
    return {blob.hash.hex(): blob.body for blob in call.blobs}


async def _whole(store: Store, request: Mapping[str, Any], messages: Sequence[str], blobs: Mapping[str, str]) -> Json:
    found = {name: value for name, value in request.items() if name != "head" and value not in (None, {})}
    for name in ("tools", "output"):
        if name in found:
            found[name] = await _blob(store, found[name], blobs)
    return {**found, "messages": list(messages)}


async def _blob(store: Store, name: str, blobs: Mapping[str, str]) -> Json:
    with suppress(NotFound, ValueError):
        return json.loads(blobs[name] if name in blobs else await store.blob(bytes.fromhex(name)))
    return name


async def _messages(store: Store, head: str | None) -> list[str]:
    try:
        return [] if head is None else await store.transcript(bytes.fromhex(head))
    except NotFound:
        return []
