"""Alerts of real runs: what a runtime with channels tells, and what it does not."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import (
    BreakerPolicy,
    Budget,
    Data,
    ErrorKind,
    Event,
    Failure,
    Machine,
    RetryPolicy,
    Run,
    Runtime,
    Settings,
    TenantBudget,
    days,
)
from statecraft.alerts import Callback
from statecraft.channel import Alert
from statecraft.errors import ConfigError
from statecraft.llm import ModelError
from statecraft.records import RunRecord
from statecraft.testing import ScriptedLLM
from tests.alerts.rig import EVERY, Ops


class Note(Data):
    text: str = ""


class Written(Event):
    text: str = ""


def asking_model(**bounds: Any) -> Machine[Note]:
    machine = Machine("note", data=Note, **bounds)

    @machine.state(start=True)
    async def writing(run: Run[Note]) -> Written:
        return Written(text=await run.llm.ask("A note, please.", max_tokens=50))

    machine.transitions(
        writing.on(Written) >> machine.final("done", ok=True), machine.anywhere.on(Failure) >> machine.final("failed")
    )
    return machine


def ran(url: str, machine: Machine[Note], llm: ScriptedLLM | None = None, **settings: Any) -> tuple[RunRecord, list[Alert]]:
    """Run to the end under a channel that wants everything; what it got."""
    ops = Ops(kinds=EVERY)
    settings.setdefault("retry", RetryPolicy(first=0.001))

    async def story() -> RunRecord:
        async with Runtime(url, machines=[machine], llm=llm, settings=Settings(channels=(ops,), **settings)) as rt:
            return await rt.wait((await rt.start(machine, Note(), tenant="acme")).id)

    return asyncio.run(story()), ops.got


@pytest.mark.slow
def test_a_script_that_ends_has_told_of_its_run(url: str) -> None:
    run, got = ran(url, asking_model(), ScriptedLLM(["Milk."]))
    assert [(alert.type, alert.data["run"], alert.data["tenant"]) for alert in got] == [("run.completed", run.id, "acme")]


def test_a_channel_is_not_told_of_runs_that_end_well_unless_it_says_so(url: str) -> None:
    got: list[Alert] = []
    machine = asking_model()

    async def story() -> None:
        settings = Settings(channels=(Callback("ops", got.append),))
        async with Runtime(url, machines=[machine], llm=ScriptedLLM(["Milk."]), settings=settings) as rt:
            await rt.wait((await rt.start(machine, Note())).id)
            assert await rt.deliveries() == []

    asyncio.run(story())
    assert got == []


@pytest.mark.slow
def test_a_breaker_that_opens_is_told_once(url: str) -> None:
    down = ModelError("busy", kind=ErrorKind.OVERLOADED)
    for meters in ("memory", "database"):
        _, got = ran(
            f"{url}-{meters}",
            asking_model(),
            ScriptedLLM([down, down, down, "Milk."]),
            breaker=BreakerPolicy(failures=2, open_for=0.05),
            poll=timedelta(seconds=0.05),
            meters=meters,
        )
        opened = [alert for alert in got if alert.type == "breaker.opened"]
        assert len(opened) == 1
        assert opened[0].text.startswith("model:scripted")
        assert opened[0].text.endswith("keeps failing and is left alone for 0.05 s")


def test_the_budget_of_a_tenant_is_told_when_most_of_it_is_used(url: str) -> None:
    llm = ScriptedLLM(["Milk."])
    tenants = (TenantBudget(Budget(calls=1), per=days(1)),)
    _, got = ran(url, asking_model(), llm, tenants=tenants)
    told = {alert.data["share"]: alert for alert in got if alert.type == "budget.threshold"}
    assert set(told) == {0.8, 1.0}
    assert "tenant:acme:" in told[1.0].text
    assert told[1.0].text.startswith("100% of 1 call of the budget")


def test_a_budget_without_room_for_a_call_is_told_as_used_up(url: str) -> None:
    run, got = ran(url, asking_model(budget=Budget(tokens=10)), ScriptedLLM(["Milk."]))
    assert run.state == "failed"
    assert [(alert.type, alert.data.get("share")) for alert in got] == [("budget.threshold", 1.0), ("run.failed", None)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Settings(channels=("ops",)), "settings.channels is a tuple of channels"),  # type: ignore[arg-type]
        (lambda: Settings(channels=(Ops(), Ops())), "two channels are called 'ops'"),
        (lambda: Settings(channels=(Ops("a b"),)), "a channel's name is 1 to 64 letters"),
        (lambda: Settings(channels=(Ops(kinds=("runs.*",)),)), "not 'runs.*'"),
        (lambda: Settings(channels=(Ops(kinds="run.*"),)), "not 'run.*'"),  # type: ignore[arg-type]
    ],
)
def test_a_channel_that_cannot_be_is_refused(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        wrong()
    assert said in str(refused.value)


DYING = """
import asyncio, os, signal, sys
from statecraft.alerts import Callback
from statecraft.channel import AlertPolicy
from statecraft.alerts.courier import Courier
from statecraft.clock import SystemClock
from statecraft.store import open_store
from statecraft.store.outbox import Tell, event_id

url, got, die = sys.argv[1], sys.argv[2], sys.argv[3] == "die"

async def receive(alert):
    with open(got, "a") as file:
        file.write(alert.id + "\\n")
        file.flush()
        os.fsync(file.fileno())
    if die:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = open_store(url)
    await store.open()
    courier = Courier(store, SystemClock(), lambda: 0.5, [Callback("ops", receive)], AlertPolicy(), 0.1)
    await courier.start()
    await store.submit(Tell(event_id("breaker.opened", "x"), "breaker.opened", SystemClock().now(), "{}"))
    while not all(each.delivered_at for each in await store.deliveries()):
        await asyncio.sleep(0.1)
    await courier.stop()
    await store.close()

import statecraft.alerts.courier as courier_module
courier_module.LEASE = 1_000_000
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_sender_killed_between_sending_and_recording_is_followed_by_the_same_alert(url: str, tmp_path: Path) -> None:
    got = tmp_path / "got"
    arguments = [sys.executable, "-c", DYING, url, str(got)]
    killed = subprocess.run([*arguments, "die"], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(got.read_text().split()) == 1
    subprocess.run([*arguments, "live"], timeout=60, check=True)
    first, second = got.read_text().split()
    assert first == second
