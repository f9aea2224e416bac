"""The lease protocol as a small world in which everything that may happen does happen, in every order.

One run of `STEPS` visits with one call each. Three executions work on it: the first two belong to the same process (one
that claims again what it forgot it was still working on), the third to another. Between any two actions anything may come:
an execution dies, a lease ends although its holder lives (a pause, a lost network: the holder goes on later as if nothing
had happened), a person cancels, the run parks and is woken.

The actions and what they ask of the database are those of `statecraft.store.port`: `Claim` raises the epoch; `Call`, `Move`
and `Park` are refused unless the run is running under the writer's epoch and stands at the writer's step. Which of these
conditions are asked is the `Fence`, so that weaker ones can be shown to be too weak.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

STEPS = 2
"""Moves from the start to the end."""
OWNERS = ("here", "here", "there")
"""The process of each execution."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What one execution believes; it does not learn what happens in the database but by its writes."""

    epoch: int
    step: int
    recalled: bool
    """Whether the call of this visit is known to be recorded."""
    called: bool = False
    """Whether it made the call itself, and has not written it down yet."""


@dataclass(frozen=True, slots=True)
class World:
    """The database, the executions, and what may still go wrong."""

    journal: tuple[int, ...] = ()
    """The epoch of each move."""
    calls: tuple[tuple[int, int], ...] = ()
    """(step, epoch) of each recorded call."""
    status: str = "ready"
    holder: int | None = None
    lapsed: bool = False
    """Whether the lease has ended; until somebody claims the run, its holder may still write, or renew."""
    epoch: int = 0
    executions: tuple[Execution | None, ...] = (None,) * len(OWNERS)
    effects: tuple[int, ...] = (0,) * STEPS
    repeated: int = 0
    """Effects of a call that was recorded before the execution had claimed the run."""
    ends: int = 0
    """How often an end was accepted."""
    deaths: int = 1
    expiries: int = 2
    parks: int = 1
    cancels: int = 1

    def with_execution(self, number: int, execution: Execution | None) -> World:
        """The same world with one execution changed."""
        return replace(self, executions=tuple(execution if at == number else each for at, each in enumerate(self.executions)))


Fence = Callable[[World, int, Execution], bool]
"""Whether the database accepts a write of this execution."""


def _by_epoch(world: World, _: int, mine: Execution) -> bool:
    return world.status == "running" and world.epoch == mine.epoch


def _by_step(world: World, _: int, mine: Execution) -> bool:
    return len(world.journal) == mine.step


FENCES: dict[str, Fence] = {
    "epoch and step": lambda world, number, mine: _by_epoch(world, number, mine) and _by_step(world, number, mine),
    "epoch": _by_epoch,
    "owner": lambda world, number, _: world.holder is not None and OWNERS[world.holder] == OWNERS[number],
    "status": lambda world, _number, _mine: world.status == "running",
}
"""The one that is used, and what it is compared with: fencing by the name of the owner, and hardly any fencing."""


def steps(world: World, accepts: Fence) -> Iterator[tuple[str, World]]:
    """Everything that may happen next."""
    for number, mine in enumerate(world.executions):
        if mine is None:
            if world.status in ("ready", "waiting") or world.lapsed:
                yield f"{number} claims", _claimed(world, number)
        else:
            yield from _acts(world, number, mine, accepts)
    if world.status == "running" and not world.lapsed:
        dead = world.holder is not None and world.executions[world.holder] is None
        if world.expiries or dead:
            yield "the lease ends", replace(world, lapsed=True, expiries=world.expiries if dead else world.expiries - 1)
    if world.cancels and world.status in ("ready", "running", "waiting"):
        yield "cancelled", _ended(replace(world, cancels=world.cancels - 1, epoch=world.epoch + 1), "cancelled")


def _claimed(world: World, number: int) -> World:
    step = len(world.journal)
    recalled = any(at == step for at, _ in world.calls)
    taken = replace(world, status="running", holder=number, lapsed=False, epoch=world.epoch + 1)
    return taken.with_execution(number, Execution(world.epoch + 1, step, recalled))


