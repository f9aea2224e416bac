"""`statecraft show`: everything about one run, from the database alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from statecraft.cli.driving import opened, reading, run_async, standing
from statecraft.cli.exits import Exit
from statecraft.cli.question import headline, question_lines, shown_lines
from statecraft.cli.screen import clip, count, dim, paint, strong, table, took
from statecraft.cli.verb import DrivingVerb, Session
from statecraft.clock import SystemClock, instant
from statecraft.errors import NotFound
from statecraft.money import shown
from statecraft.records import (
    AttemptRecord,
    CallRecord,
    Json,
    ReviewRecord,
    RunFilter,
    RunRecord,
    Status,
    TransitionRecord,
    Usage,
)

if TYPE_CHECKING:
    from statecraft.runtime import Runtime

LONGEST = 2_000
"""Characters of a request or a result that `--step` shows; `--json` has the whole."""


MOST_CHILDREN = 20
"""Child runs that are shown; `statecraft runs --parent` lists them all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show besides the summary."""

    steps: bool = False
    step: int | None = None
    data: bool = False
    at: int | None = None
    verify: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One run, as read."""

    run: RunRecord
    history: Sequence[TransitionRecord]
    calls: Sequence[CallRecord]
    attempts: Sequence[AttemptRecord]
    reviews: Sequence[ReviewRecord]
    diagnosis: Json = None
    problems: Sequence[str] | None = None
    """What `--verify` found; None if it was not asked."""
    children: Sequence[RunRecord] = ()
    """Its child runs, newest first; at most `MOST_CHILDREN`."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay in a state: what entered it, what it did, what ended it."""

    entered: TransitionRecord
    left: TransitionRecord | None
    calls: Sequence[CallRecord]

    @property
    def usage(self) -> Usage:
        """Tokens of its calls."""
        return sum((call.usage for call in self.calls), Usage())

    def took(self, now: datetime) -> timedelta:
        """How long it lasted, or has lasted so far."""
        return (self.left.at if self.left else now) - self.entered.at


@click.command(cls=DrivingVerb)
@click.argument("run")
@click.option("--steps", is_flag=True, help="The calls of every step.")
@click.option("--step", type=click.IntRange(0), metavar="N", help="One step in full: payload, guards, calls.")
@click.option("--data", is_flag=True, help="The run's data (needs its machine).")
@click.option("--at", type=click.IntRange(0), metavar="N", help="With --data: as it was after move N.")
@click.option("--verify", is_flag=True, help="Check the stored history's chain of hashes.")
@click.pass_obj
def show(session: Session, run: str, steps: bool, step: int | None, data: bool, at: int | None, verify: bool) -> Exit:
    """Show RUN: where it stands, its path with times and tokens, what it waits for, why it died."""
    wanted = Wanted(steps, step, data or at is not None, at, verify)

    async def main() -> Exit:
        async with reading(session) as rt:
            view = await read_view(rt, await rt.find(run), verify=wanted.verify)
        if wanted.step is not None and wanted.step >= len(view.history):
            raise NotFound(f"run {view.run.id} has steps 0 to {len(view.history) - 1}, not {wanted.step}")
        folded = await _data(session, view.run.id, at) if wanted.data else None
        if session.screen.as_json:
            session.screen.emit(json_of(view, wanted, folded))
        else:
            _write(session, view, wanted, folded)
        return Exit.FAILED if view.problems else Exit.DONE

    return run_async(main)


async def read_view(rt: Runtime, run: RunRecord, *, verify: bool = False) -> View:
    """Read all that `show` tells about a run."""
    diagnosis = await rt.diagnosis(run.id)
    return View(
        run=run,
        history=await rt.history(run.id),
        calls=await rt.calls(run.id),
        attempts=await rt.attempts(run.id),
        reviews=await rt.reviews(run.id),
        diagnosis=None if diagnosis is None else json.loads(diagnosis),
        problems=await rt.verify(run.id) if verify else None,
        children=await rt.runs(RunFilter(parent=run.id, limit=MOST_CHILDREN)),
    )


async def _data(session: Session, run_id: str, at: int | None) -> Json:
    async with opened(session, run_id, "none") as found:
        return (await found.rt.data(run_id, at=at)).model_dump(mode="json")


def visits_of(view: View) -> list[Visit]:
    """The run's stays, in order."""
    nexts = [*view.history[1:], None]
    return [
        Visit(entered, left, [call for call in view.calls if call.seq == entered.seq])
        for entered, left in zip(view.history, nexts, strict=True)
    ]


