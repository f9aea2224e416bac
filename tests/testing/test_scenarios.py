"""Every scenario of the fake API through the real client and the real engine: what comes out is what is documented."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import httpx2
import pytest
from pydantic import BaseModel, Field

from statecraft import Claude, Data, Event, Failure, Machine, RetryPolicy, Run, Runtime, Settings, Status, tool
from statecraft.errors import ErrorKind
from statecraft.llm import messages_api
from statecraft.records import CallRecord, RunRecord, TransitionRecord
from statecraft.testing import EXPECTED, SCENARIOS, FakeMessagesAPI

ONCE = RetryPolicy(attempts=dict.fromkeys(ErrorKind, 1))
STREAMED = 64_000
"""Tokens; an answer that may be so long travels as a stream."""


class Question(Data):
    about: str
    """The scenario to meet; the API finds it in the prompt."""
    max_tokens: int = 1024
    typed: bool = False
    said: str = ""


class Answered(Event):
    said: str


class Person(BaseModel):
    name: Annotated[str, Field(min_length=2)]
    score: Annotated[int, Field(le=10)]


@tool
async def weather(city: str) -> str:
    """Today's weather in a city."""
    return f"rain in {city}"


asking = Machine("asking", data=Question, max_steps=3)


@asking.state(start=True, tools=[weather])
async def wondering(run: Run[Question]) -> Answered:
    """Ask one question."""
    cap, prompt = run.data.max_tokens, f"Who is {run.data.about}, and how is the weather there?"
    # A model of its own for each case: breakers and penalties of one are not those of another.
    model = f"claude-fake-{run.data.about}-{cap}"
    if run.data.typed:
        person = await run.llm.ask(prompt, output=Person, max_tokens=cap, model=model)
        return Answered(said=person.name)
    return Answered(said=await run.llm.ask(prompt, tools=[weather], max_tokens=cap, model=model))


asking.transitions(
    wondering.on(Answered) >> asking.final("answered", ok=True),
    asking.anywhere.on(Failure) >> asking.final("given_up"),
)


@dataclass(frozen=True)
class Story:
    """How one question ended."""

    run: RunRecord
    last: TransitionRecord
    calls: list[CallRecord]

    @property
    def kind(self) -> str:
        """In the words of `EXPECTED`."""
        if self.last.event == "answered":
            return "answer"
        return "invalid" if self.last.event == "invalid_output" else str(self.last.payload["kind"])


Case = tuple[str, int]
"""A scenario, and how long its answer may be: long ones travel as streams."""
CASES = [(name, cap) for name in SCENARIOS for cap in ((STREAMED,) if name.startswith("sse_") else (1024, STREAMED))]
"""Each scenario, asked for whole and as a stream, unless it is about streams."""


async def tell(url: str, base_url: str, cases: Sequence[Case], patience: float) -> dict[Case, Story]:
    """All cases side by side, in one runtime."""
    settings = Settings(retry=ONCE, call_timeout=timedelta(seconds=patience), take="own", concurrency=8)
    llm = Claude("claude-fake-1", api_key="k", base_url=base_url)

    async def one(rt: Runtime, case: Case) -> Story:
        name, cap = case
        begun = await rt.start(asking, Question(about=name, max_tokens=cap, typed=name.startswith("json_")))
        run = await rt.wait(begun.id, timeout=timedelta(seconds=60))
        assert await rt.verify(run.id) == []
        return Story(run, (await rt.history(run.id))[-1], await rt.calls(run.id))

    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    async with Runtime(url, machines=[asking], llm=llm, settings=settings) as rt:
        stories = dict(zip(cases, await asyncio.gather(*(one(rt, case) for case in cases)), strict=True))
        assert rt._worker.failures == {}, "the engine let go of a run because of an exception"
    gc.collect()  # Tasks say what nobody took from them when they go.
    assert escaped == []
    return stories


