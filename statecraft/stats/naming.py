"""From figures to metrics: which figure goes by which name, with which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from statecraft.stats.metrics import Metric

if TYPE_CHECKING:
    from statecraft.stats.figures import Stats

_BREAKER = {"closed": 0, "open": 1, "probing": 2}
_WORKER = ("alive", "lost", "stopped")


def named(stats: Stats) -> tuple[Metric, ...]:
    """All figures of `stats` that a monitoring system can use. Rates are left to it: it has the counters."""
    return (*_runs(stats), *_queues(stats), *_fences(stats), *_people(stats), *_limits(stats), *_fleet(stats))


def _runs(stats: Stats) -> Iterator[Metric]:
    yield from _by("statecraft_runs", "status", stats.runs)
    for place in stats.places:
        labels = {"machine": place.machine, "state": place.state, "status": place.status}
        yield Metric("statecraft_runs_in_state", place.runs, labels)
    yield from _by("statecraft_runs_waiting", "reason", stats.waiting_for)


def _queues(stats: Stats) -> Iterator[Metric]:
    for queue in stats.queues:
        labels = {"queue": queue.queue}
        yield Metric("statecraft_queue_depth", queue.depth, labels)
        yield Metric("statecraft_queue_oldest_seconds", _seconds(queue.oldest), labels)
        yield Metric("statecraft_queue_delayed", queue.delayed, labels)


def _fences(stats: Stats) -> Iterator[Metric]:
    yield Metric("statecraft_leases_overdue", stats.overdue)
    yield Metric("statecraft_leases_expired_total", stats.taken_over)
    yield Metric("statecraft_writes_refused_total", stats.refused)
    yield Metric("statecraft_transitions_total", stats.moves)


def _people(stats: Stats) -> Iterator[Metric]:
    yield Metric("statecraft_reviews_waiting", stats.reviews)
    yield Metric("statecraft_review_oldest_seconds", _seconds(stats.review_oldest))
    yield from _by("statecraft_dead_letters", "machine", stats.dead)
    for backlog in stats.outbox:
        yield Metric("statecraft_outbox_backlog", backlog.deliveries, {"channel": backlog.channel})
        yield Metric("statecraft_outbox_late_seconds", _seconds(backlog.late), {"channel": backlog.channel})


def _limits(stats: Stats) -> Iterator[Metric]:
    for use in stats.budgets:
        labels = {"tenant": use.tenant, "window_seconds": f"{use.window.total_seconds():.0f}", "unit": use.unit}
        yield Metric("statecraft_budget_ratio", use.ratio, labels)
    for breaker in stats.breakers:
        yield Metric("statecraft_breaker_state", _BREAKER[breaker.state], {"name": breaker.dependency})


def _fleet(stats: Stats) -> Iterator[Metric]:
    yield Metric("statecraft_schedules", stats.schedules)
    yield Metric("statecraft_schedule_late_seconds", _seconds(stats.schedule_late))
    for state in _WORKER:
        yield Metric("statecraft_workers", sum(worker.state == state for worker in stats.workers), {"state": state})
    living = [worker for worker in stats.workers if worker.state == "alive"]
    yield Metric("statecraft_worker_capacity", sum(worker.concurrency for worker in living))
    yield Metric("statecraft_worker_held", sum(worker.held for worker in living))


def _by(name: str, label: str, counts: Mapping[str, int]) -> Iterator[Metric]:
    return (Metric(name, number, {label: value}) for value, number in counts.items())


def _seconds(gap: timedelta) -> float:
    return gap.total_seconds()
