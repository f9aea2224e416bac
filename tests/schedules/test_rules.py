"""Rules name instants: strictly later ones, the same for everybody, each local time once whatever the clocks do."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecraft import Cron, Every, hours
from statecraft.errors import ConfigError
from statecraft.schedules.rule import Rule, described, from_json, newest, to_json

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu", "America/Sao_Paulo")


def local(rule: Rule, start: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next instants in local time, with their offset."""
    found: list[str] = []
    at = start
    for _ in range(count):
        at = rule.next_after(at)
        found.append(at.astimezone(zone).strftime("%m-%d %H:%M%z"))
    return found


def test_a_local_time_that_does_not_exist_fires_once_at_the_first_minute_that_does() -> None:
    rule = Cron("30 2 * * *", "Europe/Berlin")
    assert local(rule, datetime(2026, 3, 28, tzinfo=BERLIN), 3) == ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]


def test_two_local_times_that_do_not_exist_fire_once_together() -> None:
    rule = Cron("0,30 2,3 * * *", "Europe/Berlin")
    assert local(rule, datetime(2026, 3, 29, tzinfo=BERLIN), 3) == ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"]


def test_a_local_time_that_exists_twice_fires_once_the_first_time() -> None:
    rule = Cron("30 2 * * *", "Europe/Berlin")
    assert local(rule, datetime(2026, 10, 24, tzinfo=BERLIN), 3) == ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_asked_in_the_second_round_of_an_hour_a_fixed_time_of_it_is_over_for_today(minute: int) -> None:
    second_round = datetime(2026, 10, 25, 1, minute, tzinfo=UTC)
    assert second_round.astimezone(BERLIN).hour == 2
    for fixed in (0, 15, 59):
        rule = Cron(f"{fixed} 2 * * *", "Europe/Berlin")
        assert local(rule, second_round, 1) == [f"10-26 02:{fixed:02}+0100"]


def test_an_expression_with_a_star_for_minute_or_hour_counts_in_real_time() -> None:
    rule = Cron("*/30 * * * *", "Europe/Berlin")
    assert local(rule, datetime(2026, 10, 25, 1, 30, tzinfo=BERLIN), 5) == [
        "10-25 02:00+0200",
        "10-25 02:30+0200",
        "10-25 02:00+0100",
        "10-25 02:30+0100",
        "10-25 03:00+0100",
    ]
    assert local(rule, datetime(2026, 3, 29, 1, 0, tzinfo=BERLIN), 2) == ["03-29 01:30+0100", "03-29 03:00+0200"]


def test_the_twenty_ninth_of_february_comes_in_leap_years_only() -> None:
    rule = Cron("0 12 29 2 *")
    at = datetime(2093, 1, 1, tzinfo=UTC)
    found = [at := rule.next_after(at) for _ in range(3)]
    assert [each.year for each in found] == [2096, 2104, 2108]


def test_day_of_month_and_day_of_week_are_alternatives_unless_one_is_a_star() -> None:
    assert local(Cron("0 0 13 * 5"), datetime(2026, 2, 1, tzinfo=UTC), 3, ZoneInfo("UTC")) == [
        "02-06 00:00+0000",
        "02-13 00:00+0000",
        "02-20 00:00+0000",
    ]
    assert local(Cron("0 0 */1 * 5"), datetime(2026, 2, 1, tzinfo=UTC), 1, ZoneInfo("UTC")) == ["02-06 00:00+0000"]


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("", "0 fields"),
        ("@daily", "1 fields"),
        ("0 0 3 * * *", "6 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 32 * *", "bad day-of-month"),
        ("0 0 1 XXX *", "bad month"),
        ("0 0 * * 9", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 */31 2 MON#2", "no instant of the next 50 years"),
        ("9" * 100 + " * * * *", "bad minute"),
        ("9" * 10_000 + " * * * *", "is not a cron expression"),
    ],
)
def test_what_is_no_expression_or_never_fits_is_refused_and_says_why(expression: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong) as caught:
        Cron(expression)
    assert len(str(caught.value)) < 500


@pytest.mark.slow
@given(st.text("0123456789*/,-#LWMONFEB @\0é", max_size=30) | st.lists(st.text("0123456789*/,-#LW", max_size=6)).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_any_text_is_an_expression_or_a_configuration_error(text: str) -> None:
    try:
        rule = Cron(text)
    except ConfigError:
        return
    assert rule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) > datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "..", "/etc/passwd", "Europe", "\0"])
def test_a_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="is not a time zone"):
        Cron("0 0 * * *", zone)


def test_without_the_extra_the_error_names_the_command_and_the_other_rule_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ConfigError, match=r"pip install 'statecraft-agents\[cron\]'"):
        Cron("1 2 3 4 *")
    assert Every(hours(1)).next_after(datetime(2026, 1, 1, tzinfo=UTC)).hour == 1


# --- every ----------------------------------------------------------------------------------------------------------


def test_every_hour_is_each_full_hour_whenever_it_is_asked() -> None:
    rule = Every(hours(1))
    asked = datetime(2026, 5, 4, 7, 59, 59, 999_999, tzinfo=UTC)
    assert rule.next_after(asked) == datetime(2026, 5, 4, 8, tzinfo=UTC)
    assert rule.next_after(datetime(2026, 5, 4, 8, tzinfo=UTC)) == datetime(2026, 5, 4, 9, tzinfo=UTC)


