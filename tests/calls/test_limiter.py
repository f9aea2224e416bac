"""Rates are kept, by requests and by tokens, and a server that says "later" is believed by everybody."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecraft import RateLimit
from statecraft.calls.call import Call, Reply, Scope
from statecraft.calls.gauges import MemoryGauges
from statecraft.calls.limiter import Buckets, Limiter, Rate, Want, draws_of, dump, load, penalise, settle, take
from statecraft.calls.park import NotYet
from statecraft.clock import stamp
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.port import ModelError
from statecraft.records import Usage, Waiting
from statecraft.testing import ManualClock
from statecraft.testing.clock import START
from tests.calls.test_stack import Submitted, World, call_on, visit_on

S = 1_000_000
T0 = stamp(START)
TEN = Rate(limit=60, per=60 * S, room=10 * S)
"""One a second, ten at once."""


def want(units: int = 1, rate: Rate = TEN) -> list[Want]:
    return [Want("b", rate, units)]


# --- the pure half ---------------------------------------------------------------------------------------------------


def test_a_full_bucket_gives_its_burst_and_then_one_at_a_time() -> None:
    state = Buckets()
    for _ in range(10):
        state, due = take(state, want(), T0, "a")
        assert due is None
    state, due = take(state, want(), T0, "a")
    assert due == T0 + S
    state, due = take(state, want(), T0 + S, "a")
    assert due is None


def test_those_who_wait_are_told_different_times() -> None:
    state, _ = take(Buckets(), want(10), T0, "a")
    dues = []
    for who in "bcdef":
        state, due = take(state, want(), T0, who)
        dues.append(due)
    assert dues == [T0 + n * S for n in range(1, 6)]


def test_all_buckets_give_or_none() -> None:
    scarce = Want("scarce", Rate(1, 60 * S, 60 * S), 1)
    state, due = take(Buckets(), [*want(), scarce], T0, "a")
    assert due is None
    tat = (state.each or {})["b"].tat
    state, due = take(state, [*want(), scarce], T0, "b")
    assert due == T0 + 60 * S
    assert (state.each or {})["b"].tat == tat


def test_more_than_a_bucket_can_hold_passes_alone_when_it_is_full() -> None:
    state, due = take(Buckets(), want(50), T0, "huge")
    assert due is None
    state, due = take(state, want(), T0, "small")
    assert due == T0 + 41 * S


def test_a_huge_call_gets_its_turn_though_small_ones_never_stop_coming() -> None:
    state, now = Buckets(), T0
    due: int | None = T0
    admitted = second = 0
    for second in range(120):
        now = T0 + second * S
        for number in range(3):
            state, refused = take(state, want(), now, f"small {second} {number}")
            admitted += refused is None
        if now >= (due or 0):
            state, due = take(state, want(50), now, "huge")
            if due is None:
                break
    assert due is None
    assert second <= 30


def test_a_huge_call_that_never_comes_back_keeps_the_others_away_for_seconds_only() -> None:
    state, _ = take(Buckets(), want(10), T0, "a")
    state, due = take(state, want(50), T0, "gone")
    assert due == T0 + 10 * S
    assert take(state, want(), T0 + 10 * S, "b")[1] is not None
    assert take(state, want(), T0 + 15 * S, "b")[1] is None


def test_what_was_not_used_can_be_used_by_others() -> None:
    state, _ = take(Buckets(), want(10), T0, "a")
    assert take(state, want(8), T0, "b")[1] is not None
    state = settle(state, want(-8), T0)
    assert take(state, want(8), T0, "b")[1] is None


def test_what_was_used_beyond_the_estimate_is_owed() -> None:
    state, _ = take(Buckets(), want(1), T0, "a")
    state = settle(state, want(29), T0)
    assert take(state, want(), T0, "b")[1] == T0 + 21 * S


def test_nobody_passes_before_a_penalty_is_over_and_a_shorter_one_changes_nothing() -> None:
    state = penalise(penalise(Buckets(), T0, T0 + 30 * S), T0, T0 + 5 * S)
    assert take(state, want(), T0 + 30 * S - 1, "a")[1] == T0 + 30 * S
    assert take(state, want(), T0 + 30 * S, "a")[1] is None


takes = st.lists(st.tuples(st.integers(0, 20 * S), st.integers(1, 10)), max_size=60)


@pytest.mark.slow
@settings(max_examples=200)
@given(steps=takes, limit=st.integers(1, 500), per=st.integers(1, 120), share=st.floats(0.01, 1))
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate(
    steps: list[tuple[int, int]], limit: int, per: int, share: float
) -> None:
    rate = Rate(limit, per * S, max(1, int(per * S * share)))
    state, now = Buckets(), T0
    admitted: list[tuple[int, int]] = []
    for number, (pause, units) in enumerate(steps):
        now += pause
        state, due = take(state, [Want("b", rate, units)], now, str(number))
        assert due is None or due > now
        if due is None:
            admitted.append((now, units))
    for first, (begin, _) in enumerate(admitted):
        total = 0
        for end, units in admitted[first:]:
            total += units
            # A call that is larger than the bucket passes alone: then it is the burst.
            burst = max(rate.room * limit / rate.per, *(most for at, most in admitted[first:] if at <= end))
            assert total <= burst + (end - begin) * limit / rate.per + 1e-6


@pytest.mark.slow
@settings(max_examples=200)
@given(steps=st.lists(st.tuples(st.integers(0, 5 * S), st.integers(1, 10), st.integers(0, 10)), max_size=60))
def test_what_is_really_used_keeps_to_the_rate_from_the_beginning(steps: list[tuple[int, int, int]]) -> None:
    state, now, kept = Buckets(), T0, 0
    for number, (pause, units, unused) in enumerate(steps):
        now += pause
        state, due = take(state, want(units), now, str(number))
        if due is not None:
            continue
        kept += units
        assert kept <= 10 + (now - T0) / S
        state = settle(state, want(-min(unused, units)), now)
        kept -= min(unused, units)


@given(takes)
def test_buckets_come_back_from_their_text_as_they_were(steps: list[tuple[int, int]]) -> None:
    state, now = penalise(Buckets(each={}), T0, T0 + 3), T0
    for number, (pause, units) in enumerate(steps):
        now += pause
        state, _ = take(state, want(units), now, str(number))
    assert load(dump(state)) == state


@pytest.mark.parametrize("stored", [None, "", "nonsense", "[]", '{"each": 3}', '{"each": {"b": [1]}}', '{"until": "soon"}'])
def test_a_text_that_is_no_state_means_full_buckets(stored: str | None) -> None:
    assert take(load(stored), want(10), T0, "a")[1] is None


# --- what a limit applies to -----------------------------------------------------------------------------------------


def meters(limits: list[RateLimit], dependency: str, tenant: str | None = None) -> list[str]:
    return [f"{meter} {bucket}" for meter, parts in draws_of(limits, dependency, tenant) for bucket, _, _ in parts]


def test_a_limit_counts_each_name_apart_unless_it_is_shared() -> None:
    each = RateLimit(of="model", only="claude-*", requests=50, tokens=1000)
    assert meters([each], "model:claude-x") == [
        "limit:model:claude-x 50 requests per 60 s",
        "limit:model:claude-x 1000 tokens per 60 s",
    ]
    assert meters([each], "model:other") == meters([each], "tool:claude-x") == []
    shared = RateLimit(of="tool", only="web_*", requests=5, per=timedelta(seconds=1), shared=True)
    assert meters([shared], "tool:web_get") == meters([shared], "tool:web_put") == ["limit:tool:web_** 5 requests per 1 s"]


def test_a_tenants_limit_counts_models_and_tools_and_tokens_of_models_only() -> None:
    limit = RateLimit(of="tenant", requests=5, tokens=100)
    assert len(meters([limit], "model:m", "acme")) == 2
    assert meters([limit], "tool:t", "acme") == ["limit:tenant:acme 5 requests per 60 s"]
    assert meters([limit], "model:m") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": "world", "requests": 1},
        {"of": "model"},
        {"of": "tool", "tokens": 1},
        {"of": "model", "requests": 0},
        {"of": "model", "requests": 1, "per": timedelta(0)},
        {"of": "model", "requests": 1, "burst": 0},
        {"of": "model", "requests": 1, "burst": 1.5},
    ],
)
def test_a_limit_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="limits"):
        RateLimit(**wrong)


# --- the middleware --------------------------------------------------------------------------------------------------


class Bench:
    """One limiter, a clock, and calls that end as they are told."""

    def __init__(self, *limits: RateLimit, draw: float = 0.0) -> None:
        self.clock, self.gauges = ManualClock(), MemoryGauges()
        self.limiter = Limiter(limits, self.gauges, lambda: draw)
        self.number = 0

    def go(self, outcome: Reply | Exception | None = None, *, tenant: str | None = None, **changes: Any) -> Any:
        self.number += 1
        scope = Scope("r", "s", None, tenant)
        given = {"dependency": "model:m", "scope": scope, **changes}
        call = call_on(visit_on(Submitted(), self.clock), World([]), f'"{self.number}"', **given)

        async def end(call: Call) -> Reply:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome or Reply("ok")

        try:
            return asyncio.run(self.limiter(call, end)).result
        except Exception as error:
            return error

    def advance(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(timedelta(seconds=seconds)))


def slow_down(hint: float | None) -> ModelError:
    return ModelError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after=hint)


def test_without_limits_and_penalties_nothing_is_kept() -> None:
    bench = Bench()
    assert [bench.go() for _ in range(3)] == ["ok"] * 3
    assert bench.gauges.states == {}


def test_tenants_that_no_limit_counts_leave_nothing_behind() -> None:
    bench = Bench(RateLimit(of="model", requests=1000))
    for number in range(50):
        bench.go(tenant=f"tenant {number}")
    assert len(bench.limiter._draws) == len(bench.gauges.states) == 1


def test_a_servers_hint_keeps_everybody_away_and_they_come_back_spread() -> None:
    dues = []
    for tenth in (0.0, 0.5, 0.9):
        bench = Bench(draw=tenth)
        bench.go(slow_down(60.0))
        refused = bench.go()
        assert refused.why is Waiting.LIMIT
        dues.append(refused.due_at - T0)
        assert bench.go(dependency="model:other") == "ok"
        bench.advance(60)
        assert bench.go() == "ok"
    assert dues == [60 * S, 63 * S, 65_400_000]


def test_a_hint_counts_up_to_its_cap() -> None:
    bench = Bench()
    bench.go(slow_down(1e9))
    assert bench.go().due_at == T0 + 900 * S


@pytest.mark.parametrize("error", [slow_down(None), ModelError("busy", kind=ErrorKind.OVERLOADED, retry_after=60.0)])
def test_other_failures_penalise_nobody(error: ModelError) -> None:
    bench = Bench()
    bench.go(error)
    assert bench.go() == "ok"


def test_requests_are_counted_for_each_model_and_a_failed_one_is_one() -> None:
    bench = Bench(RateLimit(of="model", requests=4, burst=0.5))
    assert bench.go() == "ok"
    assert isinstance(bench.go(ModelError("500", kind=ErrorKind.TRANSIENT)), ModelError)
    refused = bench.go()
    assert isinstance(refused, NotYet)
    assert refused.due_at == T0 + 15 * S
    assert bench.go(dependency="model:other") == "ok"
    bench.advance(15)
    assert bench.go() == "ok"


def test_tokens_are_reserved_at_their_worst_and_given_back_after_the_reply() -> None:
    bench = Bench(RateLimit(of="model", tokens=6000, burst=0.5))
    worst = Usage(1000, 2000)
    assert bench.go(Reply("ok", Usage(100, 100)), worst=worst) == "ok"
    assert bench.go(Reply("ok", Usage(1000, 1800)), worst=Usage(1000, 1800)) == "ok"
    refused = bench.go(worst=worst)
    assert isinstance(refused, NotYet)
    assert refused.due_at == T0 + 30 * S


@pytest.mark.parametrize(("billed", "passes"), [(False, True), (True, False)])
def test_tokens_of_a_failure_come_back_only_if_nothing_can_have_been_charged(billed: bool, passes: bool) -> None:
    bench = Bench(RateLimit(of="model", tokens=6000, burst=0.5))
    bench.go(ModelError("cut", kind=ErrorKind.TRANSIENT, maybe_billed=billed), worst=Usage(1000, 2000))
    assert (bench.go(Reply("ok", Usage(1000, 2000)), worst=Usage(1000, 2000)) == "ok") is passes


def test_a_call_that_one_bucket_refuses_takes_nothing_from_the_others() -> None:
    bench = Bench(RateLimit(of="model", requests=4, burst=0.5), RateLimit(of="tenant", requests=1, burst=1))
    assert bench.go(tenant="acme") == "ok"
    for _ in range(5):
        assert isinstance(bench.go(tenant="acme"), NotYet)
    assert bench.go(tenant="other") == "ok"
    assert isinstance(bench.go(tenant="third"), NotYet)


def test_calls_that_never_leave_the_process_pass() -> None:
    bench = Bench(RateLimit(of="tool", requests=1))
    assert [bench.go(dependency="") for _ in range(5)] == ["ok"] * 5
