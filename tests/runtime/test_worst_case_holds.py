"""No run of a machine uses more than its worst case says, however its handlers behave: driven through the real engine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import inf

import pytest

from statecraft import (
    CallError,
    Data,
    ErrorKind,
    Event,
    Looped,
    Machine,
    OutputInvalid,
    OverBudget,
    Price,
    Run,
    Runtime,
    Settings,
    Status,
    days,
    seconds,
    tool,
)
from statecraft.calls.retry import RetryPolicy
from statecraft.clock import instant
from statecraft.llm.port import Reply, Request
from statecraft.machine.caps import METRICS
from statecraft.machine.longest import Row
from statecraft.machine.worst import WorstCase
from statecraft.records import RunRecord, Usage, Waiting
from statecraft.testing import ManualClock, ScriptedLLM, text
from tests.machine.anyhow import EVENTS, Chance, Note

PRICES = {"scripted": Price(input=1000, output=1000)}
SETTINGS = Settings(prices=PRICES, retry=RetryPolicy(first=0.0), lease=days(30), loops=None, breaker=None)
INSTANT = timedelta(microseconds=1)
NEAR = {"tokens": 0.5, "wall": 0.999}
"""What share of the bound counts as having come to it: what is left of tokens is less than another question takes, and a
visit that takes all its time is cut off."""
SPENDING = {"calls": ["pay", "pay", "ask"], "tokens": ["ask", "ask", "repair"], "money": ["pay"]}
"""How most of it is spent."""
TOKENS = 120
"""A question to the model takes less, so that a cap of a few hundred tokens lets a few through."""


class Bit(Data):
    said: str = ""


class Said(Event):
    said: str


def small_one(price: str = "0.50") -> Machine[Bit]:
    """A machine without any budget of its own, for children: it asks twice and pays once."""

    @tool(price=price, effect="idempotent")
    async def stamp() -> str:
        """Pay."""
        return "paid"

    machine = Machine("bit", data=Bit)

    @machine.state(start=True, tools=[stamp])
    async def asking(run: Run[Bit]) -> Said:
        await run.tool(stamp)
        await run.llm.ask("first", max_tokens=20)
        return Said(said=await run.llm.ask("second", max_tokens=20))

    machine.transitions(asking.on(Said) >> machine.final("said", ok=True))
    return machine


@dataclass
class Adversary:
    """Handlers that spend until they are refused, take all the time there is, and go where the longest run goes: along a
    witness if there is one, else anywhere. The same in every execution of a visit."""

    seed: int
    clock: ManualClock = field(default_factory=ManualClock)
    witness: tuple[Row, ...] = ()
    metric: str = ""
    """What it wants most of. Of time: each visit takes all it may."""

    def __post_init__(self) -> None:
        failing = random.Random(self.seed)

        @tool(price="1.00", effect="idempotent")
        async def pay(number: int) -> str:
            """Pay a dollar. The line breaks now and then after it was paid."""
            if failing.random() < 0.2:
                raise ConnectionResetError("the line broke")
            return f"paid {number}"

        self.pay, self.child = pay, small_one()
        self.model = ScriptedLLM(self._answer)

    def _answer(self, request: Request) -> Reply:
        """A number, at the second time of asking for one."""
        wrong = request.output is not None and len(request.messages) < 3
        return replace(text('{"value": "no number"}' if wrong else '{"value": 7}'), usage=Usage(30, 10))

    async def act(self, run: Run[Note]) -> Event:
        dice = random.Random(f"{self.seed} {run.step}")
        wanted = self.witness[run.step][1] if run.step < len(self.witness) else ""
        try:
            for number in range(12 if self.metric in SPENDING else dice.choice([0, 2, 6, 12])):
                await self._spend(run, dice, number)
        except OverBudget:
            if wanted == "budget_exhausted" or (not wanted and dice.random() < 0.3):
                raise
        await self._dawdle(dice, wanted, self.machine.definition.states[run.state].timeout)
        return self._leave(run, dice, wanted)

    async def _spend(self, run: Run[Note], dice: random.Random, number: int) -> None:
        match dice.choice(SPENDING.get(self.metric, ["pay", "pay", "ask", "ask", "repair", "child", "several"])):
            case "pay":
                await run.tool(self.pay, number)
            case "ask":
                await run.llm.ask(f"number {number}", max_tokens=20)
            case "repair":
                await run.llm.ask(f"a number {number}", output=int, max_tokens=20)
            case "child":
                await run.child(self.child, Bit(said=str(number)), ok_only=False)
            case _:
                await run.map(lambda each: run.tool(self.pay, each), range(100 * number, 100 * number + 3))

    async def _dawdle(self, dice: random.Random, wanted: str, timeout: timedelta | None) -> None:
        """Let time pass, while this visit runs and nothing else does; a timeout cuts it off."""
        if wanted in ("state_timeout", "deadline_passed") or (self.metric != "wall" and dice.random() < 0.3):
            await self.clock.advance(seconds(20 if wanted else dice.randint(1, 6)))
        elif self.metric == "wall" and timeout is not None:
            await self.clock.advance(timeout - INSTANT)

    def _leave(self, run: Run[Note], dice: random.Random, wanted: str) -> Event:
        raised = {
            "call_failed": CallError("out", kind=ErrorKind.PERMANENT, name="it"),
            "handler_failed": ValueError("out"),
            "loop_detected": Looped("out", kind=ErrorKind.TOOL, name="it"),
            "invalid_output": OutputInvalid("out", kind=ErrorKind.INVALID, name="it"),
            "budget_exhausted": OverBudget("out", name="it"),
        }
        events = self.events_of(run.state)
        if wanted not in events and wanted not in raised:
            wanted = dice.choice([*events, *events, *events, *raised])
        if wanted in raised:
            raise raised[wanted]
        return events[wanted](pick=self._pick(run, wanted, dice))  # type: ignore[call-arg]

    def _pick(self, run: Run[Note], event: str, dice: random.Random) -> bool:
        """What the guard is told: the first row of the event, or the second."""
        if run.step < len(self.witness):
            rows = [row for row in self.machine.definition.rows if (row.source, row.event) == (run.state, event)]
            return bool(rows) and rows[0].target == self.witness[run.step][2]
        return dice.random() < 0.5

    def events_of(self, state: str) -> dict[str, type[Event]]:
        named = {event.__event_name__: event for event in EVENTS}
        return {name: named[name] for name in self.machine.definition.states[state].events}

    machine: Machine[Note] = field(init=False)

    def built(self) -> Machine[Note]:
        """A random machine whose visits it plays."""
        dice = random.Random(self.seed)
        chance = Chance(dice, act=self.act, has={"tools": [self.pay], "children": [self.child]}, tokens=TOKENS)
        self.machine = chance.machine()
        return self.machine


async def lived(rt: Runtime, adversary: Adversary, run: RunRecord) -> RunRecord:
    """The run at its end. Reviews are decided, or left alone until they expire."""
    dice = random.Random(f"{adversary.seed} reviews")
    while not (run := await rt.wait(run.id)).status.closed and run.status is not Status.DEAD:
        assert run.waiting_for is Waiting.REVIEW
        step, wanted = run.seq, adversary.witness[run.seq][1] if run.seq < len(adversary.witness) else ""
        events = adversary.events_of(run.state)
        if wanted in events or (not wanted and dice.random() < 0.5):
            if adversary.metric == "wall" and run.due_at is not None:
                await adversary.clock.advance(run.due_at - instant(adversary.clock.now()) - INSTANT)
            await rt.send(run.id, events[wanted or dice.choice([*events])](), by="ann")
        else:
            while (run := await rt.get(run.id)).seq == step and not run.status.closed and run.status is not Status.DEAD:
                due = 0 if run.due_at is None else (run.due_at.timestamp() * 1e6 - adversary.clock.now()) / 1e6
                await adversary.clock.advance(timedelta(seconds=max(0.0, due)))
                await asyncio.sleep(0.001)
    return run


async def used(adversary: Adversary) -> dict[str, float]:
    """What a run of the adversary's machine used, by metric."""
    machine, clock = adversary.machine, adversary.clock
    began = clock.now()
    async with Runtime("sqlite://", machines=[machine], llm=adversary.model, settings=SETTINGS, clock=clock) as rt:
        run = await lived(rt, adversary, await rt.start(machine, Note()))
        steps = len(await rt.history(run.id)) - 1
        meters = {unit: [f"visit:{run.id}:{step}:{unit}" for step in range(steps + 1)] for unit in ("calls", "tokens", "money")}
        spent = {unit: sum((await rt._store.used(names)).values()) for unit, names in meters.items()}
    return {**spent, "money": spent["money"] / 1e9, "steps": steps, "wall": (clock.now() - began) / 1e6}


