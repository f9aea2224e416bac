"""A run waits for a person as a row in the database; another process continues it when the decision comes."""

import asyncio
from datetime import timedelta

from statecraft import Ask, Data, Event, Failure, Machine, ReviewExpired, Run, Runtime
from statecraft.testing import ScriptedLLM

URL = "sqlite:///refunds.db"


class Refund(Data):
    claim: str
    amount: int = 0
    note: str = ""


class Assessed(Event):
    amount: int


class Approved(Event):
    note: str = ""


class Rejected(Event):
    note: str


refund = Machine("refund", data=Refund, max_steps=10)


@refund.state(start=True)
async def assessing(run: Run[Refund]) -> Assessed:
    """Let the model propose an amount."""
    return await run.llm.ask(f"How much should we refund? {run.data.claim}", output=Assessed)


@refund.review(timeout=timedelta(days=2))
async def deciding(run: Run[Refund]) -> Ask[Approved | Rejected]:
    """Money leaves the house only after a person agreed."""
    return Ask(f"Refund {run.data.amount}?", show={"claim": run.data.claim})


paid = refund.final("paid", ok=True)
refused = refund.final("refused")

refund.transitions(
    assessing.on(Assessed) >> deciding,
    deciding.on(Approved) >> paid,
    deciding.on(Rejected) >> refused,
    deciding.on(ReviewExpired) >> refused,
    refund.anywhere.on(Failure) >> refused,
)


async def ask_for_refund() -> str:
    async with Runtime(URL, machines=[refund], llm=ScriptedLLM([Assessed(amount=40)])) as rt:
        run = await rt.start(refund, Refund(claim="The kettle arrived broken."), key="claim-17")
        run = await rt.wait(run.id)
        print(run.status, "in", run.state)
        return run.id


async def decide(run_id: str) -> None:
    """Days later, in another process: nothing of the run was kept in memory."""
    async with Runtime(URL, machines=[refund]) as rt:
        [review] = await rt.reviews(run_id, open_only=True)
        print(review.question, "|", ", ".join(review.events))
        await rt.send(run_id, Approved(note="photo seen"), by="ann")
        run = await rt.wait(run_id)
        print(run.status, "in", run.state, "|", *[move.actor for move in await rt.history(run_id) if move.actor])


if __name__ == "__main__":
    asyncio.run(decide(asyncio.run(ask_for_refund())))
