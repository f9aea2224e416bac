"""The first lines of `statecraft stats`: what needs a person, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from statecraft.cli.screen import ago, count, dim

if TYPE_CHECKING:
    from statecraft.stats import Stats

_STALLED = timedelta(minutes=5)
"""A queue whose first run has been due for this long does not get on."""


def alarms(found: Stats) -> list[str]:
    """What is wrong in red, then what waits for a person's decision; a quiet line if there is nothing of either."""
    wrong = (*_fleet(found), *_work(found), *_others(found))
    lines = [click.style(f"! {text}", fg="red") for text in wrong]
    if found.reviews:
        wait = "waits" if found.reviews == 1 else "wait"
        first = gap_of(found.review_oldest)
        lines.append(f"? {count(found.reviews, 'run')} {wait} for a person, the first for {first}: statecraft review")
    return lines or [dim("nothing needs a person's look")]


def _fleet(found: Stats) -> Iterator[str]:
    lost = sum(worker.state == "lost" for worker in found.workers)
    if lost:
        yield f"{count(lost, 'worker')} lost"
    if found.overdue:
        yield f"{count(found.overdue, 'lease')} over, not taken over yet"


def _work(found: Stats) -> Iterator[str]:
    """What is due and does not get done."""
    # A process that drives only runs of its own names no machines.
    serving = [worker for worker in found.workers if worker.state == "alive" and worker.machines]
    due = sum(queue.depth for queue in found.queues)
    if not serving:
        if due:
            yield f"{count(due, 'run')} due, and no worker is alive"
        return
    for queue in found.queues:
        if queue.depth and not any(queue.queue in worker.queues or not worker.queues for worker in serving):
            yield f"{count(queue.depth, 'run')} due in queue {queue.queue}, and no living worker takes from it"
        elif queue.depth and queue.oldest > _STALLED:
            yield f"{count(queue.depth, 'run')} due in queue {queue.queue}, the first for {gap_of(queue.oldest)}"
    known = {machine for worker in serving for machine in worker.machines}
    unknown: dict[str, int] = {}
    for place in found.places:
        if place.status == "ready" and place.machine not in known:
            unknown[place.machine] = unknown.get(place.machine, 0) + place.runs
    for machine, runs in unknown.items():
        yield f"{count(runs, 'run')} of {machine} ready, and no living worker has this machine"


def _others(found: Stats) -> Iterator[str]:
    if found.dead:
        yield f"{count(sum(found.dead.values()), 'dead letter')}: {each_of(found.dead.items())}"
    broken = ", ".join(f"{each.dependency} {each.state}" for each in found.breakers if each.state != "closed")
    if broken:
        yield f"breakers not closed: {broken}"
    spent = ", ".join(dict.fromkeys(use.tenant for use in found.budgets if use.ratio >= 1))
    if spent:
        yield f"tenants without budget: {spent}"
    if found.schedule_late > timedelta(minutes=1):
        yield f"a schedule is {gap_of(found.schedule_late)} late"
    for backlog in found.outbox:
        if backlog.late > timedelta(minutes=1):
            yield f"alerts for {backlog.channel} wait for {gap_of(backlog.late)}"


def each_of(pairs: Iterable[tuple[str, int]]) -> str:
    """`3 review, 1 start`."""
    return ", ".join(f"{number:,} {name}" for name, number in pairs)


def gap_of(gap: timedelta) -> str:
    """A length of time as people say it."""
    return ago(gap.total_seconds())
