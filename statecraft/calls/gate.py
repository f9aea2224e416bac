"""May this call be made? A policy that lets most tool calls pass and puts the others to a person first.

An approval is bound to one call of one visit and to the digest of its tool and arguments: it is used once, by
construction. Anything else, an equal call later included, is another question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_args

from statecraft.calls.ask import Patience, Question, ask, asked, expired, wait_again
from statecraft.calls.budget import TIMED
from statecraft.calls.call import Action, Call, Next, Reply, canonical
from statecraft.calls.visit import request_digest
from statecraft.decisions import GATE
from statecraft.errors import CallError, ConfigError, ErrorKind, Rejected, ReviewUnanswered
from statecraft.ids import idempotency_key
from statecraft.money import BILLION, Dollars, billionths, decimal, shown
from statecraft.records import Json, ReviewRecord
from statecraft.tools import RISKS, Risk


@dataclass(frozen=True, slots=True)
class Proposal:
    """A tool call that is about to be made: what a policy judges."""

    tool: str
    arguments: Mapping[str, Json]
    risk: Risk
    """As declared by the tool or overridden by the policy; `high` if nobody said."""
    cost: Decimal | None = None
    """Dollars, if the tool says what a call costs."""
    budget_share: float | None = None
    """How much of the run's budget is used, from 0 to 1; None without a budget."""
    confidence: float | None = None
    """None if nobody gave one."""
    state: str = ""
    data: Any = None
    """The run's data."""
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Which tool calls a person must approve. By default none."""

    max_auto_risk: Risk = "high"
    """Calls of a higher risk are asked about."""
    risks: Mapping[str, Risk] = field(default_factory=dict[str, Risk])
    """Risks by name of the tool, in place of what the tool declares. A tool that declares none counts as `high`."""
    max_cost: Dollars | None = None
    """Dollars; a call whose tool says it costs more is asked about."""
    max_budget_share: float | None = None
    """From 0 to 1; once more than this share of the run's budget is used, every call is asked about."""
    min_confidence: float | None = None
    """From 0 to 1; a call with a lower confidence, or with none, is asked about."""
    confidence_of: Callable[[Proposal], float | None] | None = None
    """Where the confidence comes from; by default the field `confidence` of the arguments, else of the run's data."""
    when: Callable[[Proposal], bool | str] | None = None
    """Any other rule: True, or a text that says why, has the call asked about. If it raises, the call is asked about."""
    expires: timedelta = timedelta(days=2)
    """How long a question waits. Then the call is not made."""
    remind_after: timedelta | None = None
    """How long until people are reminded, once."""

    def __post_init__(self) -> None:
        for name, risk in (("max_auto_risk", self.max_auto_risk), *((f"risks[{tool!r}]", at) for tool, at in self.risks.items())):
            if risk not in RISKS:
                raise ConfigError(f"gate.{name} is one of {', '.join(get_args(Risk))}, not {risk!r}")
        for name in ("max_budget_share", "min_confidence"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"gate.{name} is a share from 0 to 1, not {share}")
        if self.max_cost is not None:
            decimal(self.max_cost, "gate.max_cost")
        if self.expires <= timedelta(0):
            raise ConfigError(f"gate.expires is a time greater than 0, not {self.expires}")
        if self.remind_after is not None and not timedelta(0) < self.remind_after < self.expires:
            raise ConfigError(f"gate.remind_after is a time greater than 0 and below expires, not {self.remind_after}")

    @property
    def asks_nothing(self) -> bool:
        """Whether no call can be asked about."""
        bounds = (self.max_cost, self.max_budget_share, self.min_confidence, self.when)
        return self.max_auto_risk == RISKS[-1] and all(bound is None for bound in bounds)


