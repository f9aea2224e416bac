"""What calls really did to the outside, kept where no process can lose it: every perform of a model or a tool, in order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from statecraft.calls.call import Call, Next, Reply
from statecraft.engine.step import Engine
from statecraft.ids import idempotency_key
from statecraft.runtime import Runtime

Identity = tuple[str, int, str, int]
"""Which call of which visit: run, step, digest, occurrence."""
Performing = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Perform:
    """One attempt that reached the outside."""

    life: int
    """Number of the process that made it, from 0."""
    call: Identity
    kind: str
    name: str
    key: str
    attempt: int

    @property
    def once_more(self) -> tuple[Identity, int]:
        """What is equal for the same attempt of the same call, whoever makes it."""
        return self.call, self.attempt


class Ledger:
    """Written by each life, read by whoever judges it. With a `file`, lines of it survive a SIGKILL."""

    def __init__(self, file: Path | None = None) -> None:
        self.life = 0
        self.performs: list[Perform] = []
        self.results: dict[str, str] = {}
        """By idempotency key, what an attempt that came to its end brought, as JSON."""
        self.said: dict[tuple[Identity, int], Reply | Exception] = {}
        """What the model answered: asked the same once more, because a crash lost it, it says the same again."""
        self._file = file

    def begin(self, perform: Perform) -> None:
        """An attempt sets out."""
        self.performs.append(perform)
        self._write(["begin", *dataclasses.astuple(perform)])

    def finish(self, key: str, result: str) -> None:
        """It came back."""
        self.results[key] = result
        self._write(["finish", key, result])

    def read(self) -> None:
        """Take over what other processes wrote."""
        if self._file is None or not self._file.exists():
            return
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        begun = [line[1:] for line in lines if line[0] == "begin"]
        self.performs = [Perform(life, (call[0], call[1], call[2], call[3]), *rest) for life, call, *rest in begun]
        self.results = {line[1]: line[2] for line in lines if line[0] == "finish"}

    def _write(self, line: list[Any]) -> None:
        if self._file is None:
            return
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(handle)


class WatchedRuntime(Runtime):
    """A runtime whose calls are written into a ledger when they reach the outside."""

    def __init__(self, *args: Any, ledger: Ledger, **options: Any) -> None:
        super().__init__(*args, **options)
        self._services = replace(self._services, stack=watched(self._services.stack, ledger))
        self._engine = self._worker.engine = Engine(self._store, self._clock, self._services)

    def look_after(self, run_id: str) -> None:
        """Take this run as soon as it is due."""
        self._look_after(bytes.fromhex(run_id))


def watched(stack: Next, ledger: Ledger) -> Next:
    """The call stack, with the ledger as the last thing before the outside."""

    async def through(call: Call) -> Reply:
        action = call.action
        if action is not None:
            perform = action.perform
            action = replace(action, perform=lambda arguments: _watch(perform(arguments), ledger))
        return await stack(replace(call, perform=_watch(call.perform, ledger), action=action))

    return through


def _watch(perform: Performing, ledger: Ledger) -> Performing:
    async def performed(call: Call) -> Reply:
        if call.kind == "random":
            return Reply(repr(_steady(call)))
        if call.kind not in ("llm", "tool"):
            return await perform(call)
        attempt = Perform(ledger.life, identity(call), call.kind, call.name, call.key, call.attempt)
        ledger.begin(attempt)
        reply = await (_said(perform, call, attempt, ledger) if call.kind == "llm" else perform(call))
        ledger.finish(call.key, reply.result)
        return reply

    return performed


async def _said(perform: Performing, call: Call, attempt: Perform, ledger: Ledger) -> Reply:
    if attempt.once_more not in ledger.said:
        try:
            ledger.said[attempt.once_more] = await perform(call)
        except Exception as error:
            ledger.said[attempt.once_more] = error
            raise
    said = ledger.said[attempt.once_more]
    if isinstance(said, Exception):
        raise said
    return said


def _steady(call: Call) -> float:
    """A number in [0, 1) that is drawn alike in every life."""
    drawn = hashlib.sha256(b"%d/%s/%d" % (call.visit.seq, call.digest, call.occurrence)).digest()
    return int.from_bytes(drawn[:6], "big") / 2**48


def identity(call: Call) -> Identity:
    """Which call it is."""
    return call.visit.run_id.hex(), call.visit.seq, call.digest.hex(), call.occurrence


def key_of(call: Identity) -> str:
    """The idempotency key of a call whose arguments nobody changed."""
    run, seq, digest, occurrence = call
    return idempotency_key(bytes.fromhex(run), seq, bytes.fromhex(digest), occurrence)
