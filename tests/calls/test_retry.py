"""Waits that are no attempts, quotas that last for weeks, and attempts that survive their process."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from statecraft.calls import stack
from statecraft.calls.call import Call, Failure, Next, Reply
from statecraft.calls.park import NotYet, Park
from statecraft.calls.retry import DEFAULT_ATTEMPTS, RetryPolicy, delay, next_month, quota_delay
from statecraft.clock import stamp
from statecraft.errors import CallError, ErrorKind
from statecraft.llm.port import ModelError
from statecraft.records import Waiting
from statecraft.testing import ManualClock
from tests.calls.test_stack import Submitted, World, after_crash, call_on, overloaded, through, visit_on

MONTHLY = "429 enforced_spend_limit_reached You have reached your monthly limit"


def quota(message: str = "402 billing_error", retry_after: float | None = None) -> ModelError:
    return ModelError(message, kind=ErrorKind.QUOTA, retry_after=retry_after)


class Refusing:
    """Stands where a breaker stands and puts the first attempts off."""

    def __init__(self, times: int, wait: float, clock: ManualClock, why: Waiting = Waiting.BREAKER) -> None:
        self.times, self.wait, self.clock, self.why = times, wait, clock, why
        self.asked: list[int] = []

    async def __call__(self, call: Call, following: Next) -> Reply:
        self.asked.append(call.attempt)
        if len(self.asked) <= self.times:
            raise NotYet(self.clock.now() + int(self.wait * 1e6), self.why, "not yet")
        return await following(call)


async def advancing(clock: ManualClock, task: asyncio.Task[Reply]) -> Reply:
    while not task.done():
        await clock.advance(timedelta(seconds=1))
    return await task


@pytest.mark.parametrize("outcomes", [['"ok"'], [overloaded(), '"ok"']])
def test_an_attempt_that_is_put_off_is_made_later_under_the_same_number(outcomes: list[str | Exception]) -> None:
    store, clock, world = Submitted(), ManualClock(), World(outcomes)
    refusing = Refusing(3, 2.0, clock)

    async def go() -> Reply:
        built = stack.build(RetryPolicy(), lambda: 0.0, breaker=refusing)
        return await advancing(clock, asyncio.ensure_future(built(call_on(visit_on(store, clock), world))))

    attempts = len(outcomes)
    assert asyncio.run(go()).attempts == attempts
    assert refusing.asked[:4] == [1, 1, 1, 1]
    assert len(store.attempts) == attempts - 1


@pytest.mark.parametrize("why", [Waiting.BREAKER, Waiting.LIMIT])
def test_an_attempt_that_is_put_off_for_long_parks_with_its_reason_and_leaves_no_row(why: Waiting) -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"ok"'])
    built = stack.build(RetryPolicy(), lambda: 0.0, breaker=Refusing(1, 60.0, clock, why))
    with pytest.raises(Park) as parked:
        asyncio.run(built(call_on(visit_on(store, clock), world)))  # type: ignore[arg-type]
    assert (parked.value.why, parked.value.due_at) == (why, clock.now() + 60_000_000)
    assert (store.attempts, world.requests) == ([], [])


def test_a_once_call_that_is_put_off_has_not_begun() -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"ok"'])
    refusing = Refusing(1, 60.0, clock)
    built = stack.build(RetryPolicy(), lambda: 0.0, breaker=refusing)
    with pytest.raises(Park):
        asyncio.run(built(call_on(visit_on(store, clock), world, once=True)))  # type: ignore[arg-type]
    assert store.attempts == []
    assert asyncio.run(built(call_on(after_crash(store, clock), world, once=True))).result == '"ok"'  # type: ignore[arg-type]
    assert [row.kind for row in store.attempts] == ["begun"]


def test_something_due_in_the_past_does_not_spin() -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"ok"'])
    refusing = Refusing(50, -5.0, clock)

    async def go() -> Reply:
        built = stack.build(RetryPolicy(), lambda: 0.0, breaker=refusing)
        task = asyncio.ensure_future(built(call_on(visit_on(store, clock), world)))
        await asyncio.sleep(0)
        assert len(refusing.asked) == 1
        return await advancing(clock, task)

    assert asyncio.run(go()).result == '"ok"'


def test_attempt_three_of_five_survives_a_crash() -> None:
    def transient() -> ModelError:
        return ModelError("500", kind=ErrorKind.TRANSIENT, retry_after=60.0)

    store, clock = Submitted(), ManualClock()
    for attempt in (1, 2, 3):
        with pytest.raises(Park):
            asyncio.run(through()(call_on(after_crash(store, clock), World([transient()]))))
        assert [row.attempt for row in store.attempts] == list(range(1, attempt + 1))
        asyncio.run(clock.advance(timedelta(seconds=60)))
    seen: list[int] = []

    async def fourth(call: Call) -> Reply:
        seen.append(call.attempt)
        raise ModelError("500", kind=ErrorKind.TRANSIENT)

    with pytest.raises(CallError) as caught:
        asyncio.run(through()(call_on(after_crash(store, clock), World([]), perform=fourth)))
    assert (seen, caught.value.attempts) == ([4, 5], 5)


# --- quota -----------------------------------------------------------------------------------------------------------


def parked_by(error: ModelError, policy: RetryPolicy | None = None) -> tuple[Park, Submitted, ManualClock]:
    store, clock = Submitted(), ManualClock(datetime(2026, 11, 21, 9, 30, tzinfo=UTC))
    with pytest.raises(Park) as parked:
        asyncio.run(through(policy=policy)(call_on(visit_on(store, clock), World([error]))))
    return parked.value, store, clock


@pytest.mark.parametrize(
    ("error", "due"),
    [
        (quota(), datetime(2026, 11, 21, 10, 30, tzinfo=UTC)),
        (quota(retry_after=7200.0), datetime(2026, 11, 21, 11, 30, tzinfo=UTC)),
        (quota(MONTHLY), datetime(2026, 12, 1, tzinfo=UTC)),
        (quota("400 You have reached your specified API usage limits."), datetime(2026, 12, 1, tzinfo=UTC)),
        (quota("429 contract_spend_limit_reached"), datetime(2026, 11, 21, 10, 30, tzinfo=UTC)),
    ],
)
def test_a_quota_parks_until_it_is_given_back_and_alerts(
    error: ModelError, due: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "statecraft"):
        park, store, _ = parked_by(error)
    assert (park.why, park.due_at) == (Waiting.QUOTA, stamp(due))
    assert [(row.attempt, row.kind, row.due_at) for row in store.attempts] == [(1, "quota", stamp(due))]
    assert park.alert is not None
    assert "quota of m" in park.alert
    assert due.isoformat() in park.alert
    assert [record.levelname for record in caplog.records if record.msg == "alert"] == ["WARNING"]


def test_a_quota_that_is_still_awaited_parks_again_without_a_request_or_another_alert() -> None:
    _, store, clock = parked_by(quota())
    asyncio.run(clock.advance(timedelta(minutes=59)))
    world = World(['"ok"'])
    with pytest.raises(Park) as again:
        asyncio.run(through()(call_on(after_crash(store, clock), world)))
    assert (again.value.why, again.value.alert, world.requests) == (Waiting.QUOTA, None, [])
    asyncio.run(clock.advance(timedelta(minutes=1)))
    assert asyncio.run(through()(call_on(after_crash(store, clock), world))).attempts == 2


def test_a_quota_that_never_comes_back_ends_the_call_after_its_attempts() -> None:
    most = DEFAULT_ATTEMPTS[ErrorKind.QUOTA]
    store, clock = Submitted(), ManualClock()
    for _ in range(most - 1):
        with pytest.raises(Park):
            asyncio.run(through()(call_on(after_crash(store, clock), World([quota()]))))
        asyncio.run(clock.advance(timedelta(hours=1)))
    with pytest.raises(CallError) as caught:
        asyncio.run(through()(call_on(after_crash(store, clock), World([quota()]))))
    assert (caught.value.kind, caught.value.attempts) == (ErrorKind.QUOTA, most)


def test_days_without_quota_leave_other_failures_their_attempts() -> None:
    store, clock = Submitted(), ManualClock()
    for _ in range(8):
        with pytest.raises(Park):
            asyncio.run(through()(call_on(after_crash(store, clock), World([quota()]))))
        asyncio.run(clock.advance(timedelta(hours=1)))
    reply = asyncio.run(through()(call_on(after_crash(store, clock), World([overloaded(), overloaded(), '"ok"']))))
    assert reply.attempts == 11


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_the_next_month_begins_at_midnight_utc_on_the_first(now: datetime, then: datetime) -> None:
    assert next_month(stamp(now)) == stamp(then)


def test_those_who_wait_for_one_quota_do_not_come_back_in_one_instant() -> None:
    policy, failure = RetryPolicy(), Failure(ErrorKind.QUOTA, "")
    waits = [quota_delay(policy, failure, 0, draw / 10) for draw in range(10)]
    assert len(set(waits)) == 10
    assert min(waits) >= 3600
    assert max(waits) <= 3660


def test_an_error_nobody_knows_is_tried_once_more() -> None:
    policy = RetryPolicy()
    unknown = Failure(ErrorKind.TRANSIENT, "", most=2)
    assert delay(policy, unknown, 1, 0.5) is not None
    assert delay(policy, unknown, 2, 0.5) is None
    assert delay(policy, Failure(ErrorKind.TRANSIENT, "", most=99), 5, 0.5) is None


def test_the_first_alert_of_several_calls_stays_with_the_park_that_counts() -> None:
    visit = visit_on(Submitted(), ManualClock())
    visit.park(50, Waiting.QUOTA, "no money")
    visit.park(10, Waiting.RETRY)
    visit.park(90, Waiting.QUOTA, "other")
    assert visit.parked is not None
    assert (visit.parked.due_at, visit.parked.why, visit.parked.alert) == (10, Waiting.RETRY, "no money")


@pytest.mark.parametrize("raised", ["", "another"])
def test_a_failure_that_a_tool_raises_itself_has_the_calls_name_at_once_and_when_it_is_recalled(raised: str) -> None:
    store, clock = Submitted(), ManualClock()
    world = World([CallError("the shipper is down", name=raised)])

    async def go() -> None:
        with pytest.raises(CallError) as first:
            await through()(call_on(visit_on(store, clock), world))
        with pytest.raises(CallError) as recalled:
            await through()(call_on(after_crash(store, clock), world))
        assert (first.value.name, recalled.value.name) == ("m", "m")

    asyncio.run(go())
