"""Replay runs the handlers again against the record: nothing leaves the process, and the first difference is reported."""

import asyncio

from statecraft import Data, Event, Failure, Machine, Run, Runtime
from statecraft.testing import ScriptedLLM


class Note(Data):
    text: str
    title: str = ""


class Titled(Event):
    title: str


def titles(instruction: str) -> Machine[Note]:
    """The machine, with the words of its one prompt."""
    machine = Machine("titles", data=Note, max_steps=5)

    @machine.state(start=True)
    async def naming(run: Run[Note]) -> Titled:
        """Find a title."""
        return Titled(title=await run.llm.ask(f"{instruction}: {run.data.text}"))

    named = machine.final("named", ok=True)
    failed = machine.final("failed")
    machine.transitions(
        naming.on(Titled) >> named,
        machine.anywhere.on(Failure) >> failed,
    )
    return machine


async def main() -> None:
    machine, model = titles("Find a title"), ScriptedLLM(["On kettles"])
    async with Runtime("sqlite:///titles.db", machines=[machine], llm=model) as rt:
        run = await rt.wait((await rt.start(machine, Note(text="Kettles break."))).id)

        same = await rt.replay(run.id)
        print("as recorded:", same.divergence, "| asked the model", len(model.requests), "time")

        edited = await rt.replay(run.id, titles("Find a SHORT title"))
        print("after an edit:", edited.divergence)


if __name__ == "__main__":
    asyncio.run(main())
