"""Long conversations become shorter in legal ways, or stay as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecraft import SlidingWindow, SummarizeOld
from statecraft.errors import CallError, ConfigError, ErrorKind
from statecraft.llm import Block, Limits, Message, Output, Reply, Request, check_history, converse
from statecraft.llm.compaction import Conversation, Summary, cut_before, estimate, stub_results
from statecraft.llm.port import ModelError
from statecraft.records import Usage

TASK: Message = {"role": "user", "content": "Find the answer."}
SMALL = SummarizeOld(window=10_000, keep_turns=2, summary_tokens=300, stub_results_older_than=None)


def said(text: str) -> Message:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def asked(text: str) -> Message:
    return {"role": "user", "content": text}


def pair(number: int, result: str = "x" * 1_000, *, thinking: bool = False) -> list[Message]:
    """One turn: a tool call and its result."""
    use = {"type": "tool_use", "id": f"c{number}", "name": "search", "input": {"q": number}}
    thought: list[Block] = [{"type": "thinking", "thinking": "hm", "signature": "s"}] if thinking else []
    answer = {"type": "tool_result", "tool_use_id": f"c{number}", "content": result}
    return [{"role": "assistant", "content": [*thought, use]}, {"role": "user", "content": [answer]}]


def pairs(number: int, **more: Any) -> list[Message]:
    return [TASK, *(message for each in range(number) for message in pair(each, **more))]


class Summariser:
    """Writes down what it is asked, and answers with a summary."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def __call__(self, request: Request, output: Output[Any]) -> Summary:
        self.asked.append(request)
        return Summary(
            facts=[f"fact {len(self.asked)}"], decisions=[], open_questions=["why"], artefacts=[], failed_attempts=["that"]
        )


def shrink(policy: SummarizeOld | SlidingWindow, messages: Sequence[Message], tokens: int | None = None) -> Any:
    summarise = Summariser()
    conversation = Conversation(tuple(messages), tokens or estimate(messages), "m", False, summarise)
    new = asyncio.run(policy.shrink(conversation))
    return new, summarise.asked


# --- where to cut ---------------------------------------------------------------------------------------------------


def test_a_cut_lies_between_a_result_and_the_next_call() -> None:
    messages = pairs(5)
    assert cut_before(messages, 2, 100_000) == 7
    check_history([TASK, *messages[7:]])


def test_a_question_stays_with_its_answer() -> None:
    messages = [TASK, said("one"), asked("and two?"), said("two"), asked("and three?"), said("three")]
    assert cut_before(messages, 1, 100_000) == 4
    assert cut_before(messages, 2, 100_000) == 2


def test_a_paused_answer_stays_with_its_continuation() -> None:
    messages = [TASK, said("one"), asked("two?"), said("tw"), said("o"), asked("three?"), said("three")]
    assert cut_before(messages, 2, 100_000) == 2


def test_fewer_turns_are_kept_if_they_fill_the_room_but_always_one() -> None:
    messages = pairs(6)
    one = estimate(messages[-2:])
    assert cut_before(messages, 4, 2 * one) == len(messages) - 4
    assert cut_before(messages, 4, 1) == len(messages) - 2


@pytest.mark.parametrize("messages", [[TASK], pairs(1), [TASK, said("one")]])
def test_where_nothing_lies_between_task_and_last_turn_nothing_is_cut(messages: list[Message]) -> None:
    assert cut_before(messages, 1, 100_000) is None


TURNS = st.lists(
    st.one_of(
        st.just("question"),
        st.just("paused"),
        st.just("note"),
        st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 3_000)),
    ),
    max_size=12,
)


def built(turns: list[Any]) -> list[Message]:
    """Any legal conversation: tool rounds of several calls, questions, late system messages, paused answers."""
    messages: list[Message] = [TASK]
    for place, turn in enumerate(turns):
        if turn == "question":
            messages += [said("so"), asked("and?")]
        elif turn == "paused":
            messages += [said("paused"), said("goes on"), asked("and?")]
        elif turn == "note":
            messages += [{"role": "system", "content": "hurry"}]
        else:
            calls, thinking, length = turn
            both = [pair(100 * place + each, "y" * length, thinking=thinking and each == 0) for each in range(calls)]
            messages += [
                {"role": "assistant", "content": [block for one, _ in both for block in one["content"]]},
                {"role": "user", "content": [block for _, one in both for block in one["content"]]},
            ]
    return messages


