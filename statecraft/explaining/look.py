"""`Runtime.explain`: reads what the database has about a run, and puts the explanation together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from statecraft.clock import instant, stamp
from statecraft.engine.history import REWRITTEN
from statecraft.errors import NotFound
from statecraft.explaining.calling import Bounds, calls_of, redrives_of
from statecraft.explaining.deciding import decider
from statecraft.explaining.facts import BudgetUse, ExplainedStep, Explanation
from statecraft.explaining.past import Stored, definitions, folded, visit_numbers
from statecraft.explaining.standstill import Scene, standstill
from statecraft.explaining.table import rows_of
from statecraft.explaining.today import asked
from statecraft.looking import Looking, raw_id
from statecraft.machine.definition import Definition
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    Json,
    ReviewRecord,
    RunFilter,
    RunRecord,
    TransitionRecord,
)

MOST_CHILDREN = 100
"""Child runs that are looked at for what a run waits for."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the database has about a run."""

    run: RunRecord
    history: Sequence[TransitionRecord]
    calls: Mapping[int, Sequence[CallRecord]]
    """By visit; attempts and reviews too."""
    attempts: Mapping[int, Sequence[AttemptRecord]]
    reviews: Mapping[int, Sequence[ReviewRecord]]
    under: Sequence[Stored]
    """The definition of each visit."""
    data: Sequence[Mapping[str, Json]]
    """After each move."""
    visits: Sequence[int]
    now: int


class Explaining(Looking):
    """The half of a runtime that says why."""

    async def explain(self, run_id: str, step: int | None = None) -> Explanation:
        """Why the run went where it went, and why it stands where it stands; `step` explains one visit alone, by the number
        of the transition that entered it (0 is the start).

        It reads the record and the stored definition; the machine's code is not needed. If this runtime has it, its guards
        are asked again, for `AskedGuard.again`. Raises `NotFound` for a run or a step that does not exist.
        """
        record = await self._record(raw_id(run_id))
        if step is not None and not 0 <= step < len(record.history):
            raise NotFound(f"run {run_id} has steps 0 to {len(record.history) - 1}, not {step}")
        code = self._definitions.get(record.run.machine)
        steps = _steps(record, code)
        last = steps[-1]
        steps[-1] = replace(last, bounds=await self._measured(record.run, last.state, last.bounds))
        still = standstill(await self._scene(record, last))
        relation = "none" if code is None else "same" if code.fingerprint == record.run.fingerprint else "other"
        return Explanation(record.run, tuple(steps if step is None else steps[step : step + 1]), still, relation, step)

    async def _record(self, run_id: bytes) -> _Record:
        store = self._store
        run = await store.run(run_id)
        history = [move for move in await store.history(run_id) if move.seq <= run.seq]  # It may have made more moves since.
        under = await definitions(store, run.fingerprint, history)
        return _Record(
            run=run,
            history=history,
            calls=_by_visit(await store.calls(run_id)),
            attempts=_by_visit(await store.attempts(run_id)),
            reviews=_by_visit(await store.reviews(run_id)),
            under=under,
            data=folded(history, under),
            visits=visit_numbers(history),
            now=self._clock.now(),
        )

    async def _scene(self, record: _Record, last: ExplainedStep) -> Scene:
        run, raw = record.run, raw_id(record.run.id)
        diagnosis = await self._store.diagnosis(raw)
        children = await self._store.runs(RunFilter(parent=run.id, limit=MOST_CHILDREN))
        return Scene(
            run=run,
            now=instant(record.now),
            open_reviews=await self._store.reviews(raw, open_only=True),
            attempts=record.attempts.get(run.seq, ()),
            children=[child for child in reversed(children) if not child.status.closed],
            diagnosis=None if diagnosis is None else json.loads(diagnosis),
            rows=last.rows,
        )

    async def _measured(self, run: RunRecord, state: str, bounds: Sequence[BudgetUse]) -> tuple[BudgetUse, ...]:
        """The bounds as of now: by the meters, which know what child runs spent too."""
        meters = {
            f"{each.scope}:{run.id}{f':{state}' if each.scope == 'state' else ''}:{each.unit}": index
            for index, each in enumerate(bounds)
            if each.unit in ("tokens", "money", "calls")
        }
        found = list(bounds)
        used: Mapping[str, int] = await self._store.used(list(meters)) if meters else {}
        for meter, amount in used.items():
            each = found[meters[meter]]
            found[meters[meter]] = replace(each, used=max(each.used, amount), exact=True)
        return tuple(found)


def _steps(record: _Record, code: Definition | None) -> list[ExplainedStep]:
    bounds = Bounds()
    found: list[ExplainedStep] = []
    made = 0
    for index, entered in enumerate(record.history):
        left = record.history[index + 1] if index + 1 < len(record.history) else None
        made += left is not None and left.event not in REWRITTEN
        until = record.now if left is None and not record.run.status.closed else stamp((left or entered).at)
        stored, calls = record.under[index], record.calls.get(entered.seq, ())
        used = bounds.after(
            stored.spec, stored.state(entered.target), made, record.visits[index], calls, _wall(record, entered, until)
        )
        found.append(_step(record, index, left, until, used, code))
    return found


def _step(
    record: _Record,
    index: int,
    left: TransitionRecord | None,
    until: int,
    bounds: tuple[BudgetUse, ...],
    code: Definition | None,
) -> ExplainedStep:
    entered, stored, data = record.history[index], record.under[index], record.data[index]
    calls: Sequence[CallRecord] = record.calls.get(entered.seq, ())
    reviews: Sequence[ReviewRecord] = record.reviews.get(entered.seq, ())
    epoch = record.run.epoch if left is None else left.epoch
    return ExplainedStep(
        step=entered.seq,
        state=entered.target,
        visit=record.visits[index],
        entered_by=entered.event,
        entered_at=entered.at,
        took=max(instant(until) - _begun(record.run, entered), timedelta(0)),
        event=None if left is None else left.event,
        payload={} if left is None else left.payload,
        target=None if left is None else left.target,
        at=None if left is None else left.at,
        decider=None if left is None else decider(left, stored, calls, reviews),
        data=data,
        changed=() if left is None else _changed(data, record.data[index + 1]),
        guards=() if left is None else asked(left, data, code),
        rows=rows_of(stored, entered.target, left),
        calls=calls_of(calls, record.attempts.get(entered.seq, ()), epoch),
        reviews=tuple(reviews),
        redrives=redrives_of(calls),
        bounds=bounds,
    )


def _begun(run: RunRecord, entered: TransitionRecord) -> datetime:
    """When a visit began in this run: where a fork parted from its origin, and where a start was delayed, that is later."""
    return max(entered.at, run.created_at) if entered.seq == (run.forked_step or 0) else entered.at


def _wall(record: _Record, entered: TransitionRecord, until: int) -> int:
    """Microseconds that had passed since the run began: for a visit that a fork shares, since its origin did."""
    own = entered.seq >= (record.run.forked_step or 0)
    return max(0, until - stamp(record.run.created_at if own else record.history[0].at))


def _changed(before: Mapping[str, Json], after: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(name for name in after if name not in before or before[name] != after[name])


def _by_visit(records: Sequence[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for each in records:
        found.setdefault(each.seq, []).append(each)
    return found
