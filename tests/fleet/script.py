"""A script of a dozen runs that use all there is, and the fleets that may play it: what they write must be the same.

Time and names are given. The clock stands still until nothing is left to do, and only then goes on to the next instant at which
something is due; processes share it through their memory. So the same things happen at the same instants, whoever does them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from statecraft import (
    Append,
    Approve,
    Ask,
    Budget,
    CallError,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    Modify,
    Price,
    ReviewExpired,
    Run,
    Runtime,
    Settings,
    TenantBudget,
    days,
    tool,
)
from statecraft.calls.retry import RetryPolicy
from statecraft.channel import Alert
from statecraft.clock import stamp
from statecraft.errors import ErrorKind
from statecraft.ids import RandomIds
from statecraft.llm.port import ModelError, Reply, Request
from statecraft.machine.event import BudgetExhausted
from statecraft.records import RunFilter, RunRecord, Status
from statecraft.store import fleet, open_store
from statecraft.store import tables as t
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock, ScriptedLLM, text, together, tool_use
from statecraft.testing.clock import START

LOOK = 0.004
"""Real seconds between two looks at the common clock."""
PATIENCE = 60.0
"""Real seconds after which a script that stands still is a failure."""


@dataclass
class Outside:
    """The world outside of this process: a folder that all processes share."""

    folder: Path = Path()

    def note(self, what: str) -> None:
        """One more effect."""
        descriptor = os.open(self.folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)

    @property
    def effects(self) -> list[str]:
        """Every effect so far, sorted."""
        return sorted((self.folder / "effects").read_text().split())


outside = Outside()

# --- the machines --------------------------------------------------------------------------------------------------------


class Errand(Data):
    kind: str
    weight: int = 0
    said: Append[list[str]] = []


class Sorted(Event):
    weight: int


class Told(Event):
    said: list[str]


class Refused(Event): ...


class Yes(Event):
    said: list[str]


class Parcel(Data):
    number: int
    carried: str = ""


class Carried(Event):
    carried: str


@tool(risk="safe", price="0.01")
async def look(place: str) -> str:
    """Look at a place."""
    return f"{place} is nice"


@tool(effect="once", risk="safe", price="0.05")
async def tell(info: CallInfo, whom: str) -> str:
    """Write a letter."""
    outside.note(f"tell:{whom}:{info.key}")
    return f"told {whom}"


@tool(effect="once", risk="high", price="0.20")
async def fly(info: CallInfo, place: str) -> str:
    """Book a flight."""
    outside.note(f"fly:{place}:{info.key}")
    return f"flies to {place}"


class Busy(Exception):
    """Worth another attempt later."""


@tool(effect="idempotent", risk="safe")
async def shaky(info: CallInfo, what: str) -> str:
    """Works the third time."""
    if info.attempt < 3:
        raise Busy("not now")
    return f"{what} at attempt {info.attempt}"


@tool(effect="idempotent", risk="safe")
async def ship(what: str) -> str:
    """Works when it was mended."""
    if not (outside.folder / "mended").exists():
        raise CallError("the shipper is down", kind=ErrorKind.PERMANENT, name="ship")
    return f"shipped {what}"


parcel = Machine("parcel", data=Parcel, budget=Budget(calls=2))


@parcel.state(start=True, tools=[tell])
async def carrying(run: Run[Parcel]) -> Carried:
    return Carried(carried=await run.tool(tell, f"home-{run.data.number}"))


parcel.transitions(
    carrying.on(Carried) >> parcel.final("carried", ok=True), parcel.anywhere.on(Failure) >> parcel.final("dropped")
)

errand = Machine("errand", data=Errand, budget=Budget(50_000, money="1.00", calls=8))


def too_heavy(event: Sorted, data: Errand) -> bool:
    """More than anybody carries."""
    return event.weight > 100


def _of(kind: str) -> Any:
    def guard(event: Sorted, data: Errand) -> bool:
        return data.kind == kind

    guard.__name__ = f"is_{kind}"
    return guard


@errand.state(start=True, tools=[look])
async def sorting(run: Run[Errand]) -> Sorted:
    return Sorted(weight=run.data.weight)


@errand.state(tools=[look, fly])
async def asking(run: Run[Errand]) -> Told:
    return Told(said=[await run.llm.ask("Plan it.", tools=[look, fly], max_tokens=500)])


@errand.state(tools=[look, tell])
async def writing(run: Run[Errand]) -> Told:
    seen = await run.map(lambda place: run.tool(look, place), ["Rome", "Oslo", "Bonn", "Rome"], concurrency=3)
    return Told(said=[*seen, await run.tool(tell, "ann")])


@errand.state(children=[parcel])
async def nesting(run: Run[Errand]) -> Told:
    return Told(said=[(await run.child(parcel, Parcel(number=7))).data.carried])


@errand.state(tools=[look])
async def resting(run: Run[Errand]) -> Told:
    began = await run.now()
    await run.sleep(3_600)
    return Told(said=[f"{began} to {await run.now()}, {await run.random()}"])


@errand.state(tools=[shaky, ship])
async def trying(run: Run[Errand]) -> Told:
    return Told(said=[await run.tool(shaky, "done")])


@errand.state(tools=[ship])
async def shipping(run: Run[Errand]) -> Told:
    return Told(said=[await run.tool(ship, "tea")])


@errand.state(tools=[look])
async def spending(run: Run[Errand]) -> Told:
    return Told(said=[await run.tool(look, f"place {number}") for number in range(20)])


@errand.state()
async def refusing(run: Run[Errand]) -> Refused:
    return Refused()


@errand.review(timeout=timedelta(days=2))
async def reviewing(run: Run[Errand]) -> Ask[Yes | Refused]:
    return Ask("Shall it be?", show={"weight": run.data.weight})


done, failed, spent = errand.final("done", ok=True), errand.final("failed"), errand.final("spent")
_WAYS: dict[str, Any] = {
    "ask": asking,
    "write": writing,
    "nest": nesting,
    "rest": resting,
    "try": trying,
    "ship": shipping,
    "spend": spending,
    "refuse": refusing,
}
errand.transitions(
    sorting.on(Sorted.when(too_heavy)) >> failed,
    *(sorting.on(Sorted.when(_of(kind))) >> state for kind, state in _WAYS.items()),
    sorting.on(Sorted) >> reviewing,
    *(state.on(Told) >> done for state in _WAYS.values() if state is not refusing),
    refusing.on(Refused) >> failed,
    spending.on(BudgetExhausted) >> spent,
    reviewing.on(Yes) >> done,
    reviewing.on(Refused) >> failed,
    reviewing.on(ReviewExpired) >> failed,
)

SCRIPT = (
    ("plan", Errand(kind="ask")),
    ("plan again", Errand(kind="ask", weight=5)),
    ("write", Errand(kind="write")),
    ("nest", Errand(kind="nest")),
    ("rest", Errand(kind="rest")),
    ("try", Errand(kind="try")),
    ("ship", Errand(kind="ship")),
    ("spend", Errand(kind="spend")),
    ("refuse", Errand(kind="refuse")),
    ("heavy", Errand(kind="ask", weight=200)),
    ("yes", Errand(kind="people", weight=3)),
    ("no", Errand(kind="people", weight=4)),
)
"""Keys and inputs of the runs."""


def answer(request: Request) -> Reply | ModelError:
    """Wants to look and to fly, then sums up."""
    if len(request.messages) == 1:
        return together(tool_use("look", {"place": "Rome"}), tool_use("fly", {"place": "Rome"}))
    return text("all is well")


# --- who plays -----------------------------------------------------------------------------------------------------------


@dataclass
class Bell:
    """A channel that is told everything, and does nothing about it."""

    name: str = "bell"
    kinds: tuple[str, ...] = ("*",)

    async def send(self, alert: Alert) -> None:
        """Nothing."""


class Names(RandomIds):
    """Runs of the script are called as they are told to be; there is one child run, so its name is known too."""

    def __init__(self) -> None:
        super().__init__()
        self.next: int | None = None

    def run_id(self, now: int) -> bytes:
        number, self.next = self.next, None
        return b"script" + (99 if number is None else number).to_bytes(10, "big")

    def uniform(self) -> float:
        return 0.5


def settings(take: Any) -> Settings:
    return Settings(
        lease=timedelta(days=300),
        poll=timedelta(days=300),
        take=take,
        concurrency=4,
        retry=RetryPolicy(first=4.0, park_after=0.1),
        errors={Busy: ErrorKind.OVERLOADED},
        prices={"scripted": Price(input=10, output=50)},
        gate=GatePolicy(max_auto_risk="low"),
        tenants=(TenantBudget(Budget(money="5.00", calls=200), per=days(1)),),
        channels=(Bell(),),
    )


@asynccontextmanager
async def runtime(url: str, clock: ManualClock, take: str, store: SqlStore | None = None) -> AsyncIterator[Runtime]:
    given: Any = {"clock": clock, "ids": Names(), "llm": ScriptedLLM(answer), "store": store or open_store(url, clock=clock)}
    async with Runtime(url, machines=[errand], settings=settings(take), **given) as rt:
        yield rt


async def keep_up(rt: Runtime, clock: ManualClock, common: Any) -> None:
    """Follow the common clock, and look for what is due."""
    while True:
        await asyncio.sleep(LOOK)
        ahead = common.value - clock.now()
        if ahead > 0:
            await clock.advance(timedelta(microseconds=ahead))
        rt._worker.poke()


def play_along(url: str, folder: str, common: Any) -> None:
    """A worker in a process of its own, until it is ended."""
    outside.folder = Path(folder)
    sys.stdout = sys.stderr = (Path(folder) / f"said by {os.getpid()}").open("w", buffering=1)
    asyncio.run(_play_along(url, common))


async def _play_along(url: str, common: Any) -> None:
    clock = ManualClock()
    async with runtime(url, clock, "all") as rt:
        await keep_up(rt, clock, common)


@dataclass
class Stage:
    """One performance: on a database, by so many runtimes here, or by so many processes."""

    url: str
    folder: Path
    runtimes: int = 1
    processes: int = 0
    clock: ManualClock = field(default_factory=ManualClock)
    living: list[ForkServerProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        outside.folder = self.folder
        self.context = multiprocessing.get_context("forkserver")
        self.common = self.context.Value("q", stamp(START))

    async def perform(self) -> dict[str, Any]:
        """Play the script to its end; answer everything that was written (`rows`)."""
        async with AsyncExitStack() as stack:
            alone = self.url == "sqlite://"
            person = await stack.enter_async_context(runtime(self.url, self.clock, "all" if alone else "none"))
            crew = [] if alone else [await stack.enter_async_context(self._worker()) for _ in range(self.runtimes)]
            beats = [asyncio.create_task(keep_up(rt, self.clock, self.common)) for rt in (*crew, person)]
            self._grow()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._script(person)
            finally:
                for beat in beats:
                    beat.cancel()
                for process in self.living:
                    process.kill()
                    process.join()
            for run in await person.runs():
                assert await person.verify(run.id) == []
                replayed = await person.replay(run.id)
                assert replayed.agrees, str(replayed.divergence)
            return await asyncio.wait_for(_store(person)._read(rows), PATIENCE)

    def _worker(self) -> Any:
        return runtime(self.url, self.clock, "all")

    def _grow(self) -> None:
        self.context.set_forkserver_preload(["tests.fleet.script"])
        for _ in range(self.processes):
            process = self.context.Process(target=play_along, args=(self.url, str(self.folder), self.common), daemon=True)
            process.start()
            self.living.append(process)

    async def _script(self, rt: Runtime) -> None:
        names: Any = rt._ids
        await rt._register(errand.definition)
        for number, (key, data) in enumerate(SCRIPT):
            names.next = number
            await rt.start(errand, data, key=key, tenant="acme" if number % 2 else None, detach=True, priority=number % 3)
        await self._settled(rt)
        while await self._decide(rt):
            await self._settled(rt)
        (self.folder / "mended").touch()
        for letter in sorted(await rt.dead_letters(), key=lambda letter: letter.run_id):
            await rt.redrive(letter.run_id, by="ann", note="it is up")
        await self._settled(rt)
        while (due := await self._next(rt)) is not None:
            self.common.value = due
            await self._settled(rt)

    async def _decide(self, rt: Runtime) -> bool:
        """Answer every open question; whether there was one. What was modified is asked about once more."""
        reviews = sorted(await rt.reviews(open_only=True), key=lambda review: review.run_id)
        for review in reviews:
            run = await rt.get(review.run_id)
            if review.kind == "gate":
                verdict = (
                    Modify({"place": "Oslo"})
                    if (run.key, review.arguments) == ("plan again", {"place": "Rome"})
                    else Approve("go")
                )
                await rt.decide(run.id, verdict, by="ann", review=review.id)
            else:
                await rt.send(run.id, Yes(said=["by ann"]) if run.key == "yes" else Refused(), by="ann")
        return bool(reviews)

    async def _settled(self, rt: Runtime) -> None:
        """Return when nobody has anything to do at this instant, and everybody knows what time it is."""
        while self.clock.now() < self.common.value or any(self._goes_on(run) for run in await rt.runs(RunFilter(limit=100))):
            await asyncio.sleep(LOOK)

    def _goes_on(self, run: RunRecord) -> bool:
        due = run.due_at is not None and stamp(run.due_at) <= self.clock.now()
        return run.status in (Status.READY, Status.RUNNING) or due

    async def _next(self, rt: Runtime) -> int | None:
        due = [stamp(run.due_at) for run in await rt.runs(RunFilter(limit=100)) if run.due_at is not None]
        return min(due, default=None)


def _store(rt: Runtime) -> SqlStore:
    store = rt._store
    assert isinstance(store, SqlStore)
    return store


# --- what was written ----------------------------------------------------------------------------------------------------

_ANY_ORDER = "write"
"""The run whose calls are made side by side: which of them ends first is not said, and its next link's hash covers that."""