def choose(gate: GatePolicy | Mapping[str, GatePolicy], environment: str | None) -> GatePolicy:
    """The policy of an environment (`STATECRAFT_ENV`); the only one, if there is but one. Raises `ConfigError`.

    With several and no environment named nothing is guessed: a production that forgot its variable must not run with
    the policy of somebody's laptop.
    """
    if isinstance(gate, GatePolicy):
        return gate
    known = ", ".join(gate)
    if not environment:
        raise ConfigError(f"settings.gate has policies for {known}; set STATECRAFT_ENV to one of them")
    if environment not in gate:
        raise ConfigError(f"settings.gate has no policy for STATECRAFT_ENV={environment}; it has: {known}")
    return gate[environment]


def reasons(policy: GatePolicy, proposal: Proposal) -> tuple[str, ...]:
    """Why a person must approve the call; empty if it may be made at once. Pure, as far as the policy's rules are."""
    why: list[str] = []
    if RISKS.index(proposal.risk) > RISKS.index(policy.max_auto_risk):
        why.append(f"its risk is {proposal.risk}, above {policy.max_auto_risk}")
    most = None if policy.max_cost is None else decimal(policy.max_cost, "gate.max_cost")
    if most is not None and proposal.cost is not None and proposal.cost > most:
        why.append(f"it costs {shown(billionths(proposal.cost))}, more than {shown(billionths(most))}")
    if policy.max_budget_share is not None and (proposal.budget_share or 0.0) > policy.max_budget_share:
        why.append(f"{proposal.budget_share:.0%} of the budget is used, more than {policy.max_budget_share:.0%}")
    if policy.min_confidence is not None and (doubtful := _unsure(policy.min_confidence, proposal.confidence)):
        why.append(doubtful)
    if policy.when is not None and (rule := _rule(policy.when, proposal)):
        why.append(rule)
    return tuple(why)


def _unsure(least: float, confidence: float | None) -> str:
    if confidence is None:
        return f"its confidence is not known, and {least:g} is needed"
    return "" if confidence >= least else f"its confidence is {confidence:g}, below {least:g}"


def _rule(when: Callable[[Proposal], bool | str], proposal: Proposal) -> str:
    """What the rule says. One that fails must not let a call pass."""
    name = getattr(when, "__name__", type(when).__name__)
    try:
        said = when(proposal)
    except Exception as error:  # noqa: BLE001 - any rule may fail in any way
        return f"the rule {name} raised {type(error).__name__}: {error}"
    return said if isinstance(said, str) else f"the rule {name} asks for it" if said else ""


class Gate:
    """The middleware: lets a call pass, puts it to a person, or does what the person said."""

    def __init__(self, policy: GatePolicy) -> None:
        self.policy = policy
        self._off = policy.asks_nothing
        self._patience = Patience(policy.expires, policy.remind_after)

    async def __call__(self, call: Call, following: Next) -> Reply:
        # What was asked under a stricter policy is answered under any.
        if call.action is None or (self._off and not call.visit.reviews):
            return await following(call)
        return await following(await self._passed(call, call.action))

    async def _passed(self, call: Call, action: Action) -> Call:
        """The call as it may be made. Raises `Rejected`, `ReviewUnanswered`, or the park that waits for a decision."""
        for review in asked(call, "gate"):
            if review.action != action.digest.hex():
                continue  # An answer about another action says nothing about this one.
            if review.decision is None:
                raise await self._undecided(call, review)
            if review.decision == "reject":
                raise Rejected(
                    f"not executed: {review.decided_by} rejected {call.name}: {review.note or 'no reason given'}",
                    kind=ErrorKind.REJECTED,
                    name=call.name,
                )
            if review.decision == "approve":
                return call
            call = changed(call, action, review)
            action = call.action or action
            if review.decision == "modify_and_approve":
                return call
        if call.visit.attempts(call):
            return call  # It has passed the gate and begun.
        proposal = self._proposal(call, action)
        why = reasons(self.policy, proposal)
        if not why:
            return call
        question = Question("gate", f"May {action.tool} be called?", _shown(call, proposal, why), GATE)
        raise ask(call, action, question, self._patience)

    async def _undecided(self, call: Call, review: ReviewRecord) -> BaseException:
        if not expired(call, review):
            return await wait_again(call, review)
        return ReviewUnanswered(
            f"not executed: nobody decided about {call.name} before {review.expires_at:%Y-%m-%d %H:%M} UTC",
            kind=ErrorKind.REJECTED,
            name=call.name,
        )

    def _proposal(self, call: Call, action: Action) -> Proposal:
        policy, scope = self.policy, call.scope
        proposal = Proposal(
            tool=action.tool,
            arguments=action.arguments,
            risk=policy.risks.get(action.tool, _risk(action.risk)),
            cost=None if call.price is None else Decimal(call.price) / BILLION,
            budget_share=used_share(call),
            state="" if scope is None else scope.state,
            data=None if scope is None else scope.data,
            tenant=None if scope is None else scope.tenant,
        )
        return proposal if policy.min_confidence is None else replace(proposal, confidence=_confidence(policy, proposal))


