"""No more calls, and no more tokens, than a rate allows; and nobody knocks while a server says "later".

A token bucket in the form of the generic cell rate algorithm (GCRA; ITU-T I.371, annex A): one instant for each bucket, the
theoretical arrival time `tat` at which it would be full again. A call of cost c moves it on by c * per / limit; it is
admitted if the bucket is then not more than `burst` of its limit ahead of the clock.

A pure half (`take`, `settle`, `penalise`) and the middleware that keeps the buckets in gauges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

from statecraft.calls.call import Call, Next, Reply
from statecraft.calls.gauges import Gauges, ask, numbers, tell, text
from statecraft.calls.park import NotYet
from statecraft.clock import micros
from statecraft.errors import ConfigError, ErrorKind
from statecraft.records import Waiting

_SECOND = 1_000_000
_GRACE = 5 * _SECOND
"""How long after its time room is kept for a large call that was told to come back."""
_NEARLY = 5_000
"""Who is early by no more than this (microseconds; clocks and timers are not exact) keeps their place in the line."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A rate that calls must keep to."""

    of: Literal["model", "tool", "tenant"]
    """What it counts: calls of each model, of each tool, or of each tenant (model and tool calls)."""
    only: str = "*"
    """Which ones, by name; `*` and `?` as in file names."""
    requests: int | None = None
    """Calls in `per`."""
    tokens: int | None = None
    """Tokens of model calls in `per`, input and output."""
    per: timedelta = timedelta(minutes=1)
    burst: float = 0.25
    """Share of the rate that may be used at once, after a pause."""
    shared: bool = False
    """All names that `only` takes in share one bucket, instead of each having its own."""

    def __post_init__(self) -> None:
        if self.of not in ("model", "tool", "tenant"):
            raise ConfigError(f"limits.of is 'model', 'tool' or 'tenant', not {self.of!r}")
        if self.requests is None and self.tokens is None:
            raise ConfigError("limits needs requests or tokens, or both")
        if self.of == "tool" and self.tokens is not None:
            raise ConfigError("limits.tokens is for models and tenants; tools use none")
        for name in ("requests", "tokens"):
            if getattr(self, name) is not None and not getattr(self, name) >= 1:
                raise ConfigError(f"limits.{name} is a number from 1 up, not {getattr(self, name)}")
        if self.per <= timedelta(0):
            raise ConfigError(f"limits.per is a time greater than 0, not {self.per}")
        if not 0 < self.burst <= 1:
            raise ConfigError(f"limits.burst is a share above 0, up to 1, not {self.burst}")


