"""A model may refund, and a person approves the exact call, or changes it, from another process."""

import asyncio

from statecraft import (
    Budget,
    CallInfo,
    Data,
    Event,
    Failure,
    GatePolicy,
    Machine,
    Modify,
    ReviewExpired,
    Run,
    Runtime,
    Settings,
    days,
    tool,
)
from statecraft.testing import ScriptedLLM, tool_use

URL = "sqlite:///complaints.db"
PAID: list[tuple[str, int]] = []


class Complaint(Data):
    text: str
    reply: str = ""


class Replied(Event):
    reply: str


@tool(effect="once", risk="high")
async def refund(info: CallInfo, order: str, amount: int) -> str:
    """Send money back to a customer."""
    PAID.append((info.key, amount))  # a real one passes the key on, so that the bank knows a repetition
    return f"sent {amount}"


complaint = Machine("complaint", data=Complaint, max_steps=5, budget=Budget(calls=10))


@complaint.state(start=True, tools=[refund])
async def answering(run: Run[Complaint]) -> Replied:
    """The model reads the complaint and may call the tool; it does not know that a person is asked."""
    return Replied(reply=await run.llm.ask(run.data.text, tools=[refund]))


answered = complaint.final("answered", ok=True)
unanswered = complaint.final("unanswered")

complaint.transitions(
    answering.on(Replied) >> answered,
    answering.on(ReviewExpired) >> unanswered,
    complaint.anywhere.on(Failure) >> unanswered,
)

settings = Settings(gate=GatePolicy(max_auto_risk="medium", expires=days(1)))
llm = ScriptedLLM([tool_use("refund", {"order": "17", "amount": 4000}), "You get 40 back."])


async def main() -> None:
    async with Runtime(URL, machines=[complaint], llm=llm, settings=settings) as rt:
        run = await rt.wait((await rt.start(complaint, Complaint(text="Order 17 arrived broken."))).id)
        print(run.status, "for a person:", len(PAID), "paid")

    async with Runtime(URL, machines=[complaint], llm=llm, settings=settings) as rt:  # days later, elsewhere
        [review] = await rt.reviews(run.id, open_only=True)
        print(review.tool, review.arguments, review.show["reasons"])
        await rt.decide(run.id, Modify({"order": "17", "amount": 40}, approve=True), by="ann")
        run = await rt.wait(run.id)
        print(run.status, "in", run.state, [amount for _, amount in PAID])


if __name__ == "__main__":
    asyncio.run(main())
