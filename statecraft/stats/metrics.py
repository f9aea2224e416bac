"""Metrics as flat values, and the text in which Prometheus reads them.

The format is version 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format: a family is
announced once by HELP and TYPE, its lines follow together; in the value of a label backslash, double quote and line feed are
escaped, in a help text backslash and line feed; the last line ends with a line feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What a server that serves the text has to call it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One value."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


FAMILIES: Mapping[str, tuple[str, str]] = {
    "statecraft_runs": ("gauge", "Open runs by status."),
    "statecraft_runs_in_state": ("gauge", "Open runs by machine, state and status."),
    "statecraft_runs_waiting": ("gauge", "Parked runs by why they wait."),
    "statecraft_queue_depth": ("gauge", "Runs that may be taken now."),
    "statecraft_queue_oldest_seconds": ("gauge", "How long the oldest due run has been due."),
    "statecraft_queue_delayed": ("gauge", "Parked runs whose time comes later."),
    "statecraft_leases_overdue": ("gauge", "Runs whose lease is over right now and whom nobody took over yet."),
    "statecraft_leases_expired_total": ("counter", "Runs taken over from a holder who had vanished."),
    "statecraft_writes_refused_total": ("counter", "Writes that a fence refused."),
    "statecraft_transitions_total": ("counter", "Transitions committed by the steps of workers."),
    "statecraft_reviews_waiting": ("gauge", "Runs that wait for a person."),
    "statecraft_review_oldest_seconds": ("gauge", "How long the first of them has waited."),
    "statecraft_dead_letters": ("gauge", "Dead runs by machine."),
    "statecraft_budget_ratio": ("gauge", "Used share of a tenant's budget in its current window."),
    "statecraft_breaker_state": ("gauge", "0 closed, 1 open, 2 probing."),
    "statecraft_outbox_backlog": ("gauge", "Alerts not delivered yet."),
    "statecraft_outbox_late_seconds": ("gauge", "How long the oldest undelivered alert has been due."),
    "statecraft_schedules": ("gauge", "Schedules that will fire again."),
    "statecraft_schedule_late_seconds": ("gauge", "How late the first overdue schedule is."),
    "statecraft_workers": ("gauge", "Workers by state."),
    "statecraft_worker_capacity": ("gauge", "Runs that the living workers may hold."),
    "statecraft_worker_held": ("gauge", "Runs that the living workers hold."),
}
"""Every family: its type and its help text."""


def exposition(metrics: Iterable[Metric]) -> str:
    """The text format, families in the order of `FAMILIES`. `KeyError` for a metric of none of them."""
    lines: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for metric in metrics:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in metric.labels.items())
        lines[metric.name].append(
            f"{metric.name}{{{labels}}} {_number(metric.value)}" if labels else f"{metric.name} {_number(metric.value)}"
        )
    out: list[str] = []
    for name, found in lines.items():
        if found:
            kind, text = FAMILIES[name]
            out += [f"# HELP {name} {_line(text)}", f"# TYPE {name} {kind}", *found]
    return "".join(f"{line}\n" for line in out)


def _line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return _line(text).replace('"', '\\"')


def _number(value: float) -> str:
    """As Go's ParseFloat reads it; whole numbers without a point."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
