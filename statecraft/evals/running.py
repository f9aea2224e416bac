"""Trials: each case runs under a key of its own, so that the next evaluation finds it again, and is then graded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from statecraft.errors import Refused, WaitTimeout
from statecraft.evals.case import Prepared, short_digest
from statecraft.evals.deciding import decide
from statecraft.evals.grade import Grade, graded
from statecraft.evals.judge import Judge, Paper
from statecraft.evals.mark import label_of, mark_of
from statecraft.evals.report import CaseReport, Report, Tried
from statecraft.evals.suite import Suite, Told
from statecraft.evals.trial import Trial, Verdict, cost_of, trouble_of
from statecraft.records import CallRecord, RunFilter, RunRecord, Status, Usage
from statecraft.runtime import Runtime

T = TypeVar("T")

_MOST_CHILDREN = 10_000


@dataclass(frozen=True, slots=True)
class Ran:
    """A run as far as it went."""

    run: RunRecord
    round: int
    trouble: str = ""
    recalled: bool = False


@dataclass(slots=True)
class Running:
    """One evaluation of a suite."""

    suite: Suite
    rt: Runtime
    since: datetime | None
    mark: str
    told: Told | None
    done: int = 0
    room: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = asyncio.Semaphore(self.suite.concurrency)

    async def report(self) -> Report:
        """Run and grade every trial."""
        definition, repeat = self.suite.machine.definition, self.suite.repeat
        places = [(each, number) for each in self.suite.prepared for number in range(1, repeat + 1)]
        tried = await all_of([self._tried(each, number, len(places)) for each, number in places])
        cases = [
            CaseReport(
                name=each.name,
                digest=short_digest(f"{each.digest}{json.dumps(dict(each.case.expect), sort_keys=True, default=str)}"),
                trials=tuple(tried[place * repeat : (place + 1) * repeat]),
                needs=self.suite.needs,
                tags=each.case.tags,
                where=each.case.where,
            )
            for place, each in enumerate(self.suite.prepared)
        ]
        model = label_of(self.rt.llm, definition.name)
        return Report(self.suite.name, definition.name, definition.version, definition.fingerprint, model, tuple(cases))

    async def _tried(self, each: Prepared, repetition: int, total: int) -> Tried:
        async with self.room:
            ran = await self._ran(each, repetition)
            trial = await self._seen(each, repetition, ran)
            said = {judge.name: await self._verdict(judge, trial) for judge in self.suite.judges}
            verdicts = {name: verdict for name, verdict in said.items() if verdict is not None}
            tried = tried_of(self.suite, replace(trial, verdicts=verdicts), ran)
        self.done += 1
        if self.told is not None:
            self.told(self.done, total, each.name, tried)
        return tried

    # --- the run of a trial ------------------------------------------------------------------------------------------

    async def _ran(self, each: Prepared, repetition: int) -> Ran:
        """The latest run of the trial if it still counts, brought to its end; else a new one."""
        number, found = await self._latest(each, repetition)
        if found is not None and (self.since is None or found.created_at >= self.since):
            over = found.status.closed
            ran = await self._brought_to_its_end(each, repetition, number)
            if ran.trouble or await self._counts(ran.run):
                return replace(ran, recalled=over)
        return await self._brought_to_its_end(each, repetition, number + 1)

    async def _latest(self, each: Prepared, repetition: int) -> tuple[int, RunRecord | None]:
        number, found = 0, None
        while (later := await self._find(self._key(each, repetition, number + 1))) is not None:
            number, found = number + 1, later
        return number, found

    async def _find(self, key: str) -> RunRecord | None:
        return next(iter(await self.rt.runs(RunFilter(key=key, limit=1))), None)

    def _key(self, each: Prepared, repetition: int, number: int) -> str:
        """The start key: suite, case, repetition, machine with model, and how often it was run anew."""
        definition = self.suite.machine.definition
        by = short_digest(f"{definition.fingerprint}\n{self.mark}\n{mark_of(self.rt.llm, definition.name)}")
        return f"eval:{self.suite.name}:{each.digest}:{repetition}:{by}:{number}"

    async def _brought_to_its_end(self, each: Prepared, repetition: int, number: int) -> Ran:
        """Start the run, or go on with it, and decide for people, until it has ended or nobody has an answer."""
        run = await self.rt.start(self.suite.machine, each.data, key=self._key(each, repetition, number))
        try:
            while True:
                run = await self.rt.wait(run.id, timeout=self.suite.timeout)
                if run.status is not Status.WAITING or not await decide(self.rt, run, each):
                    return Ran(run, number)
        except Refused as error:
            return Ran(run, number, f"the case's decision was refused: {error}")
        except WaitTimeout:
            run = await self.rt.get(run.id)
            return Ran(run, number, f"not settled after {self.suite.timeout}: it is {run.status} in {run.state}")

    async def _counts(self, run: RunRecord) -> bool:
        """Whether a run of an earlier evaluation still says what the code of today does. No model is asked to find out."""
        if run.status in (Status.DEAD, Status.CANCELLED):
            return False
        return (await self.rt.replay(run.id, self.suite.machine)).agrees

    # --- what graders see --------------------------------------------------------------------------------------------

    async def _seen(self, each: Prepared, repetition: int, ran: Ran) -> Trial:
        run = ran.run
        return Trial(
            each.case,
            repetition,
            run,
            await self.rt.data(run.id),
            tuple(await self.rt.history(run.id)),
            tuple(await self._calls(run.id)),
            trouble=ran.trouble or trouble_of(run),
        )

    async def _calls(self, run_id: str) -> list[CallRecord]:
        found = await self.rt.calls(run_id)
        if any(call.kind == "child" for call in found):
            for child in reversed(await self.rt.runs(RunFilter(parent=run_id, limit=_MOST_CHILDREN))):
                found += await self._calls(child.id)
        return found

    async def _verdict(self, judge: Judge, trial: Trial) -> Verdict | None:
        """What a judge says: of the same trial and question, the same as before."""
        if trial.trouble:
            return None
        try:
            paper = judge.paper(trial)
        except LookupError as error:
            return Verdict("", problem=str(error))
        if paper is None:
            return None
        key = judge.start_key(trial, paper, mark_of(self.rt.llm, judge.name))
        run = await self.rt.start(judge.machine, paper, key=key)
        try:
            run = await self.rt.wait(run.id, timeout=self.suite.timeout)
        except WaitTimeout as error:
            return Verdict(run.id, problem=str(error))
        calls = tuple(await self.rt.calls(run.id))
        spent = sum((call.usage for call in calls), Usage()), cost_of(calls)
        if run.status is not Status.DONE:
            last = (await self.rt.history(run.id))[-1]
            why = run.reason or last.payload.get("message") or last.event
            return Verdict(run.id, (), f"the judge's run is {run.status} in {run.state}: {why}", *spent)
        marks = (await self.rt.data(run.id, Paper)).marks
        met = tuple((paper.criteria[mark.number - 1], mark.met, mark.reason) for mark in marks)
        return Verdict(run.id, met, "", *spent)


def tried_of(suite: Suite, trial: Trial, ran: Ran) -> Tried:
    """A trial with its grades. One that came to no end fails, whatever its graders say."""
    grades = [grade for grader in suite.graders if (grade := graded(grader, trial)) is not None]
    if trial.trouble:
        grades.insert(0, Grade("run", False, trial.trouble))
    elif not grades:
        grades.append(Grade("run", False, "no grader has anything to say about this case: give it something to expect"))
    verdicts = tuple(trial.verdicts.values())
    costs = [verdict.cost for verdict in verdicts if verdict.cost is not None]
    return Tried(
        repetition=trial.repetition,
        run_id=trial.run.id,
        status=trial.run.status,
        state=trial.run.state,
        grades=tuple(grades),
        tokens=trial.usage.total,
        cost=trial.cost,
        calls=trial.asked,
        steps=trial.run.seq,
        seconds=trial.seconds,
        round=ran.round,
        recalled=ran.recalled,
        judges=tuple(verdict.run_id for verdict in verdicts if verdict.run_id),
        judge_tokens=sum(verdict.usage.total for verdict in verdicts),
        judge_cost=sum(costs) if len(costs) == len(verdicts) else None,
    )


async def all_of(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. The first error, or being cancelled, stops the rest before it is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
