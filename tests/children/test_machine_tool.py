"""A machine as a tool: a model calls it, a child run answers."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from statecraft import Data, Event, Failure, Machine, Run, Runtime, Status, machine_tool
from statecraft.errors import ConfigError
from statecraft.llm.port import Reply, Request
from statecraft.testing import ScriptedLLM, text, together, tool_use
from tests.children.kin import PATIENCE, Done, Piece, Whole, Workshop, children_of, opened, sound, told


def topic(n: int, mood: str = "well") -> Piece:
    """Make one piece."""
    return Piece(n=n, mood=mood)


def made_of(piece: Piece) -> str:
    return piece.made


def asking(shop: Workshop, tool: object) -> Machine[Whole]:
    machine = Machine("asker", data=Whole)

    @machine.state(start=True, tools=[tool])  # type: ignore[list-item]
    async def working(run: Run[Whole]) -> Done:
        return Done(parts=[await run.llm.ask("Make two pieces.", tools=[tool])])  # type: ignore[list-item]

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(working.on(Done) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def results_in(request: Request) -> list[str]:
    last = request.messages[-1]["content"]
    return [block["content"] for block in last if block["type"] == "tool_result"]


def test_a_model_calls_a_machine_twice_in_one_turn(url: str) -> None:
    shop = Workshop()
    make = machine_tool(shop.machine, name="make", input=topic, result=made_of)

    def answer(request: Request) -> Reply:
        if len(request.messages) == 1:
            return together(tool_use("make", {"n": 1}), tool_use("make", {"n": 2}))
        return text(" and ".join(results_in(request)))

    async def story() -> None:
        machine = asking(shop, make)
        async with opened(url, machine, llm=ScriptedLLM(answer)) as runtime:
            run = await asyncio.wait_for(runtime.wait((await runtime.start(machine, Whole())).id), PATIENCE)
            assert (await runtime.data(run.id)).parts == ["piece 1 and piece 2"]  # type: ignore[attr-defined]
            assert [call.kind for call in await runtime.calls(run.id)] == ["llm", "child", "child", "llm"]
            children = await children_of(runtime, run)
            assert [child.status for child in children] == [Status.DONE] * 2
            feed = await runtime.feed()
            parked = next(entry.pos for entry in feed if (entry.run_id, entry.kind) == (run.id, "waiting"))
            assert all(e.pos < parked for e in feed if e.kind == "started")  # Both were under way when it parked first.
            await sound(runtime)

    told(story)


@pytest.mark.slow
def test_a_model_is_told_what_went_wrong(url: str) -> None:
    shop = Workshop()
    make = machine_tool(shop.machine, name="make", input=topic, result=made_of)

    def answer(request: Request) -> Reply:
        if len(request.messages) == 1:
            return together(tool_use("make", {"n": "x"}), tool_use("make", {"n": 2, "mood": "ill"}))
        return text(" | ".join(results_in(request)))

    async def story() -> None:
        machine = asking(shop, make)
        async with opened(url, machine, llm=ScriptedLLM(answer)) as runtime:
            run = await asyncio.wait_for(runtime.wait((await runtime.start(machine, Whole())).id), PATIENCE)
            (said,) = (await runtime.data(run.id)).parts  # type: ignore[attr-defined]
            assert "n: Input should be a valid integer" in said
            assert "is failed in spoiled" in said
            assert len(await children_of(runtime, run)) == 1
            await sound(runtime)

    told(story)


@pytest.mark.slow
def test_a_handler_calls_a_machine_like_a_tool(url: str) -> None:
    shop = Workshop()
    make = machine_tool(shop.machine, input=topic)
    machine = Machine("caller", data=Whole)

    @machine.state(start=True, tools=[make])
    async def working(run: Run[Whole]) -> Done:
        one, two = await run.tool(make, 1), await run.tool(make, n=2)
        return Done(parts=[one.made, two.made])

    failed = machine.final("failed")
    machine.transitions(working.on(Done) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> failed)

    async def story() -> None:
        async with opened(url, machine) as runtime:
            run = await asyncio.wait_for(runtime.wait((await runtime.start(machine, Whole())).id), PATIENCE)
            assert (await runtime.data(run.id)).parts == ["piece 1", "piece 2"]  # type: ignore[attr-defined]
            await sound(runtime)

    told(story)


def test_without_an_input_the_arguments_are_the_fields_of_the_data() -> None:
    make = machine_tool(Workshop().machine, doc="Make a piece.")
    assert (make.name, make.doc) == ("piece", "Make a piece.")
    schema = make.spec["input_schema"]
    assert list(schema["properties"]) == ["n", "mood", "made"]
    assert "required" not in schema
    assert json.loads(make.payload({"n": 3})) == {"n": 3, "mood": "well", "made": ""}


class Strict(Data):
    word: str
    loud: bool = False


class Said(Event): ...


def test_fields_without_a_default_are_required() -> None:
    machine = Machine("strict", data=Strict)

    @machine.state(start=True, timeout=timedelta(minutes=1))
    async def saying(run: Run[Strict]) -> Said:
        return Said()

    failed = machine.final("failed")
    machine.transitions(saying.on(Said) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> failed)
    assert machine_tool(machine, doc="Say it.").spec["input_schema"]["required"] == ["word"]


def test_a_machine_tool_that_no_model_could_use_is_refused() -> None:
    shop = Workshop()
    with pytest.raises(ConfigError, match="doc="):
        machine_tool(shop.machine, input=lambda n: Piece(n=n))
    with pytest.raises(ConfigError, match="no annotation"):
        machine_tool(shop.machine, doc="Make.", input=lambda n: Piece(n=n))


def test_a_runtime_knows_the_machines_of_its_tools(url: str) -> None:
    shop = Workshop()
    machine = asking(shop, machine_tool(shop.machine, input=topic))
    assert Runtime(url, machines=[machine]).definition("piece") is shop.machine.definition
