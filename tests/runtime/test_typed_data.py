"""The data of a run has its type, also for scripts that have settings of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import statecraft
from statecraft import Data, Event, Failure, GatePolicy, Machine, Run, Runtime, Settings, Status, tool
from statecraft.errors import ConfigError


class Order(Data):
    paid: int = 0


class Letter(Data):
    text: str = ""


class Paid(Event):
    paid: int


@tool(effect="once", risk="high")
def pay(amount: int) -> int:
    """Pay."""
    return amount


orders = Machine("orders", data=Order, max_steps=3)


@orders.state(start=True, tools=[pay])
async def paying(run: Run[Order]) -> Paid:
    return Paid(paid=await run.tool(pay, 7))


orders.transitions(paying.on(Paid) >> orders.final("done", ok=True), orders.anywhere.on(Failure) >> orders.final("failed"))


def test_data_can_be_had_as_its_own_type_and_as_no_other(tmp_path: Path) -> None:
    async def go() -> None:
        async with Runtime(f"sqlite:///{tmp_path / 'r.db'}", machines=[orders]) as rt:
            run = await rt.wait((await rt.start(orders, Order())).id)
            assert (await rt.data(run.id, Order)).paid == 7
            assert (await rt.data(run.id, Order, at=0)).paid == 0
            with pytest.raises(ConfigError, match="of orders has Order data, not Letter"):
                await rt.data(run.id, Letter)

    asyncio.run(go())


def test_a_script_can_have_settings_and_still_takes_no_runs_but_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"

    async def left_by_somebody() -> str:
        async with Runtime(url, machines=[orders], settings=Settings(take="none")) as rt:
            return (await rt.start(orders, Order())).id

    async def status_of(run_id: str) -> Status:
        async with Runtime(url, machines=[orders], settings=Settings(take="none")) as rt:
            return (await rt.find(run_id)).status

    other = asyncio.run(left_by_somebody())
    asked = statecraft.run(orders, Order(), url=url, settings=Settings(gate=GatePolicy(max_auto_risk="low"), take="all"))
    assert (asked.run.status, asked.data.paid) == (Status.WAITING, 0)
    assert asyncio.run(status_of(other)) == Status.READY