def used_share(call: Call) -> float | None:
    """How much of the run's own budget is used, of the unit that is nearest to its end; None without a budget."""
    scope = call.scope
    if scope is None:
        return None
    own = (draw for draw in scope.draws if draw.meter == f"run:{scope.run_id}")
    shares = (
        scope.used.get(f"{draw.meter}:{unit}", 0) / limit
        for draw in own
        for unit, limit in draw.limits.items()
        if unit not in TIMED and limit
    )
    return max(shares, default=None)


def changed(call: Call, action: Action, review: ReviewRecord) -> Call:
    """The call with the arguments that a person put in place: another action, with another key.

    Raises `CallError` if they do not fit the tool (any more).
    """
    arguments: Mapping[str, Json] = review.answer
    try:
        action.check(arguments)
    except Exception as error:
        message = f"not executed: the arguments that {review.decided_by} put in place do not fit: {error}"
        raise CallError(message, kind=ErrorKind.INVALID, name=call.name) from error
    digest, visit = action_digest(action.tool, arguments), call.visit
    # Of both actions: a call that asked for these arguments by itself is another one, and has another key.
    both = hashlib.sha256(call.digest + digest).digest()
    visit.changes[(call.digest, call.occurrence)] = {
        "arguments": dict(arguments),
        "by": review.decided_by,
        "note": review.note,
    }
    return replace(
        call,
        key=idempotency_key(visit.run_id, visit.first, both, call.occurrence),
        perform=action.perform(arguments),
        action=replace(action, arguments=arguments, digest=digest),
    )


def action_digest(tool: str, arguments: Mapping[str, Json]) -> bytes:
    """What an approval is bound to: the SHA-256 of tool and arguments, as a call's digest in its visit is."""
    return request_digest("tool", action_text(tool, arguments), "")


def action_text(tool: str, arguments: Mapping[str, Json]) -> str:
    """Tool and arguments as one canonical text."""
    return canonical({"tool": tool, "arguments": dict(arguments)})


def _shown(call: Call, proposal: Proposal, why: tuple[str, ...]) -> dict[str, Json]:
    told: dict[str, Json] = {
        "risk": proposal.risk,
        "reasons": list(why),
        "cost": None if proposal.cost is None else shown(billionths(proposal.cost)),
        "confidence": proposal.confidence,
        "budget_share": proposal.budget_share,
        "state": proposal.state,
        "tenant": proposal.tenant,
        "key": call.key,
        "changed": call.visit.changes.get((call.digest, call.occurrence)),
    }
    return {name: value for name, value in told.items() if value is not None}


def _risk(declared: str) -> Risk:
    for risk in RISKS:
        if risk == declared:
            return risk
    return "high"


def _confidence(policy: GatePolicy, proposal: Proposal) -> float | None:
    """The confidence of a proposal. Anything that is not a number from 0 to 1 counts as none."""
    if policy.confidence_of is not None:
        try:
            found: object = policy.confidence_of(proposal)
        except Exception:  # noqa: BLE001 - then it is not known, and the call is asked about
            return None
    else:
        found = proposal.arguments.get("confidence", getattr(proposal.data, "confidence", None))
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        return None
    return float(found)
