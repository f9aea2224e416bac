"""Another attempt, later: classified, backed off with full jitter, counted durably.

Backoff with full jitter: a wait drawn evenly from [0, min(cap, first * 2^n)] (Marc Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015). A server's hint (Retry-After) is a lower bound on the wait, up to a cap.

A quota is another matter: nobody gets through for hours or weeks, so the run parks until it is given back, and people
are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from statecraft import trace
from statecraft.calls.call import Call, Failure, Next, Reply
from statecraft.calls.park import NotYet
from statecraft.clock import instant, stamp
from statecraft.errors import CallError, ConfigError, ErrorKind, InDoubt
from statecraft.records import Waiting

_DOUBLINGS = 32
"""Beyond this exponent every cap is reached; clamping first keeps the power from overflowing."""

DEFAULT_ATTEMPTS: Mapping[ErrorKind, int] = {
    ErrorKind.RATE_LIMITED: 8,
    ErrorKind.OVERLOADED: 6,
    ErrorKind.TRANSIENT: 5,
    ErrorKind.TIMEOUT: 3,
    ErrorKind.PROTOCOL: 3,
    ErrorKind.QUOTA: 12,
}

_MONTHLY = ("enforced_spend_limit_reached", "specified api usage limits")
"""Spending limits of the Messages API that are counted by calendar month (UTC); the second has no code but its text."""
_LONGEST_QUOTA = 35 * 86_400.0
"""Seconds; a quota is asked for again at least this often, whatever the server says."""
_SOONEST = 0.001
"""Seconds to wait at least for what was not yet possible, so that nobody asks in a circle."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Kinds without an entry in `attempts` are never retried."""

    attempts: Mapping[ErrorKind, int] = field(default_factory=lambda: DEFAULT_ATTEMPTS)
    """Most attempts per kind of error, the first one included. Those that met a quota are counted apart."""
    first: float = 0.5
    """Seconds; the first wait is drawn from [0, first]."""
    cap: float = 60.0
    """Seconds; no drawn wait is longer."""
    hint_cap: float = 900.0
    """Seconds; a server's hint beyond this is cut to it."""
    park_after: float = 5.0
    """Seconds; a longer wait parks the run instead of holding it."""
    quota_wait: float = 3600.0
    """Seconds a run is parked when a quota is used up and nobody says until when."""

    def __post_init__(self) -> None:
        few = [kind for kind, most in self.attempts.items() if most < 1]
        if few:
            raise ConfigError(f"retry.attempts needs at least 1 attempt for {few[0]}, not {self.attempts[few[0]]}")
        for name in ("first", "cap", "hint_cap", "park_after", "quota_wait"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"retry.{name} is a number of seconds from 0 up, not {getattr(self, name)}")


def delay(policy: RetryPolicy, failure: Failure, attempt: int, draw: float) -> float | None:
    """Seconds to wait after attempt number `attempt` (from 1) failed; None if it was the last.

    `draw` is a number in [0, 1). The wait for a quota is `quota_delay`'s business.
    """
    granted = policy.attempts.get(failure.kind, 1)
    if attempt >= (granted if failure.most is None else min(granted, failure.most)):
        return None
    ceiling = min(policy.cap, policy.first * 2.0 ** min(attempt - 1, _DOUBLINGS))
    return max(draw * ceiling, min(failure.retry_after or 0.0, policy.hint_cap))


def quota_delay(policy: RetryPolicy, failure: Failure, now: int, draw: float) -> float:
    """Seconds from `now` until a used-up quota is asked for again.

    The server's hint; else the next month for the limits that are counted by month; else `policy.quota_wait`. Up to
    `policy.cap` is added by `draw` in [0, 1), since everybody who waits for the quota waits for the same instant.
    """
    if failure.retry_after is not None:
        wait = failure.retry_after
    elif any(words in failure.message.lower() for words in _MONTHLY):
        wait = (next_month(now) - now) / 1_000_000
    else:
        wait = policy.quota_wait
    return min(wait, _LONGEST_QUOTA) + draw * policy.cap