def scenario_of(body: Mapping[str, Any], _number: int) -> str:
    prompt = str(body["messages"][0]["content"])
    return prompt.removeprefix("Who is ").partition(",")[0]


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Story]:
    """Every case once; those that would last for ever with limits that a test can wait for."""
    slow = [case for case in CASES if EXPECTED[case[0]] == "timeout"]
    stalled = [case for case in CASES if case[0] == "sse_stall"]
    quick = [case for case in CASES if case not in slow + stalled]
    url = f"sqlite:///{tmp_path_factory.mktemp('scenarios') / 'runs.db'}"

    async def everything() -> dict[Case, Story]:
        async with FakeMessagesAPI(rule=scenario_of) as api:
            found = await tell(url, api.url, quick, 60) | await tell(url, api.url, slow, 0.4)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(messages_api, "_STREAMED", httpx2.Timeout(5, read=0.25))
                return found | await tell(url, api.url, stalled, 60)

    return asyncio.run(everything())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'stream' if case[1] == STREAMED else 'whole'}")
def test_a_scenario_ends_as_documented_and_leaves_no_run_in_limbo(stories: dict[Case, Story], case: Case) -> None:
    story, expected = stories[case], EXPECTED[case[0]]
    assert story.kind == expected, story.last.payload
    assert story.run.status is (Status.DONE if expected == "answer" else Status.FAILED)
    assert (story.run.owner, story.run.waiting_for) == (None, None)
    assert [call.ok for call in story.calls if call.kind == "llm"]


@pytest.mark.slow
@pytest.mark.parametrize("cap", [1024, STREAMED], ids=["whole", "stream"])
def test_an_api_that_is_not_there_is_transient(url: str, cap: int) -> None:
    async def story() -> Story:
        async with FakeMessagesAPI() as api:
            gone = api.url
        return (await tell(url, gone, [("ok", cap)], 60))["ok", cap]

    found = asyncio.run(story())
    assert (found.run.status, found.kind, len(found.calls)) == (Status.FAILED, "transient", 1)


MEASURED = {
    "answer": "ok tool_use parallel_tool_use pause_turn json_good sse_unknown_event",
    "permanent": "400 401 403 404 412 418 422 499 501",
    "transient": "400_should_retry 408 409 500 500_malformed_json 502_html 503 504 599 truncated_content_length "
    "truncated_chunked close_before_response reset_before_response reset_mid_body not_http sse_cut_fin sse_cut_rst "
    "sse_stall sse_error_api",
    "quota": "400_on_hold 402 402_linked 429_spend_limit 429_contract_spend_limit",
    "context": "413 413_html context_exceeded",
    "rate_limited": "429_no_header 429_no_retry_flag 429_retry_after 429_retry_after_1 429_retry_after_ms 429_http_date 429_ramp",
    "overloaded": "529 529_compaction sse_error_overloaded sse_error_first",
    "protocol": "200_malformed_json 200_html 200_empty 200_wrong_schema 200_error_envelope truncated_until_close "
    "unknown_block sse_clean_end_no_stop sse_no_message_stop sse_bad_json sse_html_200",
    "timeout": "slow_headers slow_drip sse_ping_forever",
    "refusal": "refusal json_refusal unknown_stop_reason",
    "invalid": "max_tokens tool_truncated json_bad_value json_truncated json_not_json",
}
"""What the SDK was seen to do with each of 75 ways to answer, and what follows from it; the 76th is a port where nobody
listens. Written down apart from `EXPECTED`, so that neither a name nor its meaning is lost in passing."""


def test_the_seventy_five_ways_to_answer_keep_their_names_and_their_meaning() -> None:
    measured = {name: kind for kind, names in MEASURED.items() for name in names.split()}
    assert len(measured) == 75
    assert {name: EXPECTED.get(name) for name in measured} == measured


def test_every_scenario_has_a_documented_outcome() -> None:
    assert EXPECTED.keys() == SCENARIOS.keys()
    assert set(EXPECTED.values()) <= {"answer", *ErrorKind}