def json_of(view: View, wanted: Wanted, data: Json) -> dict[str, object]:
    """The fields of `show --json`."""
    fields: dict[str, object] = {"run": view.run, "path": view.history, "reviews": view.reviews, "diagnosis": view.diagnosis}
    fields["children"] = [run.id for run in view.children]
    if wanted.steps or wanted.step is not None:
        only = wanted.step
        fields["calls"] = [call for call in view.calls if only is None or call.seq == only]
        fields["attempts"] = [attempt for attempt in view.attempts if only is None or attempt.seq == only]
    if wanted.data:
        fields["data"] = data
    if view.problems is not None:
        fields["problems"] = view.problems
    return fields


def _write(session: Session, view: View, wanted: Wanted, data: Json) -> None:
    now = instant(SystemClock().now())
    if wanted.step is not None:
        lines = step_lines(visits_of(view)[wanted.step], [item for item in view.attempts if item.seq == wanted.step], now)
    else:
        lines = [*summary_lines(session, view, now), "", *path_lines(view, now, steps=wanted.steps)]
        lines += _child_lines(view) + _review_lines(view) + _diagnosis_lines(view)
    if wanted.data:
        after = f" after move {wanted.at}" if wanted.at is not None else ""
        lines += ["", dim(f"data{after}"), *json.dumps(data, indent=2, ensure_ascii=False).splitlines()]
    for line in lines + _verify_lines(view):
        session.screen.data(line)
    if wanted.step is None and view.run.status in (Status.READY, Status.WAITING):
        session.screen.say(standing(session, view.run, "")[-1])


def summary_lines(session: Session, view: View, now: datetime) -> list[str]:
    """Who the run is and where it stands."""
    run, when = view.run, session.screen.when
    models = sorted({call.model for call in view.calls if call.model})
    waiting = f", waiting for {run.waiting_for}" if run.waiting_for else ""
    spent = sum((call.usage for call in view.calls), Usage())
    length = view.history[-1].at - view.history[0].at
    did = f"{count(run.seq, 'move')}, {count(len(view.calls), 'call')}"
    pairs = [
        ("run", strong(run.id)),
        ("machine", f"{run.machine} version {run.version} {dim(run.fingerprint[:12])}"),
        ("status", f"{paint(run.status)}{' (degraded)' if run.degraded else ''} in {run.state}{waiting}"),
        ("started", when(run.created_at, now)),
        ("changed", when(run.updated_at, now)),
        ("due", when(run.due_at, now) if not run.status.closed else ""),
        ("deadline", when(run.deadline_at, now) if not run.status.closed else ""),
        ("queue", _place(run)),
        ("key", run.key or ""),
        ("parent", run.parent or ""),
        ("forked", _forked(run)),
        ("held by", f"{run.owner} until {when(run.lease_until, now)}" if run.owner else ""),
        ("model", ", ".join(models)),
        ("spent", f"{did}, {count(spent.total, 'token')}{money_of(view.calls)}, {took(length)}"),
        ("why", run.reason or ""),
    ]
    return table([(dim(name), value) for name, value in pairs if value])


def _forked(run: RunRecord) -> str:
    """Where its history comes from, if it is a fork."""
    if run.forked_from is None:
        return ""
    said = "".join((f" by {run.forked_by}" if run.forked_by else "", f": {run.forked_note}" if run.forked_note else ""))
    return f"from {run.forked_from} at step {run.forked_step}{said}"


def _place(run: RunRecord) -> str:
    """Where a run waits for a worker, if it is not just anywhere."""
    tenant = f"for {run.tenant}" if run.tenant else ""
    priority = f"priority {run.priority}" if run.priority else ""
    queue = run.queue if run.queue != "default" or priority or tenant else ""
    return ", ".join(part for part in (queue, priority, tenant) if part)


def money_of(calls: Sequence[CallRecord]) -> str:
    """What the calls cost, as far as it is known: `, $0.02`; empty if nothing is."""
    known = [call.cost for call in calls if call.cost is not None]
    unknown = any(call.cost is None for call in calls if call.model)
    return f", {'at least ' if unknown else ''}{shown(sum(known))}" if sum(known) else ""


