"""Starting the runs of schedules whose instant has come.

A firing is two writes in order: `Start` under the key `schedule:<name>:<instant>`, then `Fired`, which moves the schedule
on. The unique key of runs makes a second start for one instant impossible, whatever number of workers fire and whenever
they die: who comes second, or comes back between the two writes, is given the run that exists. So no lease is needed.

A run is only ever started for the instant that the row names as the next one. What was missed is therefore passed over
first, by a `Fired` that started nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.clock import Clock, instant, micros, stamp
from statecraft.engine.begin import first
from statecraft.engine.fit import kept
from statecraft.errors import StoreError, WriteRefused
from statecraft.ids import Ids
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.records import RunFilter, ScheduleRecord, Status
from statecraft.schedules import rule as rules
from statecraft.store import chain, port

MOST_MISSED = 100
"""Most missed instants that `missed="all"` makes up for; older ones are passed over."""

LATE = timedelta(minutes=1)
"""For `missed="skip"`: an instant that is older than this when a worker first looks was missed."""


def key_of(name: str, at: datetime) -> str:
    """The start key of the run of one instant. No two instants, and no two schedules, share one."""
    return f"schedule:{name}:{at.isoformat().replace('+00:00', 'Z')}"


@dataclass(frozen=True, slots=True)
class Known:
    """What firing needs of the runtime."""

    store: port.Store
    clock: Clock
    ids: Ids
    definitions: Callable[[], Mapping[str, Definition]]
    """The machines at hand, by name."""
    register: Callable[[Definition], Awaitable[int]]
    """Answers the store's number for a definition."""
    share_of: Callable[[str | None], float]
    """The share of a tenant in its queue."""


class Firing:
    """Looks after all schedules whose machine is at hand: one small query at a time, no loop for each."""

    def __init__(self, known: Known, poll: timedelta) -> None:
        self._known, self._store, self._clock = known, known.store, known.clock
        self._poll = poll
        self._look_at = 0
        """Before this instant there is nothing to do, as far as we know."""
        self._left: dict[str, tuple[datetime, datetime | None]] = {}
        """Schedules left to others, as of (updated, next): said once for each."""

    def look_again(self) -> None:
        """A schedule has changed here: look at the next call of `fire`."""
        self._look_at = 0

    async def fire(self) -> float:
        """Start the runs of what is due; answer how many seconds nothing will be, at most the polling interval.

        Never raises for a store that fails or a schedule that cannot fire here: it is logged, and looked at again.
        """
        now = self._clock.now()
        if now >= self._look_at:
            self._look_at = now + micros(self._poll)
            try:
                self._look_at = min(self._look_at, await self._look(now))
            except StoreError as error:
                trace.emit("store.failed", {"what": "schedules", "error": repr(error)}, level=logging.WARNING)
        return max(0.0, (self._look_at - self._clock.now()) / 1_000_000)

    async def _look(self, now: int) -> int:
        """Fire what is due at `now`; answer when to look again."""
        machines = tuple(self._known.definitions())
        soonest = await self._store.next_schedule(machines) if machines else None
        if soonest is None or soonest > now:
            return now + micros(self._poll) if soonest is None else soonest
        went_on = False
        for due in await self._store.due_schedules(machines, now):
            went_on |= await self._fire(due, instant(now))
        return now if went_on else now + micros(self._poll)

    async def _fire(self, due: ScheduleRecord, now: datetime) -> bool:
        """Fire one schedule for all of its instants until now. Whether it is further than it was."""
        try:
            rule = rules.from_json(due.rule)
            definition = self._known.definitions()[due.machine]
            data = definition.data_type.model_validate_json(json.dumps(dict(due.input)))
            await self._catch_up(due, rule, definition, data, now)
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, WriteRefused):
                raise
            self._leave(due, error)
            return False
        self._left.pop(due.name, None)
        return True

    async def _catch_up(self, due: ScheduleRecord, rule: rules.Rule, definition: Definition, data: Any, now: datetime) -> None:
        at = cast(datetime, due.next_at)
        goal = _from(due, rule, at, now)
        if goal != at:
            if not await self._move_on(due, at, goal, ran=False):
                return
            trace.emit("schedule.missed", {"schedule": due.name, "since": at.isoformat(), "until": goal.isoformat()})
        last = due.last_at
        while goal <= now:
            following = rule.next_after(goal)
            ran = due.overlap == "allow" or not await self._open(due.name, last)
            if ran:
                await self._start(due, definition, data, goal)
                last = goal
            else:
                trace.emit("schedule.overlapped", {"schedule": due.name, "instant": goal.isoformat()})
            if not await self._move_on(due, goal, following, ran=ran):
                return  # Another worker has, or the schedule is another now. Whoever looks next sees how it is.
            goal = following

    async def _move_on(self, due: ScheduleRecord, at: datetime, to: datetime, *, ran: bool) -> bool:
        moved = await self._store.submit(port.Fired(due.name, canonical(dict(due.rule)), stamp(at), stamp(to), ran))
        return cast(bool, moved)

    async def _open(self, name: str, last: datetime | None) -> bool:
        """Whether the schedule's last run is under way."""
        found = [] if last is None else await self._store.runs(RunFilter(key=key_of(name, last), limit=1))
        return any(not run.status.closed for run in found)

    async def _start(self, due: ScheduleRecord, definition: Definition, data: Data, at: datetime) -> None:
        """Start the run of one instant, ready for whoever has room. Nothing if it was started before."""
        number = await self._known.register(definition)
        now, ids = self._clock.now(), self._known.ids
        key = key_of(due.name, at)
        row = first(definition, number, ids.run_id(now), now, kept(data), 0, chain.origin(key, due.tenant))
        deadline = None if definition.deadline is None else now + micros(definition.deadline)
        begun = port.Start(
            row,
            port.Head(Status.READY, due_at=now),
            key,
            deadline,
            ids.trace_id(),
            due.tenant,
            queue=due.queue,
            priority=due.priority,
            share=self._known.share_of(due.tenant),
        )
        run_id = cast(bytes, await self._submit(begun))
        if run_id == row.run_id:
            trace.emit("run.started", {"run_id": run_id.hex(), "machine_name": definition.name})
            trace.emit("schedule.fired", {"schedule": due.name, "instant": at.isoformat(), "run_id": run_id.hex()})

    async def _submit(self, begun: port.Start) -> object:
        try:
            return await self._store.submit(begun)
        except WriteRefused:
            # Two workers may write the same key at the same moment; the second look finds the run of the first.
            return await self._store.submit(begun)

    def _leave(self, due: ScheduleRecord, error: Exception) -> None:
        """Leave it to workers that can, and say so once."""
        which = (due.updated_at, due.next_at)
        if self._left.get(due.name) != which:
            self._left[due.name] = which
            facts = {"schedule": due.name, "machine_name": due.machine, "error": " ".join(str(error).split())[:1000]}
            trace.emit("schedule.failed", facts, level=logging.WARNING)


def _from(due: ScheduleRecord, rule: rules.Rule, at: datetime, now: datetime) -> datetime:
    """The first instant that is still to be fired, `at` or a later one."""
    match due.missed:
        case "all":
            return rules.newest(rule, at, now, MOST_MISSED)[0]
        case "skip":
            newest = rules.newest(rule, at, now, 1)[0]
            return newest if now - newest <= LATE else rule.next_after(now)
        case _:
            return rules.newest(rule, at, now, 1)[0]
