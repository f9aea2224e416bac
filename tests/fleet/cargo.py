"""A machine with tools and children whose every effect leaves a line in a file, and the process that works on it.

The lines outlive processes and databases: `WHERE WHEN effect RUN SEQ`, and `WHERE WHEN fenced` for each write that was
refused because another process had taken the run over. WHEN is the machine's monotonic clock, in seconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from statecraft import Data, Event, Failure, Machine, Run, tool

STEPS = 3
"""Tool calls of a run, each in a state of its own."""


class Cargo(Data):
    seconds: float
    """How long a tool takes."""
    parcels: int = 0
    """Child runs of this run."""


class Parcel(Data):
    number: int
    seconds: float


class Loaded(Event): ...


class Sent(Event): ...


class Landed(Event): ...


class Delivered(Event): ...


@dataclass
class Notebook:
    """Where this process writes down what it did."""

    path: Path | None = None
    where: str = "here"

    def write(self, *words: object) -> None:
        if self.path is not None:
            line = " ".join(map(str, (self.where, time.monotonic(), *words))) + "\n"
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, line.encode())
            os.close(descriptor)


notebook = Notebook()


@tool(effect="idempotent")
async def load(run_id: str, seq: int, seconds: float) -> str:
    """Put one thing on board."""
    notebook.write("effect", run_id, seq)
    await asyncio.sleep(seconds)
    return f"{run_id}:{seq}"


parcel = Machine("parcel", data=Parcel)


@parcel.state(start=True, tools=[load])
async def carrying(run: Run[Parcel]) -> Delivered:
    await run.tool(load, run.id, 0, run.data.seconds)
    return Delivered()


delivered, dropped = parcel.final("delivered", ok=True), parcel.final("dropped")
parcel.transitions(carrying.on(Delivered) >> delivered, parcel.anywhere.on(Failure) >> dropped)

cargo = Machine("cargo", data=Cargo)


@cargo.state(start=True, tools=[load])
async def loading(run: Run[Cargo]) -> Loaded:
    await run.tool(load, run.id, 0, run.data.seconds)
    return Loaded()


@cargo.state(tools=[load], children=[parcel])
async def sending(run: Run[Cargo]) -> Sent:
    await run.tool(load, run.id, 1, run.data.seconds)
    if run.data.parcels:
        await run.map(lambda number: run.child(parcel, Parcel(number=number, seconds=run.data.seconds)), range(run.data.parcels))
    return Sent()


@cargo.state(tools=[load])
async def landing(run: Run[Cargo]) -> Landed:
    await run.tool(load, run.id, 2, run.data.seconds)
    return Landed()


home, lost = cargo.final("home", ok=True), cargo.final("lost")
cargo.transitions(
    loading.on(Loaded) >> sending,
    sending.on(Sent) >> landing,
    landing.on(Landed) >> home,
    cargo.anywhere.on(Failure) >> lost,
)
