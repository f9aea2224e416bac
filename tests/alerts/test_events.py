"""Every write that people should hear of puts its event into the outbox, once, in the transaction of the write."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from statecraft.alerts.catalogue import CATALOGUE, alert_of
from statecraft.channel import Kind
from statecraft.errors import AlreadyDecided, Fenced
from statecraft.records import RunFilter, Status, Waiting
from statecraft.store.meters import Amount, Charge
from statecraft.store.outbox import Enable, Subscribe, Tell, event_id
from statecraft.store.port import Head
from tests.alerts.rig import errands, outbox, told
from tests.store.rig import begun, child_of, question

DONE, FAILED = Head(Status.DONE), Head(Status.FAILED)


def test_a_review_is_asked_for_and_decided_once(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            run = await begun(store)
            await store.submit(run.move("asked"))
            assert await told(store) == []
            await store.submit(run.ask_person())
            assert await told(store) == ["review.requested"]
            await store.submit(run.claim())
            run.epoch = 2
            await store.submit(run.ask_person())  # The handler ran again and asks the same.
            assert await told(store) == ["review.requested"]
            decision = run.move("approved", head=DONE, decision=True, actor="ann")
            await store.submit(decision)
            assert await told(store) == ["review.decided", "review.requested", "run.completed"]
            with pytest.raises((Fenced, AlreadyDecided)):
                await store.submit(decision)
            found = {each.kind: alert_of(each) for each in await errands(store)}
            assert len(found) == 3
            asked, decided = found["review.requested"], found["review.decided"]
            assert asked.data["run"] == decided.data["run"] == run.run_id.hex()
            assert (asked.data["machine"], asked.data["state"], decided.data["state"]) == ("paper", "review", "review")
            assert asked.text == f"paper {run.run_id.hex()} in review asks: Publish?"
            assert asked.hint == f"statecraft review show {run.run_id.hex()} --review {asked.data['review']}"
            assert (decided.data["decision"], decided.data["by"]) == ("approved", "ann")
            assert "bees" not in json.dumps([each.body() for each in found.values()])  # What the person is shown stays here.

    asyncio.run(story())


def test_a_question_about_a_call_is_asked_for_and_decided_once(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            run, asked = await begun(store), question()
            await store.submit(run.ask_about(asked))
            await store.submit(run.claim())
            run.epoch = 2
            await store.submit(run.ask_about(asked, question('"other"')))
            await store.submit(run.decide(asked))
            with pytest.raises(AlreadyDecided):
                await store.submit(run.decide(asked))
            assert await told(store) == ["review.decided", "review.requested", "review.requested"]
            first, *_ = [each for each in await errands(store) if each.kind == "review.requested"]
            alert = alert_of(first)
            assert (alert.data["tool"], alert.data["about"]) == ("send", "gate")
            assert alert.data["expires_at"] == "1970-01-01T00:00:00Z"
            assert '"me"' not in json.dumps(alert.body())  # Nor do a tool's arguments leave.

    asyncio.run(story())


def test_the_end_of_a_run_is_told_and_that_of_a_child_is_its_parents_business(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            failed, parent = await begun(store), await begun(store)
            child = await child_of(store, parent)
            await store.submit(failed.move("gave_up", head=FAILED))
            await store.submit(child.move("gave_up", head=FAILED))
            assert await told(store) == ["run.failed"]
            lost = await child_of(store, parent)
            await store.submit(lost.die("nobody knows"))
            assert await told(store) == ["run.dead_lettered", "run.failed"]
            found = {each.kind: alert_of(each) for each in await errands(store)}
            assert found["run.failed"].text == f"paper {failed.run_id.hex()} failed in failed by gave_up"
            assert found["run.dead_lettered"].data["parent"] == parent.run_id.hex()
            assert found["run.dead_lettered"].text.endswith("is dead: nobody knows")

    asyncio.run(story())


def test_moves_and_parks_that_concern_nobody_tell_nothing(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            run, parent = await begun(store), await begun(store)
            await store.submit(run.move("more"))
            await store.submit(run.call('"q"'))
            await store.submit(run.attempt('"q"', 1))
            await store.submit(run.sleep_until(9_000))
            await store.submit(parent.wait_for(run.run_id))
            reminded = await begun(store)
            await store.submit(replace(reminded.sleep_until(1), alert="a review has waited"))
            assert await told(store) == []

    asyncio.run(story())


def test_one_quota_is_told_once_an_hour_whatever_the_number_of_runs(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            for _ in range(3):
                run = await begun(store)
                head = Head(Status.WAITING, waiting_for=Waiting.QUOTA, due_at=9_000)
                park = replace(run.sleep_until(9_000), head=head, alert="the quota is used up", about="model:x")
                await store.submit(park)
            later = replace((await begun(store)).sleep_until(9_000), alert="still", about="model:x", at=4_000_000_000)
            await store.submit(later)
            assert await told(store) == ["quota.reached", "quota.reached"]
            first = min(await errands(store), key=lambda each: each.at)
            assert alert_of(first).text == "the quota is used up"

    asyncio.run(story())


def test_a_budget_is_told_when_a_charge_reaches_a_share_and_when_there_is_no_room(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            run = await begun(store)
            meter = f"run:{run.run_id.hex()}:tokens"

            def charge(amount: int) -> Charge:
                return Charge(meter, amount, 100, (0.8, 1.0))

            await store.submit(replace(run.settle('"a"', charge(79)), at=5))
            assert await told(store) == []
            # Two charges of one transaction, neither of which reaches the share alone.
            await asyncio.gather(*(store.submit(replace(run.settle(f'"{name}"', charge(3)), at=6)) for name in "bc"))
            assert await told(store) == ["budget.threshold"]
            await store.submit(replace(run.settle('"d"', charge(1)), at=7))
            assert await told(store) == ["budget.threshold"]
            refused = run.reserve('"e"', Amount(meter, 50, 100, told=True))
            await store.submit(replace(refused, at=8))
            await store.submit(replace(refused, at=9))
            await store.submit(replace(run.reserve('"f"', Amount("state:x:tokens", 50, 1)), at=9))
            found = [alert_of(each) for each in await errands(store)]
            assert [each.data["share"] for each in found] == [0.8, 1.0]
            assert found[0].text == f"80% of 100 tokens of the budget run:{run.run_id.hex()} are used"

    asyncio.run(story())


def test_a_call_that_is_recorded_tells_of_the_budget_it_is_charged_to(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            run = await begun(store)
            call = replace(run.call('"q"'), charges=(Charge("tenant:acme:0+9:money", 2 * 10**9, 2 * 10**9, (1.0,)),))
            await store.submit(call)
            (errand,) = await errands(store)
            assert alert_of(errand).text == "100% of $2 of the budget tenant:acme:0+9 are used"

    asyncio.run(story())


def test_what_nobody_wants_makes_no_rows(database: str) -> None:
    async def story() -> None:
        async with outbox(database, kinds=("run.failed",)) as store:
            for _ in range(3):
                run = await begun(store)
                await store.submit(run.move("asked"))
                await store.submit(run.move("approved", head=DONE))
            assert await told(store) == []
            await store.submit((await begun(store)).move("gave_up", head=FAILED))
            await store.submit(Subscribe("late", ("run.failed",), 10**14))  # From now on only.
            await store.submit((await begun(store)).move("gave_up", head=FAILED))
            assert [(each.kind, each.channel) for each in await store.deliveries()] == [("run.failed", "ops")] * 2
            await store.submit(Enable("ops", 1, "it answered 410"))
            await store.submit((await begun(store)).move("gave_up", head=FAILED))
            assert len(await store.deliveries()) == 2

    asyncio.run(story())


def test_an_event_told_twice_is_one(database: str) -> None:
    async def story() -> None:
        async with outbox(database) as store:
            event = Tell(event_id("breaker.opened", "model:x", 0), "breaker.opened", 5, '{"dependency":"model:x"}')
            await asyncio.gather(*(store.submit(event) for _ in range(3)))
            await store.submit(replace(event, at=6))
            assert await told(store) == ["breaker.opened"]
            (errand,) = await errands(store)
            assert (errand.at, errand.data) == (5, {"dependency": "model:x"})

    asyncio.run(story())


def test_a_channel_may_change_what_it_wants(database: str) -> None:
    async def story() -> None:
        async with outbox(database, kinds=("run.failed",)) as store:
            await store.submit(Subscribe("ops", ("run.completed",), 5))
            await store.submit((await begun(store)).move("gave_up", head=FAILED))
            run = await begun(store)
            await store.submit(run.move("asked"))
            await store.submit(run.move("approved", head=DONE))
            assert await told(store) == ["run.completed"]

    asyncio.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_event_is_there_exactly_if_the_change_is(url: str, moment: str) -> None:
    """The process dies just before or just after each commit in turn; what the database has then agrees with itself."""

    class Died(BaseException):
        pass

    async def live(deadly: int) -> bool:
        commits = 0

        def probe(when: str) -> None:
            nonlocal commits
            commits += when == moment
            if commits == deadly and when == moment:
                raise Died

        survived = True
        try:
            async with outbox(url, probe=probe) as store:
                run = await begun(store)
                await store.submit(run.move("asked"))
                await store.submit(run.ask_person())
                await store.submit(run.move("approved", head=DONE, decision=True, actor="ann"))
                await store.submit((await begun(store)).die())
        except BaseException:
            survived = False
        return survived

    async def agrees() -> None:
        async with outbox(url, kinds=()) as store:
            decided = [review.decision is not None for review in await store.reviews()]
            died = await store.runs(RunFilter(status=Status.DEAD, limit=100))
            ended = await store.runs(RunFilter(status=Status.DONE, limit=100))
            expected = ["review.requested"] * len(decided) + ["review.decided"] * sum(decided)
            expected += ["run.dead_lettered"] * len(died) + ["run.completed"] * len(ended)
            assert await told(store) == sorted(expected)

    deadly = 1
    while not asyncio.run(live(deadly)):
        asyncio.run(agrees())
        deadly += 1
    assert deadly > 7
    asyncio.run(agrees())


def test_the_catalogue_has_words_for_every_kind() -> None:
    assert set(CATALOGUE) == set(Kind)
    with pytest.raises(AttributeError):
        CATALOGUE[Kind.TEST].text = ""  # type: ignore[misc]
