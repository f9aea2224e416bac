"""Runs whose writes chain as an engine's would: a small machine, and a story that answers one write after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from statecraft.ids import RandomIds, digest
from statecraft.records import Status, Waiting
from statecraft.store import chain
from statecraft.store.port import (
    Amount,
    Attempt,
    Call,
    CallReview,
    Charge,
    Claim,
    Death,
    Decide,
    Head,
    MachineSpec,
    MessageNode,
    Move,
    Park,
    Reserve,
    Review,
    Settle,
    Start,
    Store,
    Transition,
)

EDGES = (
    ("", "start", "draft"),
    ("draft", "more", "draft"),
    ("draft", "asked", "review"),
    ("review", "approved", "done"),
    ("review", "rejected", "draft"),
    ("draft", "gave_up", "failed"),
)
PAPER = MachineSpec("paper", "1", "a" * 64, '{"name":"paper"}', EDGES)
"""A machine that writes a paper and asks a person whether to publish it."""
OTHER = MachineSpec("other", "1", "b" * 64, '{"name":"other"}', (("", "start", "draft"),))
"""A machine that has nothing to do with it."""
FOREVER = 10**15
"""A lease that no test outlives, in microseconds."""
IDS = RandomIds(7)


def running(owner: str = "me", lease_until: int = FOREVER) -> Head:
    """A head that is held."""
    return Head(Status.RUNNING, owner, lease_until)


def ready(due_at: int = 1) -> Head:
    """A head that anybody may claim."""
    return Head(Status.READY, due_at=due_at)


@dataclass
class Story:
    """One run as an engine writes it: each method answers the next write and remembers the chain of hashes."""

    machine: int
    run_id: bytes = field(default_factory=lambda: IDS.run_id(1_000))
    epoch: int = 1
    seq: int = 0
    state: str = "draft"
    at: int = 1_000
    hash: bytes = chain.GENESIS
    calls: list[bytes] = field(default_factory=list)
    """Hashes of the calls of the visit at hand."""
    marks: list[bytes] = field(default_factory=list)
    """Hashes of its attempts and of its questions about calls."""

    def start(
        self,
        head: Head | None = None,
        *,
        key: str | None = None,
        payload: str = '{"topic":"bees"}',
        tenant: str | None = None,
        parent: bytes | None = None,
        draws: str | None = None,
    ) -> Start:
        """The first write: running under "me" unless `head` says otherwise."""
        self.hash = chain.origin(key, tenant, parent, draws)
        link = self._link("", "start", "draft", payload, None)
        return Start(link, head or running(), key, None, "trace", tenant, parent, draws)

    def move(
        self,
        event: str,
        *,
        payload: str = '{"n":1}',
        head: Head | None = None,
        decision: bool = False,
        actor: str | None = None,
        snapshot: str | None = None,
    ) -> Move:
        """The next step, by an event that the state takes."""
        target = next(to for source, name, to in EDGES if (source, name) == (self.state, event))
        self.seq += 1
        link = self._link(self.state, event, target, payload, actor)
        self.state, self.calls, self.marks = target, [], []
        return Move(link, head, decision, snapshot)

    def _link(self, source: str, event: str, target: str, payload: str, actor: str | None) -> Transition:
        self.at += 1
        guards = '[["fits",true]]'
        before = (self.hash, self.run_id, self.seq, self.machine, source, event, target, self.epoch, self.at)
        self.hash = chain.link(*before, payload, guards, actor, self.calls, self.marks)
        place = (self.run_id, self.seq, self.machine, source, event, target, self.epoch, self.at)
        return Transition(*place, payload, guards, actor, 3 * len(self.calls), 2 * len(self.calls), len(self.calls), self.hash)

    def call(
        self,
        request: str,
        result: str = '"yes"',
        *,
        kind: str = "tool",
        occurrence: int = 0,
        nodes: tuple[MessageNode, ...] = (),
        cost: int | None = None,
        price_source: str | None = None,
    ) -> Call:
        """A finished call of the visit at hand: half a second, 3 tokens in, 2 out."""
        self.at += 1
        name = digest(request)
        row = Call(
            run_id=self.run_id,
            seq=self.seq,
            idx=len(self.calls),
            epoch=self.epoch,
            kind=kind,
            name="search",
            digest=name,
            occurrence=occurrence,
            ok=True,
            request=request,
            result=result,
            attempts=1,
            started_at=self.at,
            finished_at=self.at + 500_000,
            input_tokens=3,
            output_tokens=2,
            model="model-1",
            hash=b"",
            nodes=nodes,
            cost=cost,
            price_source=price_source,
        )
        self.calls.append(chain.call_hash(row))
        return replace(row, hash=self.calls[-1])

    def attempt(self, request: str, number: int, kind: str = "overloaded", due_at: int | None = 9_000) -> Attempt:
        """An attempt that failed, or (`kind="begun"`) an intent."""
        row = Attempt(self.run_id, self.seq, self.epoch, digest(request), 0, number, "search", kind, "busy", self.at, due_at)
        self.marks.append(chain.attempt_hash(row))
        return row

    def ask_person(self, question: str = "Publish?", expires_at: int | None = None) -> Park:
        """Park and ask a person about the state."""
        review = Review(self.state, question, '{"text":"bees"}', ("approved", "rejected"), self.at, expires_at)
        head = Head(Status.WAITING, waiting_for=Waiting.REVIEW, due_at=expires_at)
        return Park(self.run_id, self.seq, self.epoch, self.at, head, review)

    def sleep_until(self, due_at: int) -> Park:
        """Park until a time."""
        return Park(self.run_id, self.seq, self.epoch, self.at, Head(Status.WAITING, waiting_for=Waiting.TIMER, due_at=due_at))

    def wait_for(self, *children: bytes, due_at: int | None = None) -> Park:
        """Park until a child ends."""
        head = Head(Status.WAITING, waiting_for=Waiting.CHILD, due_at=due_at)
        return Park(self.run_id, self.seq, self.epoch, self.at, head, children=children)

    def ask_about(self, *asks: CallReview, due_at: int | None = 9_000, alert: str | None = None) -> Park:
        """Park and ask about calls."""
        head = Head(Status.WAITING, waiting_for=Waiting.REVIEW, due_at=due_at)
        asked = [chain.question_hash(self.seq, each, json.dumps(each.decisions)) for each in asks]
        self.marks += [mark for mark in asked if mark not in self.marks]
        return Park(self.run_id, self.seq, self.epoch, self.at, head, asks=asks, alert=alert)

    def decide(self, asked: CallReview, decision: str = "approve", by: str = "ann", at: int = 3_000) -> Decide:
        """A person's decision about a call."""
        key = (self.run_id, self.seq, asked.digest, asked.occurrence, asked.round, asked.action)
        return Decide(*key, decision, by, at, "fine", '{"to":"you"}')

    def reserve(self, request: str, *amounts: Amount) -> Reserve:
        """Set amounts aside for a call."""
        return Reserve(self.run_id, self.seq, self.epoch, digest(request), 0, amounts)

    def settle(self, request: str, *charges: Charge) -> Settle:
        """Charge what a call used and end its reservation."""
        return Settle(self.run_id, self.seq, self.epoch, digest(request), 0, charges)

    def die(self, reason: str = "no row") -> Park:
        """Give up for good."""
        death = Death("draft", "KeyError", "search", '{"why":"no row"}')
        return Park(self.run_id, self.seq, self.epoch, self.at, Head(Status.DEAD, reason=reason), None, death)

    def claim(self, owner: str = "you", now: int = 5_000, lease_until: int = FOREVER, epoch: int | None = None) -> Claim:
        """Take this run."""
        return Claim(self.run_id, owner, now, lease_until, epoch)


