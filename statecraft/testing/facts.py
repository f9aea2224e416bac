"""What is left of a run when it has ended, in a form in which two runs of the same machine can be compared.

Instants, epochs, hashes and owners are left out, and ids are told by what they name: two runs that were started alike and
went the same way have the same facts, whenever and by however many processes they were advanced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from statecraft.machine.declare import Machine
from statecraft.records import CallRecord, RunRecord, TransitionRecord
from statecraft.runtime import Runtime
from statecraft.store import tables as t
from statecraft.testing.ledger import Identity, Ledger, key_of
from statecraft.testing.lives import family

Look = Callable[[], AbstractContextManager[Any]]
"""A connection to read by."""
_TIMELY = frozenset({"sleep", "now", "budget"})
"""Calls whose results tell of instants."""
_SHOWN = 160
"""Characters of a value that a difference quotes."""


@dataclass(frozen=True)
class RunFacts:
    """One run of a family."""

    name: str
    """`run`, or `child 1`, `child 2` ..."""
    status: str
    state: str
    data: str
    history: tuple[str, ...]
    """The moves, each on a line."""
    calls: tuple[str, ...]
    """The finished calls, each on a line, sorted."""
    reviews: tuple[str, ...]
    open: tuple[str, ...]
    """What should not be there any more once a run has ended: a holder, an intent without an outcome, a reservation."""
    problems: tuple[str, ...]
    """What `verify` says."""


@dataclass(frozen=True)
class Facts:
    """All that is compared of one world."""

    runs: tuple[RunFacts, ...]
    budgets: Mapping[str, int]
    """What is used of each budget of the runs."""
    strays: Mapping[str, int]
    """Calls of tools with an effect that the journal knows nothing of, by tool."""
    effects: Mapping[str, int]
    """How much the caller's own effects grew."""
    doubts: int = 0
    """Questions that were put to a person because nobody knew whether a call took effect."""
    states: tuple[str, str] = field(default=("", ""), compare=False)
    """Status and state of the first run."""


def differences(found: Facts, calm: Facts) -> list[str]:
    """What differs from the run that nobody disturbed, one sentence each; empty if nothing does."""
    return list(_differences(found, calm))


def _differences(found: Facts, calm: Facts) -> Iterator[str]:
    if len(found.runs) != len(calm.runs):
        yield f"runs: {len(found.runs)} in the family, undisturbed {len(calm.runs)}"
    for one, other in zip(found.runs, calm.runs, strict=False):
        yield from _of_run(one, other)
    yield from _counts("budget", found.budgets, calm.budgets, "the meters should agree to the last token")
    yield from _counts(
        "calls", found.strays, calm.strays, "it acted, and the journal has no such call: the handler asked otherwise again"
    )
    yield from _counts("effects", found.effects, calm.effects, "a handler acts on the world without run.tool, or a tool twice")


def _of_run(found: RunFacts, calm: RunFacts) -> Iterator[str]:
    if (found.status, found.state) != (calm.status, calm.state):
        yield f"{found.name}: ends {found.status} in {found.state}, undisturbed {calm.status} in {calm.state}"
    for what in ("history", "calls", "reviews"):
        pairs = zip_longest(getattr(found, what), getattr(calm, what), fillvalue="nothing")
        different = [(one, other) for one, other in pairs if one != other]
        if different:
            one, other = different[0]
            yield f"{found.name}, {what}: {_apart(one, other)}"
    if found.data != calm.data:
        yield f"{found.name}, data: {_apart(found.data, calm.data)}"
    for what in found.open:
        if what not in calm.open:
            yield f"{found.name}: {what}"
    yield from (f"{found.name}, verify: {problem}" for problem in found.problems)


def _apart(one: str, other: str) -> str:
    """Both texts, from a little before where they differ."""
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - 40)
    dots = "..." if start else ""
    return f"{dots}{one[start : start + _SHOWN]}\n      undisturbed: {dots}{other[start : start + _SHOWN]}"


def _counts(what: str, found: Mapping[str, int], calm: Mapping[str, int], meaning: str) -> Iterator[str]:
    for name in sorted({*found, *calm}):
        one, other = found.get(name, 0), calm.get(name, 0)
        if one != other:
            yield f"{what}{f' of {name}' if name else ''}: {one}, undisturbed {other} ({meaning})"


# --- gathering --------------------------------------------------------------------------------------------------------


async def gather(
    runtime: Runtime, look: Look, run_id: str, ledger: Ledger, acting: frozenset[str], effects: Mapping[str, int]
) -> Facts:
    """The facts of a run and all runs under it. `acting`: the tools that have an effect."""
    runs = await family(runtime, await runtime.get(run_id))
    calls = {run.id: await runtime.calls(run.id) for run in runs}
    words = _Words(runs, calls, ledger)
    found = [await _facts(runtime, look, run, calls[run.id], words) for run in runs]
    known = {identity_of(call) for each in calls.values() for call in each}
    strays: dict[str, int] = {}
    for name in {(perform.call, perform.name) for perform in ledger.performs if perform.kind == "tool"}:
        if name[1] in acting and name[0] not in known:
            strays[name[1]] = strays.get(name[1], 0) + 1
    doubts = sum([review.kind == "doubt" for run in runs for review in await runtime.reviews(run.id)])
    named = sorted(found[1:], key=lambda each: (each.history, each.calls))
    ordered = [found[0], *named]
    return Facts(tuple(ordered), _budgets(look, words), strays, effects, doubts, states=(str(runs[0].status), runs[0].state))


