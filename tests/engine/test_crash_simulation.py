"""One run that does everything, with a process that dies at every commit, and at every two: it ends as if nothing happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from statecraft import Append, Ask, CallInfo, Data, Event, Failure, Machine, Run, tool
from statecraft.calls.call import canonical
from statecraft.decisions import Decision, DidNotHappen, Happened
from statecraft.errors import ErrorKind
from statecraft.ids import idempotency_key
from statecraft.llm.port import LLM, ModelError, Reply, Request
from statecraft.records import ReviewRecord, RunRecord, Status
from statecraft.testing import ManualClock, ScriptedLLM, json_reply, text, together, tool_use
from statecraft.testing.postgres import PostgresServer
from tests.engine.dying import RUN_ID, Databases, Row, World, in_file, lives, pairs, some
from tests.servers import OnServer

BUSY = 30.0
"""How many seconds the model is overloaded when it is asked for the second draft."""

FREE_FROM = ManualClock().monotonic() + BUSY


class Order(Data):
    subject: str
    found: Append[list[str]] = []
    draft: str = ""
    drafts: int = 0
    receipt: str = ""
    note: str = ""
    closed: str = ""


class Gathered(Event):
    found: list[str]
    drawn_between: bool


class Drafted(Event):
    draft: str
    drafts: int


class Paid(Event):
    receipt: str


class Rested(Event):
    found: list[str]


class Approved(Event):
    note: str


class Rejected(Event): ...


class Closed(Event):
    closed: str


class Draft(BaseModel):
    letter: str
    size: int


def is_second(drafted: Drafted, _order: Order) -> bool:
    return drafted.drafts >= 2


Place = World[Order]


def errand(place: list[Place]) -> Machine[Order]:  # noqa: C901  # many small handlers
    """Everything a handler can do. The tools act on the one world in `place`."""

    def effect(info: CallInfo) -> None:
        place[0].effects.append((place[0].life, info.key))

    @tool(effect="read")
    async def look(info: CallInfo, n: int) -> str:
        """Look at a number."""
        effect(info)
        return f"{n}:{info.key[:8]}"

    @tool(effect="read")
    async def flaky(info: CallInfo, n: int) -> str:
        """Look at a number over a bad line."""
        effect(info)
        if info.attempt == 1:
            raise ConnectionError("the line broke")
        return f"{n}:{info.attempt}"

    @tool(effect="read")
    async def absent(info: CallInfo, n: int) -> str:
        """Look where nothing is."""
        effect(info)
        raise LookupError(f"no {n}")

    @tool(effect="once")
    async def pay(info: CallInfo, amount: int) -> str:
        """Pay, which must not happen twice."""
        effect(info)
        return f"paid {amount}"

    @tool(effect="idempotent")
    async def file(info: CallInfo, name: str) -> str:
        """Put it away."""
        effect(info)
        return f"filed {name}"

    machine = Machine("errand", data=Order, max_steps=20)

    @machine.state(start=True, tools=[look, flaky, absent])
    async def gathering(run: Run[Order]) -> Gathered:
        a, b, c = await run.gather(run.tool(look, 1), run.tool(flaky, 2), run.now())
        many = await run.map(lambda n: run.tool(look, n), [3, 4, 5], concurrency=2)
        again = [await run.tool(look, 6), await run.tool(look, 6)]
        drawn = await run.random()
        try:
            missing = await run.tool(absent, 7)
        except Exception as error:
            missing = str(error)
        return Gathered(found=[a, b, c.isoformat(), *many, *again, missing], drawn_between=0 <= drawn < 1)

    @machine.state(max_visits=3, tools=[look])
    async def drafting(run: Run[Order]) -> Drafted:
        tools = [look] if run.visit == 1 else []
        answer = await run.llm.ask(f"draft {run.visit} about {run.data.subject}", output=Draft, tools=tools)
        return Drafted(draft=answer.letter * answer.size, drafts=run.visit)

    @machine.state(tools=[pay])
    async def paying(run: Run[Order]) -> Paid:
        return Paid(receipt=await run.tool(pay, 12))

    @machine.state(tools=[look])
    async def resting(run: Run[Order]) -> Rested:
        before = await run.tool(look, 8)
        await run.sleep(timedelta(hours=1))
        return Rested(found=[before, await run.tool(look, 8)])

    @machine.review(timeout=timedelta(days=2))
    async def question(run: Run[Order]) -> Ask[Approved | Rejected]:
        return Ask("Send it?", show={"found": run.data.found, "size": len(run.data.draft)})

    @machine.state(tools=[file])
    async def closing(run: Run[Order]) -> Closed:
        return Closed(closed=await run.tool(file, run.data.note))

    sent, failed = machine.final("sent", ok=True), machine.final("failed")
    machine.transitions(
        gathering.on(Gathered) >> drafting,
        drafting.on(Drafted.when(is_second)) >> paying,
        drafting.on(Drafted) >> drafting,
        paying.on(Paid) >> resting,
        resting.on(Rested) >> question,
        question.on(Approved) >> closing,
        question.on(Rejected) >> failed,
        closing.on(Closed) >> sent,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


def answers(place: Place) -> LLM:
    """A model that is a function of the request and of the hour: tools first, then an answer that needs a repair."""

    def answer(request: Request) -> Reply | ModelError:
        place.effects.append((place.life, canonical([dict(message) for message in request.messages])))
        turns = len(request.messages)
        if "draft 2" in str(request.messages[0]["content"]):
            if place.clock.monotonic() < FREE_FROM:
                return ModelError("too many requests", kind=ErrorKind.OVERLOADED, retry_after=BUSY)
            return json_reply(Draft(letter="b", size=12_000))
        if turns == 1:
            return together(text("Let me look."), tool_use("look", {"n": 21}), tool_use("look", {"n": 22}))
        return text('{"letter": "a", "size": "many"}') if turns == 3 else json_reply(Draft(letter="a", size=55_000))

    return ScriptedLLM(answer)


def look(place: Place, review: ReviewRecord) -> Decision:
    """A person who looks whether the payment was made, and says what they see."""
    assert (review.kind, review.tool, review.arguments) == ("doubt", "pay", {"amount": 12})
    made = any(name == review.show["key"] for _, name in place.effects)
    return Happened("paid 12") if made else DidNotHappen()


@dataclass
class Stage:
    """One machine for one world after another: closing a machine costs more than running it."""

    databases: Databases = in_file
    place: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = errand(self.place)

    def new(self, folder: Path) -> Place:
        folder.mkdir(parents=True)
        world = World(folder, self.machine, Order(subject="bees"), answers, Approved(note="fine"), look, databases=self.databases)
        self.place[:] = [world]
        return world


# --- what must hold ---------------------------------------------------------------------------------------------------


def recorded(world: Place) -> set[str]:
    """Names of the finished calls, as `World.effects` has them."""
    messages = {name: (parent, body) for name, parent, body in world.ask("SELECT hash, parent, body FROM messages")}

    def transcript(last: bytes | None) -> str:
        bodies: list[str] = []
        while last is not None:
            last, body = messages[last]
            bodies.insert(0, body)
        return f"[{','.join(bodies)}]"

    found = world.ask("SELECT kind, seq, digest, occurrence, request FROM calls")
    return {
        transcript(bytes.fromhex(json.loads(request)["head"]))
        if kind == "llm"
        else idempotency_key(RUN_ID, seq, digest, occurrence)
        for kind, seq, digest, occurrence, request in found
    }


BEGUN = "SELECT attempt FROM attempts WHERE kind = 'begun' AND NOT EXISTS (SELECT 1 FROM calls WHERE name = 'pay')"


@dataclass
class Watch:
    """Looks at the world after each death."""

    world: Place
    done: list[set[str]] = field(default_factory=list)
    """For each death: the calls that were finished by then."""
    kept: set[Row] = field(default_factory=set)
    unclear: set[Row] = field(default_factory=set)
    """Attempts at the payment whose intent was durable when a process died, and whose outcome was not."""

    @property
    def doubts(self) -> int:
        """How many questions that makes."""
        return len(self.unclear)

    def __call__(self) -> None:
        self.world.sound()
        known = self.world.tables()
        written = self.world.written()
        assert self.kept <= written, "a durable row is gone or changed"
        self.kept = written
        self.done.append(recorded(self.world) if known else set())
        self.unclear |= set(self.world.ask(BEGUN)) if known else set()


@dataclass(frozen=True)
class Calm:
    """The run that nobody disturbs."""

    stage: Stage
    ended: RunRecord
    world: Place
    points: int
    journal: list[Row]
    calls: list[Row]
    attempts: list[Row]
    effects: Counter[str]

    @classmethod
    def on(cls, stage: Stage, folder: Path) -> Calm:
        world = stage.new(folder)
        ended = lives(world, [])
        effects = Counter(name for _, name in world.effects)
        return cls(stage, ended, world, world.points[0], world.journal(), world.calls(), world.attempts(), effects)


def disturb(calm: Calm, folder: Path, points: tuple[int, ...]) -> Place:
    """Die at the points; assert that nothing but the number of efforts differs from the calm run."""
    world = calm.stage.new(folder)
    watch = Watch(world)
    ended = lives(world, points, watch)
    watch()
    assert world.noises == []
    assert (ended.status, ended.state, ended.seq) == (calm.ended.status, calm.ended.state, calm.ended.seq)
    assert world.journal() == calm.journal
    assert calls_but_efforts(world) == calls_but_efforts(calm.world)
    assert [attempt for attempt in world.attempts() if attempt[4] != "begun"] == [
        attempt for attempt in calm.attempts if attempt[4] != "begun"
    ]
    assert_payment(world, doubts=watch.doubts)
    assert_effects(calm, world, watch)
    assert_closed(world)
    return world


def calls_but_efforts(world: Place) -> list[Row]:
    """The calls, without how many attempts the payment took."""
    return [(*call[:6], None if call[2] == "pay" else call[6], *call[7:]) for call in world.calls()]


def assert_payment(world: Place, *, doubts: int) -> None:
    """Paid exactly once, however often a process died on the way; each doubt was put to the person, and nothing else was."""
    ((key_seq, key_digest),) = world.ask("SELECT seq, digest FROM calls WHERE name = 'pay'")
    assert sum(name == idempotency_key(RUN_ID, key_seq, key_digest, 0) for _, name in world.effects) == 1
    asked = world.ask("SELECT decision, decided_by FROM call_reviews ORDER BY round")
    assert len(asked) == doubts
    assert all(by == "ann" for _, by in asked)
    begun = world.ask("SELECT attempt FROM attempts WHERE kind = 'begun' ORDER BY attempt")
    assert [attempt for (attempt,) in begun] == list(range(1, 2 + sum(said == "did_not_happen" for said, _ in asked)))


def assert_effects(calm: Calm, world: Place, watch: Watch) -> None:
    deaths = len(watch.done) - 1
    made = Counter(name for _, name in world.effects)
    assert made.keys() <= calm.effects.keys()
    assert all(made[name] <= calm.effects[name] + deaths for name in made)
    for life, name in world.effects:
        assert not any(name in done for done in watch.done[:life]), f"life {life} made a finished call again: {name}"


def assert_closed(world: Place) -> None:
    head = "SELECT status, owner, lease_until, waiting_for, due_at FROM runs"
    assert world.ask(head) == [("done", None, None, None, None)]
    assert world.ask("SELECT decision, decided_by, count(*) FROM reviews GROUP BY 1, 2") == [("approved", "ann", 1)]
    told = "SELECT kind, seq, idx FROM feed WHERE kind IN ('started', 'transition', 'call') GROUP BY 1, 2, 3 HAVING count(*) > 1"
    assert world.ask(told) == []
    assert world.ask("SELECT count(*) FROM snapshots") == [(1,)]
    (spent,) = world.ask("SELECT sum(input_tokens), sum(output_tokens) FROM transitions")
    assert [spent] == world.ask("SELECT sum(input_tokens), sum(output_tokens) FROM calls")


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return Calm.on(Stage(), tmp_path_factory.mktemp("calm") / "world")


def test_the_undisturbed_run_does_everything(calm: Calm) -> None:
    path = [move[2] for move in calm.journal]
    assert path == ["start", "gathered", "drafted", "drafted", "paid", "rested", "approved", "closed"]
    assert calm.ended.status is Status.DONE
    assert_payment(calm.world, doubts=0)
    assert_closed(calm.world)
    assert Counter(call[1] for call in calm.calls) == {"tool": 14, "llm": 4, "now": 1, "random": 1, "sleep": 1}
    assert sorted(attempt[4] for attempt in calm.attempts) == ["begun", "overloaded", "transient"]
    assert calm.world.noises == []


@pytest.mark.slow
def test_a_process_that_dies_at_any_commit_changes_nothing(calm: Calm, tmp_path: Path) -> None:
    doubts = 0
    for at in range(calm.points):
        world = disturb(calm, tmp_path / str(at), (at,))
        doubts += world.ask("SELECT count(*) FROM call_reviews") != [(0,)]
    assert doubts >= 1  # The payment's intent was durable and its outcome was not, at least once.


@pytest.mark.slow
def test_processes_that_die_one_after_another_at_any_two_commits_change_nothing(calm: Calm, tmp_path: Path) -> None:
    for first, second in pairs(calm.points, calm.points, most=40, seed=20261121):
        disturb(calm, tmp_path / f"{first}-{second}", (first, second))


@pytest.mark.slow
def test_a_process_that_always_dies_a_little_later_gets_to_the_end(calm: Calm, tmp_path: Path) -> None:
    world = disturb(calm, tmp_path / "world", tuple(range(3, calm.points)))
    assert world.life > 10


# --- the same on a server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calm_there(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    with closing(OnServer(postgres_server)) as databases:
        yield Calm.on(Stage(databases), tmp_path_factory.mktemp("calm") / "world")


@pytest.mark.slow
def test_on_a_server_the_undisturbed_run_is_the_same_to_the_byte(calm: Calm, calm_there: Calm) -> None:
    assert calm_there.journal == calm.journal
    assert calls_but_efforts(calm_there.world) == calls_but_efforts(calm.world)
    assert calm_there.attempts == calm.attempts
    assert calm_there.effects == calm.effects


@pytest.mark.slow
def test_on_a_server_a_process_that_dies_changes_nothing(calm_there: Calm, tmp_path: Path) -> None:
    for at in some(calm_there.points, step=3):
        disturb(calm_there, tmp_path / str(at), (at,))


@pytest.mark.slow
def test_on_a_server_processes_that_die_one_after_another_change_nothing(calm_there: Calm, tmp_path: Path) -> None:
    for first, second in pairs(calm_there.points, calm_there.points, most=10, seed=20261121):
        disturb(calm_there, tmp_path / f"{first}-{second}", (first, second))