def next_month(now: int) -> int:
    """00:00 UTC on the 1st of the month after `now`."""
    today = instant(now)
    years, month = divmod(today.month, 12)
    return stamp(datetime(today.year + years, month + 1, 1, tzinfo=UTC))


class Retry:
    """The middleware. Attempts and their due times are rows, so attempt 3 of 5 survives a crash."""

    def __init__(self, policy: RetryPolicy, uniform: Callable[[], float]) -> None:
        self.policy = policy
        self._uniform = uniform

    async def __call__(self, call: Call, following: Next) -> Reply:
        attempt = await self._resume(call)
        quotas = sum(earlier.kind == ErrorKind.QUOTA for earlier in call.visit.attempts(call))
        while True:
            try:
                reply = await following(call if attempt == 1 else replace(call, attempt=attempt))
                return reply if attempt == 1 else replace(reply, attempts=attempt)
            except CallError:
                raise
            except NotYet as later:
                await self._wait(call, later.due_at, later.why, soonest=_SOONEST)
                continue
            except Exception as error:
                if call.visit.over is not None:
                    raise  # Our own store, not the world.
                failure = call.classify(error)
                quotas += failure.kind is ErrorKind.QUOTA
                await self._back_off(call, attempt, quotas, failure, error)
            attempt += 1

    async def _resume(self, call: Call) -> int:
        """The number of the next attempt, after waiting out what an earlier one left to wait."""
        earlier = call.visit.attempts(call)
        if not earlier:
            return 1
        last = earlier[-1]
        if last.kind == "begun":
            if call.attempt > last.attempt:  # A person said that it did not happen (see `calls.doubt`).
                return call.attempt
            raise InDoubt(
                f"{call.name} began at {last.at.isoformat()} and its outcome is unknown; it is not run again "
                f"(idempotency key {call.key})",
                kind=ErrorKind.IN_DOUBT,
                name=call.name,
                attempts=last.attempt,
            )
        if last.due_at is not None:
            await self._wait(call, stamp(last.due_at), Waiting.QUOTA if last.kind == ErrorKind.QUOTA else Waiting.RETRY)
        return last.attempt + 1

    async def _back_off(self, call: Call, attempt: int, quotas: int, failure: Failure, error: Exception) -> None:
        """Write the failed attempt down and wait, or raise `CallError` if it was the last. `quotas` met a quota so far."""
        quota, now, draw = failure.kind is ErrorKind.QUOTA, call.visit.clock.now(), self._uniform()
        wait = None if call.once else delay(self.policy, failure, quotas if quota else attempt - quotas, draw)
        if wait is None:
            raise CallError(failure.message, kind=failure.kind, name=call.name, attempts=attempt) from error
        if quota:
            wait = quota_delay(self.policy, failure, now, draw)
        due_at = now + int(wait * 1_000_000)
        await call.visit.attempted(call, attempt, failure.kind.value, failure.message, due_at)
        told = {"run_id": call.visit.run_id.hex(), "target": call.name, "attempt": attempt, "error_kind": failure.kind.value}
        trace.emit("call.retry", {**told, "wait": wait})
        alert = None
        if quota:
            alert = f"the quota of {call.name} is used up; asked again at {instant(due_at).isoformat()}: {failure.message}"
            trace.emit("alert", {**told, "what": alert}, level=logging.WARNING)
        await self._wait(call, due_at, Waiting.QUOTA if quota else Waiting.RETRY, alert=alert)

    async def _wait(self, call: Call, due_at: int, why: Waiting, *, soonest: float = 0.0, alert: str | None = None) -> None:
        remaining = max(soonest, (due_at - call.visit.clock.now()) / 1_000_000)
        if remaining > self.policy.park_after:
            raise call.visit.park(due_at, why, alert, about=call.dependency if alert else None)
        if remaining > 0:
            await call.visit.clock.sleep(remaining)
