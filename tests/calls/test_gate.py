"""The gate around one call, with what a visit knows of earlier questions, and no store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from statecraft import GatePolicy
from statecraft.calls import classify
from statecraft.calls.call import Action, Call, Failure, Reply
from statecraft.calls.gate import Gate, action_digest, action_text, used_share
from statecraft.calls.park import Park
from statecraft.calls.visit import Visit
from statecraft.clock import instant
from statecraft.errors import CallError, ErrorKind
from statecraft.records import AttemptRecord, Draw, ReviewRecord
from statecraft.store import port
from statecraft.testing import ManualClock

STRICT = GatePolicy(max_auto_risk="safe", remind_after=timedelta(hours=1))


@dataclass
class World:
    """A visit, and a tool that takes amounts up to 10."""

    visit: Visit = field(default_factory=lambda: Visit(cast(port.Store, None), ManualClock(), bytes(16), 1, 1))
    ran: list[Mapping[str, Any]] = field(default_factory=list)

    def check(self, arguments: Mapping[str, Any]) -> None:
        if arguments["amount"] > 10:
            raise ValueError("more than 10")

    def performing(self, arguments: Mapping[str, Any]) -> Any:
        async def perform(call: Call) -> Reply:
            self.ran.append(arguments)
            return Reply('"paid"')

        return perform

    def call(self, amount: int = 5) -> Call:
        arguments = {"amount": amount}
        text = action_text("pay", arguments)
        digest, occurrence, key = self.visit.identify("tool", text)
        action = Action("pay", arguments, "high", digest, self.check, self.performing)
        made = Call(self.visit, "tool", "pay", text, digest, occurrence, key, self.performing(arguments), _failure)
        return _with(made, action)

    def answered(self, call: Call, decision: str | None, answer: Any = None, *, action: bytes | None = None) -> None:
        """An earlier execution asked, and this was said."""
        rounds = self.visit.reviews
        now = instant(self.visit.clock.now())
        rounds.append(
            ReviewRecord(
                run_id="",
                seq=1,
                state="paying",
                question="?",
                show={},
                events=(),
                requested_at=now,
                expires_at=now + timedelta(days=2),
                decision=decision,
                decided_by="ann",
                kind="gate",
                action=(action or call.digest).hex(),
                answer=answer,
                call=(call.digest.hex(), call.occurrence, len(rounds)),
            )
        )

    def through(self, call: Call, gate: Gate | None = None) -> Reply:
        """What comes of the call behind a gate; the strict one by default."""

        async def following(passed: Call) -> Reply:
            return await passed.perform(passed)

        async def go() -> Reply:
            return await (gate or Gate(STRICT))(call, following)

        return asyncio.run(go())


def _with(call: Call, action: Action) -> Call:
    return replace(call, action=action)


def _failure(error: Exception) -> Failure:
    return classify.of_tool(error)


def test_an_action_is_named_as_the_call_is() -> None:
    call = World().call()
    assert call.action is not None
    assert call.action.digest == call.digest == action_digest("pay", {"amount": 5})


def test_a_call_of_no_tool_passes_the_strictest_gate() -> None:
    world = World()
    call = _with(world.call(), cast(Action, None))
    assert world.through(call).result == '"paid"'
    assert world.visit.asks == []


def test_a_question_is_due_when_people_must_be_reminded() -> None:
    world = World()
    with pytest.raises(Park) as parked:
        world.through(world.call())
    (ask,) = world.visit.asks
    assert parked.value.due_at == ask.remind_at == world.visit.clock.now() + 3600 * 1_000_000
    assert ask.expires_at == world.visit.clock.now() + 2 * 86_400 * 1_000_000
    assert (ask.round, ask.kind, ask.arguments, ask.action) == (0, "gate", '{"amount":5}', ask.digest)
    assert world.ran == []


def test_changed_arguments_that_no_longer_fit_the_tool_are_not_used() -> None:
    world = World()
    world.answered(call := world.call(), "modify_and_approve", {"amount": 11})
    with pytest.raises(CallError, match="arguments that ann put in place do not fit: more than 10") as error:
        world.through(call)
    assert error.value.kind is ErrorKind.INVALID
    assert world.ran == []


def test_an_answer_about_another_action_lets_nothing_pass() -> None:
    world = World()
    world.answered(call := world.call(), "approve", action=action_digest("pay", {"amount": 6}))
    with pytest.raises(Park):
        world.through(call)
    assert [ask.round for ask in world.visit.asks] == [1]
    assert world.ran == []


def test_a_changed_call_may_be_changed_back_and_still_has_a_key_of_its_own() -> None:
    world = World()
    keys: list[str] = []
    call = world.call()
    world.answered(call, "modify", {"amount": 6})
    world.answered(call, "modify_and_approve", {"amount": 5}, action=action_digest("pay", {"amount": 6}))

    async def go() -> Reply:
        return await Gate(STRICT)(call, following)

    async def following(passed: Call) -> Reply:
        keys.append(passed.key)
        return await passed.perform(passed)

    asyncio.run(go())
    assert world.ran == [{"amount": 5}]
    assert keys != [call.key]


def test_a_call_that_has_begun_is_not_asked_about_by_a_stricter_policy() -> None:
    world = World()
    call = world.call()
    now = instant(world.visit.clock.now())
    failed = AttemptRecord("", 1, call.digest.hex(), call.occurrence, 1, "pay", "transient", "", now, None)
    world.visit.tried[(call.digest, call.occurrence)] = [failed]
    assert world.through(call).result == '"paid"'


def test_the_share_of_the_budget_is_that_of_the_unit_nearest_to_its_end() -> None:
    world = World()
    draws = (Draw("run:7", {"tokens": 1000, "calls": 4, "until": 1}), Draw("tenant:ann:0", {"calls": 1}))
    scope = SimpleNamespace(run_id="7", draws=draws, used={"run:7:tokens": 100, "run:7:calls": 3, "tenant:ann:0:calls": 9})
    call = replace(world.call(), scope=cast(Any, scope))
    assert used_share(call) == 0.75
    assert used_share(world.call()) is None
    with pytest.raises(Park):
        world.through(_with_state(call), Gate(GatePolicy(max_budget_share=0.7)))
    assert "75% of the budget is used" in world.visit.asks[0].show


def _with_state(call: Call) -> Call:
    scope = SimpleNamespace(**vars(call.scope), state="paying", data=None, tenant=None)
    return replace(call, scope=cast(Any, scope))