async def begun(store: Store, head: Head | None = None, *, key: str | None = None) -> Story:
    """A run that was started."""
    story = Story(await store.register(PAPER), epoch=1 if head is None or head.status is Status.RUNNING else 0)
    await store.submit(story.start(head, key=key))
    return story


async def child_of(store: Store, parent: Story, head: Head | None = None) -> Story:
    """A child run that was started."""
    story = Story(parent.machine, epoch=1 if head is None or head.status is Status.RUNNING else 0)
    await store.submit(story.start(head, parent=parent.run_id))
    return story


async def waiting_for_review(store: Store) -> Story:
    """A run that stands in `review` and waits for a person."""
    story = await begun(store)
    await store.submit(story.move("asked"))
    await store.submit(story.ask_person())
    return story


def question(request: str = '"send"', *, round: int = 0, expires_at: int | None = 8_000) -> CallReview:
    """A gate's question about the call with this request."""
    what = ("gate", "send", '{"to":"me"}', digest("action"), "Send it?", '{"risk":"high"}', ("approve", "reject"))
    return CallReview(digest(request), 0, round, *what, 2_000, 4_000, expires_at)


def conversation(length: int, words: str = "hello") -> list[MessageNode]:
    """A transcript of `length` messages."""
    nodes: list[MessageNode] = []
    parent: bytes | None = None
    for number in range(length):
        body = json.dumps({"role": "user", "content": f"{words} {number}"})
        nodes.append(MessageNode(chain.message_hash(parent, body), parent, body))
        parent = nodes[-1].hash
    return nodes


LONG = json.dumps("long " * 2_000)
"""A text that no store keeps in its rows."""


async def ended(store: Store) -> Story:
    """A run that ended after five steps with calls between them; step 2 and one answer are long, one call is a conversation."""
    run, nodes = await begun(store), conversation(4)
    await store.submit(run.move("more"))
    await store.submit(run.call('"a"', '"yes"'))
    await store.submit(run.call('"b"', LONG))
    await store.submit(run.move("more", payload=LONG))
    await store.submit(run.call(json.dumps({"head": nodes[-1].hash.hex()}), kind="llm", nodes=tuple(nodes)))
    await store.submit(run.move("more"))
    await store.submit(run.move("asked"))
    await store.submit(run.ask_person())
    await store.submit(run.move("approved", head=Head(Status.DONE), decision=True, actor="ann"))
    return run
