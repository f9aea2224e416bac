"""Three child runs draw on their parent's money; when little is left, a cheaper model writes the end."""

import statecraft
from statecraft import Append, Budget, BudgetWarning, Data, Event, Failure, Machine, Price, Run, Settings
from statecraft.testing import ScriptedLLM


class Topic(Data):
    name: str
    finding: str = ""


class Found(Event):
    finding: str


class Digest(Data):
    topics: list[str]
    findings: Append[list[str]] = []
    text: str = ""


class Gathered(Event):
    findings: list[str]


class Written(Event):
    text: str


topic = Machine("topic", data=Topic, max_steps=3, budget=Budget(calls=2))


@topic.state(start=True)
async def looking(run: Run[Topic]) -> Found:
    return Found(finding=await run.llm.ask(f"What about {run.data.name}?", model="big", max_tokens=1000))


topic.transitions(looking.on(Found) >> topic.final("found", ok=True), topic.anywhere.on(Failure) >> topic.final("unknown"))

digest = Machine("digest", data=Digest, max_steps=5, budget=Budget(money="0.25", warn_at=0.5))


@digest.state(start=True, children=[topic])
async def gathering(run: Run[Digest]) -> Gathered:
    children = await run.map(lambda name: run.child(topic, Topic(name=name)), run.data.topics, concurrency=3)
    return Gathered(findings=[child.data.finding for child in children])


@digest.state()
async def writing(run: Run[Digest]) -> Written:
    return Written(text=await run.llm.ask(f"Sum up: {run.data.findings}", model="big", max_tokens=1000))


@digest.state()
async def writing_cheaply(run: Run[Digest]) -> Written:
    return Written(text=await run.llm.ask(f"Sum up: {run.data.findings}", model="small", max_tokens=200))


done, failed = digest.final("done", ok=True), digest.final("failed")

digest.transitions(
    gathering.on(Gathered) >> writing,
    writing.on(BudgetWarning) >> writing_cheaply,
    writing.on(Written) >> done,
    writing_cheaply.on(Written) >> done,
    digest.anywhere.on(Failure) >> failed,
)

prices = {"big": Price(input=10, output=50), "small": Price(input="0.5", output="2.5")}  # dollars per million tokens
llm = ScriptedLLM(lambda request: f"the {request.model} model says " + "much " * 800)

if __name__ == "__main__":
    start = Digest(topics=["bees", "ants", "wasps"])
    outcome = statecraft.run(digest, start, url="sqlite:///digest.db", llm=llm, settings=Settings(prices=prices))
    print(outcome.run.status, "with", len(outcome.data.findings), "findings from children")
    print("asked:", *(request.model for request in llm.requests))
