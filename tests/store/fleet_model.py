"""What a fleet's store must answer, and hold afterwards, as a model that knows no SQL: the judge of each write.

A judge is told a write's answer. It refuses what must not be (AssertionError), and else takes the write into the world. Of two
writes at once the answers must be right in one order or the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from statecraft.errors import Fenced, Gone, NotDead, RunClosed, RunHeld
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store.fairness import UNIT
from statecraft.store.port import Amount, Cancel, Claim, ClaimDue, Drop, Head, Redrive, Release, Renew, Reserved, Start

Key = tuple[int, ...]


@dataclass
class Expected:
    """What the model believes of one run."""

    machine: int
    queue: str
    priority: int
    parent: bytes | None
    asked: int
    """The visit of the parent that asked for it."""
    turn: int = 0
    status: Status = Status.READY
    waiting: Waiting | None = None
    due_at: int | None = None
    owner: str | None = None
    lease_until: int | None = None
    epoch: int = 0
    seq: int = 0
    attempts: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    """Calls by step."""
    reserved: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """(meter, amount) by the call's digest."""

    def stands(self, status: Status, due_at: int | None = None, waiting: Waiting | None = None) -> None:
        """Nobody holds it; nothing stays reserved for it."""
        self.status, self.due_at, self.waiting = status, due_at, waiting
        self.owner = self.lease_until = None
        self.reserved.clear()

    def row(self) -> tuple[object, ...]:
        place = (self.machine, self.queue, self.priority, self.turn)
        held = (self.status, self.waiting, self.due_at, self.owner, self.lease_until)
        return (*place, *held, self.epoch, self.seq, self.attempts, sorted(self.reserved.items()))

    def urgency(self, now: int) -> Key | None:
        """Sorts what is taken first; None if it may not be taken."""
        match self.status:
            case Status.RUNNING if self.lease_until is not None and self.lease_until <= now:
                return (0, self.lease_until)
            case Status.WAITING if self.due_at is not None and self.due_at <= now:
                return (1, self.due_at)
            case Status.READY:
                return (2, -self.priority, self.turn)
            case _:
                return None


