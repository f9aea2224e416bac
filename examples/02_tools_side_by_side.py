"""Tools run side by side, each call journaled by itself; the model may call them too."""

from datetime import timedelta

import statecraft
from statecraft import Append, Budget, Data, Event, Failure, Machine, Run, tool
from statecraft.testing import ScriptedLLM, text, together, tool_use

TEMPERATURES = {"Bergen": 7, "Lima": 19, "Nairobi": 22}


@tool(effect="read", timeout=timedelta(seconds=5))
async def temperature(city: str) -> int:
    """The temperature in a city now, in degrees Celsius."""
    return TEMPERATURES[city]


class Trip(Data):
    cities: list[str]
    readings: Append[list[int]] = []
    advice: str = ""


class Measured(Event):
    readings: list[int]


class Advised(Event):
    advice: str


trip = Machine("trip", data=Trip, max_steps=10, budget=Budget(calls=20))


@trip.state(start=True, tools=[temperature])
async def measuring(run: Run[Trip]) -> Measured:
    """Ask for all cities at once. After a crash, only the calls that had not finished are made again."""
    return Measured(readings=await run.map(lambda city: run.tool(temperature, city), run.data.cities))


@trip.state(tools=[temperature])
async def advising(run: Run[Trip]) -> Advised:
    """Let the model decide which cities to look up; it may ask for several in one turn."""
    prompt = f"Readings: {run.data.readings}. Look up what you need, then say where it is warm."
    return Advised(advice=await run.llm.ask(prompt, tools=[temperature]))


advised = trip.final("advised", ok=True)
failed = trip.final("failed")

trip.transitions(
    measuring.on(Measured) >> advising,
    advising.on(Advised) >> advised,
    trip.anywhere.on(Failure) >> failed,
)

if __name__ == "__main__":
    model = ScriptedLLM(
        [
            together(tool_use("temperature", {"city": "Lima"}), tool_use("temperature", {"city": "Nairobi"})),
            text("Nairobi, with 22 degrees."),
        ]
    )
    outcome = statecraft.run(trip, Trip(cities=["Bergen", "Lima"]), url="sqlite:///trip.db", llm=model)
    print(outcome.data.readings, outcome.data.advice)
