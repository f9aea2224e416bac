"""A dependency that keeps failing is left alone for a while, then asked by one call before all others return.

Circuit breaker (Michael Nygard, "Release It!", 2007): closed, open, half-open. Here an open breaker does not fail calls:
it puts them off (`NotYet`), and the runs that wait for it are spread over time.

A pure half (`Circuit`, `admit`, `report`, `release`) and the middleware that keeps the circuit in a gauge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase

from statecraft.calls.announce import Submit, changed, opened
from statecraft.calls.call import Call, Failure, Next, Reply
from statecraft.calls.gauges import Gauges, ask, numbers, tell, text
from statecraft.calls.park import NotYet, Park
from statecraft.errors import ConfigError, ErrorKind
from statecraft.records import Waiting

FAILING = frozenset({ErrorKind.OVERLOADED, ErrorKind.TRANSIENT, ErrorKind.PROTOCOL, ErrorKind.TIMEOUT})
"""What counts against a dependency."""
ANSWERED = frozenset(
    {ErrorKind.RATE_LIMITED, ErrorKind.QUOTA, ErrorKind.CONTEXT, ErrorKind.PERMANENT, ErrorKind.TOOL, ErrorKind.REFUSAL}
)
"""Failures of a call that show its dependency alive: they count as successes. The rest counts for nothing."""

_SECOND = 1_000_000
_EVER = 2**62
_GROWTHS = 64
"""Beyond this exponent every cap is reached."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to leave a dependency alone, and for how long. Durations in seconds."""

    failures: int = 8
    """Opens after this many failures in a row. More than one call's attempts, so that one call alone does not open it."""
    rate: float = 0.5
    """Opens as well when this share of the calls in the window failed."""
    window: float = 60.0
    """How far back the share looks: between half of this and all of it."""
    minimum: int = 20
    """Calls that the window must hold before the share means anything."""
    open_for: float = 10.0
    """From opening to the first probe."""
    growth: float = 2.0
    """Each failed probe, and each relapse, makes the next pause this many times longer."""
    longest: float = 300.0
    """No pause is longer."""
    probe_lease: float = 60.0
    """A probe unheard of for this long, or for the call's own timeout if that is longer, is given up for dead."""
    spread: float = 0.5
    """Those who wait come back spread over this share of the pause."""
    patience: int = 8
    """Failed probes that cost their call no attempt. From then on they do, so that a call whose own request is to blame
    ends some day."""
    exempt: tuple[str, ...] = ()
    """Dependencies without a breaker, by pattern: `tool:fetch` for a tool that reaches many places, some of them dead."""

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("failures", self.failures >= 1, "a number from 1 up"),
            ("minimum", self.minimum >= 1, "a number from 1 up"),
            ("patience", self.patience >= 0, "a number from 0 up"),
            ("exempt", not isinstance(self.exempt, str), "a tuple of patterns"),
            ("rate", 0 < self.rate <= 1, "a share above 0, up to 1"),
            ("spread", 0 <= self.spread <= 1, "a share from 0 to 1"),
            ("window", 0 < self.window < 1e9, "a number of seconds above 0"),
            ("open_for", 0 < self.open_for < 1e9, "a number of seconds above 0"),
            ("growth", 1 <= self.growth < 1e9, "a number from 1 up"),
            ("longest", self.open_for <= self.longest < 1e9, "a number of seconds, at least open_for"),
            ("probe_lease", 0 < self.probe_lease < 1e9, "a number of seconds above 0"),
        )
        for name, holds, wanted in rules:
            if not holds:
                raise ConfigError(f"breaker.{name} is {wanted}, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of one dependency. Instants and durations in microseconds; 0 means none."""

    in_a_row: int = 0
    """Failures since the last success."""
    failed_at: int = 0
    """When the latest of them was."""
    slot: int = 0
    """Number of the current half window, counted from 1970."""
    calls: int = 0
    failed: int = 0
    calls_before: int = 0
    """Of the half window before."""
    failed_before: int = 0
    open: bool = False
    until: int = 0
    """While open: when the next probe may be made."""
    pause: int = 0
    """Length of the current (or last) pause."""
    closed_at: int = 0
    """When a probe last closed it."""
    prober: str = ""
    """Who is making a probe."""
    lease: int = 0
    """When that probe is given up for dead."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to a call that wants to pass."""

    admitted: bool
    probe: bool = False
    """Whether it passes as the one probe, and must report."""
    due_at: int = 0
    """If not admitted: when to ask again at the earliest."""
    spread: int = 0
    """If not admitted: over how long after that those who wait should return."""


Tally = tuple[int, int, int]
"""Successes not reported yet: (half window, in it, in the one before)."""
NONE: Tally = (0, 0, 0)


def admit(circuit: Circuit, now: int, who: str, policy: BreakerPolicy, lease: float = 0.0) -> tuple[Circuit, Admission]:
    """Whether a call may pass. `lease`: how long it may take (seconds), should it be the probe."""
    if not circuit.open:
        return circuit, Admission(True)
    spread = int(circuit.pause * policy.spread)
    if now < circuit.until:
        return circuit, Admission(False, due_at=circuit.until, spread=spread)
    if circuit.prober and now < circuit.lease:
        # How the probe ends is known soon; who asks meanwhile neither crowds behind it nor waits for its whole lease.
        return circuit, Admission(False, due_at=min(circuit.lease, now + _SECOND), spread=spread)
    ends = now + int(max(policy.probe_lease, lease) * _SECOND)
    return replace(circuit, prober=who, lease=ends), Admission(True, probe=True)


def report(
    circuit: Circuit, ok: bool, now: int, who: str, policy: BreakerPolicy, tally: Tally = NONE, fine_at: int = _EVER
) -> tuple[Circuit, str | None]:
    """Take the end of a call into account. Answers what the circuit became by it: `opened`, `closed` or None.

    While it is open only the probe's end counts; calls that were admitted before it opened say nothing new.
    """
    if circuit.open:
        if circuit.prober != who:
            return circuit, None
        return (Circuit(pause=circuit.pause, closed_at=now), "closed") if ok else (_opened(circuit, now, policy), "opened")
    circuit = counted(circuit, now, policy, tally, fine_at)
    if ok:
        return replace(circuit, in_a_row=0, calls=circuit.calls + 1), None
    row, latest = circuit.in_a_row + 1, max(now, circuit.failed_at)
    circuit = replace(circuit, in_a_row=row, failed_at=latest, calls=circuit.calls + 1, failed=circuit.failed + 1)
    calls, failed = circuit.calls + circuit.calls_before, circuit.failed + circuit.failed_before
    if circuit.in_a_row >= policy.failures or (calls >= policy.minimum and failed >= policy.rate * calls):
        return _opened(circuit, now, policy), "opened"
    return circuit, None


def release(circuit: Circuit, who: str) -> Circuit:
    """The probe was not made after all: somebody else may make it."""
    return replace(circuit, prober="", lease=0) if circuit.prober == who else circuit


def counted(circuit: Circuit, now: int, policy: BreakerPolicy, tally: Tally = NONE, fine_at: int = _EVER) -> Circuit:
    """The circuit in the half window of `now`, with successes that were counted elsewhere, the latest of them at `fine_at`.

    They are told late. Those from before a failure that is known already do not end its row, or each worker's would.
    """
    slot = half_window(now, policy)
    if slot == circuit.slot + 1:
        circuit = replace(circuit, slot=slot, calls=0, failed=0, calls_before=circuit.calls, failed_before=circuit.failed)
    elif slot != circuit.slot:
        circuit = replace(circuit, slot=slot, calls=0, failed=0, calls_before=0, failed_before=0)
    of, fine, fine_before = tally
    if of == slot - 1:
        fine, fine_before = 0, fine
    elif of != slot:
        fine, fine_before = 0, 0
    in_a_row = 0 if (tally[1] or tally[2]) and fine_at >= circuit.failed_at else circuit.in_a_row
    return replace(circuit, in_a_row=in_a_row, calls=circuit.calls + fine, calls_before=circuit.calls_before + fine_before)


def half_window(now: int, policy: BreakerPolicy) -> int:
    """Number of the half window that an instant falls into."""
    return now // _half(policy)


def _half(policy: BreakerPolicy) -> int:
    return max(1, int(policy.window * _SECOND / 2))


def probes(policy: BreakerPolicy, seconds: float) -> int:
    """Most probes in an outage of this many seconds, whatever the number of calls that wait.

    For probes that end. One whose process dies is replaced when its lease is over.
    """
    count, at = 0, policy.open_for
    while at <= seconds:
        count += 1
        at += min(policy.longest, policy.open_for * policy.growth ** min(count, _GROWTHS))
    return count


def _opened(circuit: Circuit, now: int, policy: BreakerPolicy) -> Circuit:
    """Open, for longer than last time if it has not been well since for at least as long as it was left alone."""
    relapse = circuit.open or (circuit.pause > 0 and now - circuit.closed_at < circuit.pause)
    grown = circuit.pause * policy.growth if relapse else policy.open_for * _SECOND
    pause = max(1, int(min(policy.longest * _SECOND, grown)))
    return replace(circuit, open=True, until=now + pause, pause=pause, prober="", lease=0)


def dump(circuit: Circuit) -> str:
    """A circuit as JSON, without what is at its default."""
    return text({name: value for name, value in asdict(circuit).items() if value})


def load(stored: str | None) -> Circuit:
    """The circuit that `dump` wrote; a closed one if there is none or it cannot be read."""
    found = numbers(stored)
    blank = Circuit()
    known = {field.name: found[field.name] for field in fields(Circuit) if field.name in found}
    return replace(blank, **known) if all(type(value) is type(getattr(blank, name)) for name, value in known.items()) else blank


class _Local:
    """What this process remembers of one dependency, so that a healthy one costs a look and a comparison."""

    __slots__ = ("before", "closed_until", "exempt", "fine", "fine_at", "probed", "slot")

    def __init__(self, *, exempt: bool) -> None:
        self.closed_until = 0
        self.exempt = exempt
        self.probed: dict[str, int] = {}
        """Failed probes of this outage by the call's key."""
        self.slot = self.fine = self.before = 0
        self.fine_at = 0
        """When the latest success was."""

    def succeeded(self, now: int, half: int) -> None:
        """Count a success here; it is reported together with the next thing that must be."""
        slot, self.fine_at = now // half, now
        if slot != self.slot:
            self.before = self.fine if slot == self.slot + 1 else 0
            self.slot, self.fine = slot, 0
        self.fine += 1

    def taken(self) -> Tally:
        """The successes so far, which are somebody else's to keep from now on."""
        tally = (self.slot, self.fine, self.before)
        self.fine = self.before = 0
        return tally


class Breaker:
    """The middleware. Keyed by `call.dependency`; calls without one pass."""

    FRESH = _SECOND
    """With shared gauges, how long a closed breaker is taken to be closed without asking (microseconds)."""

    def __init__(
        self,
        policy: BreakerPolicy,
        gauges: Gauges,
        uniform: Callable[[], float],
        submit: Submit | None = None,
    ) -> None:
        self.policy = policy
        self._submit = submit
        """To the store, for what people are told."""
        self._gauges = gauges
        self._uniform = uniform
        self._known: dict[str, _Local] = {}
        self._half = _half(policy)

    async def __call__(self, call: Call, following: Next) -> Reply:
        if not call.dependency:
            return await following(call)
        local, now = self._known.get(call.dependency), call.visit.clock.now()
        if local is None:
            exempt = any(fnmatchcase(call.dependency, pattern) for pattern in self.policy.exempt)
            local = self._known[call.dependency] = _Local(exempt=exempt)
        if local.exempt:
            return await following(call)
        probe = False
        if now >= local.closed_until:
            probe = await self._pass(call, local, now)
        try:
            reply = await following(call)
        except (NotYet, Park, asyncio.CancelledError):
            if probe:
                await self._release(call)
            raise
        except Exception as error:
            if call.visit.over is None:
                await self._failed(call, local, error, probe)
            elif probe:
                await self._release(call)  # Our own store failed, which says nothing about the dependency.
            raise
        if probe:
            await self._report(call, local, ok=True)
        else:
            local.succeeded(call.visit.clock.now(), self._half)
        return reply

    async def _pass(self, call: Call, local: _Local, now: int) -> bool:
        """Return whether the call goes as a probe. Raises `NotYet` if it may not go."""
        tally, fine_at, policy = local.taken(), local.fine_at, self.policy

        def change(old: str | None) -> tuple[str, tuple[Circuit, Admission]]:
            circuit = load(old)
            if not circuit.open:
                circuit = counted(circuit, now, policy, tally, fine_at)
            circuit, admission = admit(circuit, now, _who(call), policy, call.timeout or 0.0)
            return dump(circuit), (circuit, admission)

        try:
            circuit, admission = await ask(self._gauges, call, _meter(call), change)
        except asyncio.CancelledError:
            await self._release(call)  # It may have been admitted as the probe all the same.
            raise
        if not admission.admitted:
            due_at = admission.due_at + int(self._uniform() * admission.spread)
            raise NotYet(due_at, Waiting.BREAKER, f"{call.dependency} is failing; its breaker is open")
        if admission.probe:
            changed(call.dependency, "probing", circuit)
        else:
            local.closed_until = now + self.FRESH if self._gauges.shared else _EVER
            local.probed.clear()
        return admission.probe

    async def _failed(self, call: Call, local: _Local, error: Exception, probe: bool) -> None:
        """Report a failure. One of a probe becomes `NotYet`: it was made for all who wait, and costs its run no attempt."""
        failure = call.classify(error)
        if failure.kind in FAILING:
            circuit = await self._report(call, local, ok=False)
            if probe and not call.once:
                local.probed[call.key] = local.probed.get(call.key, 0) + 1
                if local.probed[call.key] <= self.policy.patience:
                    raise self._later(call, circuit, failure) from error
        elif failure.kind in ANSWERED:
            if probe:
                await self._report(call, local, ok=True)
            else:
                local.succeeded(call.visit.clock.now(), self._half)
        elif probe:
            await self._release(call)

    async def _release(self, call: Call) -> None:
        """The probe has said nothing: it is somebody else's turn at once."""
        await tell(self._gauges, _meter(call), lambda old: (dump(release(load(old), _who(call))), None))

    def _later(self, call: Call, circuit: Circuit | None, failure: Failure) -> NotYet:
        until = call.visit.clock.now() + int(self.policy.open_for * _SECOND) if circuit is None else circuit.until
        pause = 0 if circuit is None else circuit.pause
        due_at = until + int(self._uniform() * pause * self.policy.spread)
        message = f"the probe of {call.dependency} failed: {failure.message}"
        return NotYet(due_at, Waiting.BREAKER, message, maybe_billed=failure.maybe_billed)

    async def _report(self, call: Call, local: _Local, *, ok: bool) -> Circuit | None:
        now, tally, fine_at, policy = call.visit.clock.now(), local.taken(), local.fine_at, self.policy

        def change(old: str | None) -> tuple[str, tuple[Circuit, Circuit, str | None]]:
            before = load(old)
            after, became = report(before, ok, now, _who(call), policy, tally, fine_at)
            return dump(after), (before, after, became)

        told = await tell(self._gauges, _meter(call), change)
        if told is None:
            return None
        before, after, became = told
        if after.open:
            local.closed_until = 0
        if became is not None:
            changed(call.dependency, became, before if became == "closed" else after)
        if became == "opened" and self._submit is not None:
            await opened(self._submit, call.dependency, after, now)
        return after


def _meter(call: Call) -> str:
    return f"breaker:{call.dependency}"


def _who(call: Call) -> str:
    return f"{call.key}/{call.visit.epoch}/{call.attempt}"
