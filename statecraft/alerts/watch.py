"""Looks for what no write tells: questions that wait, queues that stand still, workers that are gone."""

from __future__ import annotations

import json

from statecraft.channel import AlertPolicy, Kind
from statecraft.clock import Clock, micros
from statecraft.store import port
from statecraft.store.outbox import Remind, Rule, Tell, event_id

HOUR = 3_600_000_000
"""A queue that stands still is told once in each hour of the clock (microseconds)."""


class Watch:
    """The eyes of one process. What it tells has ids that every process would give, so a fleet tells it once."""

    def __init__(self, store: port.Store, clock: Clock, policy: AlertPolicy) -> None:
        self._store, self._clock = store, clock
        self.rule = rule_of(policy)
        self._told: set[bytes] = set()
        """What this process has told, so that it need not write it over and over."""

    async def once(self) -> None:
        """Look, and tell what there is. Raises `StoreError`."""
        now = self._clock.now()
        seen = await self._store.sightings(now, self.rule)
        if seen.due:
            await self._store.submit(Remind(now, self.rule))
        here: set[bytes] = set()
        for queue, count, since in seen.stalled:
            event = event_id(Kind.QUEUE_STALLED, queue, now // HOUR)
            here.add(event)
            await self._tell(event, Kind.QUEUE_STALLED, now, {"queue": queue, "count": count, "since": since})
        for owner, beat, held in seen.lost:
            event = event_id(Kind.WORKER_LOST, owner)
            here.add(event)
            await self._tell(event, Kind.WORKER_LOST, now, {"worker": owner, "since": beat, "held": held})
        self._told &= here

    async def _tell(self, event: bytes, kind: Kind, now: int, facts: dict[str, object]) -> None:
        if event not in self._told:
            await self._store.submit(Tell(event, kind.value, now, json.dumps(facts, ensure_ascii=False)))
            self._told.add(event)


def rule_of(policy: AlertPolicy) -> Rule:
    """The policy as the store takes it."""
    remind = policy.reminders
    return Rule(
        after=() if remind is None else tuple(micros(each) for each in remind.after),
        every=None if remind is None or remind.then_every is None else micros(remind.then_every),
        expiring=policy.expiring,
        stalled_after=None if policy.stalled_after is None else micros(policy.stalled_after),
        lost_after=policy.lost_after,
    )
