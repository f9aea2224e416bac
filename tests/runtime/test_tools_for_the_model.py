"""A model uses the tools of a state: side by side but in order, bounded, and corrected where it is mistaken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from statecraft import Data, Event, Failure, LoopDetected, LoopPolicy, Machine, Run, Runtime, Settings, Status, tool
from statecraft.llm import Reply, Request, ScriptedLLM, text, together, tool_use
from statecraft.records import CallRecord, RunRecord, Usage


class Note(Data):
    text: str = ""


class Stop(Event):
    text: str = ""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def asking(ask: Callable[[Run[Note]], Any], tools: Sequence[Any]) -> Machine[Note]:
    """A machine whose one state asks; a loop leads to `looped`, every other failure to `failed`."""
    machine = Machine("asking", data=Note)

    @machine.state(start=True, tools=tools)
    async def work(run: Run[Note]) -> Stop:
        return Stop(text=str(await ask(run)))

    done, failed, looped = machine.final("done", ok=True), machine.final("failed"), machine.final("looped")
    machine.transitions(work.on(Stop) >> done, work.on(LoopDetected) >> looped, machine.anywhere.on(Failure) >> failed)
    return machine


async def play(url: str, machine: Machine[Note], llm: ScriptedLLM, **more: Any) -> tuple[RunRecord, list[CallRecord], str]:
    """The run at its end, its calls, and the payload of its last move as text."""
    async with Runtime(url, machines=[machine], llm=llm, **more) as runtime:
        run = await runtime.start(machine, Note())
        record = await runtime.wait(run.id, timeout=timedelta(seconds=30))
        history = await runtime.history(run.id)
        return record, await runtime.calls(run.id), json.dumps(dict(history[-1].payload))


def results(request: Request) -> list[Any]:
    return [block for block in request.messages[-1]["content"] if block["type"] == "tool_result"]


def test_tools_run_side_by_side_up_to_the_bound_and_answer_in_order(url: str) -> None:
    running, most = 0, 0
    turn: dict[int, asyncio.Event] = {}

    @tool
    async def look(number: int) -> str:
        """Look at a thing."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        mine = turn.setdefault(number, asyncio.Event())
        if number % 3 == 2:  # The last of each three lets the others go, itself first.
            for each in (number, number - 1, number - 2):
                turn[each].set()
        await mine.wait()
        running -= 1
        return f"thing {number}"

    many = together(*(tool_use("look", {"number": number}) for number in range(9)))
    machine = asking(lambda run: run.llm.ask("look", tools=[look], tool_concurrency=3), [look])
    llm = ScriptedLLM([many, "seen"])
    record, calls, _ = asyncio.run(play(url, machine, llm))
    assert record.status is Status.DONE
    assert most == 3
    assert [block["content"] for block in results(llm.requests[1])] == [f"thing {number}" for number in range(9)]
    assert sum(call.kind == "tool" for call in calls) == 9


def test_mistakes_are_told_to_the_model_and_cost_no_call(url: str) -> None:
    @tool
    async def look(number: int) -> str:
        """Look at a thing."""
        return str(number)

    odd = Reply(({"type": "tool_use", "id": "odd", "name": "look", "input": "3"},), "tool_use", Usage(), "")
    wrong = together(tool_use("look", {"number": "many"}), tool_use("search", {}), odd, tool_use("look", {"number": 3}))
    llm = ScriptedLLM([wrong, "seen"])
    record, calls, _ = asyncio.run(play(url, asking(lambda run: run.llm.ask("look", tools=[look]), [look]), llm))
    assert record.status is Status.DONE
    badly, unknown, shapeless, well = results(llm.requests[1])
    assert (badly["is_error"], unknown["is_error"], shapeless["is_error"]) == (True, True, True)
    assert "arguments of look are invalid: number:" in badly["content"]
    assert unknown["content"] == "there is no tool 'search'; there are: look"
    assert "must be a JSON object" in shapeless["content"]
    assert well == {"type": "tool_result", "tool_use_id": well["tool_use_id"], "content": "3"}
    assert sum(call.kind == "tool" for call in calls) == 1


