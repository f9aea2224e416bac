"""A model that repeats itself is told once and stopped the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from statecraft import LoopPolicy
from statecraft.errors import ConfigError, ErrorKind, Looped
from statecraft.llm import Block, Message, Output, Reply, Request, ScriptedLLM, converse, together, tool_use
from statecraft.llm.conversation import Limits
from statecraft.llm.loops import Repeats

ASKED = Request(model="m", messages=[{"role": "user", "content": "how warm is it?"}])


def use(city: str = "Rome", id: str = "t") -> Block:
    return {"type": "tool_use", "id": id, "name": "weather", "input": {"city": city}}


def result(text: str = "no data", id: str = "t", *, failed: bool = False) -> Block:
    return {"type": "tool_result", "tool_use_id": id, "content": text, **({"is_error": True} if failed else {})}


def test_the_third_equal_result_is_told_and_the_next_one_ends_it() -> None:
    repeats = Repeats(LoopPolicy(times=3, within=9))
    assert repeats.see([use()], [result()]) == []
    assert repeats.see([use()], [result()]) == []
    (note,) = repeats.see([use()], [result()])
    assert note.startswith('You have called weather(city="Rome") 3 times and got the same result each time')
    assert "final answer" in note
    with pytest.raises(Looped, match=r'called weather\(city="Rome"\) 4 times with the same result') as caught:
        repeats.see([use()], [result()])
    assert (caught.value.kind, caught.value.name) == (ErrorKind.LOOP, "weather")


@pytest.mark.parametrize("other", [(use("Oslo"), result()), (use(), result("20")), (use(), result(failed=True))])
def test_another_argument_or_another_result_is_no_repetition(other: tuple[Block, Block]) -> None:
    repeats = Repeats(LoopPolicy(times=2, within=9))
    assert repeats.see([use()], [result()]) == []
    assert repeats.see([other[0]], [other[1]]) == []


def test_what_lies_further_back_is_forgotten_and_told_anew() -> None:
    repeats = Repeats(LoopPolicy(times=2, within=3))
    assert repeats.see([use()], [result()]) == []
    assert len(repeats.see([use()], [result()])) == 1
    for city in "abc":
        assert repeats.see([use(city)], [result()]) == []
    assert repeats.see([use()], [result()]) == []
    assert len(repeats.see([use()], [result()])) == 1


def test_a_model_is_told_before_it_is_stopped_even_if_it_repeats_itself_in_one_breath() -> None:
    repeats = Repeats(LoopPolicy(times=3, within=9))
    uses = [use(id=str(each)) for each in range(5)]
    assert len(repeats.see(uses, [result(id=str(each)) for each in range(5)])) == 1


def test_a_mistake_in_the_arguments_counts_too() -> None:
    repeats = Repeats(LoopPolicy(times=2, within=9))
    wrong = result("arguments of weather are invalid", failed=True)
    assert repeats.see([use()], [wrong]) == []
    assert len(repeats.see([use()], [wrong])) == 1


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LoopPolicy(times=1), "loops.times"),
        (lambda: LoopPolicy(times=5, within=4), "loops.within"),
        (lambda: LoopPolicy(moves=1), "loops.moves"),
        (lambda: LoopPolicy(moves=50), "loops.moves_within"),
    ],
)
def test_a_policy_that_cannot_be_is_named(make: Callable[[], LoopPolicy], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


def talk(replies: Sequence[Reply | str], policy: LoopPolicy | None) -> tuple[object, list[Request]]:
    async def use_all(uses: Sequence[Block]) -> list[Block]:
        return [result(id=str(each["id"])) for each in uses]

    llm = ScriptedLLM(replies)
    limits = Limits(max_turns=20)
    talked = converse(llm.complete, use_all, ASKED, output=Output.of(str), limits=limits, loops=policy)
    try:
        return asyncio.run(talked).value, llm.requests
    except Looped as error:
        return error, llm.requests


def last(request: Request) -> Message:
    return request.messages[-1]


def test_the_model_is_told_after_the_results_in_the_same_message() -> None:
    answer, requests = talk([*[tool_use("weather", {})] * 3, "I do not know."], LoopPolicy())
    assert answer == "I do not know."
    assert [block["type"] for block in last(requests[2])["content"]] == ["tool_result"]
    assert [block["type"] for block in last(requests[3])["content"]] == ["tool_result", "text"]


def test_a_model_that_goes_on_is_stopped() -> None:
    error, requests = talk([tool_use("weather", {})] * 9, LoopPolicy())
    assert isinstance(error, Looped)
    assert len(requests) == 4


def test_without_a_policy_it_may_go_on() -> None:
    answer, _ = talk([*[tool_use("weather", {})] * 9, "done"], None)
    assert answer == "done"


def test_only_the_repeated_call_of_several_is_named() -> None:
    both = [together(tool_use("weather", {"city": "Rome"}), tool_use("weather", {"city": name})) for name in "abc"]
    _, requests = talk([*both, "done"], LoopPolicy())
    (note,) = (block for block in last(requests[3])["content"] if block["type"] == "text")
    assert 'weather(city="Rome")' in note["text"]
