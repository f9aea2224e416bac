"""A gate over a real database: what a person decides about a call is what happens, once, and to that call only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statecraft import Approve, GatePolicy, GiveUp, Happened, Modify, Reject, Run, Runtime, Settings
from statecraft.errors import (
    AlreadyDecided,
    ConfigError,
    DecisionLate,
    IllegalEvent,
    InvalidPayload,
    NotFound,
    NotWaiting,
    RunClosed,
    Superseded,
)
from statecraft.llm.port import Reply, Request
from statecraft.testing import ScriptedLLM, text, together, tool_use
from tests.runtime.shop import Again, Bill, Paid, Shop, finished, insist, only_review, open_reviews

DAY = timedelta(days=1)


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(bounded())


def test_a_risky_call_waits_for_a_person_and_is_made_when_approved(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
            assert (review.kind, review.tool, review.arguments) == ("gate", "pay", {"amount": 100, "to": "ann"})
            assert review.show["reasons"] == ["its risk is high, above medium"]
            assert review.show["risk"] == "high"
            assert shop.paid == []
            await runtime.decide(run.id, Approve(note="fine"), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 100 to ann"]
            assert shop.paid == [(100, review.show["key"])]
            (decided,) = await runtime.reviews(run.id)
            assert (decided.decision, decided.decided_by, decided.note) == ("approve", "ann", "fine")

    play(story)


@pytest.mark.slow
def test_a_tool_without_a_risk_counts_as_high_and_a_policy_may_say_otherwise(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, policy=GatePolicy(max_auto_risk="medium", risks={"pay": "low"}))
        async with shop.open() as runtime:
            assert (await finished(runtime, await runtime.start(shop.machine, Bill()))).receipts == ["paid 100 to ann"]
        unjudged = Shop(tmp_path)
        object.__setattr__(unjudged.pay, "risk", None)
        async with unjudged.open() as runtime:
            review = await only_review(runtime, await runtime.start(unjudged.machine, Bill()))
            assert review.show["risk"] == "high"

    play(story)


def test_a_rejected_call_is_not_made_and_its_handler_learns_why(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, Reject("too much"), by="ann")
            data = await finished(runtime, run)
            assert data.told == ["Rejected rejected: not executed: ann rejected pay: too much"]
            assert shop.paid == []
            (call,) = await runtime.calls(run.id)
            assert (call.ok, call.result["kind"], call.result["class"]) == (False, "rejected", "Rejected")

    play(story)


def test_a_rejection_that_escapes_the_handler_is_a_failed_call(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=insist)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, Reject("no"), by="ann")
            await finished(runtime, run)
            assert (await runtime.history(run.id))[-1].payload["kind"] == "rejected"

    play(story)


@pytest.mark.slow
def test_a_modified_call_is_another_action_that_is_asked_about_again(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            first = await only_review(runtime, run)
            await runtime.decide(run.id, Modify({"amount": 60, "to": "bob"}, note="less"), by="ann")
            second = await only_review(runtime, run)
            assert second.id != first.id
            assert (second.arguments, second.call and second.call[2]) == ({"amount": 60, "to": "bob"}, 1)
            assert second.action != first.action
            assert second.show["key"] != first.show["key"]
            assert second.show["changed"] == {"arguments": {"amount": 60, "to": "bob"}, "by": "ann", "note": "less"}
            with pytest.raises(AlreadyDecided, match="decided by ann: modify"):
                await runtime.decide(run.id, Approve(), by="bob", review=first.id)
            await runtime.decide(run.id, Approve(), by="bob")
            assert (await finished(runtime, run)).receipts == ["paid 60 to bob"]
            assert shop.paid == [(60, second.show["key"])]
            (call,) = await runtime.calls(run.id)
            assert call.request["arguments"] == {"amount": 100, "to": "ann"}
            assert call.request["changed"]["arguments"] == {"amount": 60, "to": "bob"}
            assert call.request["changed"]["by"] == "ann"

    play(story)


@pytest.mark.slow
def test_a_modification_may_approve_itself_or_fall_under_what_passes(tmp_path: Path) -> None:
    async def story() -> None:
        strict = Shop(tmp_path)
        async with strict.open() as runtime:
            run = await runtime.start(strict.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, Modify({"amount": 99}, approve=True), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 99 to ann"]
        lax = Shop(tmp_path, policy=GatePolicy(when=lambda proposal: proposal.arguments["amount"] > 50))
        async with lax.open() as runtime:
            run = await runtime.start(lax.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, Modify({"amount": 50}), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 50 to ann"]
            assert len(await runtime.reviews(run.id)) == 1

    play(story)


@pytest.mark.slow
def test_a_changed_call_never_shares_the_key_of_one_that_asked_for_the_same(tmp_path: Path) -> None:
    async def both(run: Run[Bill], shop: Shop) -> Paid:
        return Paid(receipts=[await run.tool(shop.pay, 100), await run.tool(shop.pay, 60)])

    async def story() -> None:
        shop = Shop(tmp_path, handler=both)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, Modify({"amount": 60, "to": "ann"}, approve=True), by="ann")
            await only_review(runtime, run)
            await runtime.decide(run.id, Approve(), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 60 to ann", "paid 60 to ann"]
            (one, first), (other, second) = shop.paid
            assert one == other == 60
            assert first != second

    play(story)


def test_arguments_that_do_not_fit_the_tool_are_refused_and_the_question_stays(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            wrong: list[dict[str, Any]] = [{"amount": "much"}, {}, {"amount": 1, "tip": 2}, {"amount": {1}}]
            for arguments in wrong:
                with pytest.raises(InvalidPayload, match="pay"):
                    await runtime.decide(run.id, Modify(arguments), by="ann")
            assert (await only_review(runtime, run)).decision is None

    play(story)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_question_that_nobody_answers_expires_and_the_call_is_not_made(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=insist)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
            assert review.expires_at == review.requested_at + 2 * DAY
            await shop.later(runtime, 2 * DAY - timedelta(seconds=1))
            assert (await only_review(runtime, run)).id == review.id
            await shop.later(runtime, timedelta(seconds=1))
            await finished(runtime, run)
            assert (await runtime.get(run.id)).state == "late"
            assert "nobody decided about pay" in (await runtime.history(run.id))[-1].payload["message"]
            assert shop.paid == []
            with pytest.raises(RunClosed):
                await runtime.decide(run.id, Approve(), by="ann")

    play(story)


def test_a_handler_may_go_on_when_nobody_answers(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            await shop.later(runtime, 2 * DAY)
            assert (await finished(runtime, run)).told[0].startswith("ReviewUnanswered rejected: not executed: nobody decided")

    play(story)


def test_a_decision_that_comes_late_is_refused_even_if_nobody_has_noticed_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
        async with shop.open(take="none") as aside:
            await shop.clock.advance(2 * DAY)
            for which in (None, review.id):
                with pytest.raises(DecisionLate, match="expired"):
                    await aside.decide(run.id, Approve(), by="ann", review=which)
        assert shop.paid == []

    play(story)


@pytest.mark.slow
def test_people_are_reminded_once(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, policy=GatePolicy(max_auto_risk="low", remind_after=DAY))
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
            assert (await runtime.get(run.id)).due_at == review.requested_at + DAY
            await shop.later(runtime, DAY)
            await runtime.wait(run.id)
            assert (await runtime.get(run.id)).due_at == review.expires_at
        async with shop.open() as runtime:  # Another process wakes it for whatever reason: it has been said.
            await runtime._worker.claim(bytes.fromhex(run.id))
            await only_review(runtime, run)
            told = [entry.detail["text"] for entry in await runtime.feed(run.id) if entry.kind == "alert"]
            assert told == [f"review {review.id} about pay has waited since 2026-01-01T00:00:00+00:00: May pay be called?"]
            await runtime.decide(run.id, Approve(), by="ann")
            assert (await finished(runtime, run)).receipts == ["paid 100 to ann"]

    play(story)


def test_a_question_whose_visit_has_ended_is_superseded(tmp_path: Path) -> None:
    async def wait(run: Run[Bill], shop: Shop) -> Paid | Again:
        if run.visit == 1 and run.data.times == 1:
            await run.tool(shop.pay, run.data.amount)
        return Paid()

    async def story() -> None:
        shop = Shop(tmp_path, handler=wait, timeout=timedelta(hours=1))
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
            await shop.later(runtime, timedelta(hours=1))  # The state's own time goes on while people think.
            await finished(runtime, run)
            assert [move.event for move in await runtime.history(run.id)] == ["start", "state_timeout", "paid"]
            with pytest.raises((RunClosed, Superseded)):
                await runtime.decide(run.id, Approve(), by="ann", review=review.id)
            assert shop.paid == []

    play(story)


# --- what an approval is bound to -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_equal_call_is_asked_about_again(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill(times=2))
            first = await only_review(runtime, run)
            await runtime.decide(run.id, Approve(), by="ann")
            second = await only_review(runtime, run)
            assert second.action == first.action
            assert second.id != first.id
            assert len(shop.paid) == 1
            await runtime.decide(run.id, Reject("once is enough"), by="ann")
            data = await finished(runtime, run)
            assert (data.receipts, len(data.told)) == (["paid 100 to ann"], 1)
            assert len(shop.paid) == 1

    play(story)


def test_another_visit_is_asked_about_again(tmp_path: Path) -> None:
    async def twice(run: Run[Bill], shop: Shop) -> Paid | Again:
        receipt = await run.tool(shop.pay, run.data.amount)
        return Again(receipts=[receipt]) if run.visit == 1 else Paid(receipts=[receipt])

    async def story() -> None:
        shop = Shop(tmp_path, handler=twice)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            for payments in (0, 1):
                await only_review(runtime, run)
                assert len(shop.paid) == payments
                await runtime.decide(run.id, Approve(), by="ann")
                await asyncio.sleep(0)
            assert len((await finished(runtime, run)).receipts) == 2

    play(story)


@pytest.mark.slow
def test_changed_arguments_are_asked_about_again(tmp_path: Path) -> None:
    async def story() -> None:
        amounts = [100]

        async def as_written(run: Run[Bill], shop: Shop) -> Paid:
            return Paid(receipts=[await run.tool(shop.pay, amounts[0])])

        shop = Shop(tmp_path, handler=as_written)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
        async with shop.open(take="none") as aside:
            await aside.decide(run.id, Approve(), by="ann")
        amounts[0] = 900  # A handler that is not the same any more when it runs again.
        async with shop.open() as runtime:
            await runtime.resume(run.id)
            found = [review for review in await open_reviews(runtime, run) if review.decision is None]
            assert [review.arguments["amount"] for review in found] == [900]
            assert shop.paid == []

    play(story)


@pytest.mark.slow
def test_a_decision_holds_although_the_policy_was_lifted_meanwhile(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
        async with shop.open(take="none") as aside:
            await aside.decide(run.id, Reject("no"), by="ann")
        async with shop.open(gate=GatePolicy()) as runtime:
            assert (await finished(runtime, run)).told[0].startswith("Rejected")
            assert shop.paid == []

    play(story)


# --- several at once --------------------------------------------------------------------------------------------------


async def pay_three(run: Run[Bill], shop: Shop) -> Paid:
    return Paid(receipts=list(await run.gather(*(run.tool(shop.pay, amount) for amount in (1, 2, 3)))))


def test_several_calls_are_asked_about_at_once_and_decided_in_any_order(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=pay_three)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            found = {review.arguments["amount"]: review.id for review in await open_reviews(runtime, run)}
            assert set(found) == {1, 2, 3}
            for amount, paid in ((3, []), (1, [3]), (2, [1, 3])):
                assert sorted(one for one, _ in shop.paid) == paid
                await runtime.decide(run.id, Approve(), by="ann", review=found[amount])
                await runtime.wait(run.id)
            assert (await finished(runtime, run)).receipts == [f"paid {n} to ann" for n in (1, 2, 3)]
            assert sorted(one for one, _ in shop.paid) == [1, 2, 3]
            assert len({key for _, key in shop.paid}) == 3

    play(story)


@pytest.mark.slow
def test_a_decision_that_comes_while_the_run_is_held_is_not_lost(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=pay_three)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            ids = [review.id for review in await open_reviews(runtime, run)]
            shop.doors.append(asyncio.Event())
            shop.entered.append(asyncio.Event())
            await runtime.decide(run.id, Approve(), by="ann", review=ids[0])
            await shop.entered[-1].wait()  # The run is inside the first payment.
            for name in ids[1:]:
                await runtime.decide(run.id, Approve(), by="bob", review=name)
            shop.doors.pop().set()
            assert len((await finished(runtime, run)).receipts) == 3
            assert len({key for _, key in shop.paid}) == len(shop.paid) == 3

    play(story)


def test_which_of_several_is_meant_must_be_said(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=pay_three)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            ids = [review.id for review in await open_reviews(runtime, run)]
            with pytest.raises(NotFound, match="asks about 3 calls; say which") as error:
                await runtime.decide(run.id, Approve(), by="ann")
            assert all(name in str(error.value) for name in ids)
            with pytest.raises(NotFound, match="no reviews of a call named 'zz'"):
                await runtime.decide(run.id, Approve(), by="ann", review="zz")
            with pytest.raises(NotFound, match="named ''"):
                await runtime.decide(run.id, Approve(), by="ann", review="")
            await runtime.decide(run.id, Approve(), by="ann", review=ids[0][:9])

    play(story)


def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            review = await only_review(runtime, run)
        async with shop.open(take="none") as one, shop.open(take="none") as other:
            outcomes = await asyncio.gather(
                one.decide(run.id, Approve(), by="ann", review=review.id),
                other.decide(run.id, Reject("no"), by="bob", review=review.id),
                return_exceptions=True,
            )
            (refused,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert isinstance(refused, AlreadyDecided)
            (decided,) = await one.reviews(run.id)
            assert (decided.decision == "approve") == (not isinstance(outcomes[0], BaseException))

    play(story)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_decision_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            for wrong in (Happened("x"), GiveUp()):
                with pytest.raises(IllegalEvent, match="takes approve or reject or modify"):
                    await runtime.decide(run.id, wrong, by="ann")
            nonsense: Any = "approve"
            with pytest.raises(IllegalEvent, match="a decision is one of Approve"):
                await runtime.decide(run.id, nonsense, by="ann")

    play(story)


def test_events_and_decisions_point_to_each_other(tmp_path: Path) -> None:
    async def story() -> None:
        shop = Shop(tmp_path)
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            with pytest.raises(NotWaiting, match="answer it with decide"):
                await runtime.send(run.id, Paid(), by="ann")
            await runtime.decide(run.id, Approve(), by="ann")
            await finished(runtime, run)
            with pytest.raises(RunClosed):
                await runtime.decide(run.id, Approve(), by="ann")

    play(story)


@pytest.mark.slow
def test_the_environment_chooses_the_policy_of_a_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = {"laptop": GatePolicy(), "production": GatePolicy(max_auto_risk="low")}
    monkeypatch.delenv("STATECRAFT_ENV", raising=False)
    with pytest.raises(ConfigError, match="set STATECRAFT_ENV"):
        Runtime(f"sqlite:///{tmp_path / 'runs.db'}", settings=Settings(gate=gates))

    async def story() -> None:
        shop = Shop(tmp_path)
        monkeypatch.setenv("STATECRAFT_ENV", "laptop")
        async with shop.open(gate=gates) as runtime:
            assert (await finished(runtime, await runtime.start(shop.machine, Bill()))).receipts
        monkeypatch.setenv("STATECRAFT_ENV", "production")
        async with shop.open(gate=gates) as runtime:
            assert (await only_review(runtime, await runtime.start(shop.machine, Bill()))).kind == "gate"

    play(story)


@pytest.mark.parametrize(("confidence", "asked"), [(0.9, False), (0.5, True), (None, True)])
def test_the_confidence_in_the_runs_data_is_looked_at(tmp_path: Path, confidence: float | None, asked: bool) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, policy=GatePolicy(min_confidence=0.8))
        async with shop.open() as runtime:
            run = await runtime.wait((await runtime.start(shop.machine, Bill(confidence=confidence))).id)
            assert run.status.closed is not asked

    play(story)


def test_the_confidence_may_come_from_anywhere(tmp_path: Path) -> None:
    async def story() -> None:
        policy = GatePolicy(min_confidence=0.8, confidence_of=lambda proposal: 50 / proposal.arguments["amount"])
        shop = Shop(tmp_path, policy=policy)
        async with shop.open() as runtime:
            assert (await finished(runtime, await runtime.start(shop.machine, Bill(amount=50)))).receipts
            review = await only_review(runtime, await runtime.start(shop.machine, Bill(amount=100)))
            assert review.show["reasons"] == ["its confidence is 0.5, below 0.8"]

    play(story)


# --- the model --------------------------------------------------------------------------------------------------------


async def ask_model(run: Run[Bill], shop: Shop) -> Paid:
    return Paid(receipts=[await run.llm.ask("pay ann", tools=[shop.pay])])


def payer() -> ScriptedLLM:
    """Pays 100, then repeats what it read."""

    def answer(request: Request) -> Reply:
        if len(request.messages) == 1:
            return together(tool_use("pay", {"amount": 100}))
        (result,) = request.messages[-1]["content"]
        return text(f"{'failed' if result.get('is_error') else 'ok'}: {result['content']}")

    return ScriptedLLM(answer)


@pytest.mark.parametrize(
    ("decision", "read"),
    [
        (Approve(), "ok: paid 100 to ann"),
        (Reject("too much"), "failed: not executed: ann rejected pay: too much"),
        (
            Modify({"amount": 5, "to": "bob"}, approve=True),
            """ok: [a reviewer changed the arguments to {"amount":5,"to":"bob"}]\npaid 5 to bob""",
        ),
    ],
)
def test_the_model_reads_what_became_of_its_call(tmp_path: Path, decision: Any, read: str) -> None:
    async def story() -> None:
        shop = Shop(tmp_path, handler=ask_model, llm=payer())
        async with shop.open() as runtime:
            run = await runtime.start(shop.machine, Bill())
            await only_review(runtime, run)
            await runtime.decide(run.id, decision, by="ann")
            assert (await finished(runtime, run)).receipts == [read]

    play(story)
