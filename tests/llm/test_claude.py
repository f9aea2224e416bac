from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from statecraft.clock import SystemClock
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm import Claude, ModelError, OutputSpec, Reply, Request, ToolSpec, messages_api
from statecraft.records import Usage
from statecraft.testing import FakeMessagesAPI, answer, failure
from statecraft.testing.messages_api import Received, Scenario
from statecraft.testing.messages_api.payloads import PARIS, ROME, TEXT, THINKING, UNKNOWN

HELLO = Request(model="claude-fake-1", messages=[{"role": "user", "content": "hi"}], max_tokens=64)
LONG = Request(model="claude-fake-1", messages=[{"role": "user", "content": "hi"}], max_tokens=64_000)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
COUNTED = Request(model="claude-fake-1", messages=HELLO.messages, system="Be brief.", output=OutputSpec("Count", SCHEMA))
REQUEST_ID = "req_0001"
NEW_YEAR = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)


class NewYear(SystemClock):
    def now(self) -> int:
        return NEW_YEAR


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in os.environ if name.startswith(("ANTHROPIC_", "STATECRAFT_")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)


def ask(scenario: str, request: Request = HELLO, *, native_output: bool = True) -> tuple[Reply, list[Received]]:
    async def story() -> tuple[Reply, list[Received]]:
        async with FakeMessagesAPI() as api:
            claude = Claude(api_key="k", base_url=api.url_of(scenario), native_output=native_output, clock=NewYear())
            try:
                return await claude.complete(request), api.requests
            finally:
                await claude.close()

    return asyncio.run(story())


def fail(scenario: str, request: Request = HELLO) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(scenario, request)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_reply_carries_its_text_its_usage_and_its_request_id() -> None:
    reply, requests = ask("ok")
    assert reply == Reply((TEXT,), "end_turn", Usage(442, 5, 400, 30), "claude-fake-1", REQUEST_ID)
    assert requests[0].body == {"model": "claude-fake-1", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
    assert requests[0].has_key("k")
    assert requests[0].headers["authorization"] == "[hidden]"


@pytest.mark.parametrize(
    ("scenario", "content", "stop"),
    [
        ("thinking", (THINKING, TEXT), "end_turn"),
        ("unknown_block_beside_text", (UNKNOWN, TEXT), "end_turn"),
        ("tool_use", (TEXT, PARIS), "tool_use"),
        ("parallel_tool_use", (PARIS, ROME), "tool_use"),
        ("refusal", (), "refusal"),
        ("max_tokens", (TEXT,), "max_tokens"),
        ("unknown_stop_reason", (TEXT,), "brand_new_reason"),
    ],
)
def test_blocks_and_stop_reasons_come_through_as_they_are(scenario: str, content: tuple[object, ...], stop: str) -> None:
    reply, _ = ask(scenario)
    assert (reply.content, reply.stop_reason) == (content, stop)


def test_a_long_answer_travels_as_a_stream_and_is_the_same_reply() -> None:
    whole, _ = ask("tool_use")
    streamed, requests = ask("tool_use", LONG)
    assert requests[0].body["stream"] is True
    assert (streamed.content[1], streamed.stop_reason, streamed.usage) == (whole.content[1], whole.stop_reason, whole.usage)
    assert streamed.text == "hello world"
    assert streamed.request_id == REQUEST_ID


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "kind", "retry_after", "maybe_billed"),
    [
        ("400", ErrorKind.PERMANENT, None, False),
        ("400_should_retry", ErrorKind.TRANSIENT, None, False),
        ("400_usage_limit", ErrorKind.QUOTA, None, False),
        ("400_too_long", ErrorKind.CONTEXT, None, False),
        ("400_on_hold", ErrorKind.QUOTA, None, False),
        ("401", ErrorKind.PERMANENT, None, False),
        ("402", ErrorKind.QUOTA, None, False),
        ("403", ErrorKind.PERMANENT, None, False),
        ("404", ErrorKind.PERMANENT, None, False),
        ("408", ErrorKind.TRANSIENT, None, True),
        ("409", ErrorKind.TRANSIENT, None, False),
        ("413", ErrorKind.CONTEXT, None, False),
        ("429_no_header", ErrorKind.RATE_LIMITED, None, False),
        ("429_retry_after", ErrorKind.RATE_LIMITED, 7.0, False),
        ("429_retry_after_ms", ErrorKind.RATE_LIMITED, 0.35, False),
        ("429_nonsense", ErrorKind.RATE_LIMITED, None, False),
        ("429_ramp", ErrorKind.RATE_LIMITED, 30.0, False),
        ("429_spend_limit", ErrorKind.QUOTA, None, False),
        ("429_contract_spend_limit", ErrorKind.QUOTA, None, False),
        ("500", ErrorKind.TRANSIENT, None, False),
        ("501", ErrorKind.PERMANENT, None, False),
        ("502_html", ErrorKind.TRANSIENT, None, False),
        ("504", ErrorKind.TRANSIENT, None, True),
        ("529_retry_after", ErrorKind.OVERLOADED, 2.0, False),
        ("200_html", ErrorKind.PROTOCOL, None, True),
        ("200_wrong_schema", ErrorKind.PROTOCOL, None, True),
        ("200_error_envelope", ErrorKind.PROTOCOL, None, True),
        ("200_malformed_json", ErrorKind.PROTOCOL, None, True),
        ("200_empty", ErrorKind.PROTOCOL, None, True),
        ("no_stop_reason", ErrorKind.PROTOCOL, None, True),
        ("truncated_content_length", ErrorKind.TRANSIENT, None, True),
        ("reset_before_response", ErrorKind.TRANSIENT, None, True),
    ],
)
def test_every_failure_says_whether_to_try_again(
    scenario: str, kind: ErrorKind, retry_after: float | None, maybe_billed: bool
) -> None:
    error = fail(scenario)
    assert (error.kind, error.retry_after, error.maybe_billed) == (kind, retry_after, maybe_billed)


