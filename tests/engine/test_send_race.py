"""A decision that meets somebody who holds the run for a moment, without having decided anything."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from statecraft import Ask, Data, Event, Failure, Machine, Run, Runtime, Status
from statecraft.clock import SystemClock, micros
from statecraft.errors import AlreadyDecided, Refused, StoreError
from statecraft.store import port


class Note(Data):
    text: str = ""


class Yes(Event):
    text: str = "yes"


def asking() -> Machine[Note]:
    machine = Machine("asking", data=Note)

    @machine.state(start=True)
    async def begin(run: Run[Note]) -> Yes:
        return Yes(text="begun")

    @machine.review(timeout=timedelta(days=2))
    async def question(run: Run[Note]) -> Ask[Yes]:
        return Ask("Go on?")

    done, failed = machine.final("done", ok=True), machine.final("failed")
    machine.transitions(begin.on(Yes) >> question, question.on(Yes) >> done, machine.anywhere.on(Failure) >> failed)
    return machine


def test_a_decision_fenced_by_a_claim_is_not_told_that_somebody_decided(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        machine = asking()
        async with Runtime(url, machines=[machine]) as runtime:
            run = await runtime.wait((await runtime.start(machine, Note())).id)
            store = runtime._store
            load = store.load

            async def load_and_lose(run_id: bytes) -> port.Loaded:
                """What was loaded is old at once: another runtime resumes the run, which only asks its question again."""
                monkeypatch.undo()
                loaded = await load(run_id)
                now = SystemClock().now()
                await store.submit(port.Claim(run_id, "another", now, now + micros(timedelta(minutes=1))))
                return loaded

            monkeypatch.setattr(store, "load", load_and_lose)
            try:
                await runtime.send(run.id, Yes(), by="ann")
            except AlreadyDecided:
                raise
            except (Refused, StoreError):
                assert (await runtime.get(run.id)).seq == 1
                (review,) = await runtime.reviews(run.id)
                assert review.decision is None
            else:
                assert (await runtime.get(run.id)).status in {Status.DONE, Status.READY}

    asyncio.run(go())