@dataclass(frozen=True, slots=True)
class Rate:
    """One bucket's rate: `limit` units in `per` microseconds, of which `room` microseconds' worth may go at once."""

    limit: int
    per: int
    room: int

    def time(self, units: int) -> int:
        """What `units` cost, in microseconds of the bucket; rounded up, so that rounding never admits more."""
        return -(-units * self.per // self.limit)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket's state; instants in microseconds."""

    tat: int = 0
    """When it is full again."""
    line: int = 0
    """The time given to the last of those who wait; the next one is told to come after it."""
    heir: str = ""
    """A call that needs most of the bucket; smaller ones leave it its turn, or it would wait for ever."""
    hold: int = 0
    """Until when."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """All that is kept under one meter."""

    until: int = 0
    """Nobody passes before: the server said so."""
    said_at: int = 0
    """When it said so."""
    each: Mapping[str, Bucket] | None = None
    """By rate; None and empty mean the same."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a call asks of one bucket."""

    bucket: str
    rate: Rate
    units: int


def take(state: Buckets, wants: Sequence[Want], now: int, who: str) -> tuple[Buckets, int | None]:
    """Take from all buckets, or from none: then the answer is the instant at which to ask again."""
    if now < state.until:
        return state, state.until
    each = dict(state.each or {})
    dues = {want.bucket: _due(each.get(want.bucket, Bucket()), want, now, who) for want in wants}
    late = [want for want in wants if dues[want.bucket] > now]
    if not late:
        for want in wants:
            bucket = each.get(want.bucket, Bucket())
            heir, hold = ("", 0) if bucket.heir == who else (bucket.heir, bucket.hold)
            each[want.bucket] = Bucket(max(bucket.tat, now) + want.rate.time(want.units), bucket.line, heir, hold)
        return Buckets(state.until, state.said_at, each), None
    answers = []
    for want in late:
        bucket = each.get(want.bucket, Bucket())
        cost, due = want.rate.time(want.units), dues[want.bucket]
        if 2 * cost > want.rate.room and (not bucket.heir or bucket.heir == who or now >= bucket.hold):
            each[want.bucket] = replace(bucket, heir=who, hold=due + _GRACE)
            answers.append(due)
        elif due - now <= _NEARLY:
            answers.append(due)
        else:
            line = max(bucket.line + cost, due)
            each[want.bucket] = replace(bucket, line=line)
            answers.append(line)
    return replace(state, each=each), max(answers)


def _due(bucket: Bucket, want: Want, now: int, who: str) -> int:
    """When the bucket has room for the call: `now` or earlier if it has it now."""
    cost = want.rate.time(want.units)
    # More than the bucket can ever hold passes alone, when it is full.
    due = max(bucket.tat, now) + min(cost, want.rate.room) - want.rate.room
    if bucket.heir and bucket.heir != who and now < bucket.hold:
        due = max(due, bucket.hold - _GRACE + 1, now + 1)
    return due


def settle(state: Buckets, wants: Sequence[Want], now: int) -> Buckets:
    """Give back units (those of `wants` are negative then), or take what was used beyond the estimate."""
    each = dict(state.each or {})
    for want in wants:
        bucket = each.get(want.bucket, Bucket())
        if want.units < 0:
            each[want.bucket] = replace(bucket, tat=bucket.tat + -(want.units * want.rate.per // -want.rate.limit))
        elif want.units > 0:
            each[want.bucket] = replace(bucket, tat=max(bucket.tat, now) + want.rate.time(want.units))
    return replace(state, each=each)


def penalise(state: Buckets, now: int, until: int) -> Buckets:
    """Let nobody pass before `until`."""
    return replace(state, until=until, said_at=now) if until > state.until else state


def dump(state: Buckets) -> str:
    """The buckets as JSON."""
    each = {name: [b.tat, b.line, b.heir, b.hold] for name, b in (state.each or {}).items()}
    return text({"until": state.until, "said_at": state.said_at, "each": each})


def load(stored: str | None) -> Buckets:
    """What `dump` wrote; full buckets if there is nothing, or nothing that can be read."""
    found = numbers(stored)
    try:
        each = {str(k): Bucket(int(t), int(n), str(h), int(u)) for k, (t, n, h, u) in found.get("each", {}).items()}
        return Buckets(int(found.get("until", 0)), int(found.get("said_at", 0)), each)
    except (TypeError, ValueError, AttributeError):
        return Buckets()


Draws = tuple[tuple[str, tuple[tuple[str, Rate, bool], ...]], ...]
"""By meter: (bucket, rate, whether it counts tokens)."""


class Limiter:
    """The middleware. Without limits it still keeps everybody away from a dependency that said when to come back."""

    FRESH = _SECOND
    """With shared gauges, how long a dependency is taken to be free of penalties without asking (microseconds)."""

    def __init__(
        self, limits: Sequence[RateLimit], gauges: Gauges, uniform: Callable[[], float], *, hint_cap: float = 900.0
    ) -> None:
        self._limits = tuple(limits)
        self._gauges = gauges
        self._uniform = uniform
        self._hint_cap = hint_cap
        self._of_tenants = any(limit.of == "tenant" for limit in self._limits)
        self._draws: dict[tuple[str, str | None], Draws] = {}
        self._free_until: dict[str, int] = {}
        """For dependencies without a limit: until when nobody need be asked. Missing: for ever, unless shared."""

    async def __call__(self, call: Call, following: Next) -> Reply:
        if not call.dependency:
            return await following(call)
        tenant = call.scope.tenant if self._of_tenants and call.scope is not None else None
        draws = self._draws.get((call.dependency, tenant))
        if draws is None:
            draws = self._draws[call.dependency, tenant] = draws_of(self._limits, call.dependency, tenant)
        estimate = call.worst.total
        if draws or call.visit.clock.now() >= self._free_until.get(call.dependency, self._always):
            await self._admit(call, draws, estimate)
        try:
            reply = await following(call)
        except Exception as error:
            if call.visit.over is None:
                await self._failed(call, draws, estimate, error)
            raise
        if draws:
            await self._correct(call, draws, tokens=reply.usage.total - estimate)
        return reply

    @property
    def _always(self) -> int:
        return 0 if self._gauges.shared else 2**62

    async def _admit(self, call: Call, draws: Draws, estimate: int) -> None:
        """Take from every bucket in turn. Raises `NotYet`, with nothing taken, if one has no room."""
        meters = draws if any(meter == _meter(call) for meter, _ in draws) else ((_meter(call), ()), *draws)
        now = call.visit.clock.now()
        for place, (meter, parts) in enumerate(meters):
            wants = [Want(name, rate, estimate if tokens else 1) for name, rate, tokens in parts]

            def change(old: str | None, wants: list[Want] = wants) -> tuple[str, tuple[Buckets, int | None]]:
                state, due = take(load(old), wants, now, call.key)
                return dump(state), (state, due)

            state, due = await ask(self._gauges, call, meter, change)
            if due is not None:
                await self._correct(call, meters[:place], tokens=-estimate, requests=-1)
                raise self._later(call, meter, state, due, now)
        if not draws:
            if self._gauges.shared:
                self._free_until[call.dependency] = now + self.FRESH
            else:
                self._free_until.pop(call.dependency, None)

    def _later(self, call: Call, meter: str, state: Buckets, due: int, now: int) -> NotYet:
        if now < state.until:
            # Everybody waits for the same instant. They return over a tenth of the wait, at least a second.
            due += int(self._uniform() * max(_SECOND, (state.until - state.said_at) // 10))
            return NotYet(due, Waiting.LIMIT, f"{call.dependency} asked for a pause")
        return NotYet(due, Waiting.LIMIT, f"{meter.removeprefix('limit:')} is at its limit")

    async def _failed(self, call: Call, draws: Draws, estimate: int, error: Exception) -> None:
        """Give back what was surely not used, and pass a server's wish to be left alone on to everybody."""
        failure = call.classify(error)
        if not failure.maybe_billed:
            await self._correct(call, draws, tokens=-estimate)
        if failure.kind is not ErrorKind.RATE_LIMITED or not failure.retry_after:
            return
        now = call.visit.clock.now()
        until = now + int(min(failure.retry_after, self._hint_cap) * _SECOND)
        await tell(self._gauges, _meter(call), lambda old: (dump(penalise(load(old), now, until)), None))
        self._free_until[call.dependency] = 0

    async def _correct(self, call: Call, draws: Draws, *, tokens: int = 0, requests: int = 0) -> None:
        """Take so many more from the buckets, or give so many back."""
        now = call.visit.clock.now()
        for meter, parts in draws:
            wants = [Want(name, rate, tokens if of_tokens else requests) for name, rate, of_tokens in parts]
            if any(want.units for want in wants):
                await tell(self._gauges, meter, partial(_settled, wants=wants, now=now))


def _settled(old: str | None, wants: Sequence[Want], now: int) -> tuple[str, None]:
    return dump(settle(load(old), wants, now)), None


def draws_of(limits: Sequence[RateLimit], dependency: str, tenant: str | None) -> Draws:
    """The buckets that a call of this dependency and tenant takes from, grouped by the meter that keeps them."""
    found: dict[str, list[tuple[str, Rate, bool]]] = {}
    of, _, name = dependency.partition(":")
    for limit in limits:
        subject = tenant if limit.of == "tenant" else name if limit.of == of else None
        if subject is None or not fnmatchcase(subject, limit.only):
            continue
        meter = f"limit:{limit.of}:{limit.only if limit.shared else subject}{'*' if limit.shared else ''}"
        per = micros(limit.per)
        for tokens, most in ((False, limit.requests), (True, limit.tokens if of == "model" else None)):
            if most is not None:
                unit = "tokens" if tokens else "requests"
                # Under another rate it is another bucket: after a change of settings nothing old is misread.
                bucket = f"{most} {unit} per {limit.per.total_seconds():g} s"
                rate = Rate(most, per, max(1, int(per * limit.burst)))
                found.setdefault(meter, []).append((bucket, rate, tokens))
    return tuple((meter, tuple(parts)) for meter, parts in found.items())


def _meter(call: Call) -> str:
    return f"limit:{call.dependency}"