def test_a_date_in_retry_after_is_a_wait_from_now() -> None:
    error = refused(failure(429, "rate_limit_error", retry_after="Thu, 01 Jan 2026 00:00:30 GMT"))
    assert (error.kind, error.retry_after) == (ErrorKind.RATE_LIMITED, 30.0)


@pytest.mark.slow
def test_an_answer_of_which_nothing_can_be_read_is_unusable() -> None:
    assert fail("unknown_block").kind is ErrorKind.PROTOCOL
    assert "hologram" in str(fail("unknown_block"))
    assert ask("unknown_block_beside_text")[0].text == "hello world"


def test_pieces_of_an_answer_are_heard_and_the_reply_is_the_whole() -> None:
    async def story() -> tuple[list[str], Reply]:
        async with FakeMessagesAPI() as api:
            claude = Claude(api_key="k", base_url=api.url)
            heard: list[str] = []
            reply = await claude.stream(HELLO, heard.append)
            await claude.close()
            assert api.requests[0].body["stream"] is True
            return heard, reply

    heard, reply = asyncio.run(story())
    assert heard == ["hello", " world"]
    assert (reply.text, reply.stop_reason) == ("hello world", "end_turn")


def test_half_a_character_in_an_answer_makes_it_unusable() -> None:
    half = answer({"type": "text", "text": "\ud83d"})
    assert refused(half).kind is ErrorKind.PROTOCOL


@pytest.mark.parametrize(
    ("content", "usage"),
    [
        ([None], {}),
        (["words"], {}),
        ([{"text": "no type"}], {}),
        ([{"type": "text", "text": None}], {}),
        ([{**PARIS, "id": None}], {}),
        ([{**PARIS, "input": "Paris"}], {}),
        ([TEXT], {"input_tokens": -5, "output_tokens": 1}),
        ([TEXT], {"input_tokens": 5, "output_tokens": "many"}),
    ],
)
def test_an_answer_that_could_not_be_recorded_or_sent_back_is_unusable(content: list[Any], usage: dict[str, Any]) -> None:
    changes = {"usage": usage} if usage else {}
    assert refused(answer(stop="tool_use", content=content, **changes)).kind is ErrorKind.PROTOCOL


def refused(scenario: Scenario, key: str = "k") -> ModelError:
    async def story() -> ModelError:
        async with FakeMessagesAPI(scenario) as api:
            claude = Claude(api_key=key, base_url=api.url, clock=NewYear())
            with pytest.raises(ModelError) as caught:
                await claude.complete(HELLO)
            await claude.close()
            return caught.value

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("sse_cut_fin", ErrorKind.TRANSIENT),
        ("sse_clean_end_no_stop", ErrorKind.PROTOCOL),
        ("sse_no_message_stop", ErrorKind.PROTOCOL),
        ("sse_bad_json", ErrorKind.PROTOCOL),
        ("sse_disordered", ErrorKind.PROTOCOL),
        ("sse_error_overloaded", ErrorKind.OVERLOADED),
        ("200_html", ErrorKind.PROTOCOL),
        ("reset_before_response", ErrorKind.TRANSIENT),
    ],
)
def test_a_stream_that_breaks_is_a_failure_that_may_be_billed(scenario: str, kind: ErrorKind) -> None:
    error = fail(scenario, LONG)
    assert (error.kind, error.maybe_billed) == (kind, True)


def test_a_refused_stream_is_classified_like_any_other_request() -> None:
    error = fail("429_retry_after", LONG)
    assert (error.kind, error.retry_after, error.maybe_billed) == (ErrorKind.RATE_LIMITED, 7.0, False)


def test_an_error_quotes_the_server_and_its_request_id() -> None:
    assert str(fail("404")) == f"404 not_found_error it failed (request {REQUEST_ID})"


def test_a_refused_key_says_where_keys_come_from() -> None:
    fix = "check the key in ANTHROPIC_API_KEY or Claude(api_key=...)"
    assert str(fail("401")) == f"401 authentication_error invalid bearer token (request {REQUEST_ID}): {fix}"
    assert "permissions" in str(fail("403"))


def test_no_failure_repeats_the_key() -> None:
    error = refused(failure(401, "authentication_error", "no such key: sk-of-mine-1"), "sk-of-mine-1")
    assert "no such key: [key]" in str(error)
    assert "sk-of-mine-1" not in repr(error)


