"""Names that not every database can keep are refused before anything is written, on each of them alike."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Data, Event, Every, Machine, Run, Runtime
from statecraft.errors import ConfigError


class Note(Data):
    text: str = ""


class Read(Event): ...


reader = Machine("reader", data=Note)


@reader.state(start=True)
async def reading(run: Run[Note]) -> Read:
    return Read()


reader.transitions(reading.on(Read) >> reader.final("read", ok=True))


@pytest.mark.parametrize("name", ["a\0b", "half a character \ud800", "ü" * 501], ids=["zero", "half", "long"])
@pytest.mark.parametrize("what", ["key", "tenant", "queue"])
def test_a_name_that_no_database_keeps_starts_nothing(url: str, what: str, name: str) -> None:
    named: dict[str, Any] = {what: name}

    async def go() -> None:
        async with Runtime(url, machines=[reader]) as runtime:
            with pytest.raises(ConfigError, match=f"a {what} is a text of at most 1000 bytes"):
                await runtime.start(reader, Note(), **named)
            if what != "key":
                with pytest.raises(ConfigError, match=f"a {what} is a text of at most 1000 bytes"):
                    await runtime.schedule("daily", reader, Note(), Every(timedelta(days=1)), **named)
            assert await runtime.runs() == []

    asyncio.run(go())


def test_the_longest_names_are_kept(fleet_url: str) -> None:
    async def go() -> None:
        async with Runtime(fleet_url, machines=[reader]) as runtime:
            names = ["".join(chr(0x4E00 + (n * seed) % 20_000) for n in range(333)) for seed in (7919, 7907, 7901)]
            run = await runtime.start(reader, Note(), key=names[0], tenant=names[1], queue=names[2], detach=True)
            assert [run.key, run.tenant, run.queue] == names

    asyncio.run(go())
