from __future__ import annotations

import asyncio

from statecraft import Data, Event, Failure, Machine, Replay, Run, Runtime
from statecraft.llm.port import LLM
from statecraft.testing import ScriptedLLM


class Note(Data):
    title: str = ""


class Titled(Event):
    title: str


notes = Machine("notes", data=Note, max_steps=5)


@notes.state(start=True)
async def naming(run: Run[Note]) -> Titled:
    return Titled(title=await run.llm.ask("Find a title"))


named = notes.final("named", ok=True)
failed = notes.final("failed")
notes.transitions(naming.on(Titled) >> named, notes.anywhere.on(Failure) >> failed)


def replayed_with(llm: LLM | None, url: str) -> Replay:
    async def go() -> Replay:
        async with Runtime(url, machines=[notes], llm=ScriptedLLM(["Kettles"], model="first")) as rt:
            run = await rt.wait((await rt.start(notes, Note())).id)
        async with Runtime(url, machines=[notes], llm=llm) as rt:
            return await rt.replay(run.id)

    return asyncio.run(go())


def test_a_replay_needs_no_model(url: str) -> None:
    assert replayed_with(None, url).divergence is None


def test_a_replay_does_not_mind_that_the_runtime_has_another_model_now(url: str) -> None:
    model = ScriptedLLM([], model="second")
    assert replayed_with(model, url).divergence is None
    assert model.requests == []