def path_lines(view: View, now: datetime, *, steps: bool = False) -> list[str]:
    """The path, a line for each visit; with `steps` the calls under it."""
    visits = visits_of(view)
    rows = [_visit_row(visit, view.run, now) for visit in visits]
    head = ("#", "STATE", "TOOK", "CALLS", "TOKENS", "ENDED BY")
    top, *lines = table(rows, head=head, right=frozenset({0, 2, 3, 4}))
    out = [top]
    for visit, line in zip(visits, lines, strict=True):
        out.append(line)
        if steps:
            out += [f"       {line}" for line in call_lines(visit.calls)]
    return out


def _visit_row(visit: Visit, run: RunRecord, now: datetime) -> tuple[str, ...]:
    over = visit.left is None and run.status.closed
    return (
        str(visit.entered.seq),
        paint_end(visit.entered.target, run) if over else visit.entered.target,
        "" if over else took(visit.took(now)),
        str(len(visit.calls) or ""),
        f"{visit.usage.total:,}" if visit.usage.total else "",
        _ended_by(visit.left) if visit.left else ("" if over else dim("(still here)")),
    )


def paint_end(state: str, run: RunRecord) -> str:
    """The last state in the colour of the outcome."""
    return click.style(state, fg={"done": "green"}.get(str(run.status), "red"), bold=True)


def _ended_by(move: TransitionRecord) -> str:
    guards = ", ".join(f"{name} {'yes' if answer else 'no'}" for name, answer in move.guards)
    asked = dim(f" [{guards}]") if guards else ""
    who = dim(f" by {move.actor}") if move.actor else ""
    return f"{move.event}{asked}{who}"


def call_lines(calls: Sequence[CallRecord]) -> list[str]:
    """One line for each call of a visit."""
    rows = [
        (
            str(call.idx),
            call.kind,
            call.name,
            "ok" if call.ok else click.style("failed", fg="red"),
            took(call.finished_at - call.started_at),
            f"{call.usage.total:,} tokens" if call.usage.total else "",
            f"{call.attempts} attempts" if call.attempts > 1 else "",
        )
        for call in calls
    ]
    return [dim(line) for line in table(rows, right=frozenset({4, 5}))]


def step_lines(visit: Visit, attempts: Sequence[AttemptRecord], now: datetime) -> list[str]:
    """One visit in full."""
    entered, left = visit.entered, visit.left
    lines = [f"{strong(f'step {entered.seq}')}  {entered.target}, entered by {entered.event}, {took(visit.took(now))}"]
    for call in visit.calls:
        lines += ["", *call_lines([call]), dim("  asked"), *_indented(call.request), dim("  answered"), *_indented(call.result)]
    for item in attempts:
        lines.append(click.style(f"  attempt {item.attempt} of {item.name}: {item.kind} {clip(item.message, 100)}", fg="yellow"))
    if left is not None:
        lines += ["", f"ended by {_ended_by(left)} → {strong(left.target)}", *_indented(dict(left.payload))]
    return lines


def _indented(value: Json) -> list[str]:
    text = "\n".join(shown_lines(value))
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters (--json has them)"
    return [f"    {line}" for line in cut.splitlines()]


def _child_lines(view: View) -> list[str]:
    if not view.children:
        return []
    rows = [(f"  {run.id}", run.machine, paint(run.status), run.state) for run in reversed(view.children)]
    return ["", dim("child runs"), *table(rows)]


def _review_lines(view: View) -> list[str]:
    lines: list[str] = []
    for item in view.reviews:
        if item.decision:
            lines += ["", f"{dim('review')}  {headline(item)}  {strong(item.decision)} by {item.decided_by}"]
        else:
            lines += ["", dim("review"), *(f"  {line}" for line in question_lines(item))]
    return lines


def _diagnosis_lines(view: View) -> list[str]:
    if not isinstance(view.diagnosis, dict):
        return []
    told = {
        name: value for name, value in view.diagnosis.items() if name not in ("data", "visits") and value not in (None, [], {})
    }
    rows = [(dim(f"  {name}"), clip(value if isinstance(value, str) else json.dumps(value), 140)) for name, value in told.items()]
    return ["", dim("diagnosis"), *table(rows)]


def _verify_lines(view: View) -> list[str]:
    if view.problems is None:
        return []
    if not view.problems:
        return ["", f"{dim('verify')}  the chain of {len(view.history)} moves and {len(view.calls)} calls holds"]
    return [
        "",
        click.style("verify  the stored history does not hold:", fg="red"),
        *(f"  {problem}" for problem in view.problems),
    ]