def compared(seed: int, metric: str) -> tuple[WorstCase, dict[str, float]]:
    """(the worst case of a random machine, what a run along its witness of this metric used)."""
    adversary = Adversary(seed)
    worst = adversary.built().worst_case()
    if metric:
        adversary.witness = worst.of(metric).witness  # type: ignore[arg-type]
        adversary.metric = metric
    return worst, asyncio.run(used(adversary))


def check(seeds: range) -> Counter[str]:
    """How often a run came to its bound, by metric; no run may come beyond."""
    came: Counter[str] = Counter()
    for seed in seeds:
        worst, spent = compared(seed, ("", "steps", "steps", "calls", "tokens", "money", "wall")[seed % 7])
        for metric in METRICS:
            value = worst.of(metric).value
            bound = inf if value is None else value
            assert spent[metric] <= bound + 1e-9, (seed, metric, spent[metric], bound)
            came[metric] += spent[metric] > 0 and spent[metric] >= bound * NEAR.get(metric, 1)
    return came


@pytest.mark.slow
def test_no_run_of_a_few_machines_goes_beyond_its_worst_case_and_some_come_to_it() -> None:
    assert check(range(7))["steps"] > 0


@pytest.mark.slow
def test_no_run_of_many_machines_goes_beyond_its_worst_case_and_each_metric_is_come_to() -> None:
    came = check(range(7, 70))
    assert min(came[metric] for metric in METRICS) > 0, came
