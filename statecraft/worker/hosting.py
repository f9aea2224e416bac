"""Which older definitions a worker takes up, because those at hand declare a migration from them, and the taking up.

What other releases of a machine registered is looked for while the worker runs, since they may still be started.
"""

from __future__ import annotations

from collections.abc import Mapping

from statecraft.clock import Clock
from statecraft.engine.migrating import Migrating, hosts, mismatch, prepare, write
from statecraft.machine.definition import Definition
from statecraft.records import RunRecord
from statecraft.store import port


class Hosting:
    """The definitions at hand, and the older ones whose runs they take up."""

    def __init__(self, store: port.Store, clock: Clock, definitions: Mapping[int, Definition], every: int) -> None:
        self._store, self._clock, self._definitions, self._every = store, clock, definitions, every
        self.older: dict[int, Definition] = {}
        """By the number of the older definition: the one that takes up its runs."""
        self._looked: tuple[int, int] | None = None
        """When, and for how many definitions at hand, the store was asked last."""

    async def machines(self) -> tuple[int, ...]:
        """Numbers of all definitions whose runs may be taken. Asks the store now and then, if there is a migration at all."""
        migrating = [each for each in self._definitions.values() if each.migrations]
        now, known = self._clock.now(), len(self._definitions)
        if migrating and (self._looked is None or self._looked[1] != known or now >= self._looked[0] + self._every):
            self._looked = (now, known)
            for version in await self._store.versions(sorted({each.name for each in migrating})):
                taker = self._taker(version.name, version.fingerprint, version.version)
                if version.number not in self._definitions and taker is not None:
                    self.older[version.number] = taker
        return (*self._definitions, *(number for number in self.older if number not in self._definitions))

    def _taker(self, name: str, fingerprint: str, version: str) -> Definition | None:
        same = (each for each in self._definitions.values() if each.name == name)
        return next((each for each in same if hosts(each, fingerprint, version)), None)

    def taker(self, run: RunRecord) -> Definition | None:
        """The definition at hand that takes the run up: its own, or one with a migration from there."""
        return self._taker(run.machine, run.fingerprint, run.version)

    async def prepared(self, loaded: port.Loaded, *, held: bool) -> tuple[Definition, Migrating]:
        """What would put an older run under a definition at hand. Raises `VersionMismatch`, `NotFound`."""
        definition = self.taker(loaded.run)
        if definition is None:
            theirs = await self._store.spec(loaded.run.fingerprint)
            ours = next(each for each in self._definitions.values() if each.name == loaded.run.machine)
            raise mismatch(loaded.run, theirs.spec, ours)
        number = next(number for number, each in self._definitions.items() if each is definition)
        return definition, await prepare(self._store, self._clock, definition, number, loaded, held=held)

    async def take_up(self, loaded: port.Loaded) -> tuple[Definition, port.Loaded]:
        """The definition of a run that is held, and the run under it: migrated now if it has an older one.

        Raises `VersionMismatch`, or `Fenced` if the run is not ours any more.
        """
        known = self._definitions.get(loaded.machine)
        if known is not None:
            return known, loaded
        definition, move = await self.prepared(loaded, held=True)
        await write(self._store, move)
        return definition, move.loaded
