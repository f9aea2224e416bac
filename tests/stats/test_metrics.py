"""Figures as metrics: names that exporters accept, and the text that Prometheus reads."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from statecraft.stats import Backlog, BreakerStands, BudgetUse, Metric, Pace, Place, QueueDepth, Stats, WorkerBeat
from statecraft.stats.metrics import FAMILIES, exposition

AT = datetime(2026, 11, 21, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ANN = WorkerBeat("ann", "alive", AT, 3, 8, 10, 1, 2, (), ("paper",))
FULL = Stats(
    at=AT,
    runs={"ready": 2, "running": 1, "waiting": 3},
    places=(Place("paper", "draft", "ready", 2),),
    sampled=False,
    waiting_for={"review": 3},
    queues=(QueueDepth("default", 5, timedelta(seconds=1.5), 4, None),),
    overdue=1,
    moves=100,
    refused=6,
    taken_over=7,
    pace=(Pace(MINUTE, MINUTE, 1.0, 2.0, 3.0),),
    reviews=3,
    review_oldest=MINUTE,
    dead={"paper": 9},
    outbox=(Backlog("ops", 2, MINUTE),),
    schedules=1,
    schedule_next=AT,
    schedule_late=timedelta(0),
    workers=(ANN, WorkerBeat("bob", "lost", AT, 5, 8, 0, 0, 0, (), ())),
    budgets=(BudgetUse("acme", timedelta(days=1), "tokens", 25, 100),),
    breakers=(BreakerStands("model:m", "open", 8, AT),),
)


def test_the_text_is_that_of_the_exposition_format() -> None:
    lines = FULL.exposition().splitlines()
    assert lines[:5] == [
        "# HELP statecraft_runs Open runs by status.",
        "# TYPE statecraft_runs gauge",
        'statecraft_runs{status="ready"} 2',
        'statecraft_runs{status="running"} 1',
        'statecraft_runs{status="waiting"} 3',
    ]
    assert 'statecraft_queue_oldest_seconds{queue="default"} 1.5' in lines
    assert "statecraft_leases_expired_total 7" in lines
    assert 'statecraft_budget_ratio{tenant="acme",window_seconds="86400",unit="tokens"} 0.25' in lines
    assert 'statecraft_breaker_state{name="model:m"} 1' in lines
    assert FULL.exposition().endswith("\n")


def test_every_family_has_values_and_every_value_a_family() -> None:
    assert {metric.name for metric in FULL.metrics()} == set(FAMILIES)


def test_names_and_labels_are_of_the_form_that_prometheus_takes() -> None:
    for metric in FULL.metrics():
        assert re.fullmatch(r"statecraft_[a-z_]+", metric.name)
        assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)
    for name, (kind, _) in FAMILIES.items():
        assert (kind == "counter") == name.endswith("_total")


def test_what_the_living_hold_is_not_what_the_lost_held() -> None:
    values = {(metric.name, *metric.labels.values()): metric.value for metric in FULL.metrics()}
    assert values["statecraft_worker_held",] == 3
    assert values["statecraft_worker_capacity",] == 8
    assert (values["statecraft_workers", "alive"], values["statecraft_workers", "lost"]) == (1, 1)


@pytest.mark.parametrize(
    ("value", "written"), [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb"), ("\\n", r"\\n"), ("é€", "é€")]
)
def test_labels_are_escaped(value: str, written: str) -> None:
    text = exposition([Metric("statecraft_queue_depth", 1, {"queue": value})])
    assert text.splitlines()[-1] == f'statecraft_queue_depth{{queue="{written}"}} 1'


def test_lines_of_a_family_follow_together() -> None:
    mixed = [Metric("statecraft_queue_depth", 1, {"queue": "a"}), Metric("statecraft_schedules", 1)]
    text = exposition([*mixed, Metric("statecraft_queue_depth", 2, {"queue": "b"})])
    assert text.count("# TYPE statecraft_queue_depth") == 1
    assert text.index('queue="b"') < text.index("# HELP statecraft_schedules")


def test_a_budget_of_nothing_is_used_up() -> None:
    assert BudgetUse("acme", MINUTE, "calls", 0, 0).ratio == 1.0
