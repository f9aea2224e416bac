"""The model is down for ten minutes and two hundred runs need it: what the API sees of it, and what becomes of the runs.

Real sockets and the real client; only the time is told. Each story stops the clock at every instant at which something is
to happen and goes on when everybody has done it, so what is counted per second is what the API saw in that second.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import BreakerPolicy, Claude, Data, Event, Failure, Machine, Run, Runtime, Settings, Status, tool
from statecraft.calls.breaker import probes
from statecraft.ids import RandomIds
from statecraft.records import AttemptRecord, CallRecord, RunFilter, RunRecord, Waiting
from statecraft.testing import FakeMessagesAPI, ManualClock, Outage
from statecraft.testing.messages_api import Received
from statecraft.worker import renewal, worker
from statecraft.worker.waits import either

pytestmark = pytest.mark.slow

POLICY = BreakerPolicy()
BEGIN, LENGTH = 4.0, 600.0
END = BEGIN + LENGTH
DOWN = Outage(BEGIN, END, ("529", "reset_before_response"))
THINKS = 1.0
"""Seconds the API takes for an answer, so that the outage meets runs at all their places."""

BETWEEN = timedelta(seconds=0.02)
"""From one run's start to the next one's, so that they do not march in step."""


class Order(Data):
    number: int
    offer: str = ""
    said: str = ""


class Offered(Event):
    offer: str


class Told(Event):
    said: str


def ordering(book: Path) -> Machine[Order]:
    """A model call, a move, an effect on the world, and one more model call, or two."""

    @tool(effect="once")
    async def enter(number: int) -> str:
        """Enter an order into the book."""
        with book.open("a") as lines:
            lines.write(f"{number}\n")
        return f"entered {number}"

    machine = Machine("ordering", data=Order)

    @machine.state(start=True)
    async def offering(run: Run[Order]) -> Offered:
        return Offered(offer=await run.llm.ask(f"offer {run.data.number}"))

    @machine.state(tools=[enter])
    async def booking(run: Run[Order]) -> Told:
        entered = await run.tool(enter, number=run.data.number)
        said = await run.llm.ask(f"thank for {entered}")
        if run.data.number % 2:
            said = await run.llm.ask(f"translate {said}")
        return Told(said=said)

    machine.transitions(
        offering.on(Offered) >> booking,
        booking.on(Told) >> machine.final("told", ok=True),
        machine.anywhere.on(Failure) >> machine.final("failed"),
    )
    return machine


def echo(body: Mapping[str, Any]) -> str:
    return f"<{prompt(body)}>"


def prompt(body: Mapping[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def key_of(place: int) -> str:
    """What the API tells one runtime from another by."""
    return f"key-{place}"


def asked_of(number: int) -> list[str]:
    """All that a run asks the model."""
    thanks = f"thank for entered {number}"
    return [f"offer {number}", thanks, *([f"translate <{thanks}>"] if number % 2 else [])]


class Sandglass(ManualClock):
    """Goes from one instant to the next at which something happens, and knows how many wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = 0

    async def sleep(self, seconds: float) -> None:
        self.asleep += 1
        try:
            await super().sleep(seconds)
        finally:
            self.asleep -= 1

    async def turn(self) -> None:
        """Pass on to the next instant for which somebody waits."""
        instant = min(when for when, _, sleeper in self._sleepers if not sleeper.done())
        await self.advance(timedelta(microseconds=max(0, instant - self.now())))


@pytest.fixture(autouse=True)
def waits_of_workers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for its next look or its next renewal sleeps, too."""

    async def counted(clock: Sandglass, event: asyncio.Event, seconds: float) -> None:
        clock.asleep += 1
        try:
            await either(clock, event, seconds)
        finally:
            clock.asleep -= 1

    for module in (worker, renewal):
        monkeypatch.setattr(module, "either", counted)


def idle(clock: Sandglass, runtimes: Sequence[Runtime]) -> bool:
    """Whether everybody waits for the time: each run in hand for its answer or its next attempt, each runtime to look for
    work and to renew its leases. The API's thinking is the sleep of the run whose request it is."""
    workers = [runtime._worker for runtime in runtimes]
    if any(each._taking or each._poked.is_set() or each._renewal.under_way for each in workers):
        return False
    return clock.asleep == sum(len(each._driving) + 2 for each in workers)


