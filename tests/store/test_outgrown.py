"""A SQLite file that several processes wish to write says when it is outgrown: what was seen, and what to do."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from statecraft.store import outgrown, sqlite
from statecraft.store.outgrown import QUIET, WINDOW, Waits
from tests.store.rig import begun, path_of, within


class Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """Warnings in the log."""
    caplog.set_level(logging.WARNING, logger="statecraft")
    listener = Listener()
    logging.getLogger("statecraft").addHandler(listener)
    yield listener.heard
    logging.getLogger("statecraft").removeHandler(listener)


def waits(*seen: tuple[float, float]) -> Waits:
    """(when, how long) of waits, in seconds."""
    found = Waits("runs.db")
    for now, waited in seen:
        found.count(now, waited)
    return found


def test_three_long_waits_within_ten_minutes_are_said_with_what_to_do(said: list[logging.LogRecord]) -> None:
    waits((0, 1.5), (10, 2.25), (WINDOW, 1.1))
    [record] = said
    assert record.getMessage() == "store.outgrown"
    assert record.levelno == logging.WARNING
    told = vars(record)
    assert told["seen"] == "3 writes to runs.db waited more than 1 s for other writers within 10 minutes"
    assert told["longest_s"] == 2.25
    assert "PostgreSQL database (STATECRAFT_URL)" in told["advice"]


@pytest.mark.parametrize(
    "seen",
    [[(0, 9.0), (1, 9.0)], [(0, 1.0), (1, 1.0), (2, 1.0)], [(0, 9.0), (300, 9.0), (WINDOW + 1, 9.0)]],
    ids=["too few", "too short", "too far apart"],
)
def test_less_is_not_said(said: list[logging.LogRecord], seen: list[tuple[float, float]]) -> None:
    waits(*seen)
    assert said == []


def test_it_is_said_once_an_hour(said: list[logging.LogRecord]) -> None:
    found = waits(*((float(at), 5.0) for at in range(0, int(QUIET), 60)))
    assert len(said) == 1
    found.count(120 + QUIET, 5.0)
    assert len(said) == 2


def test_a_writer_measures_how_long_it_waits_for_others(url: str, said: list[logging.LogRecord]) -> None:
    times = iter(range(0, 100, 2))  # Each look at the clock finds it two seconds later.
    database = sqlite.Sqlite(sqlite.parse(url), lambda: float(next(times)))
    link = database.writer()
    for _ in range(outgrown.TIMES):
        assert said == []
        link.begin()
        link.rollback()
    assert len(said) == 1
    assert str(path_of(url)) in vars(said[0])["seen"]
    link.close()
    database.dispose()


def test_a_writer_that_gave_up_waiting_counts_too(
    url: str, said: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    within(url, begun)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    times = iter(range(0, 1_000, 30))
    database = sqlite.Sqlite(sqlite.parse(url), lambda: float(next(times)))
    link = database.writer()
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(outgrown.TIMES):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                link.begin()
    assert len(said) == 1
    link.close()
    database.dispose()
