"""The fake API itself: how a request finds its answer, what is kept of it, and that none is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import urllib.request
import warnings
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Claude, Data, Event, Failure, Machine, RetryPolicy, Run, Runtime, Settings, Status
from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm import ModelError, Reply, Request
from statecraft.testing import SCENARIOS, FakeMessagesAPI, ManualClock, Outage, failure, in_turn, says

BODY = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


async def post(url: str, body: Mapping[str, Any] | None = None, path: str = "/v1/messages", method: str = "POST") -> Any:
    """One request on a connection of its own, without a client library: (status, JSON)."""
    host, _, rest = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    raw = json.dumps(body or BODY).encode()
    target = f"/{rest}".rstrip("/") + path
    writer.write(f"{method} {target} HTTP/1.1\r\nx-api-key: hush\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw)
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return int(head.split(" ")[1]), json.loads(await reader.readexactly(int(headers["content-length"])))
    finally:
        writer.close()
        await writer.wait_closed()


async def statuses(api: FakeMessagesAPI, count: int) -> list[int]:
    return [(await post(api.url))[0] for _ in range(count)]


def text_of(answer: tuple[int, Any]) -> str:
    return str(answer[1]["content"][0]["text"])


@pytest.mark.slow
def test_three_hundred_clients_at_once_are_all_answered_and_counted() -> None:
    async def story() -> None:
        async with FakeMessagesAPI(latency=0.05) as api:
            bodies = [{**BODY, "messages": [{"role": "user", "content": str(number)}]} for number in range(300)]
            answers = await asyncio.gather(*(post(api.url, body) for body in bodies))
            assert Counter(status for status, _ in answers) == {200: 300}
            assert [request.number for request in api.requests] == list(range(1, 301))
            asked = {request.body["messages"][0]["content"] for request in api.requests}
            assert asked == {str(number) for number in range(300)}

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_script_is_used_up_one_entry_a_request() -> None:
    async def story() -> None:
        script: list[Any] = ["429_retry_after", failure(503, "api_error"), [{"type": "text", "text": "blocks"}]]
        async with FakeMessagesAPI(script=script) as api:
            assert await statuses(api, 2) == [429, 503]
            assert text_of(await post(api.url)) == "blocks"
            assert text_of(await post(api.url)) == "hello world"

    asyncio.run(story())


def test_the_path_picks_a_scenario_and_outranks_the_default() -> None:
    async def story() -> None:
        async with FakeMessagesAPI("500") as api:
            assert (await post(api.url_of("529")))[0] == 529
            assert (await post(api.url))[0] == 500
            assert [request.path for request in api.requests] == ["/s/529/v1/messages", "/v1/messages"]

    asyncio.run(story())


def test_a_rule_sees_the_request_and_its_number_and_may_leave_it_to_the_rest() -> None:
    def rule(body: Mapping[str, Any], number: int) -> Any:
        return {1: "404", 2: says(body["messages"][0]["content"] * 2)}.get(number)

    async def story() -> None:
        async with FakeMessagesAPI(rule=rule, reply=lambda body: "the rest") as api:
            assert (await post(api.url))[0] == 404
            assert text_of(await post(api.url)) == "hihi"
            assert text_of(await post(api.url)) == "the rest"

    asyncio.run(story())


def test_replies_by_a_function_make_a_conversation_with_tools() -> None:
    def reply(body: Mapping[str, Any]) -> Any:
        last = body["messages"][-1]["content"]
        if isinstance(last, str):
            return [{"type": "tool_use", "name": "add", "input": {"a": 1}}]
        return f"it is {last[0]['content']}"

    async def story() -> None:
        async with FakeMessagesAPI(reply=reply) as api:
            claude = Claude("m", api_key="k", base_url=api.url)
            asked = {"role": "user", "content": "1 + 1?"}
            first = await claude.complete(Request("m", [asked]))
            (call,) = first.tool_uses
            assert (first.stop_reason, call["id"]) == ("tool_use", "toolu_1_0")
            result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "2"}]}
            second = await claude.complete(Request("m", [asked, {"role": "assistant", "content": list(first.content)}, result]))
            assert (second.text, second.model) == ("it is 2", "m")
            await claude.close()

    asyncio.run(story())


class Question(Data):
    said: str = ""


class Answered(Event):
    said: str


asking = Machine("asking_through_an_outage", data=Question, max_steps=3)


@asking.state(start=True)
async def wondering(run: Run[Question]) -> Answered:
    """Ask one question."""
    return Answered(said=await run.llm.ask("Are you there?"))


asking.transitions(wondering.on(Answered) >> asking.final("answered", ok=True), asking.anywhere.on(Failure) >> asking.final("no"))


@pytest.mark.slow
def test_an_outage_of_ten_minutes_passes_in_injected_time_and_the_run_comes_through(url: str) -> None:
    async def story() -> None:
        clock = ManualClock()
        outage = Outage(0, 600, ("529", "reset_before_response"))
        async with FakeMessagesAPI(outages=[outage], now=clock.monotonic, sleep=clock.sleep) as api:
            llm = Claude("m", api_key="k", base_url=api.url, clock=clock)
            patient = RetryPolicy(attempts=dict.fromkeys(ErrorKind, 10_000))
            hour = timedelta(hours=1)  # The lease too: time passes quicker here than a slow machine renews.
            settings = Settings(retry=patient, take="own", call_timeout=hour, lease=hour, breaker=None)
            async with Runtime(url, machines=[asking], llm=llm, clock=clock, settings=settings) as rt:
                run = await rt.start(asking, Question())
                await api.received()
                waited = asyncio.ensure_future(rt.wait(run.id))
                while not waited.done():
                    await clock.advance(timedelta(seconds=5))
                    await asyncio.sleep(0.002)
                assert (await waited).status is Status.DONE
                kinds = Counter(attempt.kind for attempt in await rt.attempts(run.id))
                assert kinds.keys() == {"overloaded", "transient"}
                assert (await rt.data(run.id)).said == "hello world"  # type: ignore[attr-defined]
            *failed, last = api.requests
            assert len(failed) == kinds.total()
            assert all(request.at < 600 for request in failed)
            assert last.at >= 600

    asyncio.run(asyncio.wait_for(story(), 30))


def test_latency_is_waited_by_the_clock_that_was_given() -> None:
    async def story() -> None:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        times = iter([100.0, 103.0, 107.0])
        api = FakeMessagesAPI(latency=lambda at: at / 2, now=lambda: next(times), sleep=sleep)
        async with api:
            assert await statuses(api, 2) == [200, 200]
        assert slept == [1.5, 3.5]
        assert [request.at for request in api.requests] == [3.0, 7.0]

    asyncio.run(story())


def test_no_secret_is_kept_but_a_test_can_tell_which_key_was_sent() -> None:
    async def story() -> None:
        async with FakeMessagesAPI() as api:
            await post(api.url)
            (request,) = api.requests
            assert request.headers["x-api-key"] == "[hidden]"
            assert "hush" not in repr(request)
            assert (request.has_key("hush"), request.has_key("other")) == (True, False)
            assert (request.method, request.body) == ("POST", BODY)

    asyncio.run(story())


def test_tokens_are_counted_and_other_paths_are_not_known() -> None:
    async def story() -> None:
        async with FakeMessagesAPI(script=["500"]) as api:
            status, counted = await post(api.url, path="/v1/messages/count_tokens")
            assert (status, counted["input_tokens"] > 0) == (200, True)
            assert (await post(api.url, path="/v1/models", method="GET"))[0] == 404
            assert (await post(api.url))[0] == 500

    asyncio.run(story())


def test_a_rule_that_raises_answers_and_is_raised_again_at_the_end() -> None:
    def rule(body: Mapping[str, Any], number: int) -> str:
        assert number < 1, "only for show"
        return "ok"

    async def story() -> None:
        async with FakeMessagesAPI(rule=rule) as api:
            status, body = await post(api.url)
            assert (status, "only for show" in body["error"]["message"]) == (400, True)

    with pytest.raises(AssertionError, match="only for show"):
        asyncio.run(story())


def test_scenarios_in_turn_refuse_a_request_too_many() -> None:
    async def story() -> None:
        async with FakeMessagesAPI(in_turn(SCENARIOS["529"], SCENARIOS["ok"])) as api:
            assert await statuses(api, 3) == [529, 200, 400]

    asyncio.run(story())


def test_an_unknown_scenario_is_told_at_once_with_the_likely_names() -> None:
    said = r"no scenario '429_retry'; did you mean 429_retry_after"
    with pytest.raises(ConfigError, match=said):
        FakeMessagesAPI("429_retry")
    with pytest.raises(ConfigError, match=said):
        FakeMessagesAPI(script=["429_retry"])
    with pytest.raises(ConfigError, match="no scenario"):
        FakeMessagesAPI().url_of("nonsense")


@pytest.mark.slow
def test_it_ends_in_the_middle_of_everything_without_a_warning() -> None:
    async def story() -> None:
        async with FakeMessagesAPI() as api:
            claude = [Claude("m", api_key="k", base_url=api.url_of(name)) for name in ("never", "sse_ping_forever", "slow_drip")]
            asked = [asyncio.ensure_future(one.complete(Request("m", BODY["messages"], max_tokens=64_000))) for one in claude]  # type: ignore[arg-type]
            await api.received(3)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, ModelError | Reply) for one in found] == [True] * 3
        for one in claude:
            await one.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(asyncio.wait_for(story(), 20))
        gc.collect()


def test_it_can_be_entered_again_on_the_same_port_as_a_service_that_came_back() -> None:
    async def story() -> None:
        api = FakeMessagesAPI()
        async with api:
            url = api.url
            await post(url)
        with pytest.raises(ConnectionError):
            await post(url)
        async with api:
            assert (await post(url))[0] == 200
            assert len(api.requests) == 2

    asyncio.run(story())


def test_code_that_is_not_async_can_use_it_too() -> None:
    with FakeMessagesAPI("ok") as api:
        asked = urllib.request.Request(f"{api.url}/v1/messages", json.dumps(BODY).encode(), method="POST")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=10) as answer:
            assert json.loads(answer.read())["content"][0]["text"] == "hello world"
        assert len(api.requests) == 1