def _acts(world: World, number: int, mine: Execution, accepts: Fence) -> Iterator[tuple[str, World]]:
    if world.deaths:
        yield f"{number} dies", replace(world, deaths=world.deaths - 1).with_execution(number, None)
    gone = world.with_execution(number, None)
    if world.lapsed and accepts(world, number, mine):
        yield f"{number} renews", replace(world, lapsed=False)
    if not mine.recalled and not mine.called:
        effects = tuple(count + (at == mine.step) for at, count in enumerate(world.effects))
        known = any(at == mine.step and epoch < mine.epoch for at, epoch in world.calls)
        made = replace(world, effects=effects, repeated=world.repeated + known)
        yield f"{number} calls", made.with_execution(number, replace(mine, called=True))
        return
    if not accepts(world, number, mine):
        yield f"{number} is refused", gone
        return
    if mine.called:
        kept = replace(world, calls=(*world.calls, (mine.step, mine.epoch)))
        yield f"{number} records", kept.with_execution(number, replace(mine, called=False, recalled=True))
        return
    moved = replace(world, journal=(*world.journal, mine.epoch))
    if mine.step + 1 == STEPS:
        yield f"{number} ends it", _ended(moved, "done").with_execution(number, None)
    else:
        yield f"{number} moves", moved.with_execution(number, Execution(mine.epoch, mine.step + 1, recalled=False))
    if world.parks:
        yield f"{number} parks", replace(gone, status="waiting", holder=None, lapsed=False, parks=world.parks - 1)


def _ended(world: World, status: str) -> World:
    return replace(world, status=status, holder=None, lapsed=False, ends=world.ends + 1)


WRONG: dict[str, Callable[[World], bool]] = {
    "it ended twice": lambda world: world.ends > 1,
    "an older holder wrote after a newer one": lambda world: any(
        older > newer for older, newer in zip(world.journal, world.journal[1:], strict=False)
    ),
    "it moved on after its end": lambda world: len(world.journal) > STEPS,
    "a call has two records": lambda world: len({at for at, _ in world.calls}) < len(world.calls),
    "a recorded call was made again by a later holder": lambda world: world.repeated > 0,
    "a move came without its call": lambda world: any(
        all(at != step for at, _ in world.calls) for step in range(min(len(world.journal), STEPS))
    ),
}
"""What must not be, in any world that can be reached."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the search saw."""

    states: int
    wrong: dict[str, list[str]]
    """What was wrong, with a shortest way there."""
    stranded: int
    """Worlds from which no end can be reached."""
    most_effects: int
    """The most often that one call was made."""


@cache
def explore(fence: str, *, to_the_end: bool = True) -> Findings:
    """Walk through every world that can be reached, breadth first; or only to the first one that is wrong."""
    accepts, first = FENCES[fence], World()
    came: dict[World, tuple[World, str] | None] = {first: None}
    before: dict[World, list[World]] = {}
    ends: list[World] = []
    wrong: dict[str, list[str]] = {}
    ahead = deque([first])
    while ahead:
        world = ahead.popleft()
        bad = [what for what, is_so in WRONG.items() if is_so(world)]
        for what in bad:
            wrong.setdefault(what, _way(came, world))
        if world.status in ("done", "cancelled"):
            ends.append(world)
        if bad and not to_the_end:
            break
        if bad:
            continue
        for name, after in steps(world, accepts):
            before.setdefault(after, []).append(world)
            if after not in came:
                came[after] = (world, name)
                ahead.append(after)
    return Findings(len(came), wrong, len(came) - len(_reaching(ends, before)), max(max(world.effects) for world in came))


def _way(came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    names: list[str] = []
    while (step := came[world]) is not None:
        world, name = step
        names.append(name)
    return names[::-1]


def _reaching(ends: list[World], before: dict[World, list[World]]) -> set[World]:
    seen, ahead = set(ends), deque(ends)
    while ahead:
        for world in before.get(ahead.popleft(), ()):
            if world not in seen:
                seen.add(world)
                ahead.append(world)
    return seen
