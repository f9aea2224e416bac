"""A failing dependency is left alone, asked by one probe at a time, and come back to bit by bit."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from math import nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecraft import BreakerPolicy
from statecraft.calls.breaker import Breaker, Circuit, admit, counted, dump, load, probes, release, report
from statecraft.calls.call import Call, Reply
from statecraft.calls.gauges import A, Change, MemoryGauges
from statecraft.calls.park import NotYet
from statecraft.clock import stamp
from statecraft.errors import ConfigError, ErrorKind, Fenced, StoreFull
from statecraft.llm.port import ModelError
from statecraft.records import Waiting
from statecraft.testing import ManualClock
from statecraft.testing.clock import START
from tests.calls.test_stack import Submitted, World, call_on, overloaded, visit_on

S = 1_000_000
T0 = stamp(START)
QUICK = BreakerPolicy(failures=3, open_for=10, growth=2, longest=100, probe_lease=30, minimum=10, window=60)


def tripped(now: int = T0, policy: BreakerPolicy = QUICK) -> Circuit:
    circuit = Circuit()
    for _ in range(policy.failures):
        circuit, _ = report(circuit, False, now, "", policy)
    assert circuit.open
    return circuit


# --- the pure half ---------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it_and_a_success_between_starts_over() -> None:
    circuit = Circuit()
    became = []
    for ok in (False, False, True, False, False, False):
        circuit, change = report(circuit, ok, T0, "", QUICK)
        became.append(change)
    assert became == [None, None, None, None, None, "opened"]
    assert circuit.until == T0 + 10 * S


def test_a_success_that_was_counted_elsewhere_starts_over_as_well() -> None:
    circuit = Circuit()
    for _ in range(2):
        circuit, _ = report(circuit, False, T0, "", QUICK)
    circuit, change = report(circuit, False, T0, "", QUICK, (T0 // (30 * S), 1, 0))
    assert (change, circuit.in_a_row, circuit.calls) == (None, 1, 4)


def test_a_success_from_before_a_failure_that_is_told_after_it_does_not_start_over() -> None:
    first, second, gauges, clock = Bench(), Bench(), MemoryGauges(), ManualClock()
    for bench in (first, second):  # Two workers with one home for their states.
        bench.clock, bench.breaker = clock, Breaker(QUICK, gauges, lambda: 0.0)
        assert bench.go("ok") == "ok"
    asyncio.run(clock.advance(timedelta(seconds=1)))
    for bench in (first, first, second):
        assert isinstance(bench.go(overloaded()), ModelError)
    assert isinstance(second.go("ok"), NotYet)


def test_half_of_the_calls_failing_opens_it_though_never_three_in_a_row() -> None:
    circuit = Circuit()
    changes = []
    for number in range(10):
        circuit, change = report(circuit, number % 2 == 0, T0, "", QUICK)
        changes.append(change)
    assert changes == [None] * 9 + ["opened"]


def test_calls_that_left_the_window_do_not_count() -> None:
    circuit = Circuit()
    for number in range(9):
        circuit, _ = report(circuit, number % 2 == 0, T0, "", QUICK)
    later = counted(circuit, T0 + 60 * S, QUICK)
    assert (later.calls, later.calls_before) == (0, 0)
    assert counted(circuit, T0 + 30 * S, QUICK).calls_before == 9


def test_an_open_one_refuses_until_its_probe_is_due_and_lets_exactly_one_pass() -> None:
    circuit = tripped()
    circuit, refused = admit(circuit, T0 + 10 * S - 1, "a", QUICK)
    assert (refused.admitted, refused.due_at, refused.spread) == (False, T0 + 10 * S, 5 * S)
    circuit, first = admit(circuit, T0 + 10 * S, "a", QUICK)
    assert first.probe
    for who in ("a", "b", "c"):
        circuit, other = admit(circuit, T0 + 11 * S, who, QUICK)
        assert not other.admitted
    circuit, became = report(circuit, True, T0 + 12 * S, "a", QUICK)
    assert became == "closed"
    assert admit(circuit, T0 + 12 * S, "b", QUICK)[1].admitted


def test_a_probe_that_dies_wedges_nothing() -> None:
    circuit, _ = admit(tripped(), T0 + 10 * S, "dead", QUICK)
    assert not admit(circuit, T0 + 40 * S - 1, "b", QUICK)[1].admitted
    circuit, second = admit(circuit, T0 + 40 * S, "b", QUICK)
    assert second.probe
    assert report(circuit, True, T0 + 41 * S, "dead", QUICK) == (circuit, None)  # It was given up.


def test_a_probes_lease_is_never_shorter_than_the_call_may_take() -> None:
    circuit, _ = admit(tripped(), T0 + 10 * S, "slow", QUICK, lease=120)
    assert not admit(circuit, T0 + 129 * S, "b", QUICK)[1].admitted
    assert admit(circuit, T0 + 130 * S, "b", QUICK)[1].probe


def test_a_probe_that_was_not_made_is_another_ones_turn() -> None:
    circuit, _ = admit(tripped(), T0 + 10 * S, "a", QUICK)
    assert release(circuit, "b") == circuit
    assert admit(release(circuit, "a"), T0 + 10 * S, "b", QUICK)[1].probe


def test_each_failed_probe_makes_the_pause_longer_up_to_its_cap() -> None:
    circuit, now, pauses = tripped(), T0, []
    for _ in range(6):
        now = circuit.until
        circuit, _ = admit(circuit, now, "a", QUICK)
        circuit, became = report(circuit, False, now, "a", QUICK)
        assert became == "opened"
        pauses.append((circuit.until - now) // S)
    assert pauses == [20, 40, 80, 100, 100, 100]


def test_a_relapse_pauses_longer_and_a_new_outage_does_not() -> None:
    circuit, _ = admit(tripped(), T0 + 10 * S, "a", QUICK)
    circuit, _ = report(circuit, True, T0 + 10 * S, "a", QUICK)
    for after, pause in ((9, 20), (11, 10)):
        again = circuit
        for _ in range(3):
            again, _ = report(again, False, T0 + (10 + after) * S, "", QUICK)
        assert (again.open, again.pause // S) == (True, pause)


def test_calls_from_before_it_opened_neither_close_it_nor_hold_it_open() -> None:
    circuit = tripped()
    for ok in (True, False):
        assert report(circuit, ok, T0 + S, "old", QUICK) == (circuit, None)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "admit", "release"]), st.integers(0, 40), st.sampled_from("abc"))))
def test_a_circuit_comes_back_from_its_text_as_it_was(steps: list[tuple[str, int, str]]) -> None:
    circuit, now = Circuit(), T0
    for what, pause, who in steps:
        now += pause * S
        if what == "admit":
            circuit, _ = admit(circuit, now, who, QUICK)
        elif what == "release":
            circuit = release(circuit, who)
        else:
            circuit, _ = report(circuit, what == "ok", now, who, QUICK)
        assert load(dump(circuit)) == circuit


@pytest.mark.parametrize("stored", [None, "", "{", "[]", '{"until": "soon"}', '{"open": 1}', '{"colour": "red"}'])
def test_a_text_that_is_no_circuit_is_a_closed_one(stored: str | None) -> None:
    assert load(stored) == Circuit()


@pytest.mark.slow
@settings(max_examples=60)
@given(
    seconds=st.integers(0, 5_000),
    arrivals=st.lists(st.integers(0, 5_000), min_size=1, max_size=300),
    open_for=st.sampled_from([1.0, 7.0, 60.0]),
    growth=st.sampled_from([1.0, 1.5, 2.0, 10.0]),
    longest=st.sampled_from([60.0, 300.0]),
    takes=st.integers(0, 20),
)
def test_the_probes_in_an_outage_are_bounded_whoever_asks_and_whenever(
    seconds: int, arrivals: list[int], open_for: float, growth: float, longest: float, takes: int
) -> None:
    policy = BreakerPolicy(failures=1, open_for=open_for, growth=growth, longest=longest, probe_lease=1_000)
    circuit, _ = report(Circuit(), False, T0, "", policy)
    ends: list[tuple[int, str]] = []
    made = 0
    for number, second in enumerate(sorted(arrivals)):
        now = T0 + second * S
        if second > seconds:
            break
        for at, who in [end for end in ends if end[0] <= now]:
            circuit, _ = report(circuit, False, at, who, policy)
        ends = [end for end in ends if end[0] > now]
        circuit, admission = admit(circuit, now, str(number), policy)
        made += admission.probe
        assert admission.probe or not admission.admitted
        if admission.probe:
            assert not ends
            ends.append((now + takes * S, str(number)))
    assert made <= probes(policy, seconds)


def test_ten_minutes_of_outage_see_five_probes_by_default() -> None:
    assert [probes(BreakerPolicy(), t) for t in (9, 10, 30, 600, 609, 610, 3600)] == [0, 1, 2, 5, 5, 6, 15]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failures", 0),
        ("rate", 0),
        ("rate", 1.5),
        ("window", 0),
        ("minimum", 0),
        ("open_for", 0),
        ("open_for", nan),
        ("growth", 0.5),
        ("longest", 1),
        ("probe_lease", 0),
        ("spread", 2),
        ("patience", -1),
        ("exempt", "tool:fetch"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"breaker.{name}"):
        BreakerPolicy(**{name: value})  # type: ignore[arg-type]


# --- the middleware --------------------------------------------------------------------------------------------------


def model_error(kind: ErrorKind) -> ModelError:
    return ModelError(str(kind), kind=kind)


class Bench:
    """One breaker, a clock, and calls that end as they are told."""

    def __init__(self, policy: BreakerPolicy = QUICK, draw: float = 0.0) -> None:
        self.clock, self.gauges, self.sent = ManualClock(), MemoryGauges(), 0
        self.breaker = Breaker(policy, self.gauges, lambda: draw)

    def call(self, **changes: Any) -> Call:
        visit = visit_on(Submitted(), self.clock)
        return call_on(visit, World([]), **{"dependency": "model:m", **changes})

    def go(self, outcome: str | BaseException, **changes: Any) -> Any:
        async def end(call: Call) -> Reply:
            self.sent += 1
            if isinstance(outcome, BaseException):
                raise outcome
            return Reply(outcome)

        try:
            return asyncio.run(self.breaker(self.call(**changes), end)).result
        except BaseException as error:
            return error

    def trip(self) -> None:
        for _ in range(3):
            self.go(model_error(ErrorKind.OVERLOADED))
        self.sent = 0

    def advance(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(timedelta(seconds=seconds)))


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_only_failures_of_the_dependency_open_it(kind: ErrorKind) -> None:
    bench = Bench()
    for _ in range(3):
        bench.go(model_error(kind))
    counts = kind in {ErrorKind.OVERLOADED, ErrorKind.TRANSIENT, ErrorKind.PROTOCOL, ErrorKind.TIMEOUT}
    assert isinstance(bench.go("ok"), NotYet) == counts


@pytest.mark.parametrize("kind", [ErrorKind.RATE_LIMITED, ErrorKind.PERMANENT, ErrorKind.TOOL])
def test_an_answer_of_any_kind_shows_the_dependency_alive(kind: ErrorKind) -> None:
    bench = Bench()
    for what in (ErrorKind.OVERLOADED, ErrorKind.OVERLOADED, kind, ErrorKind.OVERLOADED, ErrorKind.OVERLOADED):
        bench.go(model_error(what))
    assert bench.go("ok") == "ok"
    bench.trip()
    bench.advance(10)
    assert isinstance(bench.go(model_error(kind)), ModelError)
    assert bench.go("ok") == "ok"


def test_open_it_sends_nothing_and_says_when_to_come_back() -> None:
    bench = Bench(draw=0.5)
    bench.trip()
    refused = bench.go("ok")
    assert isinstance(refused, NotYet)
    assert (refused.why, refused.due_at, bench.sent) == (Waiting.BREAKER, T0 + 10 * S + 2_500_000, 0)
    assert bench.go("ok", dependency="model:other") == "ok"
    assert bench.go("ok", dependency="") == "ok"


def test_a_failed_probe_is_put_off_and_costs_no_attempt() -> None:
    bench = Bench()
    bench.trip()
    bench.advance(10)
    refused = bench.go(ModelError("still busy", kind=ErrorKind.OVERLOADED, maybe_billed=True))
    assert isinstance(refused, NotYet)
    assert (refused.due_at, refused.maybe_billed, bench.sent) == (bench.clock.now() + 20 * S, True, 1)


def test_a_call_whose_own_request_is_to_blame_ends_some_day() -> None:
    bench = Bench(BreakerPolicy(failures=1, open_for=10, growth=1, patience=2))
    bench.go(overloaded())
    call = bench.call()

    async def down(call: Call) -> Reply:
        raise overloaded()

    ends: list[type[BaseException]] = []
    for _ in range(4):
        bench.advance(10)
        with pytest.raises((NotYet, ModelError)) as caught:
            asyncio.run(bench.breaker(call, down))
        ends.append(caught.type)
    assert ends == [NotYet, NotYet, ModelError, ModelError]


def test_an_exempt_dependency_has_no_breaker() -> None:
    bench = Bench(BreakerPolicy(failures=1, exempt=("tool:fetch*",)))
    for _ in range(5):
        bench.go(overloaded(), dependency="tool:fetch_page")
    assert bench.go("ok", dependency="tool:fetch_page") == "ok"
    bench.go(overloaded(), dependency="tool:other")
    assert isinstance(bench.go("ok", dependency="tool:other"), NotYet)


def test_a_failed_probe_that_may_happen_only_once_has_failed() -> None:
    bench = Bench()
    bench.trip()
    bench.advance(10)
    assert isinstance(bench.go(model_error(ErrorKind.OVERLOADED), once=True), ModelError)
    assert isinstance(bench.go("ok"), NotYet)


@pytest.mark.parametrize("end", [NotYet(0, Waiting.LIMIT, "full"), asyncio.CancelledError(), model_error(ErrorKind.INVALID)])
def test_a_probe_that_never_left_is_anothers_turn_at_once(end: BaseException) -> None:
    bench = Bench()
    bench.trip()
    bench.advance(10)
    assert bench.go(end) is end or isinstance(end, asyncio.CancelledError)
    assert bench.go("ok") == "ok"


def test_a_call_that_is_cancelled_while_it_asks_leaves_no_probe_behind() -> None:
    class Slow(MemoryGauges):
        shared = True
        slow = False

        async def adjust(self, meter: str, change: Change[A]) -> A:
            answer = await super().adjust(meter, change)
            if self.slow:
                self.slow = False
                await asyncio.Event().wait()
            return answer

    bench = Bench()
    gauges = bench.gauges = bench.breaker._gauges = Slow()
    bench.trip()
    bench.advance(10)
    gauges.slow = True

    async def go() -> None:
        asking = asyncio.ensure_future(bench.breaker(bench.call(), never))
        await asyncio.sleep(0)
        assert load(next(iter(gauges.states.values()))).prober
        asking.cancel()
        await asyncio.wait([asking])

    async def never(call: Call) -> Reply:
        raise AssertionError

    asyncio.run(go())
    assert bench.go("ok") == "ok"


def test_a_probe_whose_run_was_lost_is_anothers_turn_at_once() -> None:
    bench = Bench()
    bench.trip()
    bench.advance(10)
    call = bench.call()

    async def lost(call: Call) -> Reply:
        call.visit.end(Fenced("somebody else holds the run"))
        raise Fenced("somebody else holds the run")

    with pytest.raises(Fenced):
        asyncio.run(bench.breaker(call, lost))
    assert bench.go("ok") == "ok"


def test_those_who_wait_come_back_spread_over_time() -> None:
    dues = []
    for tenth in range(10):
        bench = Bench(draw=tenth / 10)
        bench.trip()
        dues.append(bench.go("ok").due_at - T0)
    assert dues == [10 * S + tenth * S // 2 for tenth in range(10)]


def test_every_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.INFO, "statecraft"):
        bench.trip()
        bench.advance(10)
        bench.go("ok")
    told = [(record.levelname, getattr(record, "became", "")) for record in caplog.records if record.msg == "breaker"]
    assert told == [("WARNING", "opened"), ("INFO", "probing"), ("INFO", "closed")]
    assert {getattr(record, "dependency", "") for record in caplog.records} == {"model:m"}


def test_a_closed_one_in_memory_changes_no_state_for_a_success() -> None:
    bench = Bench()
    bench.go("ok")
    before = dict(bench.gauges.states)
    for _ in range(100):
        assert bench.go("ok") == "ok"
    assert bench.gauges.states == before


def test_successes_that_were_only_counted_here_still_weigh_against_failures() -> None:
    bench = Bench(BreakerPolicy(failures=100, minimum=10, rate=0.5))
    for _ in range(9):
        bench.go("ok")
    for _ in range(8):
        bench.go(model_error(ErrorKind.OVERLOADED))
    assert bench.go("ok") == "ok"
    for _ in range(2):
        bench.go(model_error(ErrorKind.OVERLOADED))
    assert isinstance(bench.go("ok"), NotYet)


def test_a_store_that_fails_before_the_call_ends_the_visit_and_after_it_costs_nothing() -> None:
    bench = Bench()
    bench.trip()
    bench.advance(10)

    async def full(meter: str, change: Any) -> Any:
        raise StoreFull("the disk is full")

    bench.gauges.adjust = full  # type: ignore[method-assign]
    call = bench.call()

    async def fine(call: Call) -> Reply:
        bench.gauges.adjust = full  # type: ignore[method-assign]
        return Reply("ok")

    with pytest.raises(StoreFull):
        asyncio.run(bench.breaker(call, fine))
    assert isinstance(call.visit.over, StoreFull)
    del bench.gauges.adjust
    assert asyncio.run(bench.breaker(bench.call(), fine)).result == "ok"
