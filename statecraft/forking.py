"""Time travel: a run as it was, forked from there, compared with another, and proven. `Runtime` adds the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from statecraft import trace
from statecraft.engine import forks
from statecraft.engine.contrast import Contrast, Side, contrast
from statecraft.engine.held import MIGRATED
from statecraft.engine.history import Past, fingerprint_at, past
from statecraft.engine.proof import prove
from statecraft.engine.versions import difference
from statecraft.errors import ConfigError, NotFound, VersionMismatch, WriteRefused
from statecraft.ids import Ids
from statecraft.looking import Looking, raw_id
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.records import CallRecord, Json, RunRecord, TransitionRecord
from statecraft.store import port


class Forking(Looking):
    """Runs as they were, and what can be made of that."""

    _ids: Ids

    async def at(self, run_id: str, step: int | None = None) -> Past:
        """The run right after one of its steps (default: the last): state, data, visits, and what it had cost.

        What another definition wrote, and the code at hand cannot fold, is answered as it was written: `data` is None, `raw`
        has the JSON and `problem` says why. Raises `NotFound`.
        """
        run = await self._store.run(raw_id(run_id))
        return await self._past(run, await self._history(run, step), await self._store.calls(raw_id(run_id)))

    async def fork(
        self,
        run_id: str,
        *,
        at: int,
        data: Data | Mapping[str, Json] | None = None,
        key: str | None = None,
        by: str = "",
        note: str = "",
        detach: bool = False,
    ) -> RunRecord:
        """Start a new run that shares the history of a run up to step `at`, and advance it in the background.

        It stands in the state after that step, at the beginning of the visit: calls of ended visits are part of its record
        and are not made again; those of the visit that follows are. `data` changes the data it begins with: the whole, or
        some fields. Bounds and its own budgets continue as at that step; deadline and other time count from now. `detach`
        only records it. With a `key`, forking again answers the same fork.

        Raises `NotFound` (no such run or step), `RunClosed` (the step is an end), `VersionMismatch` (its definition is not
        at hand), `InvalidPayload` (the data does not fit), `KeyConflict` or `ConfigError` (a bad key); nothing was written
        then.
        """
        raw = raw_id(run_id)
        run = await self._store.run(raw)
        history = await self._store.history(raw)
        forks.check(run, history, at)
        definition = await self._definition_at(run, history, at)
        await self._register(definition)
        wish = forks.Wish(at, data, key, by, note)
        write = forks.prepare(self._clock, self._ids, definition, history, wish, self.settings.share_of(run.tenant))
        made = await self._forked(write)
        if not detach and self.settings.take != "none":
            self._worker.look_after(bytes.fromhex(made.id))
        return made

    async def _forked(self, write: port.Fork) -> RunRecord:
        try:
            found = cast(bytes, await self._store.submit(write))
        except WriteRefused:
            # Two may write the same key at the same moment; the second look finds the fork of the first.
            found = cast(bytes, await self._store.submit(write))
        fork = await self._store.run(found)
        if found != write.run_id:
            forks.same(fork, await self._store.history(found), write)
        else:
            trace.emit(
                "run.forked", {"run_id": fork.id, "machine_name": fork.machine, "from": write.source.hex(), "by": write.by}
            )
        return fork

    async def rewind(
        self,
        run_id: str,
        to: int | str,
        *,
        data: Data | Mapping[str, Json] | None = None,
        key: str | None = None,
        by: str = "",
        note: str = "",
        detach: bool = False,
    ) -> RunRecord:
        """Fork a run where it entered a state the last time, or at a step. The run itself stays as it is.

        Raises what `fork` raises, and `NotFound` if it never was in that state.
        """
        at = to if isinstance(to, int) else await self.last_visit(run_id, to)
        return await self.fork(run_id, at=at, data=data, key=key, by=by, note=note, detach=detach)

    async def last_visit(self, run_id: str, state: str) -> int:
        """The step by which a run entered a state the last time. Raises `NotFound` if it never did."""
        history = await self._store.history(raw_id(run_id))
        found = [move.seq for move in history if move.target == state]
        if not found:
            known = ", ".join(dict.fromkeys(move.target for move in history))
            raise NotFound(f"run {run_id} never was in {state!r}; it was in {known}")
        return found[-1]

    async def diff(self, one: str, other: str) -> Contrast:
        """Compare two runs, or two steps of runs: each is a run's id, with `:STEP` behind it for the run as it was then.

        Tells the first move that differs, the fields of the data that differ, the calls that differ, and what each cost.
        Raises `NotFound`, or `ConfigError` for what names no step.
        """
        return contrast(*[await self._side(text) for text in (one, other)])

    async def _side(self, text: str) -> Side:
        run_id, colon, step = text.partition(":")
        if colon and not step.isdecimal():
            raise ConfigError(f"{text!r} names no step: write RUN or RUN:STEP, such as {run_id}:3")
        run = await self._store.run(raw_id(run_id))
        moves = await self._history(run, int(step) if colon else None)
        calls = await self._store.calls(raw_id(run_id))
        seen = moves[-1].seq + (not colon)  # The run may have made more moves since they were read.
        upto = [call for call in calls if call.seq < seen]
        return Side(await self._past(run, moves, upto), moves, upto)

    async def verify(self, run_id: str) -> list[str]:
        """What is wrong with the stored history, the first bad row of each sort first; empty if all holds.

        Every hash is computed again. If this runtime has the definition that wrote the run, its states, data and guards are
        worked out again too, from the payloads.
        """
        raw = raw_id(run_id)
        problems = await self._store.verify(raw)
        if problems or (await self._store.run(raw)).fingerprint not in self._numbers:
            return problems
        loaded = await self._store.load(raw)  # One view of the run: it may have made more moves, or make them now.
        number = self._numbers.get(loaded.run.fingerprint)
        history = (await self._store.history(raw))[: loaded.run.seq + 1]
        return [] if number is None else prove(self._running[number], loaded.run, history, loaded)

    # --- what they share ----------------------------------------------------------------------------------------------

    async def _history(self, run: RunRecord, step: int | None) -> Sequence[TransitionRecord]:
        """The moves up to a step. Raises `NotFound`."""
        history = await self._store.history(raw_id(run.id))
        if step is None:
            return history
        forks.check(run, history, step)
        return history[: step + 1]

    async def _past(self, run: RunRecord, moves: Sequence[TransitionRecord], calls: Sequence[CallRecord]) -> Past:
        whole = await self._store.history(raw_id(run.id))
        try:
            return past(await self._definition_at(run, whole, moves[-1].seq), "", moves, calls)
        except NotFound:
            return past(None, f"no machine {run.machine!r} is at hand, so its data are told as they were written", moves, calls)
        except VersionMismatch as error:
            return past(self._named(run.machine), str(error), moves, calls)

    async def _definition_at(self, run: RunRecord, history: Sequence[TransitionRecord], step: int) -> Definition:
        """The definition under which the run stood after a step. Raises `VersionMismatch` or `NotFound`."""
        fingerprint = fingerprint_at(run, history, step)
        number = self._numbers.get(fingerprint)
        if number is not None:
            return self._running[number]
        ours, theirs = self._named(run.machine), await self._store.spec(fingerprint)
        later = ", or at a step after the run's migration" if any(move.event == MIGRATED for move in history) else ""
        raise VersionMismatch(
            f"run {run.id} was at step {step} under {run.machine} version {theirs.version} ({fingerprint[:12]}), which differs "
            f"from the one at hand (version {ours.version}): {difference(theirs.spec, ours.spec)}. Do it with the code of that "
            f"version{later}"
        )
