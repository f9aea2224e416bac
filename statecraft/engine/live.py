"""Live progress: pieces of answers and reports of tools, told to whoever follows a run in this process, and kept nowhere.

Nothing depends on it: the record is written as if nobody listened, and a follower that is too slow loses its oldest
pieces, never the run's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from statecraft.calls.call import Call, Next, Reply
from statecraft.llm import port
from statecraft.records import Json

ROOM = 1024
"""Pieces that wait for a follower at most."""


@dataclass(frozen=True, slots=True)
class Live:
    """Something that goes on in a run right now. It is not part of the record, and comes once or not at all."""

    run_id: str
    kind: Literal["text", "tool", "progress", "restart"]
    """`text`: a piece of a model's answer. `tool`: a report of a tool. `progress`: a report of the handler. `restart`: the
    attempt behind the texts of this call failed; forget them."""
    state: str
    """The state being visited."""
    name: str = ""
    """The model or tool; empty for the handler."""
    text: str = ""
    fields: Mapping[str, Json] = field(default_factory=dict)
    seq: int = 0
    """The visit: number of the transition that entered the state."""
    at: int = 0
    """When, in microseconds since 1970."""
    call: str = ""
    """Tells calls made side by side apart: the call's idempotency key. Empty for the handler."""
    lost: int = 0
    """How many pieces before this one the follower was too slow for."""


class Follower:
    """One who listens to one run. Belongs to the event loop it was made in; pieces may come from anywhere."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._pieces: deque[Live] = deque()
        self._lost = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.news = asyncio.Event()
        """Set when there is something to take, or when the record has grown."""
        self.recorded = False
        """Whether a call of the run was recorded since this was last unset: a reason to look at the feed."""

    def tell(self, piece: Live) -> None:
        """Put a piece into the queue; the oldest one makes room."""
        with self._lock:
            if len(self._pieces) >= self._room:
                self._pieces.popleft()
                self._lost += 1
            self._pieces.append(piece)
        self.wake()

    def take(self) -> list[Live]:
        """What has come since the last time. The first piece says how many were lost before it."""
        with self._lock:
            taken, lost = list(self._pieces), self._lost
            self._pieces.clear()
            self._lost = 0
        if taken and lost:
            taken[0] = replace(taken[0], lost=lost)
        return taken

    def wake(self) -> None:
        """Set `news`, from whichever thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.news.set()
        else:
            with contextlib.suppress(RuntimeError):  # The follower's loop is closed: nobody listens any more.
                self._loop.call_soon_threadsafe(self.news.set)


class Hub:
    """Where live pieces of a runtime's runs go. Costs a look into an empty dictionary when nobody follows."""

    def __init__(self) -> None:
        self._followers: dict[str, tuple[Follower, ...]] = {}

    @property
    def busy(self) -> bool:
        """Whether anybody follows anything."""
        return bool(self._followers)

    def followed(self, run_id: str) -> bool:
        """Whether anybody follows this run."""
        return run_id in self._followers

    def publish(self, run_id: str, piece: Live) -> None:
        """Tell a piece to all who follow the run. Never waits, never raises."""
        for follower in self._followers.get(run_id, ()):
            follower.tell(piece)

    def recorded(self, run_id: str) -> None:
        """Tell all who follow the run that its record has grown."""
        for follower in self._followers.get(run_id, ()):
            follower.recorded = True
            follower.wake()

    @contextlib.contextmanager
    def follow(self, run_id: str, room: int = ROOM) -> Iterator[Follower]:
        """Listen to a run; pieces of before are not told."""
        follower = Follower(room)
        self._followers[run_id] = (*self._followers.get(run_id, ()), follower)
        try:
            yield follower
        finally:
            left = tuple(one for one in self._followers[run_id] if one is not follower)
            if left:
                self._followers[run_id] = left
            else:
                del self._followers[run_id]


def announcing(stack: Next, hub: Hub) -> Next:
    """The call stack, such that followers learn at once of every call that was recorded, well or badly."""

    async def announced(call: Call) -> Reply:
        try:
            return await stack(call)
        finally:
            if hub.busy:
                hub.recorded(call.visit.run_id.hex())

    return announced


def piece(
    call: Call, state: str, kind: Literal["text", "tool", "restart"], text: str, fields: Mapping[str, Json] | None = None
) -> Live:
    """A piece about a call."""
    visit = call.visit
    at = visit.clock.now()
    return Live(visit.run_id.hex(), kind, state, call.name, text, fields or {}, visit.seq, at, call.key)


async def complete(hub: Hub, llm: port.LLM, request: port.Request, call: Call, state: str) -> port.Reply:
    """One attempt at a model. If somebody follows the run and the model can be heard, they hear it."""
    run_id = call.visit.run_id.hex()
    if not hub.followed(run_id) or not isinstance(llm, port.StreamingLLM):
        return await llm.complete(request)
    told = False

    def heard(text: str) -> None:
        nonlocal told
        told = True
        hub.publish(run_id, piece(call, state, "text", text))

    try:
        return await llm.stream(request, heard)
    except BaseException:  # A deadline comes as a cancellation.
        if told:
            hub.publish(run_id, piece(call, state, "restart", ""))
        raise
