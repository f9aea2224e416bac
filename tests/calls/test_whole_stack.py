"""All members of the stack at once, calls that end in every way at any moment: afterwards nothing is held by nobody."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import cast

import pytest

from statecraft import BreakerPolicy, Price, RateLimit, RetryPolicy
from statecraft.calls import stack
from statecraft.calls.breaker import Breaker, load
from statecraft.calls.budget import Budgets
from statecraft.calls.call import Call, Reply, Scope
from statecraft.calls.classify import of_model
from statecraft.calls.gauges import MemoryGauges
from statecraft.calls.limiter import Limiter
from statecraft.calls.park import Park
from statecraft.calls.visit import Visit
from statecraft.errors import CallError, ErrorKind
from statecraft.llm.port import ModelError
from statecraft.llm.prices import price_book
from statecraft.records import Draw, Usage
from statecraft.store import port
from statecraft.testing import ManualClock
from tests.calls.test_budget import OWN, RUN, Ledger

KINDS = (
    ErrorKind.TRANSIENT,
    ErrorKind.OVERLOADED,
    ErrorKind.RATE_LIMITED,
    ErrorKind.PERMANENT,
    ErrorKind.QUOTA,
    ErrorKind.INVALID,
)
SECOND = timedelta(seconds=1)
CALLS = 12


class Fire:
    """Calls at a model that is slow, failing and far away, all by one seed."""

    def __init__(self, seed: int) -> None:
        self.chance, self.clock, self.ledger, self.gauges = random.Random(seed), ManualClock(), Ledger(), MemoryGauges()
        self.visit = Visit(cast(port.Store, self.ledger), self.clock, RUN, 3, 1)
        self.scope = Scope(RUN.hex(), "work", None, None, (Draw(OWN, {"tokens": 10**9, "money": 10**15, "calls": 10**6}),))
        draw = self.chance.random
        limits = (
            RateLimit(of="model", tokens=1_000, per=SECOND, burst=0.5),
            RateLimit(of="model", requests=20, per=SECOND, burst=0.3),
        )
        self.through = stack.build(
            RetryPolicy(first=0.1, park_after=3.0),
            draw,
            budget=Budgets(price_book({"m": Price(1, 5)})),
            breaker=Breaker(BreakerPolicy(failures=2, open_for=2.0, longest=4.0, probe_lease=1_000.0), self.gauges, draw),
            limiter=Limiter(limits, self.gauges, draw),
        )

    async def answer(self, call: Call) -> Reply:
        for _ in range(self.chance.randrange(3)):
            await self.clock.sleep(self.chance.choice((0.0, 2 * self.chance.random())))
        if self.chance.random() < 0.45:
            return Reply('"fine"', Usage(self.chance.randrange(1, 300), self.chance.randrange(1, 200)), "m")
        kind, hint = self.chance.choice(KINDS), self.chance.choice((None, 1.0))
        raise ModelError("no", kind=kind, retry_after=hint, maybe_billed=self.chance.random() < 0.4)

    def call(self, number: int) -> Call:
        digest, occurrence, key = self.visit.identify("llm", str(number))
        # Some may use more than the bucket can ever hold.
        worst, timeout = Usage(self.chance.randrange(1, 600), 200), self.chance.choice((0.5, 1.0, 5.0))
        return Call(
            self.visit,
            "llm",
            "m",
            str(number),
            digest,
            occurrence,
            key,
            self.answer,
            of_model,
            timeout,
            dependency="model:m",
            scope=self.scope,
            worst=worst,
        )

    async def burn(self) -> list[object]:
        """Every call to its end; some are cancelled on the way."""
        tasks = [asyncio.ensure_future(self.through(self.call(number))) for number in range(CALLS)]
        for _ in range(400):
            if all(task.done() for task in tasks):
                break
            await self.clock.advance(timedelta(seconds=self.chance.random() / 2))
            for _ in range(5):
                await asyncio.sleep(0)
            if self.chance.random() < 0.05:
                self.chance.choice(tasks).cancel()
        assert all(task.done() for task in tasks)
        return list(await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize("seed", range(40))
def test_however_calls_end_no_reservation_and_no_probe_is_left_and_the_accounts_agree(seed: int) -> None:
    fire = Fire(seed)
    ends = asyncio.run(fire.burn())
    assert all(isinstance(end, (Reply, CallError, Park, asyncio.CancelledError)) for end in ends)
    assert fire.ledger.clean == {meter: amount for meter, amount in fire.scope.used.items() if amount}
    assert load(fire.gauges.states["breaker:model:m"]).prober == ""
