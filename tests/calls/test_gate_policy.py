"""The decision of a gate, without a run: when a call passes, and what the person is told when it does not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft import GatePolicy, Settings
from statecraft.calls.gate import Proposal, action_digest, choose, reasons
from statecraft.errors import ConfigError
from statecraft.tools import RISKS, Risk

STRICT, LAX = GatePolicy(max_auto_risk="safe"), GatePolicy()


def proposal(**fields: Any) -> Proposal:
    given: dict[str, Any] = {"tool": "pay", "arguments": {"amount": 5}, "risk": "low", **fields}
    return Proposal(**given)


def broken(proposal: Proposal) -> bool:
    raise LookupError(proposal.tool)


def large(proposal: Proposal) -> bool:
    return bool(proposal.arguments["amount"] > 4)


@pytest.mark.parametrize(
    ("policy", "fields", "why"),
    [
        (GatePolicy(), {"risk": "high"}, ()),
        (GatePolicy(max_auto_risk="medium"), {"risk": "medium"}, ()),
        (GatePolicy(max_auto_risk="medium"), {"risk": "high"}, ("its risk is high, above medium",)),
        (GatePolicy(max_auto_risk="safe"), {"risk": "safe"}, ()),
        (GatePolicy(max_auto_risk="safe"), {"risk": "low"}, ("its risk is low, above safe",)),
        (GatePolicy(max_cost="0.10"), {"cost": Decimal("0.1")}, ()),
        (GatePolicy(max_cost=0.1), {"cost": Decimal("0.11")}, ("it costs $0.11, more than $0.10",)),
        (GatePolicy(max_cost=0), {"cost": None}, ()),
        (GatePolicy(max_budget_share=0.5), {"budget_share": None}, ()),
        (GatePolicy(max_budget_share=0.5), {"budget_share": 0.5}, ()),
        (GatePolicy(max_budget_share=0.5), {"budget_share": 0.8}, ("80% of the budget is used, more than 50%",)),
        (GatePolicy(min_confidence=0.7), {"confidence": 0.7}, ()),
        (GatePolicy(min_confidence=0.7), {"confidence": 0.4}, ("its confidence is 0.4, below 0.7",)),
        (GatePolicy(min_confidence=0.7), {}, ("its confidence is not known, and 0.7 is needed",)),
        (GatePolicy(when=large), {"arguments": {"amount": 4}}, ()),
        (GatePolicy(when=large), {}, ("the rule large asks for it",)),
        (GatePolicy(when=lambda p: "Ann wants to know" if p.tenant == "ann" else ""), {"tenant": "ann"}, ("Ann wants to know",)),
        (GatePolicy(when=broken), {}, ("the rule broken raised LookupError: pay",)),
    ],
)
def test_a_call_passes_or_is_asked_about_for_a_reason(policy: GatePolicy, fields: dict[str, Any], why: tuple[str, ...]) -> None:
    assert reasons(policy, proposal(**fields)) == why


def test_every_bound_that_is_passed_is_named() -> None:
    policy = GatePolicy(max_auto_risk="safe", max_cost=1, max_budget_share=0.1, min_confidence=0.9, when=large)
    found = reasons(policy, proposal(cost=Decimal(2), budget_share=0.2, confidence=0.1))
    assert [reason.split()[1] for reason in found] == ["risk", "costs", "of", "confidence", "rule"]


@given(st.sampled_from(RISKS), st.sampled_from(RISKS))
def test_a_risk_is_asked_about_exactly_when_it_is_above_the_bound(most: Risk, risk: Risk) -> None:
    assert bool(reasons(GatePolicy(max_auto_risk=most), proposal(risk=risk))) == (RISKS.index(risk) > RISKS.index(most))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_auto_risk": "some"}, "max_auto_risk is one of safe, low, medium, high, not 'some'"),
        ({"risks": {"pay": "very"}}, r"risks\['pay'\] is one of"),
        ({"max_cost": -1}, "max_cost is an amount of dollars"),
        ({"max_cost": "much"}, "max_cost is an amount of dollars"),
        ({"max_budget_share": 1.1}, "max_budget_share is a share from 0 to 1"),
        ({"min_confidence": float("nan")}, "min_confidence is a share from 0 to 1"),
        ({"expires": timedelta(0)}, "expires is a time greater than 0"),
        ({"remind_after": timedelta(0)}, "remind_after is a time greater than 0"),
        ({"remind_after": timedelta(days=2)}, "remind_after is a time greater than 0 and below expires"),
    ],
)
def test_a_policy_that_cannot_be_says_so(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GatePolicy(**wrong)


def test_the_environment_chooses_among_several_policies() -> None:
    both = {"laptop": LAX, "production": STRICT}
    assert choose(STRICT, None) is STRICT
    assert choose(both, "production") is STRICT
    assert choose(both, "laptop") is LAX


def test_an_unknown_or_missing_environment_is_never_guessed() -> None:
    with pytest.raises(ConfigError, match="policies for laptop, production; set STATECRAFT_ENV"):
        choose({"laptop": LAX, "production": STRICT}, None)
    with pytest.raises(ConfigError, match="no policy for STATECRAFT_ENV=prod; it has: laptop"):
        choose({"laptop": LAX}, "prod")


def test_settings_take_a_policy_or_several_by_name() -> None:
    assert Settings(gate={"production": STRICT}).gate == {"production": STRICT}
    wrong: list[Any] = [{}, {"production": "strict"}]
    for gate in wrong:
        with pytest.raises(ConfigError, match="gate is a GatePolicy, or one for each environment"):
            Settings(gate=gate)


def test_an_action_is_named_by_tool_and_arguments_whatever_their_order() -> None:
    assert action_digest("pay", {"a": 1, "b": 2}) == action_digest("pay", {"b": 2, "a": 1})
    assert action_digest("pay", {"a": 1}) != action_digest("pay", {"a": 2})
    assert action_digest("pay", {"a": 1}) != action_digest("send", {"a": 1})
