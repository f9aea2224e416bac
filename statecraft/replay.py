"""Run the handlers again against the record. Nothing leaves the process and nothing is written.

Each finished visit is executed with its recorded data and its recorded calls; the first call or move that differs is
reported. Moves that no handler made (bounds, timeouts, people's decisions) are taken from the record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from statecraft.calls.call import Call, Reply
from statecraft.calls.park import Park
from statecraft.calls.visit import REDRIVE, Visit
from statecraft.clock import Clock, Timeout, stamp
from statecraft.divergence import Divergence, Replay, requests, values
from statecraft.engine.context import StepRun
from statecraft.engine.fit import fit
from statecraft.engine.handle import handle
from statecraft.engine.held import Held
from statecraft.engine.history import MIGRATED, REWRITTEN, visits_of
from statecraft.engine.jsonable import to_json
from statecraft.engine.live import Hub
from statecraft.engine.loop import MOVES
from statecraft.engine.services import Services
from statecraft.errors import InvalidPayload
from statecraft.llm.port import LLM, Request
from statecraft.llm.port import Reply as ModelReply
from statecraft.machine.definition import Definition, Refusal
from statecraft.machine.event import Event, OperatorEvent, Rewritten, event_name
from statecraft.machine.state import Ask
from statecraft.records import CallRecord, ReviewRecord, TransitionRecord, Usage
from statecraft.store.port import Store

BOUNDS = frozenset(
    {
        "budget_warning",
        "budget_exhausted",
        "state_timeout",
        "deadline_passed",
        "visits_exhausted",
        "steps_exhausted",
        "review_expired",
    }
)
"""Events the engine raises in place of a handler's answer."""


class _Diverged(BaseException):
    """Leaves a handler that asked for what the record does not have. No handler can catch it as an `Exception`."""


class _Recorded:
    """The call stack of a replay: answers from the record or stops."""

    def __init__(self) -> None:
        self.used: set[tuple[bytes, int]] = set()
        self.left: set[tuple[bytes, int]] = set()
        """Calls of items that a join did not choose: they are made no more."""
        self.unknown: Call | None = None

    async def __call__(self, call: Call) -> Reply:
        found = call.visit.recall(call)
        if found is None:
            self.unknown = self.unknown or call
            raise _Diverged
        self.used.add((call.digest, call.occurrence))
        reply = found.answer()
        if call.kind == "join":
            self.left.update((bytes.fromhex(digest), nth) for digest, nth in json.loads(reply.result)["left"])
        return reply


class _RecordedTime:
    """Stands still at the end of the recorded visit: whatever was waited for in it is over."""

    def __init__(self, at: int) -> None:
        self._at = at

    def now(self) -> int:
        return self._at

    def monotonic(self) -> float:
        return self._at / 1_000_000

    async def sleep(self, seconds: float) -> None:
        """The wait is in the record, not in the replay."""

    def timeout(self, seconds: float | None) -> Timeout:
        """Never reached: a replay has no limits of time."""
        raise _Diverged(seconds)