@dataclass
class FleetWorld:
    """All runs and meters."""

    names: dict[int, str]
    """Machines by their numbers."""
    runs: dict[bytes, Expected] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    # --- starts and ends ---------------------------------------------------------------------------------------------

    def started(self, write: Start, answer: object, *, exact: bool) -> None:
        if write.parent is not None and self.runs[write.parent].status.closed:
            assert isinstance(answer, Fenced), answer
            return
        assert answer == write.transition.run_id, answer
        asked = -1 if write.key is None else int(write.key.removeprefix("child:").partition(".")[0])
        run = Expected(write.transition.machine, write.queue, write.priority, write.parent, asked)
        run.stands(write.head.status, write.head.due_at, write.head.waiting_for)
        level = [each for each in self.runs.values() if (each.queue, each.priority) == (write.queue, write.priority)]
        ready, turns = [each.turn for each in level if each.status is Status.READY], [each.turn for each in level]
        time = min(ready, default=max(turns, default=0))
        run.turn = time if run.status is Status.WAITING else max(time, max(turns, default=-UNIT) + UNIT)
        self.runs[write.transition.run_id] = run

    def below(self, run_id: bytes) -> Iterator[bytes]:
        for each, run in self.runs.items():
            if run.parent == run_id and not run.status.closed:
                yield from chain([each], self.below(each))

    def end(self, run_id: bytes, status: Status, at: int) -> None:
        """The end of a run wakes its parent and ends what is below it."""
        below, run = list(self.below(run_id)), self.runs[run_id]
        run.stands(status)
        parent = None if run.parent is None else self.runs[run.parent]
        if parent is not None:
            self.wake(parent, at)
        for each in below:
            self.runs[each].stands(Status.CANCELLED)
            self.runs[each].epoch += 1

    @staticmethod
    def wake(run: Expected, at: int) -> None:
        if run.status is Status.WAITING and (run.due_at is None or run.due_at > at):
            run.due_at = at

    def cancelled(self, write: Cancel, answer: object, *, exact: bool) -> None:
        run = self.runs[write.run_id]
        if run.status.closed:
            assert isinstance(answer, RunClosed), answer
            return
        assert answer is None, answer
        self.end(write.run_id, Status.CANCELLED, write.at)
        run.epoch += 1

    def dropped(self, write: Drop, answer: object, *, exact: bool) -> None:
        run = self.runs[write.run_id]
        if run.status is not Status.DEAD:
            assert isinstance(answer, NotDead), answer
            return
        assert answer is None, answer
        self.end(write.run_id, Status.CANCELLED, write.at)
        run.epoch += 1

    def redriven(self, write: Redrive, answer: object, *, exact: bool) -> None:
        run = self.runs[write.run_id]
        parent = None if run.parent is None else self.runs[run.parent]
        if (run.status, run.epoch, run.seq) != (Status.DEAD, write.epoch, write.seq):
            assert isinstance(answer, NotDead), answer
        elif parent is not None and (parent.status.closed or parent.status is Status.RUNNING or parent.seq != run.asked):
            assert isinstance(answer, Gone), answer
        else:
            assert answer is None, answer
            run.stands(Status.READY, write.at)
            run.attempts = 0
            run.calls[run.seq] = run.calls.get(run.seq, 0) + 1

    # --- hands -------------------------------------------------------------------------------------------------------

    def claimed(self, write: Claim, answer: object, *, exact: bool) -> None:
        run = self.runs[write.run_id]
        live = run.status is Status.RUNNING and run.lease_until is not None and run.lease_until > write.now
        if run.status.closed:
            assert isinstance(answer, RunClosed), answer
        elif live and run.epoch != write.epoch:
            assert isinstance(answer, RunHeld), answer
        else:
            self.take(run, write, answer)

    def take(self, run: Expected, write: Claim | ClaimDue, answer: object) -> None:
        before = run.owner
        run.stands(Status.RUNNING)
        run.owner, run.lease_until, run.epoch, run.attempts = write.owner, write.lease_until, run.epoch + 1, run.attempts + 1
        assert isinstance(answer, RunRecord), answer
        found = (answer.status, answer.epoch, answer.seq, answer.attempts, answer.taken_from)
        assert found == (Status.RUNNING, run.epoch, run.seq, run.attempts, before), answer

    def claimed_due(self, write: ClaimDue, answer: object, *, exact: bool) -> None:
        """With `exact` nothing that is due may be passed over, as it may while others hold it."""
        assert isinstance(answer, list), answer
        assert {bytes.fromhex(record.id) for record in answer} <= self.runs.keys(), "it was not started yet"
        taken = [self.runs[bytes.fromhex(record.id)] for record in answer]
        keys = [run.urgency(write.now) for run in taken]
        assert len({record.id for record in answer}) == len(answer) <= write.limit
        assert None not in keys, "what is not due was taken"
        assert all(run.queue in write.queues and run.machine in write.machines for run in taken)
        assert keys == sorted(key for key in keys if key is not None)
        if exact:
            assert keys == self._greedy(write)
        left = self._room(write)
        for key, run, record in zip(keys, taken, answer, strict=True):
            assert key is not None
            if key[0] > 0 and (name := self.names[run.machine]) in left:
                assert left[name] > 0, f"too many runs of {name}"
                left[name] -= 1
            self.take(run, write, record)

    def _room(self, write: ClaimDue) -> dict[str, int]:
        held = [self.names[run.machine] for run in self.runs.values() if run.status is Status.RUNNING]
        return {name: most - held.count(name) for name, most in write.limits}

    def _greedy(self, write: ClaimDue) -> list[Key]:
        """The most urgent runs, as far as there is room for their machines."""
        able = (run for run in self.runs.values() if run.queue in write.queues and run.machine in write.machines)
        ripe = sorted((key, self.names[run.machine]) for run in able if (key := run.urgency(write.now)) is not None)
        left, found = self._room(write), list[Key]()
        for key, name in ripe:
            if key[0] > 0 and name in left:
                if left[name] <= 0:
                    continue
                left[name] -= 1
            found.append(key)
        return found[: write.limit]

    def released(self, write: Release, answer: object, *, exact: bool) -> None:
        held = [run for run in self.runs.values() if run.owner == write.owner]
        assert answer == len(held), answer
        for run in held:
            self.hand_back(run, write.at)

    @staticmethod
    def hand_back(run: Expected, at: int) -> None:
        run.stands(Status.READY, at)
        run.attempts = max(0, run.attempts - 1)

    def renewed(self, write: Renew, answer: object, *, exact: bool) -> None:
        lost: list[bytes] = []
        for run_id, epoch in write.held:
            run = self.runs[run_id]
            if run.status is Status.RUNNING and run.epoch == epoch:
                run.lease_until = write.lease_until
            else:
                lost.append(run_id)
        assert isinstance(answer, list), answer
        assert sorted(answer) == sorted(lost)

    # --- what a holder writes ----------------------------------------------------------------------------------------

    def holds(self, run_id: bytes, epoch: int, seq: int, answer: object) -> Expected | None:
        """The run if it is held so; then the write must have been accepted, else refused."""
        run = self.runs[run_id]
        if (run.status, run.epoch, run.seq) == (Status.RUNNING, epoch, seq):
            assert not isinstance(answer, Exception), answer
            return run
        assert isinstance(answer, Fenced), answer
        return None

    def moved(self, run_id: bytes, run: Expected, head: Head | None, at: int) -> None:
        run.seq, run.attempts = run.seq + 1, 0
        if head is not None:
            self.end(run_id, head.status, at)

    def parked(self, run_id: bytes, run: Expected, head: Head, at: int, children: tuple[bytes, ...]) -> None:
        if head.status is Status.DEAD:
            self.end(run_id, Status.DEAD, at)
        elif head.status is Status.READY:
            self.hand_back(run, at)
        else:
            run.stands(Status.WAITING, head.due_at, head.waiting_for)
            run.attempts = 0
            if any(self.runs[child].status.closed for child in children):
                self.wake(run, at)

    def reserve(self, run: Expected, digest: bytes, amount: Amount, answer: object) -> None:
        others = [each for held in self.runs.values() for key, each in held.reserved.items() if (held, key) != (run, digest)]
        taken = sum(many for meter, many in others if meter == amount.meter) + self.used.get(amount.meter, 0)
        fits = taken + amount.amount <= amount.limit
        assert answer == Reserved(None if fits else amount, {amount.meter: self.used.get(amount.meter, 0)}), (answer, taken)
        if fits:
            run.reserved[digest] = (amount.meter, amount.amount)

    def charge(self, run: Expected, digest: bytes, charges: Any) -> None:
        run.reserved.pop(digest, None)
        for each in charges:
            self.used[each.meter] = self.used.get(each.meter, 0) + each.amount