async def settled(clock: Sandglass, runtimes: Sequence[Runtime]) -> None:
    """Let sockets, files and tasks come to rest."""
    calm = 0
    while calm < 3:
        calm = calm + 1 if idle(clock, runtimes) else 0
        await asyncio.sleep(0 if calm else 0.0005)


@dataclass(frozen=True)
class Story:
    """How it all ended."""

    runs: list[RunRecord]
    orders: list[Order]
    calls: list[list[CallRecord]]
    failed: list[AttemptRecord]
    """Attempts that failed, without the notes that a call that may happen only once begins."""
    requests: list[Received]
    waits: Counter[Waiting | None]
    """What the runs waited for in the middle of the outage."""
    booked: list[str]

    @property
    def during(self) -> list[float]:
        return [request.at for request in self.requests if BEGIN <= request.at < END]

    @property
    def after(self) -> list[float]:
        return [request.at for request in self.requests if request.at >= END]


def busiest(instants: Sequence[float], span: float = 1.0) -> int:
    """The largest number within a time of this length, wherever it begins."""
    return max(bisect_left(instants, at + span) - place for place, at in enumerate(instants))


async def tell(path: Path, count: int, homes: Sequence[Settings]) -> Story:
    """`count` runs in as many runtimes on one file as there are `homes`; time goes on until all have ended."""
    clock, machine, url = Sandglass(), ordering(path / "book"), f"sqlite:///{path / 'runs.db'}"
    async with AsyncExitStack() as stack:
        api = FakeMessagesAPI(reply=echo, outages=[DOWN], latency=THINKS, now=clock.monotonic, sleep=clock.sleep)
        await stack.enter_async_context(api)
        runtimes = [
            await stack.enter_async_context(
                Runtime(
                    url,
                    machines=[machine],
                    llm=Claude("claude-fake-1", api_key=key_of(place), base_url=api.url, clock=clock),
                    clock=clock,
                    ids=RandomIds(place),
                    settings=settings,
                )
            )
            for place, settings in enumerate(homes)
        ]
        rt, began = runtimes[0], clock.monotonic()
        questions = sum(len(asked_of(number)) for number in range(count))

        async def until(done: Callable[[], Awaitable[bool]]) -> None:
            while True:
                await settled(clock, runtimes)
                if await done():
                    return
                assert clock.monotonic() - began < 3 * LENGTH, Counter((run.status, run.waiting_for) for run in await every())
                await clock.turn()

        async def every() -> list[RunRecord]:
            return list(await rt.runs(RunFilter(limit=1000)))

        async def middle() -> bool:
            return clock.monotonic() - began >= (BEGIN + END) / 2

        async def over() -> bool:
            answered = sum(not BEGIN <= request.at < END for request in api.requests)
            return answered >= questions and all(run.status.closed for run in await every())

        for number in range(count):
            await rt.start(machine, Order(number=number))
            await settled(clock, runtimes)
            await clock.advance(BETWEEN)
        await until(middle)
        waits = Counter(run.waiting_for for run in await every() if not run.status.closed)
        await until(over)
        runs = await every()
        for run in runs:
            assert await rt.verify(run.id) == []
        assert [runtime._worker.failures for runtime in runtimes] == [{}] * len(runtimes)
        return Story(
            runs,
            [await rt.data(run.id) for run in runs],  # type: ignore[misc]
            [list(await rt.calls(run.id)) for run in runs],
            [attempt for run in runs for attempt in await rt.attempts(run.id) if attempt.kind != "begun"],
            list(api.requests),
            waits,
            (path / "book").read_text().split(),
        )