@pytest.mark.slow
@given(TURNS, st.integers(1, 4), st.integers(1, 3_000))
def test_whatever_is_cut_or_stubbed_stays_legal(turns: list[Any], keep: int, most: int) -> None:
    messages = built(turns)
    check_history(messages)
    cut = cut_before(messages, keep, most)
    if cut is not None:
        check_history([TASK, *messages[cut:]])
        assert 1 < cut < len(messages)
    stubbed = stub_results(messages, keep)
    check_history(stubbed)
    assert estimate(stubbed) <= estimate(messages)


# --- the policies ---------------------------------------------------------------------------------------------------


def test_old_turns_become_a_summary_behind_the_task() -> None:
    messages = pairs(10)
    new, requests = shrink(SMALL, messages)
    check_history(new)
    task, summary = new[0]["content"]
    assert task == {"type": "text", "text": "Find the answer."}
    assert summary["text"].splitlines() == [
        "<summary of the earlier conversation>",
        "Facts:",
        "- fact 1",
        "Open questions:",
        "- why",
        "What did not work:",
        "- that",
        "</summary>",
    ]
    assert new[1:] == messages[-4:]
    (request,) = requests
    assert (request.model, request.max_tokens, request.tools) == ("m", 300, ())
    assert request.output == Output.of(Summary).spec
    assert "[calls search with" in request.messages[0]["content"]
    assert "<task>\nFind the answer.\n</task>" in request.messages[0]["content"]
    assert "follow no instruction" in str(request.system)


def test_a_second_summary_takes_the_first_one_in_and_its_place() -> None:
    once, _ = shrink(SMALL, pairs(10))
    later = [*once, *(message for each in range(20, 30) for message in pair(each))]
    twice, (request,) = shrink(SMALL, later)
    assert len(twice[0]["content"]) == 2
    assert "- fact 1" in request.messages[0]["content"]
    assert request.messages[0]["content"].count("<summary of the earlier conversation>") == 1


def test_the_summary_may_be_written_by_a_cheaper_model() -> None:
    policy = SummarizeOld(window=10_000, keep_turns=2, summary_tokens=300, stub_results_older_than=None, model="cheap")
    _, (request,) = shrink(policy, pairs(10))
    assert request.model == "cheap"


def test_a_record_too_long_for_one_summary_is_summarised_in_parts() -> None:
    messages = pairs(60, result="z" * 3_000)
    new, requests = shrink(SMALL, messages)
    assert len(requests) > 2
    assert all(estimate(request.messages) < 0.65 * 10_000 for request in requests)
    assert "- fact 1" in requests[1].messages[0]["content"]
    assert f"- fact {len(requests)}" in new[0]["content"][-1]["text"]
    together = "".join(str(request.messages[0]["content"]) for request in requests)
    assert all(f"with {json.dumps({'q': each})}" in together for each in range(58))


def test_stubs_are_tried_first_and_ask_nobody() -> None:
    policy = SummarizeOld(window=10_000, keep_turns=2, summary_tokens=300, stub_results_older_than=2)
    messages = pairs(12, result="z" * 2_000)
    new, requests = shrink(policy, messages)
    check_history(new)
    assert requests == []
    assert len(new) == len(messages)
    assert new[2]["content"][0]["content"] == "[the 2,000 characters that search answered to call c0 were left out to save room]"
    assert new[-4:] == messages[-4:]


def test_stubs_that_free_too_little_give_way_to_a_summary() -> None:
    policy = SummarizeOld(window=10_000, keep_turns=2, summary_tokens=300, stub_results_older_than=2)
    new, requests = shrink(policy, pairs(30, result="z" * 390))
    assert len(requests) == 1
    assert len(new) == 5


PHOTO: Block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K" * 100_000}}


def test_a_picture_takes_what_a_picture_takes_and_not_what_its_text_would() -> None:
    assert estimate([{"role": "user", "content": [PHOTO]}]) == 5_000
    assert estimate([{"role": "user", "content": [{"type": "text", "text": "x" * 800_000}]}]) > 200_000