@pytest.mark.slow
def test_a_tool_that_takes_too_long_or_raises_is_told_to_the_model(url: str) -> None:
    @tool(timeout=timedelta(milliseconds=20))
    async def slow() -> str:
        """Never comes back."""
        await asyncio.Event().wait()
        return ""

    @tool(max_chars=50)
    async def broken() -> str:
        """Raises."""
        raise ValueError("out of order " * 100)

    llm = ScriptedLLM([together(tool_use("slow", {}), tool_use("broken", {})), "seen"])
    machine = asking(lambda run: run.llm.ask("go", tools=[slow, broken]), [slow, broken])
    record, _, _ = asyncio.run(play(url, machine, llm))
    assert record.status is Status.DONE
    late, raised = results(llm.requests[1])
    assert late["is_error"]
    assert "slow took longer than 0.02 s" in late["content"]
    assert raised["content"] == "ValueError: out of order out of order out of order"[:50]


def test_a_result_too_long_for_the_model_is_cut_and_kept_whole_in_the_record(url: str) -> None:
    @tool(max_chars=100)
    async def look() -> str:
        """A long look."""
        return "abcdefghij" * 50

    llm = ScriptedLLM([tool_use("look", {}), "seen"])
    record, calls, _ = asyncio.run(play(url, asking(lambda run: run.llm.ask("look", tools=[look]), [look]), llm))
    (block,) = results(llm.requests[1])
    shown, cut, where = block["content"].splitlines()
    assert shown == "abcdefghij" * 10
    assert cut == "[cut: the first 100 of 500 characters]"
    kept = next(call for call in calls if call.kind == "tool")
    assert where == f"[kept whole in the record: run {record.id}, step {kept.seq}, call {kept.digest[:12]}]"
    assert kept.result == "abcdefghij" * 50


def test_a_tool_that_the_state_does_not_declare_is_refused_before_the_model_is_paid(url: str) -> None:
    @tool
    async def declared() -> str:
        """May be used."""
        return ""

    @tool
    async def hidden() -> str:
        """May not."""
        return ""

    llm = ScriptedLLM(["never"])
    machine = asking(lambda run: run.llm.ask("go", tools=[declared, hidden]), [declared])
    record, _, payload = asyncio.run(play(url, machine, llm))
    assert record.state == "failed"
    assert "state work offers the model the tool 'hidden', but does not declare it (declared: declared)" in payload
    assert llm.requests == []


def test_two_tools_of_one_name_are_refused_before_the_model_is_paid(url: str) -> None:
    @tool
    async def look() -> str:
        """One."""
        return ""

    llm = ScriptedLLM(["never"])
    record, _, payload = asyncio.run(play(url, asking(lambda run: run.llm.ask("go", tools=[look, look]), [look]), llm))
    assert record.state == "failed"
    assert "two tools named 'look'" in payload
    assert llm.requests == []


def test_messages_are_recorded_as_they_were_when_they_were_said(url: str) -> None:
    said: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "first"}]}]

    async def ask(run: Run[Note]) -> str:
        one = await run.llm.ask(said)
        assert said == [{"role": "user", "content": [{"type": "text", "text": "first"}]}]
        said[0]["content"][0]["text"] = "second"
        return one + await run.llm.ask(said)

    async def scene() -> list[str]:
        machine = asking(ask, [])
        async with Runtime(url, machines=[machine], llm=ScriptedLLM(["1", "2"])) as runtime:
            run = await runtime.start(machine, Note())
            await runtime.wait(run.id)
            heads = [call.request["head"] for call in await runtime.calls(run.id)]
            bodies = [await runtime._store.transcript(bytes.fromhex(head)) for head in heads]
            assert await runtime._store.verify(bytes.fromhex(run.id)) == []
            return [json.loads(body[-1])["content"][0]["text"] for body in bodies]

    assert asyncio.run(scene()) == ["first", "second"]