def test_an_anchor_ahead_is_the_first_instant() -> None:
    anchor = datetime(2026, 6, 1, 9, 30, tzinfo=BERLIN)
    rule = Every(timedelta(days=2), anchor)
    assert rule.next_after(datetime(2026, 1, 1, tzinfo=UTC)) == anchor
    assert rule.next_after(anchor) == anchor + timedelta(days=2)


@pytest.mark.parametrize("interval", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=1500), timedelta.max])
def test_an_interval_that_is_no_whole_number_of_seconds_is_refused(interval: timedelta) -> None:
    with pytest.raises(ConfigError, match="whole seconds"):
        Every(interval)


@pytest.mark.parametrize("anchor", [datetime(2026, 1, 1), datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)])  # noqa: DTZ001
def test_an_anchor_without_a_zone_or_between_seconds_is_refused(anchor: datetime) -> None:
    with pytest.raises(ConfigError, match="anchor"):
        Every(hours(1), anchor)


# --- all rules ------------------------------------------------------------------------------------------------------

moments = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
turns = st.sampled_from(
    [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)]
)
near_turns = st.builds(lambda at, by: at + by, turns, st.timedeltas(timedelta(hours=-30), timedelta(hours=30)))


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    listed = st.lists(one, min_size=1, max_size=3, unique=True).map(lambda found: ",".join(map(str, found)))
    return st.just("*") | listed | st.integers(1, 7).map(lambda step: f"*/{step}")


crons = st.builds(
    lambda *parts: Cron(" ".join(parts[:5]), parts[5]),
    numbers(0, 59),
    numbers(0, 23),
    numbers(1, 28),
    numbers(1, 12),
    numbers(0, 6),
    st.sampled_from(ZONES),
)
everies = st.builds(
    Every, st.integers(1, 10**7).map(lambda n: timedelta(seconds=n)), moments.map(lambda at: at.replace(microsecond=0))
)
rules = crons | everies


@pytest.mark.slow
@given(rules, moments | near_turns)
@settings(max_examples=250, deadline=None)
def test_the_next_instant_is_strictly_later_whole_and_the_same_from_anywhere_before_it(rule: Rule, at: datetime) -> None:
    found = rule.next_after(at)
    assert found > at
    assert found.tzinfo is UTC
    assert found.microsecond == 0
    assert rule.next_after(found - timedelta(microseconds=1)) == found
    assert rule.next_after(at + (found - at) / 2) == found
    assert from_json(to_json(rule)) == rule


def fits(expression: str, at: datetime) -> bool:
    """Debian's rule, written down independently of cronsim."""

    def matches(field: str, value: int, low: int) -> bool:
        if field.startswith("*/"):
            return (value - low) % int(field[2:]) == 0
        return field == "*" or str(value) in field.split(",")

    minute, hour, dom, month, dow = expression.split()
    days = (matches(dom, at.day, 1), matches(dow, at.isoweekday() % 7, 0))
    day = all(days) if dom.startswith("*") or dow.startswith("*") else any(days)
    return matches(minute, at.minute, 0) and matches(hour, at.hour, 0) and matches(month, at.month, 1) and day


def counts_in_real_time(rule: Cron) -> bool:
    minute, hour, *_ = rule.expression.split()
    return rule.zone == "UTC" or minute.startswith("*") or hour.startswith("*")


@pytest.mark.slow
@given(crons.filter(counts_in_real_time), moments | near_turns)
@settings(max_examples=120, deadline=None)
def test_the_next_instant_fits_the_expression_and_none_between_does(rule: Cron, at: datetime) -> None:
    found, zone = rule.next_after(at), ZoneInfo(rule.zone)
    assert fits(rule.expression, found.astimezone(zone))
    between = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
    stop = min(found, between + timedelta(hours=6))
    while between < stop:
        assert not fits(rule.expression, between.astimezone(zone))
        between += timedelta(minutes=1)


@pytest.mark.slow
@given(rules, moments, st.integers(1, 40), st.integers(1, 8), st.timedeltas(timedelta(0), timedelta(hours=1)))
@settings(max_examples=60, deadline=None)
def test_the_newest_instants_are_the_end_of_all_instants(
    rule: Rule, at: datetime, count: int, most: int, late: timedelta
) -> None:
    every = [at := rule.next_after(at) for _ in range(count)]
    now = every[-1] + late
    every += _until(rule, every[-1], now)
    assert newest(rule, every[0], now, most) == every[-most:]


def _until(rule: Rule, at: datetime, now: datetime) -> list[datetime]:
    found: list[datetime] = []
    while (at := rule.next_after(at)) <= now:
        found.append(at)
    return found


def test_a_fixed_time_comes_once_each_local_day_of_a_year_in_every_zone() -> None:
    for zone in ZONES:
        at = datetime(2025, 12, 31, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        rule = Cron("15 2 * * *", zone)
        days = [(at := rule.next_after(at)).astimezone(ZoneInfo(zone)).date() for _ in range(365)]
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days)), zone


def test_rules_are_told_in_words_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        to_json(Cron(" 0  3 * * *", "Europe/Berlin")),
        to_json(Every(hours(1))),
        to_json(Every(hours(36), datetime(2026, 1, 1, tzinfo=UTC))),
    ]
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert [described(each) for each in told] == [
        "0 3 * * * (Europe/Berlin)",
        "every 1h",
        "every 1d12h from 2026-01-01T00:00:00Z",
    ]


@pytest.mark.parametrize("told", [{}, {"cron": 3, "zone": "UTC"}, {"every": "x", "anchor": "y"}, {"every": 5, "anchor": "never"}])
def test_what_is_no_rule_in_the_database_is_a_configuration_error(told: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no rule"):
        from_json(told)