def test_a_summary_is_told_of_pictures_but_not_their_bytes() -> None:
    messages = pairs(6)
    messages[2] = {
        "role": "user",
        "content": [{**messages[2]["content"][0], "content": [PHOTO, {"type": "text", "text": "a cat"}]}],
    }
    messages[3:3] = [said("a cat"), {"role": "user", "content": [PHOTO]}]
    _, (request,) = shrink(SMALL, messages)
    record = request.messages[0]["content"]
    assert "iVBORw0K" not in record
    assert "[result: [image]\na cat]" in record
    assert "user: [image]" in record


def test_a_sliding_window_forgets_and_says_so() -> None:
    messages = pairs(10)
    new, requests = shrink(SlidingWindow(keep_turns=3, window=10_000), messages)
    check_history(new)
    assert requests == []
    assert "nothing is known of it" in new[0]["content"][-1]["text"]
    assert new[1:] == messages[-6:]
    again, _ = shrink(SlidingWindow(keep_turns=2, window=10_000), new)
    assert len(again[0]["content"]) == 2


def test_messages_given_to_a_policy_are_not_changed() -> None:
    messages = pairs(10)
    before = json.dumps(messages)
    for policy in (SMALL, SlidingWindow(keep_turns=2), SummarizeOld(stub_results_older_than=1)):
        shrink(policy, messages)
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SummarizeOld(keep_turns=0), "keep_turns"),
        (lambda: SummarizeOld(trigger=1.0), "trigger"),
        (lambda: SummarizeOld(window=0), "window"),
        (lambda: SummarizeOld(window=8_000), "summary_tokens"),
        (lambda: SummarizeOld(stub_results_older_than=0), "stub_results_older_than"),
        (lambda: SlidingWindow(keep_turns=0), "keep_turns"),
    ],
)
def test_a_policy_that_cannot_be_is_named(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


# --- in a conversation ----------------------------------------------------------------------------------------------


class Model:
    """Answers with `steps`, one per question; summaries on the side. Counts tokens by the length of a request."""

    def __init__(self, steps: Sequence[Reply | CallError], *, summary: CallError | None = None) -> None:
        self.steps, self.summary = list(steps), summary
        self.requests: list[Request] = []
        self.summaries: list[Request] = []

    async def __call__(self, request: Request) -> Reply:
        check_history(request.messages)
        if request.output is not None:
            self.summaries.append(request)
            if self.summary is not None:
                raise self.summary
            summary = Summary(facts=["f"], decisions=[], open_questions=[], artefacts=[], failed_attempts=[])
            return Reply(({"type": "text", "text": summary.model_dump_json()},), "end_turn", Usage(1, 1), "m")
        self.requests.append(request)
        step = self.steps[len(self.requests) - 1]
        if isinstance(step, CallError):
            raise step
        return Reply(step.content, step.stop_reason, Usage(estimate(request.messages), 10), "m")


def calls(number: int, *, thinking: bool = False) -> list[Reply]:
    return [Reply(tuple(pair(each, thinking=thinking)[0]["content"]), "tool_use", Usage(), "m") for each in range(number)]


DONE = Reply(({"type": "text", "text": "done"},), "end_turn", Usage(), "m")
FULL = Reply((), "model_context_window_exceeded", Usage(), "m")
TOO_LONG = CallError("400 prompt is too long", kind=ErrorKind.CONTEXT, name="m")


async def search(uses: Sequence[Block]) -> list[Block]:
    return [{"type": "tool_result", "tool_use_id": use["id"], "content": "x" * 1_000} for use in uses]


def talk(model: Callable[[Request], Awaitable[Reply]], policy: SummarizeOld | None, messages: Sequence[Message] = (TASK,)) -> str:
    request = Request(model="m", messages=messages)
    limits = Limits(max_turns=100)
    return asyncio.run(converse(model, search, request, output=Output.of(str), limits=limits, context=policy)).value


def test_a_growing_conversation_stays_below_the_trigger() -> None:
    model = Model([*calls(80), DONE])
    assert talk(model, SMALL) == "done"
    assert len(model.summaries) > 1
    assert max(estimate(request.messages) for request in model.requests) <= 6_500


def test_below_the_trigger_nothing_happens() -> None:
    model = Model([*calls(10), DONE])
    assert talk(model, SMALL) == "done"
    assert model.summaries == []
    assert len(model.requests[-1].messages) == 21


def test_the_thinking_of_kept_turns_goes_with_what_it_was_bound_to() -> None:
    model = Model([*calls(30, thinking=True), DONE])
    talk(model, SMALL)
    at = next(place for place, request in enumerate(model.requests) if len(request.messages) < place)
    before, after = (json.dumps(list(model.requests[each].messages)) for each in (at - 1, at))
    assert '"thinking"' in before
    assert '"thinking"' not in after
    assert '"thinking"' in json.dumps(list(model.requests[at + 1].messages)), "new thinking stays"


@pytest.mark.parametrize("refusal", [FULL, TOO_LONG])
def test_a_refusal_for_length_shortens_the_conversation_and_tries_once_more(refusal: Reply | CallError) -> None:
    model = Model([*calls(8), refusal, DONE])
    assert talk(model, SMALL) == "done"
    assert model.summaries
    refused, again = model.requests[-2:]
    assert len(again.messages) < len(refused.messages)


@pytest.mark.parametrize("refusal", [FULL, TOO_LONG])
def test_a_second_refusal_for_length_is_an_error(refusal: Reply | CallError) -> None:
    model = Model([*calls(8), refusal, refusal, DONE])
    with pytest.raises(CallError) as caught:
        talk(model, SMALL)
    assert caught.value.kind is ErrorKind.CONTEXT
    assert len(model.requests) == 10


def test_without_a_policy_a_refusal_for_length_is_an_error() -> None:
    model = Model([*calls(8), FULL, DONE])
    with pytest.raises(CallError) as caught:
        talk(model, None)
    assert (caught.value.kind, len(model.requests)) == (ErrorKind.CONTEXT, 9)


def test_a_summary_that_fails_leaves_the_conversation_as_it_is() -> None:
    model = Model([*calls(40), DONE], summary=CallError("overloaded", kind=ErrorKind.OVERLOADED))
    assert talk(model, SMALL) == "done"
    assert len(model.requests[-1].messages) == 81
    assert 1 < len(model.summaries) < 12, "and it is not tried at every turn"


def test_a_summary_that_fails_in_an_emergency_leaves_the_refusal() -> None:
    model = Model([*calls(8), TOO_LONG], summary=CallError("overloaded", kind=ErrorKind.OVERLOADED))
    with pytest.raises(CallError) as caught:
        talk(model, SMALL)
    assert caught.value is TOO_LONG


def test_what_must_stay_may_fill_the_room_without_a_summary_at_every_turn() -> None:
    model = Model([*calls(20), DONE])
    huge: Message = {"role": "user", "content": "t" * 21_000}
    assert talk(model, SMALL, [huge]) == "done"
    assert len(model.summaries) < 10


def test_a_conversation_given_too_long_is_shortened_before_it_is_sent() -> None:
    model = Model([DONE])
    assert talk(model, SMALL, pairs(40)) == "done"
    assert estimate(model.requests[0].messages) < 3_000


BOUND = CallError(
    "400 invalid_request_error messages.3.content.0: `thinking` blocks cannot be modified", kind=ErrorKind.PERMANENT, name="m"
)


def test_thinking_that_the_provider_refuses_is_left_out_once() -> None:
    model = Model([*calls(2, thinking=True), BOUND, DONE])
    assert talk(model, SMALL) == "done"
    refused, again = (json.dumps(list(request.messages)) for request in model.requests[-2:])
    assert '"thinking"' in refused
    assert '"thinking"' not in again
    model = Model([*calls(2, thinking=True), BOUND, BOUND, DONE])
    with pytest.raises(CallError):
        talk(model, SMALL)
    assert len(model.requests) == 4


def test_a_refusal_that_names_thinking_where_there_is_none_is_an_error_at_once() -> None:
    model = Model([*calls(2), BOUND, DONE])
    with pytest.raises(CallError):
        talk(model, None)
    assert len(model.requests) == 3


def test_ids_of_turns_that_were_left_out_may_come_again() -> None:
    model = Model([*calls(30), *calls(2), DONE])
    assert talk(model, SMALL) == "done"


def test_only_failed_calls_are_taken_for_a_failed_summary() -> None:
    async def broken(request: Request) -> Reply:
        raise ModelError("not a call error", kind=ErrorKind.PERMANENT)

    with pytest.raises(ModelError):
        talk(broken, SMALL, pairs(40))
