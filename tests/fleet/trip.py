"""A trip: a tool, a payment that may be made only once, a child and a person, over a database that has its troubles.

Time is injected. It stands still while all is well; from the first trouble that the log tells of it passes, so that leases
end and work is taken up again as it would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg

from statecraft import Ask, Data, Event, Failure, Machine, Run, Runtime, Settings, Status, tool
from statecraft.calls.retry import RetryPolicy
from statecraft.decisions import DidNotHappen, Happened
from statecraft.errors import StatecraftError, StoreError
from statecraft.records import RunRecord
from statecraft.store.postgres import Postgres, parse
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock

HANGS = 30.0
"""Real seconds after which a trip that does not end is a failure; it takes a fraction of one."""
LEASE = timedelta(seconds=60)
SETTINGS = Settings(lease=LEASE, poll=timedelta(seconds=5), retry=RetryPolicy(first=0.0), loops=None)

Row = tuple[Any, ...]


class Trip(Data):
    seen: str = ""


class Postcard(Data):
    number: int


class Seen(Event):
    seen: str


class Paid(Event):
    receipt: str


class Posted(Event): ...


class Written(Event):
    text: str


class Approved(Event): ...


class Home(Event): ...


made: Counter[str] = Counter()
"""How often each thing was done to the world."""


@tool(effect="read")
async def look(n: int) -> str:
    """Look around."""
    made[f"look {n}"] += 1
    return f"view {n}"


@tool(effect="once", risk="low")
async def pay(amount: int) -> str:
    """Pay, which must not happen twice."""
    made[f"pay {amount}"] += 1
    return f"paid {amount}"


postcard = Machine("postcard", data=Postcard)


@postcard.state(start=True, tools=[look])
async def writing(run: Run[Postcard]) -> Written:
    return Written(text=await run.tool(look, run.data.number))


written, torn = postcard.final("written", ok=True), postcard.final("torn")
postcard.transitions(writing.on(Written) >> written, postcard.anywhere.on(Failure) >> torn)

trip = Machine("trip", data=Trip)


@trip.state(start=True, tools=[look])
async def walking(run: Run[Trip]) -> Seen:
    return Seen(seen=await run.tool(look, 1))


@trip.state(tools=[pay])
async def paying(run: Run[Trip]) -> Paid:
    return Paid(receipt=await run.tool(pay, 12))


@trip.state(children=[postcard])
async def posting(run: Run[Trip]) -> Posted:
    await run.child(postcard, Postcard(number=2))
    return Posted()


@trip.review(timeout=timedelta(days=2))
async def asking(run: Run[Trip]) -> Ask[Approved]:
    return Ask("Go home?")


@trip.state(tools=[look])
async def returning(run: Run[Trip]) -> Home:
    await run.tool(look, 3)
    return Home()


home, stranded = trip.final("home", ok=True), trip.final("stranded")
trip.transitions(
    walking.on(Seen) >> paying,
    paying.on(Paid) >> posting,
    posting.on(Posted) >> asking,
    asking.on(Approved) >> returning,
    returning.on(Home) >> home,
    trip.anywhere.on(Failure) >> stranded,
)


class Log(logging.Handler):
    """What was said from a warning up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, name: str) -> list[Any]:
        return [record for record in self.records if record.getMessage() == name]

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        logger = logging.getLogger("statecraft")
        before = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(before)


async def pass_time(clock: ManualClock, log: Log, rt: Runtime) -> None:
    """From the first trouble on, while nothing is in hand: a slow machine loses no lease."""
    while True:
        await asyncio.sleep(0.005)  # What the database does takes real time.
        if log.of("store.failed") and not rt._worker._driving and not rt._worker._taking:
            await clock.advance(timedelta(seconds=4))


@dataclass
class Travel:
    """One trip over the database of `url`, and what it left behind as `direct` shows it."""

    url: str
    direct: str
    clock: ManualClock = field(default_factory=ManualClock)
    log: Log = field(default_factory=Log)

    def __call__(self) -> None:
        made.clear()
        with self.log.heard():
            asyncio.run(asyncio.wait_for(self._travel(), HANGS))
        self.made = dict(made)
        self.journal = self.ask(
            "SELECT m.name, t.seq, t.source, t.event, t.target, t.actor, t.calls, t.payload, t.payload_hash"
            " FROM transitions t JOIN machines m USING (machine) ORDER BY 1, 2"
        )
        self.calls = self.ask(
            "SELECT m.name, c.seq, c.kind, c.name, c.occurrence, c.ok, CASE c.kind WHEN 'tool' THEN c.result END"
            " FROM calls c JOIN runs r USING (run_id) JOIN machines m USING (machine) ORDER BY 1, 2, 3, 4, 5"
        )

    def ask(self, query: str, *values: object) -> list[Row]:
        with psycopg.connect(self.direct, autocommit=True) as sql:
            return sql.execute(query.encode(), values).fetchall()

    async def _travel(self) -> None:
        while True:
            try:
                return await self._life()
            except StoreError:
                await asyncio.sleep(0.01)  # As a supervisor does.

    async def _life(self) -> None:
        database = Postgres(parse(self.url), self.clock, pause=lambda seconds: None)
        options: dict[str, Any] = {"settings": SETTINGS, "clock": self.clock, "store": SqlStore(database)}
        async with Runtime(self.url, machines=[trip], **options) as rt:
            time = asyncio.ensure_future(pass_time(self.clock, self.log, rt))
            try:
                run = await self._settled(rt, await self._insist(rt))
            finally:
                time.cancel()
            assert run.status is Status.DONE, run
            for each in await rt.runs():
                assert await rt.verify(each.id) == []
                assert (await rt.replay(each.id)).agrees
                assert each.status is Status.DONE

    async def _insist(self, rt: Runtime) -> RunRecord:
        while True:
            try:
                return await rt.start(trip, Trip(), key="the-trip")
            except StoreError:
                await self._noticed()

    async def _settled(self, rt: Runtime, run: RunRecord) -> RunRecord:
        while not run.status.closed:
            try:
                run = await rt.wait(run.id)
                if run.status is Status.WAITING:
                    await self._decide(rt, run)
            except StoreError:
                await self._noticed()
        return run

    async def _noticed(self) -> None:
        """The person who was refused looks again in a moment."""
        self.log.records.append(logging.makeLogRecord({"msg": "store.failed", "what": "refused"}))
        await asyncio.sleep(0.01)

    async def _decide(self, rt: Runtime, run: RunRecord) -> None:
        for review in await rt.reviews(run.id, open_only=True):
            try:
                if review.kind == "state":
                    await rt.send(run.id, Approved(), by="ann")
                else:
                    assert (review.kind, review.tool) == ("doubt", "pay")
                    did = Happened("paid 12") if made["pay 12"] else DidNotHappen()
                    await rt.decide(run.id, did, by="ann", review=review.id)
            except StoreError:
                raise
            except StatecraftError:  # It was decided, and nobody was told.
                run = await rt.get(run.id)
                assert run.status is not Status.WAITING