def test_a_loop_that_escapes_the_handler_is_an_event(url: str) -> None:
    @tool
    async def look() -> str:
        """Always the same."""
        return "nothing"

    llm = ScriptedLLM([tool_use("look", {})] * 9)
    machine = asking(lambda run: run.llm.ask("go", tools=[look], max_turns=20), [look])
    record, _, payload = asyncio.run(play(url, machine, llm))
    assert record.state == "looped"
    assert json.loads(payload)["what"] == "look"
    assert len(llm.requests) == 4
    told = llm.requests[3].messages[-1]["content"][-1]
    assert told["text"].startswith("You have called look() 3 times")


@pytest.mark.slow
def test_settings_say_when_a_repetition_is_a_loop(url: str) -> None:
    @tool(max_chars=10)
    async def look() -> str:
        """Always the same, and cut."""
        return "nothing at all"

    machine = asking(lambda run: run.llm.ask("go", tools=[look], max_turns=20), [look])
    llm = ScriptedLLM([*[tool_use("look", {})] * 9, "done"])
    record, _, _ = asyncio.run(play(url, machine, llm, settings=Settings(loops=None)))
    assert (record.state, len(llm.requests)) == ("done", 10)
    llm = ScriptedLLM([tool_use("look", {})] * 9)
    record, _, _ = asyncio.run(play(url, machine, llm, settings=Settings(loops=LoopPolicy(times=2))))
    assert (record.state, len(llm.requests)) == ("looped", 3)


def test_an_answer_is_checked_for_more_than_its_type(url: str) -> None:
    class Plan(BaseModel):
        steps: list[str]

    def sound(plan: Plan) -> list[str]:
        return [] if plan.steps else ["steps: there must be at least one"]

    async def ask(run: Run[Note]) -> str:
        plan = await run.llm.ask("plan", output=Plan, check=sound)
        return ", ".join(plan.steps)

    llm = ScriptedLLM([Plan(steps=[]), Plan(steps=["go"])])
    record, calls, payload = asyncio.run(play(url, asking(ask, []), llm))
    assert record.status is Status.DONE
    assert json.loads(payload)["text"] == "go"
    assert "- steps: there must be at least one" in llm.requests[1].messages[-1]["content"]
    assert len(calls) == 2, "a repair is a call of its own"


def test_a_plain_text_is_checked_too(url: str) -> None:
    async def ask(run: Run[Note]) -> str:
        return await run.llm.ask("one word", check=lambda answer: [] if " " not in answer else ["it has two words"])

    llm = ScriptedLLM(["two words", "one"])
    _, _, payload = asyncio.run(play(url, asking(ask, []), llm))
    assert json.loads(payload)["text"] == "one"
    assert "JSON" not in llm.requests[1].messages[-1]["content"]


def test_a_refusal_says_of_which_category_it_is_and_again_after_a_resume(url: str) -> None:
    declined = Reply((), "refusal", Usage(1, 1), "m", stop_details={"category": "cyber", "new": 1})
    machine = asking(lambda run: run.llm.ask("go"), [])
    record, calls, payload = asyncio.run(play(url, machine, ScriptedLLM([declined])))
    assert record.state == "failed"
    assert "declined to answer (category cyber)" in payload
    assert calls[0].result["stop_details"] == {"category": "cyber", "new": 1}


def test_text_beside_tools_is_kept(url: str) -> None:
    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    llm = ScriptedLLM([together(text("I look."), tool_use("look", {})), "done"])
    asyncio.run(play(url, asking(lambda run: run.llm.ask("go", tools=[look]), [look]), llm))
    assert llm.requests[1].messages[1]["content"][0] == {"type": "text", "text": "I look."}
