"""The half of a runtime that only looks: runs, histories, reviews, the feed. Nothing here changes a run."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Literal, TypeVar, overload

from statecraft.calls import standing
from statecraft.clock import Clock, stamp
from statecraft.engine import past
from statecraft.engine.live import Follower, Hub, Live
from statecraft.engine.migrating import Migrating, mismatch
from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError, NotFound
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    DeliveryRecord,
    FeedEntry,
    ReviewRecord,
    RunFilter,
    RunRecord,
    Status,
    TransitionRecord,
    Waiting,
)
from statecraft.stats import Stats
from statecraft.stats.heat import Heat
from statecraft.store import port, shown
from statecraft.worker.worker import ANY, Worker

D = TypeVar("D", bound=Data)


def settled(run: RunRecord, now: int) -> bool:
    """Whether a run has ended or waits for a person, so that waiting for it longer is pointless.

    Not if it is due: then somebody has decided, or the time to decide is over, and it only waits to be claimed.
    """
    if run.status is not Status.WAITING or run.waiting_for is not Waiting.REVIEW:
        return run.status.closed
    return run.due_at is None or now < stamp(run.due_at)


class Looking:
    """What can be asked about runs. `Runtime` adds what can be done to them."""

    url: str
    settings: Settings
    _store: port.Store
    _definitions: dict[str, Definition]
    _running: dict[int, Definition]
    _numbers: dict[str, int]
    _worker: Worker
    _live: Hub
    _clock: Clock

    async def _register(self, definition: Definition) -> int:
        raise NotImplementedError  # Runtime does.

    async def get(self, run_id: str) -> RunRecord:
        """The run's head. Raises `NotFound`."""
        return await self._store.run(raw_id(run_id))

    async def find(self, text: str) -> RunRecord:
        """The run whose id begins with `text`, or for `@last` the newest one that is no child run.

        Raises `NotFound` if none or several do.
        """
        return await self.get((await self.run_ids(text))[0])

    async def run_ids(self, text: str | None = None) -> list[str]:
        """The id of the run that `find` answers; without `text` those of all runs, newest first.

        Nothing else of the runs is read, so a damaged one is named too. Raises `NotFound` as `find` does.
        """
        if text is None:
            return [raw.hex() for raw in await self._store.every()]
        found = await self._store.find(text)
        if len(found) == 1:
            return found
        if not found:
            raise NotFound(f"no run {text!r} in {shown(self.url)}; list them with `statecraft runs`")
        raise NotFound(f"{text!r} fits several runs: {', '.join(found)}; give more digits")

    async def runs(self, which: RunFilter | None = None) -> list[RunRecord]:
        """Runs, newest first."""
        return await self._store.runs(which or RunFilter())

    async def history(self, run_id: str) -> list[TransitionRecord]:
        """The run's journal of moves, the start included."""
        return await self._store.history(raw_id(run_id))

    async def calls(self, run_id: str, seq: int | None = None) -> list[CallRecord]:
        """Finished calls of the run, or of one visit."""
        return await self._store.calls(raw_id(run_id), seq)

    async def attempts(self, run_id: str, seq: int | None = None) -> list[AttemptRecord]:
        """Failed attempts and intents of the run's calls."""
        return await self._store.attempts(raw_id(run_id), seq)

    async def reviews(self, run_id: str | None = None, *, open_only: bool = False) -> list[ReviewRecord]:
        """Questions to people, of one run or of all."""
        return await self._store.reviews(None if run_id is None else raw_id(run_id), open_only=open_only)

    @overload
    async def data(self, run_id: str, of: None = None, *, at: int | None = None) -> Data: ...
    @overload
    async def data(self, run_id: str, of: type[D], *, at: int | None = None) -> D: ...
    async def data(self, run_id: str, of: type[Data] | None = None, *, at: int | None = None) -> Data:
        """The run's data after transition `at` (default: the last one), by folding its history.

        `of` is its type, for type checkers; `ConfigError` if the run's machine has another one.
        """
        raw = raw_id(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        if of is not None and not issubclass(definition.data_type, of):
            raise ConfigError(f"run {run_id} of {definition.name} has {definition.data_type.__name__} data, not {of.__name__}")
        return await past.data_at(self._store, definition, raw, at, self._bring)

    async def deliveries(self, *, failed: bool = False, alert: str = "", limit: int = 50) -> list[DeliveryRecord]:
        """What people were told, newest first: all of it or what was given up, of alerts whose id begins with `alert`.

        Raises `NotFound` if that is no beginning of an id.
        """
        return await self._store.deliveries(failed=failed, event=alert, limit=limit)

    async def diagnosis(self, run_id: str) -> str | None:
        """Why the run is dead and what it would need, as JSON; None if it is not."""
        return await self._store.diagnosis(raw_id(run_id))

    async def heat(self, machine: str, window: timedelta = timedelta(days=1)) -> Heat:
        """Where the runs of a machine (all versions of it) are now, and where they went in the last `window`.

        Counts are exact; moves only as far back as the newest 100,000 entries of the feed go (see `Heat.whole`).
        """
        return await self._store.heat(machine, self._clock.now() - window // timedelta(microseconds=1))

    async def stored_spec(self, fingerprint: str) -> str:
        """A definition that runs were started with, as canonical JSON, by its fingerprint or the beginning of it.

        Raises `NotFound` if none or several begin so.
        """
        found = await self._store.known(fingerprint.lower())
        if len(found) != 1:
            many = f"fits {len(found)} definitions" if found else "is the fingerprint of no definition"
            raise NotFound(f"{fingerprint!r} {many} in {shown(self.url)}; `statecraft show RUN --json` tells a run's")
        return (await self._store.spec(found[0].fingerprint)).spec

    async def spec(self, run_id: str) -> str:
        """The definition that started the run, as canonical JSON."""
        return (await self._store.spec((await self._store.run(raw_id(run_id))).fingerprint)).spec

    async def stats(self) -> Stats:
        """Operating figures of everything in the database, whoever works on it. Cheap enough to ask every few seconds."""
        now = self._clock.now()
        found = await self._store.figures(now)
        limits = standing.tenant_limits(self.settings.tenants, found.tenants, now)
        used = await self._store.used(list(limits)) if limits else {}
        budgets = [dataclasses.replace(limit, used=used[meter]) for meter, limit in limits.items()]
        budgets.sort(key=lambda each: (-each.ratio, each.tenant, each.unit))
        return dataclasses.replace(found.stats, budgets=tuple(budgets), breakers=standing.breakers(found.circuits, now))

    def knows(self, run: RunRecord) -> bool:
        """Whether this runtime has the definition that the run is under."""
        return run.fingerprint in self._numbers

    def definition(self, name: str) -> Definition:
        """The definition of a machine this runtime was given. Raises `NotFound`."""
        return self._named(name)

    async def feed(self, run_id: str | None = None, *, after: int = 0, limit: int = 500) -> list[FeedEntry]:
        """Up to `limit` entries of the feed behind position `after`, in order, as they are now."""
        return await self._store.feed(after, None if run_id is None else raw_id(run_id), limit)

    @overload
    def follow(self, run_id: str | None = None, *, after: int = 0, live: Literal[False] = False) -> AsyncIterator[FeedEntry]: ...
    @overload
    def follow(self, run_id: str, *, after: int = 0, live: Literal[True]) -> AsyncIterator[FeedEntry | Live]: ...
    def follow(
        self, run_id: str | None = None, *, after: int = 0, live: bool = False
    ) -> AsyncIterator[FeedEntry] | AsyncIterator[FeedEntry | Live]:
        """Entries of the feed in order, as they become true; `after` resumes behind a position.

        For one run it ends when the run has ended or waits for a person; for all runs it never ends. With `live` (one run
        only, or `ConfigError`) `Live` pieces come between the entries, as they arrive: what the model says while it says it,
        and what tools and handlers report. They come only from the process that advances the run, and are kept nowhere.
        """
        if not live:
            return self._follow(run_id, after)
        if run_id is None:
            raise ConfigError("follow(live=True) follows one run; name it")
        return self._follow_live(run_id, after)

    async def _follow_live(self, run_id: str, after: int) -> AsyncIterator[FeedEntry | Live]:
        raw = raw_id(run_id)
        waiting: list[Live] = []
        with self._live.follow(run_id) as follower:
            while True:
                changed = self._worker.changing(raw)
                follower.recorded = False
                follower.news.clear()
                run = await self._store.run(raw)
                entries = await self._store.feed(after, raw)
                waiting += follower.take()
                for one in _merged(entries, waiting):
                    after = one.pos if isinstance(one, FeedEntry) else after
                    yield one
                if settled(run, self._clock.now()) and not entries:
                    return
                # What came behind an entry that was not read yet waits for it.
                while not entries and not follower.recorded and all(piece.seq <= run.seq for piece in waiting):
                    for piece in waiting:
                        yield piece
                    grew = await self._record_grew(changed, follower)
                    follower.news.clear()
                    waiting = follower.take()
                    if grew:
                        break

    async def _record_grew(self, changed: asyncio.Event, follower: Follower) -> bool:
        """Wait for news; whether the record may have grown, rather than only live pieces have come."""
        if not follower.news.is_set():
            waits = [asyncio.ensure_future(wait) for wait in (self._worker.until(changed), follower.news.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return follower.recorded or changed.is_set() or not follower.news.is_set()

    async def _follow(self, run_id: str | None, after: int) -> AsyncIterator[FeedEntry]:
        raw = None if run_id is None else raw_id(run_id)
        while True:
            changed = self._worker.changing(raw or ANY)
            # Looked at before the feed is read: what made it settled is then in the feed already.
            over = raw is not None and settled(await self._store.run(raw), self._clock.now())
            entries = await self._store.feed(after, raw)
            for entry in entries:
                after = entry.pos
                yield entry
            if over and not entries:
                return
            if not entries:
                await self._worker.until(changed)

    # --- machines ----------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> Definition:
        found = self._definitions.get(name) or next((d for d in self._running.values() if d.name == name), None)
        if found is None:
            known = ", ".join(self._definitions) or "none"
            raise NotFound(f"this runtime has no machine {name!r} (it has: {known}); pass it in machines=[...]")
        return found

    async def _definition_of(self, run: RunRecord) -> Definition:
        """The definition at hand that takes the run up. Raises `NotFound`, or `VersionMismatch` if none does."""
        number = self._numbers.get(run.fingerprint)
        taker = self._running[number] if number is not None else self._worker.hosting.taker(run)
        if taker is None:
            ours = self._named(run.machine)
            raise mismatch(run, (await self._store.spec(run.fingerprint)).spec, ours)
        return taker

    async def _bring(self, loaded: port.Loaded) -> Migrating:
        """What would put a run of an older definition, which nobody holds, under the one at hand."""
        return (await self._worker.hosting.prepared(loaded, held=False))[1]


def raw_id(run_id: str) -> bytes:
    """The 16 bytes of a run id. Raises `NotFound` for anything else."""
    try:
        raw = bytes.fromhex(run_id)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise NotFound(f"{run_id!r} is not a run id (32 hex digits); `find` takes prefixes and @last")
    return raw


def _merged(entries: Sequence[FeedEntry], pieces: list[Live]) -> Iterator[FeedEntry | Live]:
    """Both in the order in which they came true; pieces that came later than all entries are left where they are. A call's
    pieces are older than its record, which breaks ties."""
    for entry in entries:
        while pieces and (pieces[0].seq, pieces[0].at) <= (_visit_of(entry), stamp(entry.at)):
            yield pieces.pop(0)
        yield entry


def _visit_of(entry: FeedEntry) -> int:
    """The visit whose pieces may come before this entry: a move ends the visit before the one it begins."""
    return entry.seq - 1 if entry.kind in ("started", "transition") else entry.seq
