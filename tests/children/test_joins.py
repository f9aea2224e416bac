"""`run.map` over anything: when it is content, what it chooses, and that it chooses the same ever after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from statecraft import Machine, Run, Settings, Status, any_of, collect, first, tool
from statecraft.engine.fanout import spread
from statecraft.errors import CallError, ChildFailed, ConfigError
from tests.children.kin import PATIENCE, Piece, Whole, Workshop, Yes, children_of, ended, opened, parent_of, sound, told

Work = Callable[[Run[Whole]], Awaitable[list[str]]]


@tool(effect="read")
async def spell(n: int) -> str:
    """Spell a number; negative ones cannot be spelled."""
    if n < 0:
        raise ValueError("negative")
    return ("zero", "one", "two", "three", "four")[n]


def speller(work: Work) -> Machine[Whole]:
    return parent_of(Workshop().machine, work, tools=[spell])


def parts_of(url: str, work: Work) -> list[str]:
    """What the only state of a run answers; it is checked by a replay too."""
    found: list[list[str]] = []

    async def story() -> None:
        machine = speller(work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            assert run.status is Status.DONE, await runtime.history(run.id)
            found.append((await runtime.data(run.id)).parts)  # type: ignore[attr-defined]

    told(story)
    return found[0]


def test_all_is_the_default_and_raises_the_first_error_in_order_after_all_ended(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        words = await run.map(lambda n: run.tool(spell, n), [1, 2])
        try:
            await run.map(lambda n: run.tool(spell, n), [3, -1, -2, 4], concurrency=1)
        except CallError as error:
            words.append(error.message)
        return [*words, await run.tool(spell, 0)]

    assert parts_of(url, work) == ["one", "two", "ValueError: negative", "zero"]


def test_collect_puts_errors_in_their_place(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        found = await run.map(lambda n: run.tool(spell, n), [1, -1, 2], join=collect)
        return [str(each) for each in found]

    assert parts_of(url, work) == ["one", "ValueError: negative", "two"]


def test_any_of_answers_the_first_that_succeeds_and_stops_the_rest(url: str) -> None:
    stopped: list[int] = []

    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            if n == 2:
                return await run.tool(spell, n)
            try:
                await run.tool(spell, -n)
                await asyncio.Event().wait()
            finally:
                stopped.append(n)
            return ""

        return [await run.map(one, [0, 1, 2, 3], join=any_of)]

    assert parts_of(url, work) == ["two"]
    assert sorted(stopped) == [0, 1, 3]


def test_first_answers_in_the_order_of_the_items(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        gate = asyncio.Event()

        async def one(n: int) -> str:
            if n == 1:
                await gate.wait()
            word = await run.tool(spell, n)
            if n == 3:
                gate.set()
            if n == 0:
                await asyncio.Event().wait()
            return word

        return await run.map(one, [0, 1, -1, 3], join=first(2))

    assert parts_of(url, work) == ["one", "three"]


def test_a_choice_that_cannot_come_true_raises_the_first_error_and_records_nothing(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        try:
            await run.map(lambda n: run.tool(spell, n), [-1, 1, -2], join=first(2))
        except CallError as error:
            return [error.message]
        return []

    assert parts_of(url, work) == ["ValueError: negative"]


def test_equal_calls_of_different_items_are_told_apart(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            drawn = await run.random()
            if n == 0:
                await asyncio.Event().wait()
            return repr(drawn)

        chosen = await run.map(one, [0, 1, 2], join=first(2))
        again = await run.map(one, [1], join=any_of)
        return [*chosen, again, repr(await run.random())]

    found = parts_of(url, work)
    assert len(set(found)) == 4


def test_choices_nest(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        async def inner(n: int) -> str:
            if n % 2:
                await run.tool(spell, n)
                await asyncio.Event().wait()
            return await run.tool(spell, n)

        async def outer(ns: list[int]) -> str:
            word = await run.map(inner, ns, join=any_of)
            if ns[0] == 0:
                await asyncio.Event().wait()
            return word

        return [await run.map(outer, [[0, 1], [3, 4]], join=any_of), *await run.map(inner, [2], join=collect)]  # type: ignore[list-item]

    assert parts_of(url, work) == ["four", "two"]


def test_first_needs_a_number_and_enough_items(url: str) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        first(0)

    async def work(run: Run[Whole]) -> list[str]:
        with pytest.raises(ValueError, match="2 items"):
            await run.map(lambda n: run.tool(spell, n), [1, 2], join=first(3))
        return ["refused"]

    assert parts_of(url, work) == ["refused"]


# --- over children ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_child_wins_and_the_others_are_cancelled(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            return (await run.child(shop.machine, Piece(n=n, mood="asks"))).data.made

        return [await run.map(one, range(4), concurrency=3, join=any_of)]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await runtime.start(machine, Whole())
            while len(children := await children_of(runtime, run)) < 3:
                await asyncio.sleep(0)
            for child in children:
                await runtime.wait(child.id)
            await runtime.send(children[1].id, Yes(made="chosen"), by="ann")
            run = await asyncio.wait_for(runtime.wait(run.id), PATIENCE)
            assert (await runtime.data(run.id)).parts == ["chosen"]  # type: ignore[attr-defined]
            children = await children_of(runtime, run)
            assert [child.status for child in children] == ["cancelled", "done", "cancelled"]
            assert children[0].reason == "the run that started it has enough results"
            (join,) = [call for call in await runtime.calls(run.id) if call.kind == "join"]
            assert join.result["chosen"] == [1]
            await sound(runtime)

    told(story)


@pytest.mark.slow
def test_a_child_that_fails_makes_room_for_the_next_item(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            return (await run.child(shop.machine, Piece(n=n, mood="ill" if n < 3 else "well"))).data.made

        return await run.map(one, range(9), concurrency=1, join=first(2))

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            assert (await runtime.data(run.id)).parts == ["piece 3", "piece 4"]  # type: ignore[attr-defined]
            assert [child.status for child in await children_of(runtime, run)] == [*["failed"] * 3, "done", "done"]

    told(story)


def test_children_are_collected_with_their_failures(url: str) -> None:
    shop = Workshop()

    async def work(run: Run[Whole]) -> list[str]:
        async def one(mood: str) -> str:
            return (await run.child(shop.machine, Piece(mood=mood))).data.made

        found = await run.map(one, ["well", "ill", "dead"], join=collect)
        return [type(each).__name__ if isinstance(each, ChildFailed) else str(each) for each in found]

    async def story() -> None:
        machine = parent_of(shop.machine, work)
        async with opened(url, machine) as runtime:
            run = await ended(runtime, machine, Whole())
            assert (await runtime.data(run.id)).parts == ["piece 0", "ChildFailed", "ChildFailed"]  # type: ignore[attr-defined]

    told(story)


def test_what_a_loser_waits_for_does_not_hold_the_winner_up(url: str) -> None:
    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            if n == 0:
                await run.sleep(timedelta(days=300))
            return await run.tool(spell, n)

        return [await run.map(one, [0, 1], join=any_of)]

    assert parts_of(url, work) == ["one"]


def test_a_parked_item_keeps_its_place() -> None:
    from statecraft.calls.park import Park
    from statecraft.records import Waiting

    began: list[int] = []

    async def one(n: int) -> int:
        began.append(n)
        if n in (0, 2):
            raise Park(None, Waiting.CHILD)
        return n

    async def go() -> None:
        tasks = await spread(one, 9, 2)
        assert (began, len(tasks)) == ([0, 1, 2], 3)

    asyncio.run(go())


@pytest.mark.slow
def test_map_ends_what_it_began_when_its_state_runs_out_of_time(url: str) -> None:
    stopped: list[int] = []

    async def work(run: Run[Whole]) -> list[str]:
        async def one(n: int) -> str:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(n)
            return ""

        return await run.map(one, range(8), concurrency=3)

    async def story() -> None:
        from statecraft.testing import ManualClock

        clock = ManualClock()
        machine = parent_of(Workshop().machine, work, timeout=timedelta(seconds=5))
        options: dict[str, Any] = {"clock": clock, "settings": Settings(lease=timedelta(days=1))}
        async with opened(url, machine, **options) as runtime:
            run = await runtime.start(machine, Whole())
            while not (run := await runtime.get(run.id)).status.closed:
                await clock.advance(timedelta(seconds=1))
            assert (run.status, sorted(stopped)) == (Status.FAILED, [0, 1, 2])

    told(story)