class _RecordedModel:
    """Stands in for the model of a runtime that has none, or another one: it has the recorded name, and nobody answers."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.label = f"{model} (recorded)"

    async def complete(self, request: Request) -> ModelReply:
        """Never reached: the call stack answers from the record or stops."""
        raise _Diverged(request.model)

    async def close(self) -> None:
        """Nothing to close."""


class _Visits:
    """One replay in progress."""

    def __init__(self, store: Store, definition: Definition, services: Services) -> None:
        self.store, self.definition, self.services = store, definition, services
        self.calls = 0
        self.first = 0
        """The step that began the visit: a migration carries a visit on, and its calls stay where they are."""

    async def run(self, held: Held, move: TransitionRecord, review: ReviewRecord | None) -> Divergence | None:
        """Re-execute one visit; None if it agrees with the move that ended it."""
        recorded = [call for seq in range(self.first, held.seq + 1) for call in await self.store.calls(held.run_id, seq)]
        of_moves = move.event == "loop_detected" and move.payload.get("what") == MOVES
        kind = self.definition.events[move.event]
        if issubclass(kind, Rewritten):
            return None  # No handler and no row made it.
        by_operator = issubclass(kind, OperatorEvent)
        if of_moves or by_operator or (move.event in BOUNDS and not _of_a_call(move, recorded)):
            return await self._decided(held, move, self.definition.event(move.event, json.dumps(dict(move.payload))))
        held.visit.clock = _RecordedTime(stamp(move.at))
        for call in recorded:
            held.visit.remember(call)
        stack = _Recorded()
        debug = self.services.settings.debug or move.payload.get("error") == "DataMutated"
        run: StepRun[Any] = StepRun(held, replace(self.services, stack=stack, llm=self._model(recorded), live=Hub()))
        try:
            answer = await handle(run, held, held.visit.clock, debug=debug, limited=False)
        except _Diverged:
            answer = None
        except BaseExceptionGroup:
            if stack.unknown is None:
                raise
            answer = None  # It left a task group of the handler.
        self.calls += len(stack.used)
        if stack.unknown is not None or answer is None:
            return await self._unknown(held, stack, recorded)
        stack.used |= held.visit.retried if held.visit.redrives else set()
        if (left := _unused(stack, recorded, held.seq)) is not None:
            what = f"recorded call {left.idx} ({left.kind} {left.name}) was not made"
            return Divergence(held.seq, held.state, left.idx, what, await self._said(left), "no such call")
        return await self._compare(held, move, review, answer)

    def _model(self, recorded: Sequence[CallRecord]) -> LLM:
        """The runtime's model, unless the visit asked others: which model is at hand today is not a matter of the code."""
        ours, asked = self.services.llm_of(self.definition.name), [call.name for call in recorded if call.kind == "llm"]
        if ours is not None and (not asked or ours.model in asked):
            return ours
        return _RecordedModel(asked[0] if asked else "none")

    async def _compare(
        self, held: Held, move: TransitionRecord, review: ReviewRecord | None, answer: Event | Ask[Any] | Park
    ) -> Divergence | None:
        if isinstance(answer, Park):
            return Divergence(held.seq, held.state, None, "the handler parks instead of answering", move.event, str(answer))
        if isinstance(answer, Ask):
            asked = json.dumps([answer.question, json.loads(to_json(answer.show))], ensure_ascii=False)
            before = json.dumps([review.question, review.show], ensure_ascii=False) if review is not None else asked
            if asked != before:
                diff = values(json.loads(before), json.loads(asked))
                return Divergence(held.seq, held.state, None, "the question to the person differs", before, asked, diff)
            return await self._decided(held, move, self.definition.event(move.event, json.dumps(dict(move.payload))))
        answer, payload, _ = fit(held, answer)
        now, then = json.loads(payload), dict(move.payload)
        if event_name(type(answer)) != move.event or now != then:
            recorded = f"{move.event} {json.dumps(then, ensure_ascii=False)}"
            said = f"{event_name(type(answer))} {json.dumps(now, ensure_ascii=False)}"
            diff = values({move.event: then}, {event_name(type(answer)): now})
            return Divergence(held.seq, held.state, None, "the handler answers otherwise", recorded, said, diff)
        return await self._decided(held, move, answer)

    async def _decided(self, held: Held, move: TransitionRecord, event: Event) -> Divergence | None:
        decided = self.definition.decide(held.state, event, held.data)
        if isinstance(decided, Refusal):
            return Divergence(held.seq, held.state, None, f"{move.event} leads nowhere", move.target, decided.reason)
        if decided.target != move.target:
            return Divergence(held.seq, held.state, None, f"{move.event} leads elsewhere", move.target, decided.target)
        return None

    async def _unknown(self, held: Held, stack: _Recorded, recorded: Sequence[CallRecord]) -> Divergence:
        call = stack.unknown
        left = _unused(stack, recorded, held.seq, call)
        asked = (
            "an unknown call"
            if call is None
            else f"{call.kind} {call.name}: {call.nodes[-1].body if call.nodes else call.request}"
        )
        return Divergence(
            held.seq,
            held.state,
            None if left is None else left.idx,
            "the handler makes a call that the record does not have",
            "no further call" if left is None else await self._said(left),
            asked,
            await requests(self.store, left, call),
        )

    async def _said(self, call: CallRecord) -> str:
        """A recorded request in words: for a model, the last message of its transcript."""
        head = call.request.get("head") if call.kind == "llm" and isinstance(call.request, dict) else None
        if head:
            return f"{call.kind} {call.name}: {(await self.store.transcript(bytes.fromhex(head)))[-1]}"
        return f"{call.kind} {call.name}: {json.dumps(call.request, ensure_ascii=False)}"


def _of_a_call(move: TransitionRecord, recorded: Sequence[CallRecord]) -> bool:
    """Whether a bound was reached by a call that the handler made, which therefore can be run again."""
    return any(not call.ok and call.result.get("message") == move.payload.get("message") for call in recorded)


