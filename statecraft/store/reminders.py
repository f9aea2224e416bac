"""What people should hear of that no write tells: questions that wait, queues that stand still, workers that are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from statecraft.channel import Kind
from statecraft.records import Status
from statecraft.store import asked, fleet, telling
from statecraft.store import statements as s
from statecraft.store import tables as t
from statecraft.store.outbox import Remind, Rule, Sightings, Tell, event_id
from statecraft.store.questions import review_id
from statecraft.store.rows import Row
from statecraft.store.writes import Rows

METER = "alerts:reminded"
"""Its state is the instant until which people were reminded."""
_NAMED = 20
"""Questions named in one reminder; the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open question."""

    run_id: bytes
    seq: int
    review: str
    key: tuple[object, ...]
    question: str
    requested_at: int
    remind_at: int | None
    expires_at: int | None


# --- reminding --------------------------------------------------------------------------------------------------------


def begin(sql: sa.Connection, now: int, rows: Rows) -> None:
    """Remind of what comes due from now on, unless that began before."""
    if _until(sql) is None:
        rows[s.ADJUST].append((METER, 0, str(now)))


def remind(sql: sa.Connection, write: Remind, rows: Rows) -> None:
    """Tell of what came due since the last time, and remember this one."""
    since, now, rule = _until(sql, lock=True), write.now, write.rule
    if since is None or since >= now:
        return
    waiting = list(_open(sql))
    late = [each for each in waiting if _between(since, now, _reminders(each, rule, since, now))]
    if late:
        late.sort(key=lambda each: each.requested_at)
        named = [_named(each) for each in late[:_NAMED]]
        body = json.dumps({"count": len(late), "reviews": named}, ensure_ascii=False)
        telling.told(Tell(event_id(Kind.REVIEW_REMINDER, since), Kind.REVIEW_REMINDER, now, body), rows)
    for each in waiting:
        if _between(since, now, _endings(each, rule, now)):
            kind = Kind.REVIEW_EXPIRING
            event = event_id(kind, each.run_id.hex(), *each.key)
            facts = {"review": each.review, "question": each.question, "expires_at": each.expires_at}
            telling.of_run(event, kind, now, (each.run_id, each.seq), facts, rows)
    rows[s.ADJUST].append((METER, 0, str(now)))


def _until(sql: sa.Connection, *, lock: bool = False) -> int | None:
    query = sa.select(t.meters.c.state).where(t.meters.c.meter == METER)
    state = sql.execute(query.with_for_update() if lock else query).scalar()
    return None if state is None else int(state)


def _between(since: int, now: int, instants: Iterator[int]) -> bool:
    return any(since < at <= now for at in instants)


def _reminders(each: Waiting, rule: Rule, since: int, now: int) -> Iterator[int]:
    """The instants of reminders that matter for the time after `since` until `now`."""
    if each.expires_at is not None and each.expires_at <= now:
        return
    after = rule.after
    if each.remind_at is not None and (after or rule.every):
        after = (each.remind_at - each.requested_at, *after[1:])
    yield from (each.requested_at + one for one in after)
    if rule.every is not None:
        start = each.requested_at + max(after, default=0)
        passed = max(1, (since - start) // rule.every)
        yield from (start + count * rule.every for count in (passed, passed + 1))


def _endings(each: Waiting, rule: Rule, now: int) -> Iterator[int]:
    """The instant at which a question is close to its end."""
    if each.expires_at is not None and each.expires_at > now and rule.expiring < 1:
        yield each.requested_at + int((each.expires_at - each.requested_at) * rule.expiring)


def _named(each: Waiting) -> dict[str, object]:
    return {"run": each.run_id.hex(), "review": each.review, "question": each.question, "since": each.requested_at}


def _open(sql: sa.Connection) -> Iterator[Waiting]:
    """Every open question, with no more of it than is told."""
    states, calls = t.reviews.c, t.call_reviews.c
    of_states = sa.select(*(states[name] for name in ("run_id", "seq", "question", "requested_at", "expires_at")))
    for row in sql.execute(asked.of_open(of_states, t.reviews)):
        yield _waiting(row, review_id(row.seq), (row.seq,), None)
    names = ("run_id", "seq", "digest", "occurrence", "round", "question", "requested_at", "remind_at", "expires_at")
    of_calls = sa.select(*(calls[name] for name in names)).select_from(t.call_reviews)
    for row in sql.execute(asked.of_open(of_calls, t.call_reviews)):
        key = (row.digest, row.occurrence, row.round)
        yield _waiting(row, review_id(row.seq, key), (row.seq, row.digest.hex(), *key[1:]), row.remind_at)


def _waiting(row: Row, review: str, key: tuple[object, ...], remind_at: int | None) -> Waiting:
    question = telling.short(row.question)
    return Waiting(bytes(row.run_id), row.seq, review, key, question, row.requested_at, remind_at, row.expires_at)


# --- looking ----------------------------------------------------------------------------------------------------------


def sightings(sql: sa.Connection, now: int, rule: Rule) -> Sightings:
    """What there is to tell."""
    since = _until(sql)
    due = since is not None and any(
        _between(since, now, _reminders(each, rule, since, now)) or _between(since, now, _endings(each, rule, now))
        for each in _open(sql)
    )
    beating, lost = _workers(sql, now, rule)
    stalled = () if rule.stalled_after is None or not beating else _stalled(sql, now - rule.stalled_after)
    return Sightings(due, stalled, lost)


def _workers(sql: sa.Connection, now: int, rule: Rule) -> tuple[bool, tuple[tuple[str, int, int], ...]]:
    """Whether any worker beats, and those that neither beat nor stopped."""
    mine = fleet.workers.c
    found = sql.execute(sa.select(mine.owner, mine.beat_at, mine.lease, mine.held).where(mine.stopped_at.is_(None))).all()
    gone = [row for row in found if row.beat_at + row.lease * rule.lost_after < now]
    return len(gone) < len(found), tuple((row.owner, row.beat_at, row.held) for row in gone)


def _stalled(sql: sa.Connection, before: int) -> tuple[tuple[str, int, int], ...]:
    """Queues with runs that have been due since before an instant."""
    runs = t.runs.c
    overdue: dict[str, tuple[int, int]] = {}
    for status in (Status.READY, Status.WAITING):
        late: list[Any] = [runs.status == sa.literal_column(f"'{status}'"), runs.due_at.is_not(None), runs.due_at <= before]
        query = sa.select(runs.queue, sa.func.count().label("many"), sa.func.min(runs.due_at).label("first"))
        for queue, many, first in sql.execute(query.where(*late).group_by(runs.queue)):
            known = overdue.get(queue, (0, first))
            overdue[queue] = (known[0] + many, min(known[1], first))
    return tuple((queue, many, first) for queue, (many, first) in sorted(overdue.items()))
