"""The verbs of schedules, as the runtime has them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Literal, TypeVar, cast, get_args

from statecraft import trace
from statecraft.calls.call import canonical
from statecraft.clock import Clock, instant, stamp
from statecraft.engine.begin import check_name
from statecraft.engine.fit import kept
from statecraft.errors import ConfigError, InvalidPayload, NotFound, StoreUnavailable, WriteRefused
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.records import ScheduleRecord
from statecraft.schedules.rule import Cron, Every, Rule, from_json, to_json
from statecraft.store import port

D = TypeVar("D", bound=Data)

Missed = Literal["latest", "all", "skip"]
Overlap = Literal["allow", "skip"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRIES = 5


class Scheduling:
    """What can be said about schedules. `Runtime` has these verbs; its worker does the firing."""

    _store: port.Store
    _clock: Clock

    async def _register(self, definition: Definition) -> int:
        raise NotImplementedError

    def _look_at_schedules(self) -> None:
        raise NotImplementedError

    async def schedule(
        self,
        name: str,
        machine: Machine[D],
        data: D,
        rule: Rule,
        *,
        queue: str = "default",
        priority: int = 0,
        tenant: str | None = None,
        missed: Missed = "latest",
        overlap: Overlap = "allow",
    ) -> ScheduleRecord:
        """Start a run of `machine` with `data` at each instant of `rule` (`Cron` or `Every`), each instant once.

        Idempotent: putting the same again changes nothing, another definition under the same name replaces it; the
        record's `outcome` says which. A schedule that is paused stays so. The first instant is the first after now.
        `queue`, `priority` and `tenant` are those of its runs. `missed`: of the instants that no worker was there for, fire
        the `latest`, `all` (at most the newest 100) or none (`skip`). `overlap="skip"` leaves an instant out while the
        last run is open.

        Raises `ConfigError` for a name, queue, tenant or policy that is none, `InvalidPayload` if `data` is not of the
        machine's data type; nothing was written then.
        """
        definition = machine.definition
        _check(name, rule, queue, tenant, missed, overlap)
        if type(data) is not definition.data_type:
            raise InvalidPayload(f"{definition.name} is started with {definition.data_type.__name__}, not {type(data).__name__}")
        given, now = canonical(json.loads(kept(data))), self._clock.now()
        await self._register(definition)
        facts = (queue, priority, tenant, missed, overlap)
        next_at = stamp(rule.next_after(instant(now)))
        put = port.PutSchedule(name, definition.name, canonical(to_json(rule)), next_at, given, *facts, now)
        outcome = await self._put(put)
        self._look_at_schedules()
        if outcome != "unchanged":
            trace.emit("schedule.put", {"schedule": name, "machine_name": definition.name, "outcome": outcome})
        return replace(await self.get_schedule(name), outcome=outcome)

    async def _put(self, put: port.PutSchedule) -> str:
        try:
            return cast(str, await self._store.submit(put))
        except WriteRefused:
            # Two who put the same new name at the same moment: now it is there, and the second look sees it.
            return cast(str, await self._store.submit(put))

    async def schedules(self) -> list[ScheduleRecord]:
        """All schedules, by name."""
        return await self._store.schedules()

    async def get_schedule(self, name: str) -> ScheduleRecord:
        """The schedule of this name. Raises `NotFound`."""
        found = await self._store.schedules(name)
        if not found:
            raise NotFound(f"there is no schedule {name!r}; list them with `statecraft schedule list`")
        return found[0]

    async def pause_schedule(self, name: str) -> ScheduleRecord:
        """Let it fire no more until it is resumed. Its open runs go on. Raises `NotFound`."""
        await self._store.submit(port.PauseSchedule(name, self._clock.now()))
        trace.emit("schedule.paused", {"schedule": name})
        return await self.get_schedule(name)

    async def resume_schedule(self, name: str) -> ScheduleRecord:
        """Let it fire again, from the first instant after now: what passed while it was paused was not missed.

        One that is not paused stays as it is. Raises `NotFound`, or `ConfigError` if its rule cannot be read here.
        """
        for _ in range(_TRIES):
            found = await self.get_schedule(name)
            now = self._clock.now()
            next_at = stamp(from_json(found.rule).next_after(instant(now)))
            if await self._store.submit(port.ResumeSchedule(name, canonical(dict(found.rule)), next_at, now)):
                self._look_at_schedules()
                trace.emit("schedule.resumed", {"schedule": name})
                return await self.get_schedule(name)
        raise StoreUnavailable(f"schedule {name!r} is replaced again and again while it is resumed; try again")

    async def unschedule(self, name: str) -> None:
        """Take the schedule away; its runs stay and go on. Raises `NotFound`."""
        await self._store.submit(port.DropSchedule(name))
        trace.emit("schedule.dropped", {"schedule": name})


def _check(name: str, rule: object, queue: str, tenant: str | None, missed: str, overlap: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a schedule's name is 1 to 100 letters, digits, dots, dashes and underscores, not {name[:120]!r}")
    if not isinstance(rule, Cron | Every):
        raise ConfigError(f"the rule of schedule {name!r} is a Cron or an Every, not {rule!r}")
    check_name("queue", queue)
    check_name("tenant", tenant)
    if not queue or tenant == "":
        raise ConfigError(f"the queue and the tenant of schedule {name!r} have names; leave them out for the default")
    if missed not in get_args(Missed):
        raise ConfigError(f"missed is one of {', '.join(get_args(Missed))}, not {missed!r}")
    if overlap not in get_args(Overlap):
        raise ConfigError(f"overlap is one of {', '.join(get_args(Overlap))}, not {overlap!r}")