def _unused(stack: _Recorded, recorded: Sequence[CallRecord], step: int, call: Call | None = None) -> CallRecord | None:
    """The first recorded call that was not made; in the place of `call`, one of the same kind and name if there is one. Calls
    from before a migration that carried the visit on were another handler's, and need not be made again."""
    made = stack.used | stack.left
    of_step = (c for c in recorded if c.kind != REDRIVE and c.seq == step)
    unused = [c for c in of_step if (bytes.fromhex(c.digest), c.occurrence) not in made]
    alike = [c for c in unused if call is not None and (c.kind, c.name) == (call.kind, call.name)]
    return next(iter(alike or unused), None)


async def replay(store: Store, clock: Clock, definition: Definition, services: Services, run_id: bytes) -> Replay:
    """Re-execute every finished visit of a run with the code of today, up to the first divergence.

    What came before a migration belongs to another definition, and is taken from the record.
    """
    history = await store.history(run_id)
    since = max((index for index, move in enumerate(history) if move.event == MIGRATED), default=0)
    reviews = {review.seq: review for review in await store.reviews(run_id) if review.kind == "state"}
    visits = _Visits(store, definition, services)
    held = _begin(store, clock, definition, history[: since + 1])
    visits.first = int(history[since].payload["first"]) if since and "first" in history[since].payload else since
    for move in history[since + 1 :]:
        review = reviews.get(held.seq)
        if since and review is not None and review.requested_at <= history[since].at:
            review = None  # Another handler asked, and the migration kept the question.
        divergence = _known(definition, held, move) or await visits.run(held, move, review)
        if divergence is not None:
            return Replay(held.id, held.seq - since, visits.calls, divergence, definition.name)
        _follow(store, clock, held, move)
        visits.first = move.seq
    return Replay(held.id, held.seq - since, visits.calls, None, definition.name)


def _known(definition: Definition, held: Held, move: TransitionRecord) -> Divergence | None:
    if move.source not in definition.states:
        return _lacks(held, move, "the state is gone from the machine", move.source, ", ".join(definition.states))
    if move.event not in definition.events:
        return _lacks(held, move, "the event is gone from the machine", move.event, ", ".join(definition.events))
    try:
        _after(held, move)
    except InvalidPayload as error:
        recorded = json.dumps(dict(move.payload), ensure_ascii=False)
        return _lacks(held, move, f"the recorded {move.event} no longer fits", recorded, str(error))
    return None


def _lacks(held: Held, move: TransitionRecord, what: str, recorded: str, actual: str) -> Divergence:
    return Divergence(held.seq, move.source, None, what, recorded, actual, foreign=True)


def _after(held: Held, move: TransitionRecord) -> Any:
    """The data after a recorded move. Raises `InvalidPayload`."""
    return held.definition.fold(held.data, held.definition.event(move.event, json.dumps(dict(move.payload))))


def _begin(store: Store, clock: Clock, definition: Definition, past: Sequence[TransitionRecord]) -> Held:
    """The run as it stood after the last of these moves: its start, or its migration to this definition."""
    last = past[-1]
    data = _data(definition, last)
    visits = visits_of(past)
    run_id, events = bytes.fromhex(last.run_id), {move.event for move in past}
    carried = last.event == MIGRATED
    at = int(last.payload.get("entered_at") or stamp(last.at)) if carried else stamp(last.at)
    visit = Visit(store, clock, run_id, last.seq, last.epoch)
    where = (definition, 0, run_id, last.epoch, last.seq, last.target, data, visits, events, at)
    return Held(*where, deadline_at=None, hash=b"", usage=Usage(), visit=visit, payload_bytes=0)


def _data(definition: Definition, move: TransitionRecord) -> Any:
    """The whole data that a start or a migration puts in place."""
    whole = move.payload["data"] if move.event == MIGRATED else dict(move.payload)
    try:
        return definition.data_type.model_validate_json(json.dumps(whole))
    except ValueError as error:
        said = f"run {move.run_id}: its input no longer fits {definition.data_type.__name__}: {error}"
        raise InvalidPayload(said) from error


def _follow(store: Store, clock: Clock, held: Held, move: TransitionRecord) -> None:
    """Take the recorded move into memory."""
    held.data = _after(held, move)
    held.seq, held.state, held.entered_at = move.seq, move.target, stamp(move.at)
    if move.event not in REWRITTEN:
        held.visits[move.target] = held.visits.get(move.target, 0) + 1
    held.events.add(move.event)
    held.visit = Visit(store, clock, held.run_id, move.seq, move.epoch)