def rows(sql: sa.Connection) -> dict[str, Any]:
    """Every row that tells what happened, under names that do not depend on who did it.

    Left out: epochs, owners and claims (who worked on it), numbers of machines and of rows (who came first), the order of
    calls within a visit, and the random ids of traces.
    """
    keys = {run.run_id: run.key if run.parent is None else "a child" for run in sql.execute(sa.select(t.runs))}
    return {
        "runs": _told(sql, t.runs, keys, "no machine epoch attempts trace_id owner lease_until turn"),
        "moves": [
            row[:-1] if dict(row)["run"] == _ANY_ORDER and dict(row)["seq"] > 1 else row
            for row in _told(sql, t.transitions, keys, "machine epoch hash", "hash")
        ],
        "calls": _told(sql, t.calls, keys, "idx epoch"),
        "attempts": _told(sql, t.attempts, keys, "no epoch"),
        "reviews": _told(sql, t.reviews, keys, ""),
        "questions": _told(sql, t.call_reviews, keys, "decided_epoch"),
        "deaths": _told(sql, t.deaths, keys, "epoch"),
        "meters": _told(sql, t.meters, keys, ""),
        "reservations": _told(sql, t.reservations, keys, ""),
        "payloads": _told(sql, t.payloads, keys, ""),
        "messages": _told(sql, t.messages, keys, ""),
        "outbox": _told(sql, fleet.outbox, keys, ""),
        "feed": [row for row in _told(sql, t.feed, keys, "pos idx") if dict(row)["kind"] != "claimed"],
    }


def _told(sql: sa.Connection, table: sa.Table, keys: dict[bytes, str], skip: str, last: str = "") -> list[tuple[Any, ...]]:
    """The rows as (column, value) pairs, sorted."""
    names = [column.name for column in table.columns if column.name not in (*skip.split(), "run_id")]
    names += [last] if last else []
    found: list[tuple[Any, ...]] = []
    for row in sql.execute(sa.select(table)):
        whose = (("run", keys.get(row.run_id, "")),) if "run_id" in table.columns else ()
        found.append((*whose, *((name, _plain(getattr(row, name))) for name in names)))
    return sorted(found, key=repr)


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes | memoryview) else value
