"""Another attempt, later: classified, backed off with full jitter, counted durably.

Backoff with full jitter: a wait drawn evenly from [0, min(cap, first * 2^n)] (Marc Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015). A server's hint (Retry-After) is a lower bound on the wait, up to a cap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from statecraft import trace
from statecraft.calls.call import Call, Failure, Next, Reply
from statecraft.clock import stamp
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
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try. Kinds without an entry in `attempts` are never retried."""

    attempts: Mapping[ErrorKind, int] = field(default_factory=lambda: DEFAULT_ATTEMPTS)
    """Most attempts per kind of error, the first one included."""
    first: float = 0.5
    """Seconds; the first wait is drawn from [0, first]."""
    cap: float = 60.0
    """Seconds; no drawn wait is longer."""
    hint_cap: float = 900.0
    """Seconds; a server's hint beyond this is cut to it."""
    park_after: float = 5.0
    """Seconds; a longer wait parks the run instead of holding it."""

    def __post_init__(self) -> None:
        few = [kind for kind, most in self.attempts.items() if most < 1]
        if few:
            raise ConfigError(f"retry.attempts needs at least 1 attempt for {few[0]}, not {self.attempts[few[0]]}")
        for name in ("first", "cap", "hint_cap", "park_after"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"retry.{name} is a number of seconds from 0 up, not {getattr(self, name)}")


def delay(policy: RetryPolicy, failure: Failure, attempt: int, draw: float) -> float | None:
    """Seconds to wait after attempt number `attempt` (from 1) failed; None if it was the last.

    `draw` is a number in [0, 1).
    """
    if attempt >= policy.attempts.get(failure.kind, 1):
        return None
    ceiling = min(policy.cap, policy.first * 2.0 ** min(attempt - 1, _DOUBLINGS))
    return max(draw * ceiling, min(failure.retry_after or 0.0, policy.hint_cap))


class Retry:
    """The middleware. Attempts and their due times are rows, so attempt 3 of 5 survives a crash."""

    def __init__(self, policy: RetryPolicy, uniform: Callable[[], float]) -> None:
        self.policy = policy
        self._uniform = uniform

    async def __call__(self, call: Call, following: Next) -> Reply:
        attempt = await self._resume(call)
        while True:
            if call.once:
                await call.visit.attempted(call, attempt, "begun", "", None)
            try:
                reply = await following(call if attempt == 1 else replace(call, attempt=attempt))
                return reply if attempt == 1 else replace(reply, attempts=attempt)
            except CallError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the world raises is classified
                await self._back_off(call, attempt, call.classify(error), error)
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
            await self._wait(call, stamp(last.due_at))
        return last.attempt + 1

    async def _back_off(self, call: Call, attempt: int, failure: Failure, error: Exception) -> None:
        wait = None if call.once else delay(self.policy, failure, attempt, self._uniform())
        if wait is None:
            raise CallError(failure.message, kind=failure.kind, name=call.name, attempts=attempt) from error
        due_at = call.visit.clock.now() + int(wait * 1_000_000)
        await call.visit.attempted(call, attempt, failure.kind.value, failure.message, due_at)
        told = {"run_id": call.visit.run_id.hex(), "target": call.name, "attempt": attempt, "error_kind": failure.kind.value}
        trace.emit("call.retry", {**told, "wait": wait})
        await self._wait(call, due_at)

    async def _wait(self, call: Call, due_at: int) -> None:
        remaining = (due_at - call.visit.clock.now()) / 1_000_000
        if remaining > self.policy.park_after:
            raise call.visit.park(due_at, Waiting.RETRY)
        if remaining > 0:
            await call.visit.clock.sleep(remaining)
