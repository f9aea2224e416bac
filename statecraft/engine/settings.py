"""The few numbers a runtime is run by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Literal

from statecraft.calls import classify
from statecraft.calls.breaker import BreakerPolicy
from statecraft.calls.budget import TenantBudget
from statecraft.calls.gate import GatePolicy
from statecraft.calls.limiter import RateLimit
from statecraft.calls.retry import RetryPolicy
from statecraft.channel import AlertPolicy, Channel, check_channels
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.compaction import ContextPolicy, SummarizeOld
from statecraft.llm.loops import LoopPolicy
from statecraft.llm.prices import Price, PriceBook

UNIT = 1_000_000
"""The greatest share of a tenant, and one over the smallest."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a runtime holds and takes runs. The defaults suit one process on one machine."""

    lease: timedelta = timedelta(seconds=30)
    """A run whose holder has not renewed for this long may be claimed by anybody. Renewed every third of it."""
    poll: timedelta = timedelta(seconds=1)
    """How often to look for runs that became due elsewhere. What happens in this process is seen at once."""
    take: Literal["all", "own", "none"] = "all"
    """Which due runs to claim: any of the machines given, only those this runtime started or was asked about, or none."""
    concurrency: int = 64
    """Most runs held at once."""
    queues: tuple[str, ...] = ("default",)
    """Queues to take due runs from. Runs that this runtime started are its own whatever their queue, with `take="own"`."""
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    """By tenant, its share of the queues it uses, where 1 is the share of a tenant that is not named."""
    machine_limits: Mapping[str, int] = field(default_factory=dict[str, int])
    """By machine, how many of its runs may be held at once by all workers together. Give every worker the same."""
    poison: int = 5
    """A run that was claimed so often without getting on (no move, no wait on purpose) is not tried once more: it is dead.
    Its handler may be what takes its workers down."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    call_timeout: timedelta = timedelta(seconds=120)
    """Wall-clock limit of one attempt at a model. Tools declare their own."""
    errors: classify.Errors = field(default_factory=dict[type[Exception], ErrorKind])
    """What exceptions of your tools and models mean: a table of classes (the nearest class counts), or a function that
    answers an `ErrorKind`, or None for what it does not know."""
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    """When to leave a failing model or tool alone. None: never."""
    limits: tuple[RateLimit, ...] = ()
    """Rates that calls keep to."""
    meters: Literal["memory", "database"] = "memory"
    """Where breakers and limits count: in this process, or in the database for all workers together."""
    prices: Mapping[str, Price] | PriceBook | None = None
    """What models cost, by model id. What is not in it is looked up in the `prices` extra, if that is installed."""
    tenants: tuple[TenantBudget, ...] = ()
    """What the runs of each tenant may spend in each window of time. Give every runtime on a database the same."""
    loops: LoopPolicy | None = field(default_factory=LoopPolicy)
    """When repetition counts as a loop, of a model that calls tools and of a run that moves; None never."""
    context: ContextPolicy | None = field(default_factory=SummarizeOld)
    """How conversations are kept within the model's window; None lets them grow until the model refuses them."""
    gate: GatePolicy | Mapping[str, GatePolicy] = field(default_factory=GatePolicy)
    """Which tool calls a person must approve (default: none), and how long questions about calls wait. With a mapping
    the environment variable STATECRAFT_ENV chooses; then it must be set."""
    channels: tuple[Channel, ...] = ()
    """Where people are told of what they should hear: `statecraft.alerts`. This process delivers to these."""
    alerts: AlertPolicy = field(default_factory=AlertPolicy)
    """When to remind people, and which shares of a budget they hear of."""
    pace: float = 0.0
    """Seconds to wait before each step, so that people can watch. For demonstrations."""
    debug: bool = False
    """Compare `run.data` before and after each handler and raise `DataMutated` if it changed in place."""

    def __post_init__(self) -> None:
        if not all(isinstance(each, TenantBudget) for each in self.tenants):
            raise ConfigError(f"settings.tenants is a tuple of TenantBudget, not {self.tenants!r}")
        for name in ("lease", "poll", "call_timeout"):
            if getattr(self, name) <= timedelta(0):
                raise ConfigError(f"settings.{name} is a time greater than 0, not {getattr(self, name)}")
        if self.take not in ("all", "own", "none"):
            raise ConfigError(f"settings.take is 'all', 'own' or 'none', not {self.take!r}")
        if self.meters not in ("memory", "database"):
            raise ConfigError(f"settings.meters is 'memory' or 'database', not {self.meters!r}")
        if not all(isinstance(limit, RateLimit) for limit in self.limits):
            raise ConfigError(f"settings.limits is a tuple of RateLimit, not {self.limits!r}")
        self._check_queues()
        classify.check(self.errors)
        check_channels(self.channels)
        if self.concurrency < 1:
            raise ConfigError(f"settings.concurrency is at least 1, not {self.concurrency}; take='none' takes no runs")
        if self.poison < 2:
            raise ConfigError(f"settings.poison is at least 2 claims, not {self.poison}: the first may meet a bad moment")
        policies = (self.gate,) if isinstance(self.gate, GatePolicy) else tuple(self.gate.values())
        if not policies or not all(isinstance(policy, GatePolicy) for policy in policies):
            raise ConfigError("settings.gate is a GatePolicy, or one for each environment by name")
        if not 0 <= self.pace < inf:
            raise ConfigError(f"settings.pace is a number of seconds from 0 up, not {self.pace}")

    def _check_queues(self) -> None:
        given: object = self.queues
        if not isinstance(given, tuple) or not given or not all(given):
            raise ConfigError(f"settings.queues is a tuple of names, such as ('default',), not {self.queues!r}")
        for tenant, share in self.shares.items():
            if not 1 / UNIT <= share <= UNIT:
                raise ConfigError(f"settings.shares[{tenant!r}] is a number from 0.000001 to {UNIT:,}, not {share}")
        for machine, limit in self.machine_limits.items():
            if limit < 1:
                raise ConfigError(f"settings.machine_limits[{machine!r}] is at least 1, not {limit}")

    def share_of(self, tenant: str | None) -> float:
        """The share of a tenant, or of the runs that belong to none."""
        return 1.0 if tenant is None else self.shares.get(tenant, 1.0)
