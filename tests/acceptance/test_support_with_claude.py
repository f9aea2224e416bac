"""The support agent through the real client: the SDK, real sockets, and a fake Messages API that answers by the offline rules."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machines import shop, support_offline
from machines import support as agent
from machines.support import CHEAP, Approved, Ticket
from machines.support_prompts import SYSTEM, Understanding
from statecraft import Approve, Claude, Modify, Reject, Runtime, Status
from statecraft.decisions import Decision
from statecraft.testing import FakeMessagesAPI
from statecraft.testing.messages_api import message
from tests.cli.support import cli, fields

pytestmark = pytest.mark.slow

ANN = "ann@example.com"
BROKEN = "The kettle of order 1042 arrived broken. Please refund it."
LESS = {"order": 1042, "cents": 3000, "reason": "half of it"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and none of the caller's settings."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "STATECRAFT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def schema_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the request wants answered."""
    schema: Mapping[str, Any] = body["output_config"]["format"]["schema"]
    return schema


def by_rules(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the offline model answers to a request."""
    assert body["system"] == SYSTEM
    return support_offline.answer(body["messages"], schema_of(body))


def dear_at_first(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, but understanding the message costs most of the budget."""
    costly = set(schema_of(body)["properties"]) == set(Understanding.model_fields)
    usage = {"input_tokens": 40_000 if costly else 100, "output_tokens": 10}
    return message(*by_rules(body), model=body["model"], usage=usage)


async def play(api: FakeMessagesAPI, text: str, *steps: Decision | Approved) -> tuple[Ticket, list[str]]:
    """The ticket at its end, and the states it visited."""
    claude = Claude("claude-sonnet-5-5", api_key="test", base_url=api.url)
    settings = replace(agent.settings, take="own")
    async with Runtime("sqlite:///runs.db", machines=[agent.support], llm=claude, settings=settings) as runtime:
        run = await runtime.wait((await runtime.start(agent.support, Ticket(email=ANN, message=text, shop="shop.db"))).id)
        for step in steps:
            assert run.status is Status.WAITING, run
            if isinstance(step, Approved):
                await runtime.send(run.id, step, by="ben")
            else:
                await runtime.decide(run.id, step, by="ben")
            run = await runtime.wait(run.id)
        assert run.status is Status.DONE, run
        ticket = await runtime.data(run.id)
        assert isinstance(ticket, Ticket)
        assert (await runtime.replay(run.id)).divergence is None
        return ticket, [move.target for move in await runtime.history(run.id)]


@pytest.mark.parametrize(
    ("steps", "cents"), [([Approve()], [6490]), ([Modify(LESS, approve=True)], [3000]), ([Reject("no photo"), Approved()], [])]
)
def test_a_refund_through_the_real_client_is_what_the_reviewer_decided(
    steps: list[Decision | Approved], cents: list[int]
) -> None:
    async def go() -> None:
        async with FakeMessagesAPI(reply=by_rules) as api:
            ticket, _ = await play(api, BROKEN, *steps)
        assert [refund.cents for refund in shop.refunds_of(ticket.shop, ANN)] == cents
        told = [
            block
            for request in api.requests
            for said in request.body["messages"]
            if not isinstance(said["content"], str)
            for block in said["content"]
            if block["type"] == "tool_result"
        ]
        assert any(block.get("is_error") for block in told) is (not cents)

    asyncio.run(go())


def test_the_client_is_told_of_the_tools_and_of_nothing_that_names_a_customer_or_a_file() -> None:
    async def go() -> None:
        async with FakeMessagesAPI(reply=by_rules) as api:
            await play(api, BROKEN, Approve())
        offered = [request.body["tools"] for request in api.requests if request.body.get("tools")]
        assert {tool["name"] for tool in offered[0]} == {"show_order", "read_policy", "refund", "change_order"}
        parameters = {name for tool in offered[0] for name in tool["input_schema"]["properties"]}
        assert parameters == {"order", "topic", "cents", "reason", "address"}

    asyncio.run(go())


def test_when_the_budget_runs_low_a_cheaper_model_writes_a_short_reply() -> None:
    async def go() -> None:
        async with FakeMessagesAPI(reply=dear_at_first) as api:
            ticket, path = await play(api, BROKEN, Approved())
        assert path[-5:] == ["deciding", "short_reply", "human_review", "sending", "answered"]
        assert [request.body["model"] for request in api.requests] == ["claude-sonnet-5-5", CHEAP]
        assert "A colleague will answer you soon" in ticket.reply
        assert shop.refunds_of(ticket.shop, ANN) == []

    asyncio.run(go())


def test_an_api_that_is_overloaded_at_first_is_asked_again() -> None:
    async def go() -> None:
        async with FakeMessagesAPI(reply=by_rules, script=["529"]) as api:
            ticket, _ = await play(api, "Where is my order 1046?")
        assert "AP-55131207" in ticket.reply

    asyncio.run(go())


def test_the_command_line_with_a_key_uses_claude(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeMessagesAPI(reply=by_rules) as api:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-nobodys-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        asked = cli("start", "support", "--set", f"email={ANN}", "--set", f"message={BROKEN}")
        assert asked.exit_code == 4, asked.stderr
        assert "model: claude-sonnet-5-5" in asked.stderr
        run = asked.stdout.strip()
        done = cli("review", "modify", "@last", "--approve", "--set", "cents=3000", "--by", "ben")
        assert done.exit_code == 0, done.stderr
    assert "€30.00 on order 1042" in fields(cli("show", run, "--data", "--json"))["data"]["reply"]
