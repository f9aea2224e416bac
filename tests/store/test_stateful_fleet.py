"""A whole fleet against a model, on SQLite and on PostgreSQL: queues, limits, families, budgets, and two writers at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from statecraft.errors import StatecraftError
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store import open_store
from statecraft.store import tables as t
from statecraft.store.port import (
    Amount,
    Call,
    Cancel,
    Charge,
    Claim,
    ClaimDue,
    Drop,
    Head,
    MachineSpec,
    Move,
    Park,
    Redrive,
    Release,
    Renew,
    Write,
)
from statecraft.store.sql import SqlStore
from statecraft.testing import ManualClock
from tests.store.fleet_model import Expected, FleetWorld
from tests.store.rig import EDGES, Story, ready

R = TypeVar("R")
CHANCE = st.integers(0, 2**32 - 1).map(Random)
"""What a rule chooses, it chooses from one number, so that what is drawn does not depend on which of two writers was faster."""
LEASE = 10
QUIET: Any = list(HealthCheck)
OWNERS = ("ann", "ann", "bob")
"""The name of each worker; two of them share one, as a process does that claims again what it forgot."""
STORES = (0, 0, 1)
"""The store of each worker: one for each process."""
LIMIT = 4
"""What every budget allows."""
MOST = 6
"""Runs of one example."""

Judge = Callable[[FleetWorld, object, bool], None]


@dataclass
class Act:
    """One write, by whom, and who judges its answer."""

    write: Write
    judge: Judge
    worker: int | None = None
    """Whose hands it concerns."""
    key: tuple[int, bytes] | None = None
    """The memory that it is written from."""
    after: Story | None = None
    """That memory, if it is accepted."""


@dataclass
class Place:
    """One database with the stores that are open on it, for all examples: each has names of its own in it."""

    runner: asyncio.Runner
    stores: list[SqlStore]
    numbers: Iterator[int]
    wrong: list[str] = field(default_factory=list)
    """What the model refused, in full: two writers at once may never do it again, which Hypothesis calls flaky."""

    def wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(coroutine)


@contextmanager
def opened(url: str, many: int) -> Iterator[Place]:
    with asyncio.Runner() as runner:
        stores: list[SqlStore] = []
        for _ in range(many):
            store = open_store(url, clock=ManualClock())
            assert isinstance(store, SqlStore)
            runner.run(store.open())
            stores.append(store)
        try:
            yield Place(runner, stores, itertools.count())
        finally:
            for store in stores:
                runner.run(store.close())


class Fleet(RuleBasedStateMachine):
    """Three workers who work from memory, however stale, over the stores of one database; and people who interfere."""

    place: Place
    sound = False
    """Whether all went well so far."""

    @initialize()
    def begin(self) -> None:
        number = next(self.place.numbers)
        self.now, self.label = 100, f"{number}"
        specs = [
            MachineSpec(f"{name}-{number}", "1", f"{number:060x}{word}", f'{{"name":"{name}"}}', EDGES)
            for name, word in (("paper", "aaaa"), ("memo", "bbbb"))
        ]
        self.machines = [self.place.wait(self.place.stores[-1].register(spec)) for spec in specs]
        names = dict(zip(self.machines, (spec.name for spec in specs), strict=True))
        self.world = FleetWorld(names)
        self.stories: dict[bytes, Story] = {}
        self.memory: dict[tuple[int, bytes], Story] = {}
        self.count = 0
        for _ in range(2):
            self.settle([Act(*self.starting(None, 0, 0, 0, 0))], [0])

    # --- acting ------------------------------------------------------------------------------------------------------

    def settle(self, acts: list[Act], stores: list[int]) -> None:
        """Make the writes at once; their answers must be right in one order or the other, and so must the database."""
        self.sound = False
        answers = self.place.wait(self.submit([act.write for act in acts], stores))
        note(f"{[(act.worker, act.write) for act in acts]}")
        why: list[object] = []
        picture = None if len(acts) == 1 else self.picture()
        for order in itertools.permutations(range(len(acts))):
            world = deepcopy(self.world)
            try:
                for at in order:
                    acts[at].judge(world, answers[at], len(acts) == 1)
                if picture is not None:
                    self.adopt_turns(world, picture)
                    assert picture == self.drawn(world)
            except AssertionError as error:
                why.append(error)
            else:
                self.world = world
                break
        else:
            self.place.wrong.append(
                f"{[(act.worker, act.write, answer) for act, answer in zip(acts, answers, strict=True)]}: {why}"
            )
            raise AssertionError(self.place.wrong[-1])
        for act, answer in zip(acts, answers, strict=True):
            self.remember(act, answer)
        self.sound = True

    async def submit(self, writes: list[Write], stores: list[int]) -> list[object]:
        places = self.place.stores
        found: list[object] = list(
            await asyncio.gather(
                *(places[at % len(places)].submit(write) for write, at in zip(writes, stores, strict=True)),
                return_exceptions=True,
            )
        )
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, StatecraftError):
                raise each
        return found

    def remember(self, act: Act, answer: object) -> None:
        if act.key is not None:
            accepted = not isinstance(answer, Exception) and act.after is not None
            if accepted and self.world.runs[act.key[1]].status is Status.RUNNING:
                assert act.after is not None
                self.memory[act.key] = act.after
            elif not accepted:
                del self.memory[act.key]
        taken = [answer] if isinstance(answer, RunRecord) else answer if isinstance(answer, list) else []
        for record in taken:
            if isinstance(record, RunRecord) and act.worker is not None:
                loaded = self.place.wait(self.place.stores[0].load(bytes.fromhex(record.id)))
                story = self.stories[bytes.fromhex(record.id)]
                mine = replace(story, epoch=record.epoch, seq=record.seq, state=record.state, hash=loaded.hash)
                self.memory[act.worker, story.run_id] = replace(mine, calls=list(loaded.call_hashes), marks=list(loaded.marks))

    # --- what may be done --------------------------------------------------------------------------------------------

    def starting(self, parent: bytes | None, machine: int, queue: int, priority: int, delay: int) -> tuple[Write, Judge]:
        self.count += 1
        run_id = int(self.label).to_bytes(12, "big") + self.count.to_bytes(4, "big")
        story = Story(self.machines[machine], run_id, epoch=0, at=self.now - 1)
        self.stories[run_id] = story
        head = Head(Status.WAITING, waiting_for=Waiting.START, due_at=self.now + delay) if delay else ready(self.now)
        key = None if parent is None else f"child:{self.world.runs[parent].seq}.{self.label}/{self.count}"
        start = replace(story.start(head, key=key, parent=parent), queue=f"{'ab'[queue]}{self.label}", priority=priority)
        return start, lambda world, answer, exact: world.started(start, answer, exact=exact)

    def draw(self, chance: Random, kind: str, busy: Act | None = None) -> Act | None:
        """A write of some kind, on what another writer is busy with rather than not."""
        worker, runs = self.somebody(chance, busy), list(self.world.runs)
        same = [] if busy is None else [run for run in runs if run == self.about(busy)] * 2 * len(runs)
        run = chance.choice(runs + same)
        match kind:
            case "start":
                if len(runs) >= MOST:
                    return None
                place = (chance.randrange(2), chance.randrange(2), chance.randrange(2))
                family, delay = chance.random() < 0.5, chance.choice((0, 0, LEASE))
                return Act(*self.starting(run if family else None, *place, delay))
            case "claim":
                epoch = chance.choice((None, self.world.runs[run].epoch))
                claim = Claim(run, self.owner(worker), self.now, self.now + LEASE, epoch)
                return Act(claim, lambda world, answer, exact: world.claimed(claim, answer, exact=exact), worker)
            case "claim due":
                return self.claiming(chance, worker)
            case "release":
                release = Release(self.owner(worker), self.now)
                return Act(release, lambda world, answer, exact: world.released(release, answer, exact=exact), worker)
            case "renew":
                held = tuple((run_id, story.epoch) for (who, run_id), story in self.memory.items() if who == worker)
                renew = Renew(held, self.now + LEASE)
                return Act(renew, lambda world, answer, exact: world.renewed(renew, answer, exact=exact), worker)
            case "cancel":
                cancel = Cancel(run, self.now, "eve", "enough")
                return Act(cancel, lambda world, answer, exact: world.cancelled(cancel, answer, exact=exact))
            case "drop":
                drop = Drop(run, self.now, "eve", "no")
                return Act(drop, lambda world, answer, exact: world.dropped(drop, answer, exact=exact))
            case "redrive":
                return self.redriving(run)
            case _:
                return self.from_memory(chance, kind, busy)

    @staticmethod
    def somebody(chance: Random, busy: Act | None) -> int:
        """A worker, and rather one of another process than the one that is busy."""
        others = [
            each for each in range(3) if busy is not None and busy.worker is not None and STORES[each] != STORES[busy.worker]
        ]
        return chance.choice([0, 1, 2, *others * 2])

    def owner(self, worker: int) -> str:
        return OWNERS[worker] + self.label

    @staticmethod
    def about(act: Act) -> bytes | None:
        write: Any = act.write
        found = write.transition.run_id if isinstance(write, Move) else getattr(write, "run_id", None)
        return found if isinstance(found, bytes) else None

    def claiming(self, chance: Random, worker: int) -> Act:
        queues = chance.choice(("a", "b", "ab", "ab"))
        limits = tuple((name, most) for name in self.world.names.values() if (most := chance.randint(0, 4)) < 3)
        due = ClaimDue(
            self.owner(worker),
            self.now,
            self.now + LEASE,
            tuple(self.machines),
            chance.randint(1, 4),
            queues=tuple(queue + self.label for queue in queues),
            limits=tuple((name, max(1, most)) for name, most in limits),
        )
        return Act(due, lambda world, answer, exact: world.claimed_due(due, answer, exact=exact), worker)

    def redriving(self, run_id: bytes) -> Act:
        run, loaded = self.world.runs[run_id], self.place.wait(self.place.stores[0].load(run_id))
        story = replace(
            self.stories[run_id],
            epoch=run.epoch,
            seq=run.seq,
            calls=list(loaded.call_hashes),
            marks=list(loaded.marks),
            at=self.now,
        )
        entry = story.call(f'{{"redrive":{len(story.calls)}}}', kind="redrive")
        redrive = Redrive(run_id, run.seq, run.epoch, self.now, "eve", "", entry, ready(self.now), None, 0)
        return Act(redrive, lambda world, answer, exact: world.redriven(redrive, answer, exact=exact))

    def from_memory(self, chance: Random, kind: str, busy: Act | None) -> Act | None:
        free = sorted(key for key in self.memory if busy is None or key != busy.key)
        near = [key for key in free if busy is not None and key[1] == self.about(busy)] * len(free)
        if not free:
            return None
        # Two budgets are drawn on by two processes.
        other = [key for key in free if busy is not None and busy.worker is not None and STORES[key[0]] != STORES[busy.worker]]
        key = chance.choice(free + (other * 5 if kind == "reserve" else near))
        story = replace(self.memory[key], calls=list(self.memory[key].calls), at=self.now - 1)
        seq = story.seq
        write, then = self.writing(chance, kind, story)

        def judge(world: FleetWorld, answer: object, _exact: bool) -> None:
            run = world.holds(story.run_id, story.epoch, seq, answer)
            if run is not None:
                then(world, run, answer)

        return Act(write, judge, key[0], key, story)

    def writing(self, chance: Random, kind: str, story: Story) -> tuple[Write, Callable[[FleetWorld, Expected, object], None]]:
        request = f'"{story.seq}.{len(story.calls)}"'
        meter = f"{chance.choice('mmmn')}{self.label}" if kind in ("reserve", "settle", "call") else ""
        match kind:
            case "move" | "end":
                move = story.move("more" if kind == "move" else "gave_up", head=None if kind == "move" else Head(Status.FAILED))
                return move, lambda world, run, _: world.moved(story.run_id, run, move.head, self.now)
            case "call":
                call = replace(story.call(request), charges=(Charge(meter, 1),))
                return call, lambda world, run, _: self.called(world, run, call)
            case "reserve":
                amount = Amount(meter, chance.choice((1, 2, 3, 3)), LIMIT)
                reserve = story.reserve(request, amount)
                return reserve, lambda world, run, answer: world.reserve(run, reserve.digest, amount, answer)
            case "settle":
                settle = story.settle(request, *chance.choice(((), (Charge(meter, 1),))))
                return settle, lambda world, run, _: world.charge(run, settle.digest, settle.charges)
            case _:
                park = replace(self.parking(kind, story), at=self.now)
                return park, lambda world, run, _: world.parked(story.run_id, run, park.head, self.now, park.children)

    def parking(self, kind: str, story: Story) -> Park:
        match kind:
            case "die":
                return story.die()
            case "hand back":
                return replace(story.sleep_until(1), head=ready(self.now))
            case "sleep":
                return story.sleep_until(self.now + LEASE)
            case _:
                return story.wait_for(*(each for each, run in self.world.runs.items() if run.parent == story.run_id))

    @staticmethod
    def called(world: FleetWorld, run: Expected, call: Call) -> None:
        run.calls[run.seq] = run.calls.get(run.seq, 0) + 1
        world.charge(run, call.digest, call.charges)

    # --- rules -------------------------------------------------------------------------------------------------------

    HANDS = ("claim", "claim", "claim due", "claim due", "claim due")
    HELD = ("move", "call", "reserve", "reserve", "end", "sleep", "wait", "hand back", "die", "settle")
    PEOPLE = ("start", "start", "start", "renew", "release", "cancel", "drop", "redrive")

    @rule(chance=CHANCE, kind=st.sampled_from(HANDS), store=st.integers(0, 1))
    def take(self, chance: Random, kind: str, store: int) -> None:
        self.one(chance, kind, store)

    @rule(chance=CHANCE, kind=st.sampled_from(HELD))
    def work(self, chance: Random, kind: str) -> None:
        self.one(chance, kind, 0)

    @rule(chance=CHANCE, kind=st.sampled_from(PEOPLE), store=st.integers(0, 1))
    def interfere(self, chance: Random, kind: str, store: int) -> None:
        self.one(chance, kind, store)

    def one(self, chance: Random, kind: str, store: int) -> None:
        act = self.draw(chance, kind)
        if act is not None:
            self.settle([act], [self.store_of(act, store)])

    @rule(chance=CHANCE, kinds=st.lists(st.sampled_from(HANDS + HELD + PEOPLE), min_size=2, max_size=2))
    def two_at_once(self, chance: Random, kinds: list[str]) -> None:
        self.at_once(chance, *kinds)

    @rule(chance=CHANCE, kinds=st.lists(st.sampled_from((*HANDS, "release", "cancel", "renew")), min_size=2, max_size=2))
    def two_want_it(self, chance: Random, kinds: list[str]) -> None:
        """Claims that overlap, when leases have just ended."""
        self.now += LEASE
        self.at_once(chance, *kinds)

    @rule(chance=CHANCE, other=st.sampled_from(HELD))
    def two_reserve(self, chance: Random, other: str) -> None:
        self.at_once(chance, "reserve", other)

    def at_once(self, chance: Random, one: str, two: str) -> None:
        if "start" in (one, two) and len(self.world.runs) > MOST - 2:
            return
        first = self.draw(chance, one)
        second = None if first is None else self.draw(chance, two, first)
        if first is not None and second is not None:
            self.settle([first, second], [self.store_of(first, 0), self.store_of(second, 1)])

    @staticmethod
    def store_of(act: Act, other: int) -> int:
        """Each process has one store, whose writes are applied in order; people may use any."""
        return other if act.worker is None else STORES[act.worker]

    @rule()
    def time_passes(self) -> None:
        self.now += LEASE // 2

    @rule(worker=st.integers(0, 2))
    def crash(self, worker: int) -> None:
        self.memory = {key: story for key, story in self.memory.items() if key[0] != worker}

    # --- what must hold ----------------------------------------------------------------------------------------------

    def picture(self) -> dict[str, Any]:
        """The rows of this example, as the last store sees them."""
        return self.place.wait(self.place.stores[-1]._read(self._look))

    def _look(self, sql: sa.Connection) -> dict[str, Any]:
        ids, names = list(self.stories), ("machine", "queue", "priority", "turn", "status", "waiting_for", "due_at", "owner")
        columns = [t.runs.c[name] for name in (*names, "lease_until", "epoch", "seq", "attempts")]
        kept: dict[bytes, list[Any]] = {run_id: [] for run_id in ids}
        for row in sql.execute(sa.select(t.reservations).where(t.reservations.c.run_id.in_(ids))):
            kept[bytes(row.run_id)].append((bytes(row.digest), (row.meter, row.amount)))
        rows = sql.execute(sa.select(t.runs.c.run_id, *columns).where(t.runs.c.run_id.in_(ids)))
        used = sql.execute(sa.select(t.meters.c.meter, t.meters.c.used).where(t.meters.c.meter.in_(self.meters)))
        found: dict[str, Any] = {run_id.hex(): (*row, sorted(kept[run_id])) for run_id, *row in rows}
        return found | {str(meter): many for meter, many in used}

    @property
    def meters(self) -> list[str]:
        return [f"{name}{self.label}" for name in "mn"]

    @staticmethod
    def drawn(world: FleetWorld) -> dict[str, Any]:
        return {run_id.hex(): run.row() for run_id, run in world.runs.items()} | world.used

    def adopt_turns(self, world: FleetWorld, picture: dict[str, Any]) -> None:
        """Of two starts at once none waits for the other, so that they may get the same turn."""
        for run_id, run in world.runs.items():
            if run_id not in self.world.runs and run_id.hex() in picture:
                run.turn = picture[run_id.hex()][3]

    @invariant()
    def the_database_is_as_the_model_says(self) -> None:
        if self.sound:
            self.sound = False
            picture, expected = self.picture(), self.drawn(self.world)
            if picture != expected:
                self.place.wrong.append(f"{picture} is not as expected: {expected}")
            assert picture == expected
            self.sound = True

    def teardown(self) -> None:
        if not self.sound:  # What went wrong then is told already.
            return
        store = self.place.stores[-1]
        for run_id, model in self.world.runs.items():
            assert self.place.wait(store.verify(run_id)) == []
            calls = self.place.wait(store.calls(run_id))
            assert {call.seq: call.idx + 1 for call in calls} == model.calls
            assert len({(call.seq, call.digest, call.occurrence) for call in calls}) == len(calls)
            epochs = [move.epoch for move in self.place.wait(store.history(run_id))]
            assert epochs == sorted(epochs)
            kinds = [entry.kind for entry in self.place.wait(store.feed(0, run_id))]
            assert kinds.count("claimed") + kinds.count("cancelled") == model.epoch


def fleet_of(place: Place) -> type[Fleet]:
    return type("Fleet", (Fleet,), {"place": place})


def run(place: Place, examples: int, steps: int) -> None:
    quiet = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=QUIET, database=None)
    try:
        run_state_machine_as_test(fleet_of(place), settings=quiet)
    except Flaky as error:
        raise AssertionError(place.wrong) from error


@pytest.mark.slow
def test_no_interleaving_of_a_fleet_breaks_a_promise_in_memory() -> None:
    with opened("sqlite://", 1) as place:
        run(place, 40, 40)


@pytest.mark.slow
def test_no_interleaving_of_a_fleet_breaks_a_promise_on_a_server(fleet_url: str) -> None:
    with opened(fleet_url, 2) as place:
        run(place, 25, 40)
