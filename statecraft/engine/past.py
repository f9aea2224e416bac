"""The data of a run as it was after any of its steps, folded from its history."""

from __future__ import annotations

import json

from statecraft.engine.held import MIGRATED, fold, folded
from statecraft.engine.migrating import Bring
from statecraft.errors import NotFound, VersionMismatch
from statecraft.machine.data import Data
from statecraft.machine.definition import Definition
from statecraft.store import port


async def data_at(store: port.Store, definition: Definition, run_id: bytes, at: int | None, bring: Bring) -> Data:
    """The data after step `at` (None: the last one). Of a run of an older definition, what its migration would make of it.

    Raises `NotFound` for no such step, and `VersionMismatch` for one that another definition made: its data has another type.
    """
    run = await store.run(run_id)
    history = await store.history(run_id)
    if at is not None and not 0 <= at < len(history):
        raise NotFound(f"run {run.id} has steps 0 to {len(history) - 1}, not {at}")
    migrated = max((move.seq for move in history if move.event == MIGRATED), default=0)
    older = run.fingerprint != definition.fingerprint
    if at is not None and (at < migrated or (older and at < len(history) - 1)):
        raise VersionMismatch(
            f"step {at} of run {run.id} was made by another version of {run.machine}, whose data this one cannot show; "
            f"the journal has its payload (`statecraft show`)"
        )
    if older:
        return fold(definition, (await bring(await store.load(run_id))).loaded)
    moves = [(move.event, json.dumps(dict(move.payload))) for move in history[1 : None if at is None else at + 1]]
    return folded(definition, json.dumps(dict(history[0].payload)), moves)
