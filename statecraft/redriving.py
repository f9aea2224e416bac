"""What can be done to dead runs: look at their letters, let them go on, give them up. `Runtime` adds the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from statecraft import trace
from statecraft.engine import redrive as dead
from statecraft.engine.redrive import Wish
from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError, NotFound, Refused
from statecraft.letters import DeadFilter, DeadLetter, DeadPattern, Redriven, Redrives
from statecraft.looking import Looking, raw_id
from statecraft.machine.event import OperatorEvent
from statecraft.records import RunRecord, Status
from statecraft.store import port


class Redriving(Looking):
    """The dead letters of a runtime."""

    settings: Settings

    async def dead_letters(self, which: DeadFilter | None = None) -> list[DeadLetter]:
        """Runs that are dead now, the latest death first."""
        return await self._store.dead_letters(which or DeadFilter())

    async def dead_letter(self, run_id: str) -> DeadLetter:
        """The run's last death, also if it was redriven or dropped since. Raises `NotFound` if it never died."""
        found = await self._store.dead_letter(raw_id(run_id))
        if found is None:
            run = await self.get(run_id)
            raise NotFound(f"run {run.id} never died; it is {run.status} in {run.state}")
        return found

    async def dead_patterns(self, which: DeadFilter | None = None) -> list[DeadPattern]:
        """What the runs that are dead now have in common, the most frequent first. The filter's limit is not looked at."""
        return await self._store.dead_patterns(which or DeadFilter())

    async def redrive(
        self,
        run_id: str,
        *,
        by: str,
        note: str = "",
        event: OperatorEvent | None = None,
        deadline: timedelta | None = None,
        steps: int | None = None,
    ) -> RunRecord:
        """Let a dead run go on in the background, in the name of `by`.

        Without an `event` it tries the visit that died again: what succeeded answers from the journal, the call that
        failed is made again, and the visit's time begins anew. With one it makes a move by a row that its machine
        declares for operators. `deadline` is its new deadline from now on; `steps` is how many steps it may make from here.

        Raises `NotFound`, `NotDead`, `WouldDieAgain` (which says what it needs), `Gone` (a child run nobody waits for),
        `IllegalEvent`, `InvalidPayload` or `VersionMismatch`; nothing was written then.
        """
        return await self._redrive(run_id, Wish(by, note, event, deadline, steps))

    async def _redrive(self, run_id: str, wish: Wish) -> RunRecord:
        raw = raw_id(run_id)
        definition = await self._definition_of(await self._store.run(raw))
        status = await dead.redrive(self._store, self._clock, definition, raw, wish, self._bring)
        if status.closed:
            await self._worker.ended(raw)
        elif self.settings.take != "none":
            self._worker.look_after(raw)
        self._worker.signal(raw)
        return await self._store.run(raw)

    async def redrive_all(
        self,
        which: DeadFilter | None = None,
        *,
        by: str,
        note: str = "",
        event: OperatorEvent | None = None,
        deadline: timedelta | None = None,
        steps: int | None = None,
        limit: int = 100,
        dry_run: bool = True,
    ) -> Redrives:
        """Redrive the dead letters that fit, the latest first and at most `limit`, each in a write of its own.

        As long as `dry_run` holds nothing is done: the answer says what would be, and why not for some.
        """
        if limit < 1:
            raise ConfigError(f"redrive_all(limit=...) is at least 1, not {limit}")
        which, wish = replace(which or DeadFilter(), limit=limit), Wish(by, note, event, deadline, steps)
        patterns = await self._store.dead_patterns(which)
        letters = await self._store.dead_letters(which)
        runs = [await self._one_of_many(letter, wish, dry_run=dry_run) for letter in letters]
        return Redrives(dry_run, sum(each.count for each in patterns), tuple(patterns), tuple(runs))

    async def _one_of_many(self, letter: DeadLetter, wish: Wish, *, dry_run: bool) -> Redriven:
        told = Redriven(letter.run_id, letter.machine, letter.state)
        try:
            if dry_run:
                raw = raw_id(letter.run_id)
                definition = await self._definition_of(await self._store.run(raw))
                await dead.prepare(self._store, self._clock, definition, raw, wish, self._bring)
            else:
                await self._redrive(letter.run_id, wish)
        except (Refused, NotFound) as refusal:
            return replace(told, refused=str(refusal))
        return told

    async def drop(self, run_id: str, *, by: str, note: str) -> RunRecord:
        """Give a dead run up for good, in the name of `by`: it ends as cancelled and stays readable.

        Raises `NotDead` or `NotFound`.
        """
        raw = raw_id(run_id)
        await self._store.submit(port.Drop(raw, self._clock.now(), by, note))
        self._worker.forget(raw)
        trace.emit("run.cancelled", {"run_id": run_id, "by": by})
        run = await self._store.run(raw)
        assert run.status is Status.CANCELLED
        return run