def check_nobody_is_lost_and_nothing_happens_twice(story: Story, count: int) -> None:
    assert [(run.status, run.state) for run in story.runs] == [(Status.DONE, "told")] * count
    assert sorted(order.number for order in story.orders) == list(range(count))
    assert sorted(story.booked, key=int) == [str(number) for number in range(count)]
    for order, calls in zip(story.orders, story.calls, strict=True):
        asked = asked_of(order.number)
        assert order.said == f"<{asked[-1]}>"
        assert [(call.kind, call.ok) for call in calls] == [("llm", True), ("tool", True), *[("llm", True)] * (len(asked) - 1)]
    # What was answered was asked once: each question of each run, and no question more.
    answered = Counter(prompt(request.body) for request in story.requests if not BEGIN <= request.at < END)
    assert answered == Counter(asked for number in range(count) for asked in asked_of(number))


def check_hardly_anybody_asks_meanwhile(story: Story, places: int) -> None:
    """As docs/breakers.md has it: `failures`, the calls under way at the opening, and the probes."""
    made = [at for at in story.during if at >= BEGIN + POLICY.open_for]
    # The probes go out 10, 30, 70, 150 and 310 s after the opening, the next one 610 s: five in ten minutes. Each begins a
    # little later than that, so none is lacking here; the last one finds the model well only after the end.
    assert (len(made), probes(POLICY, LENGTH)) == (5, 5)
    # Each run in hand makes one call at a time. The failure that opens the breaker is one of those, and each of the runs in
    # the other places may have a call under way. All other attempts before the opening are among its failures in a row.
    assert len(story.during) <= POLICY.failures + (places - 1) + 5
    assert {attempt.kind for attempt in story.failed} == {"overloaded", "transient"}
    assert len(story.failed) == len(story.during) - 5, "probes cost their runs no attempt, and waiting costs none"
    assert story.waits.keys() == {Waiting.BREAKER}


def check_they_come_back_one_by_one(story: Story, most: int) -> None:
    assert busiest(story.after) <= most
    # The end may fall to the beginning of the longest pause, and its spread follows; then come three calls of a second each.
    assert story.after[-1] <= END + POLICY.longest * (1 + POLICY.spread) + 3 * (THINKS + 1)


def test_two_hundred_runs_outlive_ten_minutes_without_a_model(tmp_path: Path) -> None:
    count, settings = 200, Settings(take="own")
    assert (settings.breaker, settings.concurrency) == (POLICY, 64)
    story = asyncio.run(asyncio.wait_for(tell(tmp_path, count, [settings]), 120))
    check_nobody_is_lost_and_nothing_happens_twice(story, count)
    check_hardly_anybody_asks_meanwhile(story, places=64)
    assert len(story.during) <= 76
    # More than a hundred runs still wait. They come back over half of a pause of 300 s with two or three calls each, less
    # than 200 * 3 / 150 = 4 a second; five times as many in one second is out of reach of chance.
    assert story.waits.total() > 100
    check_they_come_back_one_by_one(story, most=20)


def test_two_runtimes_on_one_database_make_the_probes_of_one(tmp_path: Path) -> None:
    count, settings = 60, Settings(meters="database", concurrency=8)
    story = asyncio.run(asyncio.wait_for(tell(tmp_path, count, [settings, settings]), 120))
    check_nobody_is_lost_and_nothing_happens_twice(story, count)
    # The other runtime may believe for one more second that the breaker is closed. It hears of the opening with the first of
    # its own failures, so each of its places begins one call at most: that is what `places` counts already.
    check_hardly_anybody_asks_meanwhile(story, places=2 * 8)
    assert len(story.during) <= 28
    # Both have work before the outage and after it.
    senders = Counter((request.at >= END, request.has_key(key_of(0))) for request in story.requests)
    assert min(senders[after, first] for after in (False, True) for first in (False, True)) > 5
    # 60 * 3 / 150 is little more than one a second.
    check_they_come_back_one_by_one(story, most=10)
