from __future__ import annotations

import asyncio
import re

import pytest
from pydantic import BaseModel

from statecraft.errors import ErrorKind
from statecraft.llm import LLM, ModelError, Reply, Request, ScriptedLLM, ScriptExhausted, json_reply, text, together, tool_use
from statecraft.records import Usage


class Plan(BaseModel):
    terms: list[str]


def request(*words: str, system: str | None = None) -> Request:
    return Request(model="m", messages=[{"role": "user", "content": word} for word in words], system=system)


def ask(llm: LLM, *words: str) -> Reply:
    return asyncio.run(llm.complete(request(*words)))


def test_replies_come_in_order_and_requests_are_kept() -> None:
    llm = ScriptedLLM(["one", Plan(terms=["a"]), text("three")])
    assert [ask(llm, word).text for word in "abc"] == ["one", '{"terms": ["a"]}', "three"]
    assert [each.messages[0]["content"] for each in llm.requests] == ["a", "b", "c"]


def test_a_reply_has_the_models_name_and_made_up_usage_that_depends_on_length_only() -> None:
    short, long = ask(ScriptedLLM(["yes"]), "hi"), ask(ScriptedLLM(["yes" * 100]), "hi" * 100)
    assert (short.model, short.stop_reason) == ("m", "end_turn")
    assert short == ask(ScriptedLLM(["yes"]), "hi")
    assert 0 < short.usage.input_tokens < long.usage.input_tokens
    assert 0 < short.usage.output_tokens < long.usage.output_tokens


def test_a_whole_reply_is_given_as_it_is() -> None:
    reply = Reply(({"type": "text", "text": "x"},), "pause_turn", Usage(1, 2), "other", "req_1")
    assert ask(ScriptedLLM([reply]), "hi") == reply


def test_a_scripted_failure_is_raised() -> None:
    failure = ModelError("busy", kind=ErrorKind.OVERLOADED, retry_after=2)
    with pytest.raises(ModelError) as caught:
        ask(ScriptedLLM([failure]), "hi")
    assert caught.value is failure


def test_a_function_answers_from_the_request() -> None:
    llm = ScriptedLLM(lambda asked: f"you said {asked.messages[-1]['content']}")
    assert [ask(llm, "a").text, ask(llm, "b").text] == ["you said a", "you said b"]


def test_a_reply_in_the_list_may_be_a_function_and_may_be_async() -> None:
    async def later(asked: Request) -> str:
        return f"{len(asked.messages)} messages"

    assert ask(ScriptedLLM([later]), "a", "b").text == "2 messages"


def test_a_script_that_runs_out_names_the_request_and_what_it_said() -> None:
    llm = ScriptedLLM(["one"])
    ask(llm, "first")
    with pytest.raises(ScriptExhausted, match=r"^the script has 1 replies, but request 2 came, saying 'second'$") as caught:
        ask(llm, "first", "second")
    assert caught.value.kind is ErrorKind.PERMANENT


def test_the_last_text_of_a_request_is_found_in_blocks_too() -> None:
    blocks = [{"type": "tool_result", "tool_use_id": "t", "content": "20 degrees"}, {"type": "text", "text": "so?"}]
    with pytest.raises(ScriptExhausted, match="saying '20 degrees so\\?'"):
        asyncio.run(ScriptedLLM([]).complete(Request(model="m", messages=[{"role": "user", "content": blocks}])))


def test_json_replies_put_what_is_no_object_under_value() -> None:
    assert json_reply(Plan(terms=["a"])).text == '{"terms": ["a"]}'
    assert json_reply([Plan(terms=[])]).text == '{"value": [{"terms": []}]}'
    assert json_reply(True).text == '{"value": true}'


def test_tool_calls_side_by_side_get_ids_unique_in_their_conversation() -> None:
    both = together(text("let me look"), tool_use("search", {"q": "a"}), tool_use("search", {"q": "a"}))
    first, second = ask(ScriptedLLM([both]), "hi"), ask(ScriptedLLM([both]), "hi", "again")
    ids = [use["id"] for reply in (first, second) for use in reply.tool_uses]
    assert len(set(ids)) == 4
    assert (first.stop_reason, first.text) == ("tool_use", "let me look")
    assert ask(ScriptedLLM([tool_use("search", {}, id="mine")]), "hi").tool_uses[0]["id"] == "mine"


def test_it_says_what_it_is() -> None:
    llm: LLM = ScriptedLLM([], model="pretend")
    assert (llm.model, llm.label) == ("pretend", "pretend (scripted, no model)")
    asyncio.run(llm.close())


def test_the_first_rule_that_fits_answers() -> None:
    llm = ScriptedLLM.rules(
        [
            ("weather", "sunny"),
            (re.compile(r"refund \d+"), lambda asked: f"refunded: {asked.messages[-1]['content']}"),
            (lambda asked: asked.system == "be rude", "no"),
            ("weather in Rome", "never reached"),
        ],
        "what?",
    )
    asked = [request("the weather in Rome"), request("a refund 40"), request("please", system="be rude"), request("please")]
    assert [asyncio.run(llm.complete(each)).text for each in asked] == ["sunny", "refunded: a refund 40", "no", "what?"]


def test_rules_look_at_the_last_message_only() -> None:
    llm = ScriptedLLM.rules([("first", "one")], "other")
    assert ask(llm, "first", "second").text == "other"


def test_a_rule_may_fail_and_a_request_without_a_rule_names_the_rules() -> None:
    busy = ModelError("busy", kind=ErrorKind.OVERLOADED)
    llm = ScriptedLLM.rules([("a", busy), (re.compile("b+"), "b")])
    with pytest.raises(ModelError, match="busy"):
        ask(llm, "a")
    with pytest.raises(ScriptExhausted, match=r"no rule fits a request that says 'x'; the rules are for 'a', 'b\+'; add one"):
        ask(llm, "x")


def test_a_scripted_reply_can_be_heard_word_by_word() -> None:
    heard: list[str] = []
    reply = asyncio.run(ScriptedLLM(["one  two\nthree "]).stream(request("a"), heard.append))
    assert heard == ["one", "  two", "\nthree "]
    assert "".join(heard) == reply.text
