"""A small machine whose one state lets Claude use two tools, and a program that runs it: for tests of the whole path.

As a program: `trip.py DATABASE_URL BASE_URL [DEADLY]`. It runs the run with key "trip" to its end, or kills itself with
SIGKILL when the model asks for the weather in DEADLY.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Annotated

from pydantic import BaseModel, Field

from statecraft import Claude, Data, Event, Failure, Machine, RetryPolicy, Run, RunRecord, Runtime, Settings, tool

QUESTION = "Where is it warmer today, in Paris or in Rome?"
SYSTEM = "You know nothing of the weather; look it up."

looked_up: list[str] = []
"""Cities the tool was really asked about in this process, in order."""
deadly: list[str] = []
"""A city whose weather kills this process."""


class Trip(Data):
    max_tokens: int = 1024
    city: str = ""
    degrees: int = 0


class Chosen(Event):
    city: str
    degrees: Annotated[int, Field(ge=-90, le=60)]


class Weather(BaseModel):
    city: str
    degrees: int


@tool
async def weather(city: str) -> Weather:
    """Today's weather in a city."""
    looked_up.append(city)
    if city in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return Weather(city=city, degrees={"Paris": 17, "Rome": 24}[city])


trip = Machine("trip", data=Trip, max_steps=3)


@trip.state(start=True, tools=[weather])
async def choosing(run: Run[Trip]) -> Chosen:
    """Choose the warmer city."""
    return await run.llm.ask(QUESTION, output=Chosen, system=SYSTEM, tools=[weather], max_tokens=run.data.max_tokens)


packed, stayed_at_home = trip.final("packed", ok=True), trip.final("stayed_at_home")

trip.transitions(choosing.on(Chosen) >> packed, trip.anywhere.on(Failure) >> stayed_at_home)

AT_ONCE = Settings(take="own", retry=RetryPolicy(first=0.001, cap=0.001))
"""Retries without a wait worth mentioning."""


async def travel(url: str, base_url: str, api_key: str = "k", data: Trip | None = None) -> RunRecord:
    """Start the run with key "trip", or go on with it, to its end."""
    async with Runtime(
        url, machines=[trip], llm=Claude("claude-fake-1", api_key=api_key, base_url=base_url), settings=AT_ONCE
    ) as rt:
        run = await rt.start(trip, data or Trip(), key="trip")
        if run.owner is not None and not run.status.closed:
            run = await rt.resume(run.id)
        return await rt.wait(run.id)


if __name__ == "__main__":
    deadly.extend(sys.argv[3:])
    asyncio.run(travel(sys.argv[1], sys.argv[2]))
