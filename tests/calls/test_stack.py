"""The call stack: recall, retry and deadline, against a store that only remembers what was submitted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft.calls import classify, stack
from statecraft.calls.call import Call, Failure, Reply
from statecraft.calls.park import Park
from statecraft.calls.retry import DEFAULT_ATTEMPTS, RetryPolicy, delay
from statecraft.calls.visit import Visit
from statecraft.clock import instant
from statecraft.errors import CallError, ErrorKind, InDoubt, OutputInvalid
from statecraft.llm.port import ModelError
from statecraft.records import AttemptRecord, CallRecord, Usage, Waiting
from statecraft.store import port
from statecraft.testing import ManualClock

RUN = bytes(range(16))


@dataclass
class Submitted:
    """A store of which only `submit` is used."""

    calls: list[port.Call] = field(default_factory=list)
    attempts: list[port.Attempt] = field(default_factory=list)

    async def submit(self, write: object) -> None:
        if isinstance(write, port.Call):
            self.calls.append(write)
        else:
            assert isinstance(write, port.Attempt)
            self.attempts.append(write)


@dataclass
class World:
    """A scripted outside world: each attempt takes the next outcome."""

    outcomes: list[str | Exception]
    requests: list[str] = field(default_factory=list)

    async def perform(self, call: Call) -> Reply:
        self.requests.append(call.key)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return Reply(outcome, Usage(10, 5), "m")


def visit_on(store: Submitted, clock: ManualClock) -> Visit:
    return Visit(cast(port.Store, store), clock, RUN, 3, 1)


def after_crash(store: Submitted, clock: ManualClock) -> Visit:
    """A fresh process: the same visit, knowing only what was submitted."""
    calls = [
        CallRecord(
            run_id=row.run_id.hex(),
            seq=row.seq,
            idx=row.idx,
            kind=row.kind,
            name=row.name,
            digest=row.digest.hex(),
            occurrence=row.occurrence,
            ok=row.ok,
            request=row.request,
            result=json.loads(row.result),
            attempts=row.attempts,
            started_at=instant(row.started_at),
            finished_at=instant(row.finished_at),
            epoch=row.epoch,
            usage=Usage(row.input_tokens, row.output_tokens),
            model=row.model,
        )
        for row in store.calls
    ]
    attempts = [
        AttemptRecord(
            run_id=row.run_id.hex(),
            seq=row.seq,
            digest=row.digest.hex(),
            occurrence=row.occurrence,
            attempt=row.attempt,
            name=row.name,
            kind=row.kind,
            message=row.message,
            at=instant(row.at),
            due_at=None if row.due_at is None else instant(row.due_at),
        )
        for row in store.attempts
    ]
    return Visit.reopened(visit_on(store, clock), calls, [row.hash for row in store.calls], attempts)


def call_on(visit: Visit, world: World, request: str = '"question"', **changes: Any) -> Call:
    digest, occurrence, key = visit.identify("llm", request)
    made = Call(visit, "llm", "m", request, digest, occurrence, key, world.perform, classify.of_model)
    return made if not changes else replace(made, **changes)


def through(draw: float = 0.0, policy: RetryPolicy | None = None) -> Callable[[Call], Any]:
    return stack.build(policy or RetryPolicy(), lambda: draw)


def overloaded() -> ModelError:
    return ModelError("busy", kind=ErrorKind.OVERLOADED)


def test_a_finished_call_is_recorded_once_and_answers_again_without_leaving_the_process() -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"first"'])

    async def go() -> None:
        assert (await through()(call_on(visit_on(store, clock), world))).result == '"first"'
        again = await through()(call_on(after_crash(store, clock), world))
        assert (again.result, again.usage, again.model) == ('"first"', Usage(10, 5), "m")

    asyncio.run(go())
    assert len(world.requests) == 1
    assert [(row.idx, row.ok, row.result) for row in store.calls] == [(0, True, '"first"')]


def test_equal_requests_of_one_visit_are_told_apart_by_their_occurrence() -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"a"', '"b"'])

    async def go(visit: Visit) -> list[str]:
        return [(await through()(call_on(visit, world))).result for _ in range(2)]

    assert asyncio.run(go(visit_on(store, clock))) == ['"a"', '"b"']
    assert asyncio.run(go(after_crash(store, clock))) == ['"a"', '"b"']
    assert len({row.digest for row in store.calls}) == 1
    assert [row.occurrence for row in store.calls] == [0, 1]
    assert len(set(world.requests)) == 2


def test_swapping_two_calls_in_the_source_never_swaps_their_answers() -> None:
    store, clock, world = Submitted(), ManualClock(), World(['"to classify"', '"to translate"'])

    async def ask(visit: Visit, requests: Sequence[str]) -> dict[str, str]:
        return {request: (await through()(call_on(visit, world, request))).result for request in requests}

    before = asyncio.run(ask(visit_on(store, clock), ['"classify"', '"translate"']))
    after = asyncio.run(ask(after_crash(store, clock), ['"translate"', '"classify"']))
    assert before == after
    assert len(world.requests) == 2


def test_a_failure_for_good_is_recorded_and_raised_again_as_it_was() -> None:
    store, clock = Submitted(), ManualClock()
    world = World([ModelError("no such model", kind=ErrorKind.PERMANENT)])

    async def go(visit: Visit) -> CallError:
        with pytest.raises(CallError) as caught:
            await through()(call_on(visit, world))
        return caught.value

    first, second = asyncio.run(go(visit_on(store, clock))), asyncio.run(go(after_crash(store, clock)))
    assert (first.kind, first.message, first.attempts) == (ErrorKind.PERMANENT, "no such model", 1)
    assert (second.kind, second.message, second.attempts) == (first.kind, first.message, first.attempts)
    assert len(world.requests) == 1


def test_output_invalid_survives_the_record_as_its_own_class() -> None:
    from statecraft.calls.visit import failed, revive

    error = revive("m", 3, json.loads(failed(OutputInvalid("bad", kind=ErrorKind.INVALID, name="m", attempts=3))))
    assert type(error) is OutputInvalid
    assert (error.message, error.kind, error.attempts) == ("bad", ErrorKind.INVALID, 3)


def test_a_passing_error_is_tried_again_with_the_same_idempotency_key() -> None:
    store, clock, world = Submitted(), ManualClock(), World([overloaded(), overloaded(), '"at last"'])
    reply = asyncio.run(through()(call_on(visit_on(store, clock), world)))
    assert (reply.result, reply.attempts) == ('"at last"', 3)
    assert len(set(world.requests)) == 1
    assert [(row.attempt, row.kind) for row in store.attempts] == [(1, "overloaded"), (2, "overloaded")]
    assert [row.attempts for row in store.calls] == [3]


@pytest.mark.parametrize("kind", [ErrorKind.PERMANENT, ErrorKind.CONTEXT, ErrorKind.TOOL, ErrorKind.REFUSAL])
def test_errors_that_cannot_pass_are_not_tried_again(kind: ErrorKind) -> None:
    store, clock, world = Submitted(), ManualClock(), World([ModelError("no", kind=kind)])
    with pytest.raises(CallError) as caught:
        asyncio.run(through()(call_on(visit_on(store, clock), world)))
    assert caught.value.kind is kind
    assert len(world.requests) == 1
    assert not store.attempts


def test_attempts_are_counted_across_a_crash() -> None:
    limit = DEFAULT_ATTEMPTS[ErrorKind.OVERLOADED]
    store, clock = Submitted(), ManualClock()
    with pytest.raises(IndexError):  # the world ends after two attempts: the process dies in its third
        asyncio.run(through()(call_on(visit_on(store, clock), World([overloaded(), overloaded()]), classify=_dies)))
    world = World([overloaded() for _ in range(limit)])
    with pytest.raises(CallError) as caught:
        asyncio.run(through()(call_on(after_crash(store, clock), world)))
    assert caught.value.attempts == limit
    assert len(world.requests) == limit - 2


def _dies(error: Exception) -> Failure:
    if isinstance(error, IndexError):
        raise error
    return classify.of_model(error)


def test_the_servers_hint_is_a_lower_bound_and_a_long_wait_parks_the_run() -> None:
    store, clock = Submitted(), ManualClock()
    world = World([ModelError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after=7.0), '"ok"'])
    visit = visit_on(store, clock)
    with pytest.raises(Park) as parked:
        asyncio.run(through()(call_on(visit, world)))
    assert parked.value.why is Waiting.RETRY
    assert parked.value.due_at == clock.now() + 7_000_000
    assert visit.parked is parked.value
    asyncio.run(clock.advance(timedelta(seconds=7)))
    assert asyncio.run(through()(call_on(after_crash(store, clock), world))).result == '"ok"'
    assert len(world.requests) == 2


def test_a_parked_backoff_that_is_not_due_parks_again_without_a_request() -> None:
    store, clock = Submitted(), ManualClock()
    world = World([ModelError("slow down", kind=ErrorKind.RATE_LIMITED, retry_after=60.0)])
    with pytest.raises(Park):
        asyncio.run(through()(call_on(visit_on(store, clock), world)))
    asyncio.run(clock.advance(timedelta(seconds=30)))
    with pytest.raises(Park):
        asyncio.run(through()(call_on(after_crash(store, clock), world)))
    assert len(world.requests) == 1


def test_an_attempt_that_drips_for_ever_ends_at_its_deadline() -> None:
    store, clock = Submitted(), ManualClock()

    async def drip(call: Call) -> Reply:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    async def go() -> None:
        policy = RetryPolicy(attempts={ErrorKind.TIMEOUT: 1})
        task = asyncio.ensure_future(
            through(policy=policy)(call_on(visit_on(store, clock), World([]), timeout=120.0, perform=drip))
        )
        await clock.someone_sleeps()
        await clock.advance(timedelta(seconds=119))
        assert not task.done()
        await clock.advance(timedelta(seconds=2))
        with pytest.raises(CallError) as caught:
            await task
        assert caught.value.kind is ErrorKind.TIMEOUT

    asyncio.run(go())


def test_a_once_call_writes_its_intent_first_and_is_never_run_again_in_doubt() -> None:
    store, clock, world = Submitted(), ManualClock(), World([KeyboardInterrupt("killed")])  # type: ignore[list-item]

    async def dying(call: Call) -> Reply:
        world.requests.append(call.key)
        raise Park(0, Waiting.TIMER)  # not an Exception: nothing is recorded, as in a kill

    with pytest.raises(Park):
        asyncio.run(through()(call_on(visit_on(store, clock), world, once=True, perform=dying)))
    assert [row.kind for row in store.attempts] == ["begun"]
    with pytest.raises(InDoubt, match="outcome is unknown"):
        asyncio.run(through()(call_on(after_crash(store, clock), world, once=True)))
    assert len(world.requests) == 1


def test_a_once_call_that_failed_is_not_repeated() -> None:
    store, clock, world = Submitted(), ManualClock(), World([ConnectionError("reset")])
    with pytest.raises(CallError):
        asyncio.run(through()(call_on(visit_on(store, clock), world, once=True, classify=classify.of_tool)))
    assert len(world.requests) == 1


def test_parallel_calls_take_consecutive_indexes() -> None:
    store, clock, world = Submitted(), ManualClock(), World([f'"{n}"' for n in range(8)])
    visit = visit_on(store, clock)

    async def go() -> None:
        await asyncio.gather(*(through()(call_on(visit, world, f'"{n}"')) for n in range(8)))

    asyncio.run(go())
    assert [row.idx for row in store.calls] == list(range(8))
    assert visit.hashes == [row.hash for row in store.calls]


@given(
    attempt=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    hint=st.none() | st.floats(0, 1e9),
    kind=st.sampled_from(list(ErrorKind)),
)
def test_no_wait_is_negative_longer_than_its_cap_or_shorter_than_the_hint(
    attempt: int, draw: float, hint: float | None, kind: ErrorKind
) -> None:
    policy = RetryPolicy()
    wait = delay(policy, Failure(kind, "", hint), attempt, draw)
    if attempt >= policy.attempts.get(kind, 1):
        assert wait is None
        return
    assert wait is not None
    assert 0 <= wait <= max(policy.cap, policy.hint_cap)
    assert wait >= min(hint or 0.0, policy.hint_cap)
    if not hint:
        assert wait <= policy.first * 2 ** (attempt - 1)
