"""`statecraft eval`: run a suite, grade its trials, compare them with a baseline."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from statecraft.cli.driving import run_async
from statecraft.cli.eval_model import Found, load_suite, models_for
from statecraft.cli.exits import Exit
from statecraft.cli.screen import count, dim, iso
from statecraft.cli.span import When
from statecraft.cli.verb import LIMIT, Number, Session, Verb
from statecraft.clock import SystemClock, instant
from statecraft.files import write_whole
from statecraft.money import shown

if TYPE_CHECKING:
    from statecraft.evals import Comparison, Report, Suite, Tried

SHOWN = 5
"""Failed trials whose commands are printed; the page of `--html` has all of them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to come of the trials."""

    baseline: str | None
    save_baseline: str | None
    fail_under: float | None
    junit: str | None
    html: str | None


@click.command("eval", cls=Verb)
@click.argument("target")
@click.option("--model", metavar="WHICH", help="live, offline, cassette:FILE, record:FILE, or the id of a Claude model.")
@click.option("--repeat", type=LIMIT, metavar="N", help="Run each case N times (default: the suite's).")
@click.option("--concurrency", type=LIMIT, metavar="N", help="Trials at once (default: the suite's).")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only cases with this tag; may be repeated.")
@click.option("--case", "names", multiple=True, metavar="NAME", help="Only this case; may be repeated.")
@click.option("--again", is_flag=True, help="Run every trial anew, even those that are there already.")
@click.option("--since", type=When(), metavar="INSTANT", help="Count only runs started from then on (goes on with --again).")
@click.option("--baseline", metavar="FILE", help="Fail only for what got worse since this baseline.")
@click.option("--save-baseline", metavar="FILE", help="Write how every case did.")
@click.option("--fail-under", type=Number(0, 1), metavar="RATE", help="Fail only if fewer trials passed, such as 0.9.")
@click.option("--junit", metavar="FILE", help="Write JUnit XML.")
@click.option("--html", metavar="FILE", help="Write a page with every trial.")
@click.pass_obj
def evaluate(session: Session, /, target: str, again: bool, since: datetime | None, **given: Any) -> Exit:
    """Run the suite TARGET: every case, graded. Its runs are kept like any others.

    TARGET is `path/to/file.py:suite`, `package.module:suite`, or `research` or `extract` for a shipped one. Trials that are in
    the database already and would go the same way today are not run again. Exit code 1 if a case failed.
    """
    from statecraft.evals import load_baseline

    found = load_suite(target)
    names, tags, repeat, concurrency = (given.pop(key) for key in ("names", "tags", "repeat", "concurrency"))
    wanted = Wanted(**given)
    choice = session.drive.model  # --model is among the options that every session keeps
    suite = found.suite.only(names=names, tags=tags)
    suite = replace(suite, repeat=repeat or suite.repeat, concurrency=concurrency or suite.concurrency)
    baseline = load_baseline(wanted.baseline) if wanted.baseline else None
    if baseline is not None and (names or tags):
        baseline = baseline.only({each.name for each in suite.prepared})
    recording = (choice or "").startswith("record:")
    from_then_on = since or (_now() if again or recording else None)
    words = _words(target, choice, repeat, names, tags, wanted)

    async def main() -> Exit:
        report = await _run(session, found, suite, from_then_on, words, go_on=since is not None)
        return conclude(session, found, report, wanted, baseline)

    return run_async(main)


async def _run(session: Session, found: Found, suite: Suite, since: datetime | None, words: str, *, go_on: bool) -> Report:
    from statecraft.runtime import Runtime

    models = models_for(found, session.drive.model, go_on=go_on)
    session.screen.say(f"model: {models.label}")
    settings = replace(found.settings(), take="own")
    database = session.database
    done = [0, len(suite.prepared) * suite.repeat]

    def told(number: int, total: int, name: str, tried: Tried) -> None:
        done[:] = number, total
        if session.screen.progress:
            said = click.style("passed", fg="green") if tried.passed else click.style("FAILED", fg="red")
            session.screen.say(f"  {number}/{total} {said}  {name}{dim('  recalled') if tried.recalled else ''}")

    async with Runtime(database.url, machines=suite.machines, llm=models.llm, settings=settings, migrate=database.migrate) as rt:
        try:
            return await suite.run(rt, since=since, mark=models.mark, told=told)
        except asyncio.CancelledError:
            from_then_on = f" --since {iso(since)}" if since is not None else ""
            session.screen.say(f"stopped after {done[0]} of {done[1]} trials, which are kept")
            session.screen.say(f"go on with: {session.command(words + from_then_on)}")
            raise


def conclude(session: Session, found: Found, report: Report, wanted: Wanted, baseline: Any) -> Exit:
    """Say what came of it, write what was asked for, and answer the exit code."""
    from statecraft.evals import compare, save_baseline, to_html, to_junit

    comparison = compare(report, baseline) if baseline is not None else None
    reasons = failures(report, wanted, comparison)
    if session.screen.as_json:
        changes = comparison.changes if comparison else []
        session.screen.emit({"passed": not reasons, "failures": reasons, "changes": changes, "report": report.to_json()})
    else:
        for line in lines(session, found, report, comparison):
            session.screen.data(line)
        for reason in reasons:
            session.screen.say(f"failed: {reason}")
    # Last, so that a file that cannot be written does not keep back what was found.
    if wanted.junit:
        write_whole(wanted.junit, to_junit(report).encode())
    if wanted.html:
        notes = [*reasons, *(str(change) for change in comparison.changes)] if comparison else reasons
        write_whole(wanted.html, to_html(report, lambda tried: commands(session, found, tried), notes).encode())
    if wanted.save_baseline:
        save_baseline(report, wanted.save_baseline)
    return Exit.FAILED if reasons else Exit.DONE


def failures(report: Report, wanted: Wanted, comparison: Comparison | None) -> list[str]:
    """Why the evaluation as a whole failed. A baseline or a bar takes the place of the demand that every case passes."""
    worse = comparison.regressions if comparison is not None else ()
    reasons = [f"{count(len(worse), 'regression')} since {wanted.baseline}"] if worse else []
    if wanted.fail_under is not None and report.rate < wanted.fail_under:
        reasons.append(f"{report.rate:.1%} of the trials passed, less than {wanted.fail_under:.1%}")
    if comparison is None and wanted.fail_under is None and not report.passed:
        reasons.append(f"{count(len(report.failing), 'case')} of {len(report.cases)} failed")
    return reasons


def lines(session: Session, found: Found, report: Report, comparison: Comparison | None) -> list[str]:
    """The report for people: what failed with the commands to look closer, what changed, and the sums."""
    from statecraft.evals.report import case_lines, summary

    out: list[str] = []
    left = SHOWN
    for case in report.failing:
        out += case_lines(case)
        for tried in case.failing[:left]:
            out += [dim(f"    {command}") for command in commands(session, found, tried)]
        left = max(0, left - len(case.failing))
    out += [str(change) for change in comparison.changes] if comparison is not None else []
    return [*out, summary(report), dim(_spent(report))]


def commands(session: Session, found: Found, tried: Tried) -> list[str]:
    """Commands that show, explain, replay and fork the run of a trial, as far as this command line has them."""
    known = click.get_current_context().find_root().command
    verbs = known.commands if isinstance(known, click.Group) else {}
    words = {
        "show": f"show {tried.run_id} --steps",
        "explain": f"explain {tried.run_id}",
        "replay": f"replay {tried.run_id}{found.machine_flag}",
        "fork": f"fork {tried.run_id} --at {max(0, tried.steps - 1)}{found.machine_flag}",
    }
    return [session.command(text) for verb, text in words.items() if verb in verbs]


def _spent(report: Report) -> str:
    parts = [f"{count(report.total, 'run')}, {_amount(report.sum('tokens'), report.sum('cost'))}"]
    if judged := sum(len(tried.judges) for tried in report.trials):
        parts.append(f"{count(judged, 'verdict')}, {_amount(report.sum('judge_tokens'), report.sum('judge_cost'))}")
    if recalled := sum(tried.recalled for tried in report.trials):
        parts.append(f"{recalled} of the runs were there already")
    return "; ".join(parts)


def _amount(tokens: int | None, cost: int | None) -> str:
    return f"{count(tokens or 0, 'token')}, {'price unknown' if cost is None else shown(cost)}"


def _now() -> datetime:
    """This instant as `--since` writes it: to the millisecond."""
    now = instant(SystemClock().now())
    return now - timedelta(microseconds=now.microsecond % 1000)


def _words(target: str, choice: str | None, repeat: int | None, names: Sequence[str], tags: Sequence[str], wanted: Wanted) -> str:
    """The command line that asks for the same, but for `--again` and `--since`."""
    options: list[tuple[str, object]] = [("model", choice), ("repeat", repeat)]
    options += [("case", name) for name in names] + [("tag", tag) for tag in tags]
    options += [(name.replace("_", "-"), getattr(wanted, name)) for name in Wanted.__slots__]
    words = ["eval", target, *(part for name, value in options if value is not None for part in (f"--{name}", str(value)))]
    return shlex.join(words)