@pytest.mark.parametrize("key", ["sk-of-mine-1\n", "sk-of\r\nmine: 1", "sk-öf-mine"])
def test_a_key_that_no_header_can_carry_is_told_before_the_first_request_and_not_quoted(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^the API key for Claude holds a line break .* set ANTHROPIC_API_KEY anew$") as caught:
        Claude(api_key=key).check()
    assert "mine" not in str(caught.value)


def test_one_attempt_is_one_request() -> None:
    async def story() -> int:
        async with FakeMessagesAPI() as api:
            claude = Claude(api_key="k", base_url=api.url_of("500"))
            with pytest.raises(ModelError):
                await claude.complete(HELLO)
            await claude.close()
            return len(api.requests)

    assert asyncio.run(story()) == 1


def test_a_closed_port_is_transient_and_costs_nothing() -> None:
    async def story() -> ModelError:
        async with FakeMessagesAPI() as api:
            gone = api.url_of("ok")
        claude = Claude(api_key="k", base_url=gone)
        with pytest.raises(ModelError) as caught:
            await claude.complete(HELLO)
        await claude.close()
        return caught.value

    error = asyncio.run(story())
    assert (error.kind, error.maybe_billed) == (ErrorKind.TRANSIENT, False)


@pytest.mark.parametrize("request_", [HELLO, LONG], ids=["whole", "stream"])
def test_silence_on_the_wire_is_transient_and_may_be_billed(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_api, "_WHOLE", httpx2.Timeout(5, read=0.05))
    monkeypatch.setattr(messages_api, "_STREAMED", httpx2.Timeout(5, read=0.05))
    error = fail("never", request_)
    assert (error.kind, error.maybe_billed) == (ErrorKind.TRANSIENT, True)


def test_a_cancelled_call_ends_as_a_cancellation() -> None:
    async def story() -> None:
        async with FakeMessagesAPI() as api:
            claude = Claude(api_key="k", base_url=api.url_of("never"))
            call = asyncio.create_task(claude.complete(HELLO))
            await api.received()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await claude.close()

    asyncio.run(story())


def test_the_proxy_of_the_environment_is_not_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask("ok")[0].text == "hello world"


def test_one_client_serves_one_event_loop_after_another() -> None:
    claude = Claude(api_key="k")

    async def story() -> str:
        async with FakeMessagesAPI() as api:
            claude._base_url = api.url_of("ok")
            reply = await claude.complete(HELLO)
            await claude.close()
            return reply.text

    assert [asyncio.run(story()), asyncio.run(story())] == ["hello world", "hello world"]


def test_system_tools_and_options_go_along() -> None:
    request = Request(
        model="",
        messages=HELLO.messages,
        system="Be brief.",
        tools=(ToolSpec("weather", "The weather.", {"type": "object"}), ToolSpec("bare", "", {"type": "object"})),
        options={"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        output=OutputSpec("Count", SCHEMA),
    )
    body = ask("ok", request)[1][0].body
    assert body["model"] == "claude-sonnet-5-5"
    assert body["system"] == "Be brief."
    assert body["tools"] == [
        {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}},
        {"name": "bare", "input_schema": {"type": "object"}},
    ]
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tool_choice" not in body


def test_options_cannot_contradict_the_request() -> None:
    with pytest.raises(ConfigError, match="options may not set stream"):
        ask("ok", Request(model="m", messages=HELLO.messages, options={"stream": True}))


def test_without_native_output_the_schema_is_in_the_system_prompt() -> None:
    body = ask("ok", COUNTED, native_output=False)[1][0].body
    assert "output_config" not in body
    assert body["system"].startswith("Be brief.\n\n")
    assert '"required": ["n"]' in body["system"]


def test_a_schema_that_is_refused_goes_into_the_prompt_from_then_on() -> None:
    async def story() -> list[bool]:
        async with FakeMessagesAPI() as api:
            claude = Claude(api_key="k", base_url=api.url_of("schema_refused"))
            for _ in range(2):
                assert (await claude.complete(COUNTED)).text == "hello world"
            await claude.close()
            return ["output_config" in exchange.body for exchange in api.requests]

    assert asyncio.run(story()) == [True, False, False]


def test_the_model_comes_from_the_argument_then_the_environment_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Claude().model == "claude-sonnet-5-5"
    monkeypatch.setenv("STATECRAFT_MODEL", "claude-haiku-5-5")
    assert (Claude().model, Claude().label) == ("claude-haiku-5-5", "claude-haiku-5-5")
    assert Claude("claude-opus-5-5").model == "claude-opus-5-5"


@pytest.mark.slow
def test_a_missing_key_is_one_line_that_names_the_fix(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    claude = Claude()
    with pytest.raises(ConfigError, match=r"^no API key for Claude: set ANTHROPIC_API_KEY or pass Claude\(api_key=...\)$"):
        claude.check()
    with pytest.raises(ConfigError, match="no API key"):
        asyncio.run(claude.complete(HELLO))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    claude.check()
