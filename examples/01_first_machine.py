import statecraft
from statecraft import Budget, Data, Event, Failure, Machine, Run
from statecraft.testing import ScriptedLLM


class Letter(Data):
    question: str
    answer: str = ""


class Drafted(Event):
    answer: str  # merges into the data field of the same name
    confidence: float  # kept in the journal only


def is_sure(drafted: Drafted, letter: Letter) -> bool:
    return drafted.confidence >= 0.8


reply = Machine("reply", data=Letter, max_steps=5, budget=Budget(tokens=20_000))


@reply.state(start=True, max_visits=2)
async def drafting(run: Run[Letter]) -> Drafted:
    """Answer the letter, and say how sure the answer is."""
    return await run.llm.ask(f"Answer this letter: {run.data.question}", output=Drafted)


sent = reply.final("sent", ok=True)
left_to_a_person = reply.final("left_to_a_person")

reply.transitions(
    drafting.on(Drafted.when(is_sure)) >> sent,
    drafting.on(Drafted) >> drafting,
    reply.anywhere.on(Failure) >> left_to_a_person,
)

if __name__ == "__main__":
    model = ScriptedLLM([Drafted(answer="Perhaps at noon?", confidence=0.4), Drafted(answer="At nine.", confidence=0.9)])
    outcome = statecraft.run(reply, Letter(question="When do you open?"), url="sqlite:///reply.db", llm=model)
    print(outcome.run.status, "in", outcome.run.state, "with:", outcome.data.answer)
