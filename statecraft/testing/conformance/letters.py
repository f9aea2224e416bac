"""Dead letters: what is kept of a death, and how a dead run goes on or is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from statecraft.clock import instant
from statecraft.errors import Fenced, Gone, NotDead, NotFound, RunClosed
from statecraft.letters import DeadFilter
from statecraft.records import Status
from statecraft.store.port import Death, Drop, Redrive, Start, Store
from statecraft.testing.conformance.stories import Story, begun, child_of, ready
from statecraft.testing.conformance.suite import Suite, behaviour, heads, refused, taken


async def dead(store: Store, death: Death | None = None, *, tenant: str | None = None, at: int = 2_000) -> Story:
    """A run that died in its first visit."""
    run = await begun(store)
    if tenant is not None:
        run = Story(run.machine)
        await store.submit(run.start(tenant=tenant))
    park = replace(run.die("no way"), at=at)
    await store.submit(park if death is None else replace(park, death=death))
    return run


def redriven(run: Story, event: str | None = None, *, at: int = 3_000, extra_steps: int = 0) -> Redrive:
    """The write that lets it go on: the same visit again, or by an event."""
    place = (run.run_id, run.seq, run.epoch, at, "ann", "it is up again")
    entry = run.call('{"by":"ann"}', kind="redrive")
    move = None if event is None else run.move(event).transition
    return Redrive(*place, entry, ready(at), None, extra_steps, move)


class Letters(Suite):
    """Deaths, redrives and drops."""

    @behaviour
    async def test_a_death_is_kept_with_what_a_person_needs(self, store: Store) -> None:
        run = await begun(store)
        assert await store.dead_letter(run.run_id) is None
        told = '{"reason":"it broke","event":"call_failed","payload":{"n":1},"data":{"x":2},"path":["start"],"needs":"a person"}'
        await store.submit(replace(run.die(), death=Death("draft", "timeout", "search", told)))
        letter = await store.dead_letter(run.run_id)
        assert letter is not None
        assert (letter.run_id, letter.machine, letter.state, letter.seq) == (run.run_id.hex(), "paper", "draft", 0)
        assert (letter.error, letter.call, letter.reason, letter.needs) == ("timeout", "search", "it broke", "a person")
        assert (letter.event, letter.payload, letter.data, letter.path) == ("call_failed", {"n": 1}, {"x": 2}, ("start",))
        assert (letter.at, letter.deaths, letter.open) == (instant(run.at), 1, True)
        assert await store.dead_letters(DeadFilter()) == [letter]

    @behaviour
    async def test_letters_are_listed_latest_first_and_by_what_is_asked(self, store: Store) -> None:
        one = await dead(store, Death("draft", "timeout", "search", "{}"), at=2_000)
        two = await dead(store, Death("review", "KeyError", None, "{}"), tenant="acme", at=4_000)
        three = await dead(store, Death("draft", "timeout", "send", "{}"), at=3_000)

        async def listed(**which: object) -> list[bytes]:
            found = await store.dead_letters(DeadFilter(**which))  # type: ignore[arg-type]
            return [bytes.fromhex(letter.run_id) for letter in found]

        assert await listed() == [two.run_id, three.run_id, one.run_id]
        assert await listed(limit=1) == [two.run_id]
        assert await listed(state="draft") == [three.run_id, one.run_id]
        assert await listed(error="timeout", call="send") == [three.run_id]
        assert await listed(tenant="acme") == [two.run_id]
        assert await listed(since=instant(3_000)) == [two.run_id, three.run_id]
        assert await listed(machine="other") == []

    @behaviour
    async def test_deaths_of_one_cause_are_counted_together(self, store: Store) -> None:
        hour = 3_600_000_000
        many = [await dead(store, Death("draft", "timeout", "search", "{}"), at=at) for at in (2 * hour, 2 * hour + 5, 9 * hour)]
        one = await dead(store, Death("draft", "KeyError", None, "{}"), at=hour)
        often, once = await store.dead_patterns(DeadFilter())
        assert (often.machine, often.state, often.error, often.call, often.count) == ("paper", "draft", "timeout", "search", 3)
        assert (often.first_at, often.last_at) == (instant(2 * hour), instant(9 * hour))
        assert [(number, deaths) for number, deaths in enumerate(often.hours) if deaths] == [(2, 2), (9, 1)]
        assert set(often.runs) <= {run.run_id.hex() for run in many}
        assert (once.error, once.call, once.count, once.runs) == ("KeyError", "", 1, (one.run_id.hex(),))

    @behaviour
    async def test_a_redriven_run_is_ready_for_the_same_visit(self, store: Store) -> None:
        run = await dead(store)
        await store.submit(redriven(run, extra_steps=7))
        head = await store.run(run.run_id)
        assert (head.status, head.state, head.seq, head.attempts, head.reason) == (Status.READY, "draft", 0, 0, None)
        assert await store.dead_letters(DeadFilter()) == []
        letter = await store.dead_letter(run.run_id)
        assert letter is not None
        assert not letter.open
        (told,) = [entry for entry in await store.feed(0) if entry.kind == "redriven"]
        assert (told.detail["actor"], told.detail["note"]) == ("ann", "it is up again")
        assert (await store.load(run.run_id)).extra_steps == 7
        assert [call.kind for call in await store.calls(run.run_id)] == ["redrive"]
        run.epoch = (await taken(store, run.claim())).epoch
        await store.submit(run.move("more"))
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_redrive_by_an_event_moves_the_run_first(self, store: Store) -> None:
        run = await dead(store)
        await store.submit(redriven(run, "asked"))
        head = await store.run(run.run_id)
        assert (head.status, head.state, head.seq) == (Status.READY, "review", 1)
        assert [move.event for move in await store.history(run.run_id)] == ["start", "asked"]
        assert await store.verify(run.run_id) == []

    @behaviour
    async def test_a_run_that_dies_again_has_died_twice(self, store: Store) -> None:
        run = await dead(store)
        await store.submit(redriven(run))
        run.epoch = (await taken(store, run.claim())).epoch
        await store.submit(replace(run.die("again"), death=Death("draft", "timeout", None, '{"why":"again"}')))
        (letter,) = await store.dead_letters(DeadFilter())
        assert (letter.deaths, letter.error, letter.open) == (2, "timeout", True)
        assert await store.diagnosis(run.run_id) == '{"why":"again"}'

    @behaviour
    async def test_only_a_dead_run_is_redriven_or_dropped_and_only_once(self, store: Store) -> None:
        alive, run = await begun(store), await dead(store)
        drop = Drop(alive.run_id, 3_000, "ann", "useless")
        await refused(store, redriven(alive), NotDead)
        await refused(store, drop, NotDead)
        await refused(store, replace(drop, run_id=b"?" * 16), NotFound)
        again = [redriven(replace(run, calls=[])) for _ in range(2)]
        outcomes = await asyncio.gather(*map(store.submit, again), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), NotDead]
        await refused(store, replace(drop, run_id=run.run_id), NotDead)

    @behaviour
    async def test_a_dropped_run_is_cancelled_for_good(self, store: Store) -> None:
        run = await dead(store)
        await store.submit(Drop(run.run_id, 3_000, "ann", "useless"))
        head = await store.run(run.run_id)
        assert (head.status, head.reason) == (Status.CANCELLED, "useless")
        assert await store.dead_letters(DeadFilter()) == []
        await refused(store, redriven(run), NotDead)
        with pytest.raises(RunClosed):
            await store.submit(run.claim())

    @behaviour
    async def test_a_dead_run_has_ended_for_its_family(self, store: Store) -> None:
        parent = await begun(store)
        child = await child_of(store, parent)
        await store.submit(parent.die())
        assert [run.status for run in await heads(store, parent, child)] == [Status.DEAD, Status.CANCELLED]
        orphan: Start = Story(parent.machine).start(parent=parent.run_id)
        await refused(store, orphan, Fenced)

    @behaviour
    async def test_a_dead_child_goes_on_only_while_its_parent_waits_for_it(self, store: Store) -> None:
        parent = await begun(store)
        child = Story(parent.machine)
        await store.submit(child.start(key=f"child:0.{'0' * 64}.0", parent=parent.run_id))
        await store.submit(child.die())
        await refused(store, redriven(replace(child, calls=[])), Gone)
        await store.submit(parent.wait_for())
        await store.submit(redriven(replace(child, calls=[])))
        assert (await store.run(child.run_id)).status is Status.READY

    @behaviour
    async def test_who_wrote_for_a_run_that_died_is_refused_after_its_redrive_too(self, store: Store) -> None:
        run = await dead(store)
        late = replace(run, calls=[])
        await store.submit(redriven(run))
        await refused(store, late.call('"q"'), Fenced)
        await refused(store, late.move("more"), Fenced)
