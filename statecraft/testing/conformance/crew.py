"""Who works here, and how much waits: beats of workers and figures of one moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from statecraft.clock import instant
from statecraft.records import Status
from statecraft.store.port import Beat, Charge, Head, Store
from statecraft.testing.conformance.stories import begun, ready, running, waiting_for_review
from statecraft.testing.conformance.suite import Suite, behaviour

BEAT = Beat("w1", 1_000, 5_000, 4, 2, 10, 1, 0, ("default",), ("paper",))
DAY = 86_400_000_000


class Crew(Suite):
    """Beats and figures."""

    @behaviour
    async def test_a_worker_is_as_its_last_beat_says_and_lost_when_it_is_silent(self, store: Store) -> None:
        await store.submit(BEAT)
        await store.submit(replace(BEAT, at=3_000, held=4, moves=17))
        await store.submit(replace(BEAT, owner="w2", at=3_500, stopped=True))
        last, first = (await store.figures(4_000)).stats.workers
        assert (last.owner, last.state) == ("w2", "stopped")
        assert (first.owner, first.state, first.beat_at, first.held, first.concurrency) == ("w1", "alive", instant(3_000), 4, 4)
        assert (first.moves, first.fenced, first.recovered, first.queues, first.machines) == (17, 1, 0, ("default",), ("paper",))
        states = {worker.owner: worker.state for worker in (await store.figures(9_000)).stats.workers}
        assert states == {"w1": "lost", "w2": "stopped"}

    @behaviour
    async def test_what_workers_did_is_summed_up_and_never_falls_when_they_are_forgotten(self, store: Store) -> None:
        await store.submit(BEAT)
        await store.submit(replace(BEAT, owner="w2", moves=5))
        stats = (await store.figures(1_000)).stats
        assert (stats.moves, stats.refused, stats.taken_over) == (15, 2, 0)
        await store.submit(replace(BEAT, owner="w3", at=2 * DAY, moves=1))
        stats = (await store.figures(2 * DAY)).stats
        assert (stats.moves, stats.refused) == (16, 3)
        assert [worker.owner for worker in stats.workers if worker.state == "alive"] == ["w3"]

    @behaviour
    async def test_figures_count_what_is_open_and_what_is_dead(self, store: Store) -> None:
        await begun(store, ready(1_000))
        await begun(store)
        await begun(store, running(lease_until=2_000))
        await waiting_for_review(store)
        sleeping, dead, failed = [await begun(store) for _ in range(3)]
        await store.submit(sleeping.sleep_until(9_000))
        await store.submit(dead.die())
        await store.submit(failed.move("gave_up", head=Head(Status.FAILED)))
        stats = (await store.figures(3_000)).stats
        assert stats.runs == {"ready": 1, "running": 2, "waiting": 2}
        assert stats.waiting_for == {"review": 1, "timer": 1}
        assert (stats.overdue, stats.reviews, stats.dead) == (1, 1, {"paper": 1})
        (queue,) = stats.queues
        assert (queue.queue, queue.depth, queue.oldest, queue.delayed) == ("default", 1, timedelta(microseconds=2_000), 1)
        assert queue.next_due == instant(9_000)

    @behaviour
    async def test_heat_counts_runs_by_state_and_moves_by_row(self, store: Store) -> None:
        await begun(store, ready(1_000))
        await waiting_for_review(store)
        dead, failed = [await begun(store) for _ in range(2)]
        await store.submit(dead.die())
        await store.submit(failed.move("gave_up", head=Head(Status.FAILED)))
        heat = await store.heat("paper", 0)
        standing = {(crowd.state, str(crowd.status), str(crowd.waiting_for or ""), crowd.runs) for crowd in heat.crowds}
        assert standing == {("draft", "ready", "", 1), ("draft", "dead", "", 1), ("review", "waiting", "review", 1)}
        assert {(flow.source, flow.event, flow.moves) for flow in heat.flows} == {("draft", "asked", 1), ("draft", "gave_up", 1)}
        assert (heat.whole, (await store.heat("letters", 0)).crowds) == (True, ())

    @behaviour
    async def test_definitions_are_found_by_the_beginning_of_their_fingerprint(self, store: Store) -> None:
        run = await begun(store)
        fingerprint = (await store.run(run.run_id)).fingerprint
        assert [known.fingerprint for known in await store.known(fingerprint[:8])] == [fingerprint]
        assert await store.known("%") == []

    @behaviour
    async def test_an_empty_store_has_figures_too(self, store: Store) -> None:
        stats = (await store.figures(1_000)).stats
        assert (set(stats.runs.values()), stats.overdue, stats.reviews, dict(stats.dead), stats.workers) == ({0}, 0, 0, {}, ())

    @behaviour
    async def test_tenants_that_were_charged_and_shared_breakers_are_named(self, store: Store) -> None:
        run = await begun(store)
        await store.submit(run.settle('"q"', Charge("tenant:acme:1+86400000000:money", 5)))
        assert (await store.figures(1_000)).tenants == ("acme",)