def identity_of(call: CallRecord) -> Identity:
    """Which call a record tells of."""
    return call.run_id, call.seq, call.digest, call.occurrence


class _Words:
    """Tells ids by what they name, since they may differ from run to run."""

    def __init__(self, runs: Sequence[RunRecord], calls: Mapping[str, Sequence[CallRecord]], ledger: Ledger) -> None:
        self.names = {run.id: "run" if not place else "child" for place, run in enumerate(runs)}
        self._words = {run: f"<{name}>" for run, name in self.names.items()}
        for each in calls.values():
            for call in each:
                self._words[key_of(identity_of(call))] = f"<key of {call.name} in step {call.seq}>"
        for perform in ledger.performs:
            self._words[perform.key] = f"<key of {perform.name} in step {perform.call[1]}>"

    def __call__(self, text: str) -> str:
        for word, meaning in self._words.items():
            if word in text:
                text = text.replace(word, meaning)
        return text


async def _facts(runtime: Runtime, look: Look, run: RunRecord, calls: Sequence[CallRecord], words: _Words) -> RunFacts:
    history = await runtime.history(run.id)
    return RunFacts(
        name=words.names[run.id] if run.parent is None else f"child {run.machine}",
        status=str(run.status),
        state=run.state,
        data=words((await runtime.data(run.id)).model_dump_json()),
        history=tuple(words(_move(row)) for row in history),
        calls=tuple(sorted(words(_call(call)) for call in calls)),
        reviews=tuple(
            f"{review.kind} in {review.state} at step {review.seq}: {review.decision}"
            for review in await runtime.reviews(run.id)
            if review.kind != "doubt"
        ),
        open=(*await _open(runtime, run, calls), *_reserved(look, run)),
        problems=tuple(await runtime.verify(run.id)),
    )


def _move(row: TransitionRecord) -> str:
    asked = "".join(f" {name}={held}" for name, held in row.guards)
    spent = f"{row.calls} calls, {row.usage.total} tokens"
    by = f" by {row.actor}" if row.actor else ""
    return f"{row.seq}. {row.source} -({row.event}{asked})-> {row.target}{by} [{spent}] {_text(row.payload)}"


def _call(call: CallRecord) -> str:
    result = "" if call.kind in _TIMELY else _text(call.result)
    spent = f"{call.usage.total} tokens" + ("" if call.cost is None else f", {call.cost}")
    return f"step {call.seq}: {call.kind} {call.name} {'ok' if call.ok else 'failed'} [{spent}] {result}"


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict)


async def _open(runtime: Runtime, run: RunRecord, calls: Sequence[CallRecord]) -> list[str]:
    found = [f"{run.owner} still holds it under a lease"] if run.owner else []
    if run.lease_until is not None and not run.owner:
        found.append("it has a lease without a holder")
    done = {(call.seq, call.digest, call.occurrence) for call in calls}
    begun = [attempt for attempt in await runtime.attempts(run.id) if attempt.kind == "begun"]
    lost = [each for each in begun if (each.seq, each.digest, each.occurrence) not in done]
    asked = await runtime.reviews(run.id, open_only=True)
    return [
        *found,
        *(f"the intent of {each.name} in step {each.seq} has no outcome" for each in lost),
        *(f"a question in {review.state} is still open: {review.question}" for review in asked),
    ]


def _reserved(look: Look, run: RunRecord) -> list[str]:
    with look() as sql:
        rows = sql.execute(t.reservations.select().where(t.reservations.c.run_id == bytes.fromhex(run.id)))
        return [f"{row.amount} of {row.meter.rpartition(':')[2]} is still reserved" for row in rows]


def _budgets(look: Look, words: _Words) -> dict[str, int]:
    with look() as sql:
        meters = sql.execute(t.meters.select().where(t.meters.c.state.is_(None)))
        used = {row.meter: row.used for row in meters if any(run in row.meter for run in words.names)}
    found: dict[str, int] = {}
    for meter, amount in used.items():
        found[words(meter)] = found.get(words(meter), 0) + amount
    return found


def effects_of_tools(machine: Machine[Any]) -> dict[str, str]:
    """What each tool of a machine, and of the machines under it, does to the world."""
    found: dict[str, str] = {}
    seen: list[Machine[Any]] = []
    todo = [machine]
    while todo:
        each = todo.pop()
        if any(each is other for other in seen):
            continue
        seen.append(each)
        for handler in each.definition.handlers.values():
            found.update({tool.name: getattr(tool, "effect", "read") for tool in handler.tools})
            todo += handler.children
    return found
