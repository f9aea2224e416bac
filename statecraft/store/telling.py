"""From a write to the events that people are told of it. Pure; written in the transaction of the change itself.

An event's id follows from what it tells, so a write that comes twice tells once; and where no channel wants a kind,
its statement writes nothing (`statements.TELL`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping

from statecraft.channel import Kind
from statecraft.records import Status
from statecraft.store import statements as s
from statecraft.store.meters import Amount, Charge
from statecraft.store.outbox import Tell, event_id
from statecraft.store.port import Decide, Head, Park, Transition
from statecraft.store.questions import CallReview, review_id

Rows = defaultdict[s.Statement, list[s.Row]]

_LONGEST = 300
"""Characters of any text that is told."""
_ENDS = {Status.FAILED: Kind.RUN_FAILED, Status.DONE: Kind.RUN_COMPLETED}
_QUOTA_WINDOW = 3_600_000_000
"""One quota is told once in an hour, however many runs meet it."""


def told(event: Tell, rows: Rows) -> None:
    """An event that no run's write causes."""
    _add(event.event, event.kind, event.at, None, event.body, rows)


def parked(park: Park, rows: Rows) -> None:
    """What a run that is given up asks of people, and whether it died."""
    place = (park.run_id, park.seq)
    asked = park.review
    if asked is not None:
        facts = {"review": review_id(park.seq), "about": "state", "question": short(asked.question)}
        event = event_id(Kind.REVIEW_REQUESTED, *_name(place))
        of_run(event, Kind.REVIEW_REQUESTED, park.at, place, {**facts, "expires_at": asked.expires_at}, rows)
    for question in park.asks:
        key = _key(question)
        facts = {"review": review_id(park.seq, key), "about": question.kind, "question": short(question.question)}
        event = event_id(Kind.REVIEW_REQUESTED, *_name(place), *_name(key))
        more = {"tool": question.tool, "expires_at": question.expires_at}
        of_run(event, Kind.REVIEW_REQUESTED, park.at, place, {**facts, **more}, rows)
    if park.about is not None and park.alert is not None:
        event = event_id(Kind.QUOTA_REACHED, park.about, park.at // _QUOTA_WINDOW)
        facts = {"dependency": park.about, "alert": short(park.alert)}
        of_run(event, Kind.QUOTA_REACHED, park.at, place, facts, rows)
    if park.head.status is Status.DEAD:
        event = event_id(Kind.RUN_DEAD_LETTERED, *_name(place), park.epoch)
        of_run(event, Kind.RUN_DEAD_LETTERED, park.at, place, {"reason": short(park.head.reason or "")}, rows)


def moved(link: Transition, head: Head | None, decision: bool, rows: Rows) -> None:
    """How a move that gives the run up ended it, and whom it answered."""
    if decision:
        before = (link.run_id, link.seq - 1)
        event = event_id(Kind.REVIEW_DECIDED, *_name(before))
        _decided(event, before, link.at, review_id(link.seq - 1), link.event, link.actor, rows)
    kind = _ENDS.get(head.status) if head is not None else None
    if kind is not None:
        event, place = event_id(kind, link.run_id.hex(), link.seq), (link.run_id, link.seq)
        facts = json.dumps({"event": link.event})
        rows[s.TELL_END].append((event, kind.value, link.at, *place, facts, link.at, kind.value, link.run_id))
        rows[s.DELIVER].append((event,))


def decided(write: Decide, rows: Rows) -> None:
    """A decision about a call."""
    place, key = (write.run_id, write.seq), (write.digest, write.occurrence, write.round)
    event = event_id(Kind.REVIEW_DECIDED, *_name(place), *_name(key))
    _decided(event, place, write.at, review_id(write.seq, key), write.decision, write.by, rows)


def _decided(event: bytes, place: tuple[bytes, int], at: int, review: str, decision: str, by: str | None, rows: Rows) -> None:
    of_run(event, Kind.REVIEW_DECIDED, at, place, {"review": review, "decision": decision, "by": by}, rows)


def charged(charge: Charge, place: tuple[bytes, int], at: int, rows: Rows) -> None:
    """The shares of a budget that a charge may have reached; which it has is seen when it is written."""
    assert charge.limit is not None
    for share in charge.shares:
        event, facts = _threshold(charge.meter, charge.limit, share)
        mark = math.ceil(charge.limit * share)
        kind = Kind.BUDGET_THRESHOLD.value
        head = (event, kind, at, *place, facts, at, kind)
        rows[s.TELL_MARK].append((*head, charge.meter, mark))
        rows[s.DELIVER].append((event,))


def no_room(amount: Amount, place: tuple[bytes, int], at: int, rows: Rows) -> None:
    """A budget had no room for a call: it is used up, as far as calls like this one go."""
    event, facts = _threshold(amount.meter, amount.limit, 1.0)
    _add(event, Kind.BUDGET_THRESHOLD, at, place, facts, rows)


def _threshold(meter: str, limit: int, share: float) -> tuple[bytes, str]:
    draw, unit = meter.rsplit(":", 1)
    facts = {"budget": draw, "unit": unit, "limit": limit, "share": share}
    return event_id(Kind.BUDGET_THRESHOLD, meter, limit, share), json.dumps(facts)


def of_run(event: bytes, kind: Kind, at: int, place: tuple[bytes, int], facts: Mapping[str, object], rows: Rows) -> None:
    """An event of one visit of a run."""
    _add(event, kind, at, place, json.dumps(facts, ensure_ascii=False), rows)


def _add(event: bytes, kind: str, at: int, place: tuple[bytes, int] | None, body: str, rows: Rows) -> None:
    rows[s.TELL].append((event, str(kind), at, *(place or (None, None)), body, at, str(kind)))
    rows[s.DELIVER].append((event,))


def _key(question: CallReview) -> tuple[bytes, int, int]:
    return question.digest, question.occurrence, question.round


def _name(key: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(part.hex() if isinstance(part, bytes) else str(part) for part in key)


def short(text: str) -> str:
    """A text as it is told: one line, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
