"""Questions about calls on the command line: shown with what would run, and decided by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.support import cli, fields, in_own_process, one_error

BANK = '''
"""Pays, if a person agrees; and dies where a file says so."""

import os
from pathlib import Path

from statecraft import CallError, Data, Event, Failure, GatePolicy, Machine, Run, Settings, tool

settings = Settings(gate={"laptop": GatePolicy(), "production": GatePolicy(max_auto_risk="medium")})


class Bill(Data):
    amount: int = 100
    to: str = "ann"
    times: int = 1
    receipts: list[str] = []


class Paid(Event):
    receipts: list[str]


@tool(effect="once", risk="high")
def pay(amount: int, to: str) -> str:
    """Pay somebody."""
    with Path("paid.txt").open("a") as book:
        book.write(f"{amount} {to}\\n")
    if Path("die").exists():
        os._exit(9)
    return f"paid {amount} to {to}"


bank = Machine("bank", data=Bill, max_steps=5)


@bank.state(start=True, tools=[pay])
async def paying(run: Run[Bill]) -> Paid:
    async def once(n: int) -> str:
        try:
            return await run.tool(pay, run.data.amount + n, run.data.to)
        except CallError as error:
            return error.message

    return Paid(receipts=await run.map(once, range(run.data.times)))


done, failed = bank.final("done", ok=True), bank.final("failed")
bank.transitions(paying.on(Paid) >> done, bank.anywhere.on(Failure) >> failed)
'''


@pytest.fixture(autouse=True)
def bank(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (place / "bank.py").write_text(BANK)
    monkeypatch.setenv("STATECRAFT_MACHINES", "bank.py:bank")
    monkeypatch.setenv("STATECRAFT_ENV", "production")
    return place


def begin(*sets: str) -> str:
    """A run that asks about its call; answers its id."""
    done = cli("start", "bank.py:bank", *(word for pair in sets for word in ("--set", pair)))
    assert done.exit_code == 4, done.stderr
    return done.stdout.strip()


def paid(place: Path) -> list[str]:
    found = place / "paid.txt"
    return found.read_text().splitlines() if found.exists() else []


def receipts(run_id: str) -> list[str]:
    shown = fields(cli("show", run_id, "--data", "--json"))
    found: list[str] = shown["data"]["receipts"]
    return found


def test_the_settings_of_the_machines_module_hold_on_the_command_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECRAFT_ENV", "laptop")
    assert cli("start", "bank.py:bank").exit_code == 0
    assert paid(place) == ["100 ann"]
    monkeypatch.delenv("STATECRAFT_ENV")
    done = cli("start", "bank.py:bank")
    assert done.exit_code == 2
    assert "set STATECRAFT_ENV to one of them" in one_error(done)


@pytest.mark.slow
def test_a_gated_call_is_listed_and_shown_with_all_that_matters(place: Path) -> None:
    run_id = begin()
    listed = cli("review").stdout
    assert 'may pay {"amount": 100, "to": "ann"} run?' in listed
    assert "approve | reject | modify" in listed
    (review,) = fields(cli("review", "--json"))["reviews"]
    assert review["id"] in listed
    shown = cli("review", "show", run_id)
    for part in ("May pay be called?", review["id"], '"amount": 100', "risk", "its risk is high, above medium"):
        assert part in shown.stdout
    assert f"statecraft review approve {run_id} --review {review['id']}" in shown.stderr
    assert '"amount": 100' in cli("show", run_id).stdout
    assert paid(place) == []


@pytest.mark.slow
def test_a_gated_call_is_approved(place: Path) -> None:
    run_id = begin()
    done = cli("review", "approve", run_id, "--note", "fine", "--by", "bob")
    assert done.exit_code == 0, done.stderr
    assert "recorded approve of pay by bob" in done.stderr
    assert paid(place) == ["100 ann"]
    assert "approve by bob" in cli("show", run_id).stdout
    assert cli("review", "approve", run_id).exit_code == 2


@pytest.mark.slow
def test_a_gated_call_is_rejected(place: Path) -> None:
    run_id = begin()
    assert cli("review", "reject", run_id, "--reason", "too much", "--by", "bob").exit_code == 0
    assert paid(place) == []
    assert receipts(run_id) == ["not executed: bob rejected pay: too much"]


@pytest.mark.slow
def test_a_gated_call_is_modified_and_asked_about_again_unless_approved_too(place: Path) -> None:
    run_id = begin()
    assert cli("review", "modify", run_id, "--set", "amount=5").exit_code == 4
    assert cli("review", "modify", run_id, "--set", "to=7", "--approve").exit_code == 0
    assert paid(place) == ["5 7"]


@pytest.mark.slow
def test_what_does_not_fit_the_call_is_refused(place: Path) -> None:
    run_id = begin()
    for words, said in (
        (("modify", run_id), "modify changes nothing"),
        (("modify", run_id, "--set", "amount=much"), "arguments of pay are invalid: amount"),
        (("modify", run_id, "--set", "tip=1"), "arguments of pay are invalid: tip"),
        (("happened", run_id), "takes approve, reject, modify"),
        (("approve", run_id, "--set", "amount=1"), "approve has no field 'amount'"),
        (("decide", run_id, "paid"), "takes approve, reject, modify"),
    ):
        done = cli("review", *words)
        assert done.exit_code == 2
        assert said in one_error(done)
    assert cli("review", "approve", run_id, "--review", "zz").exit_code == 3
    assert paid(place) == []


@pytest.mark.slow
def test_one_of_several_questions_is_named_by_its_id(place: Path) -> None:
    run_id = begin("times=2")
    done = cli("review", "approve", run_id)
    assert done.exit_code == 3
    assert "several questions" in one_error(done)
    ids = {item["arguments"]["amount"]: item["id"] for item in fields(cli("review", "--json"))["reviews"]}
    assert all(name in done.stderr for name in ids.values())
    assert cli("review", "approve", run_id, "--review", ids[101]).exit_code == 4
    assert cli("review", "decide", run_id, "reject", "--set", "reason=no").exit_code == 0
    assert paid(place) == ["101 ann"]


@pytest.mark.slow
def test_send_takes_a_decision_about_a_call(place: Path) -> None:
    run_id = begin()
    assert cli("send", run_id, "modify", "--set", "amount=6").exit_code == 4
    assert cli("send", run_id, "approve", "--by", "bob").exit_code == 0
    assert paid(place) == ["6 ann"]


@pytest.mark.slow
def test_a_decision_may_be_left_for_others_to_run(place: Path) -> None:
    run_id = begin()
    assert cli("review", "approve", run_id, "--detach").exit_code == 0
    assert paid(place) == []
    assert cli("resume", run_id).exit_code == 0
    assert paid(place) == ["100 ann"]


# --- doubt ------------------------------------------------------------------------------------------------------------


def in_doubt(place: Path) -> str:
    """A run whose process died inside the payment; answers its id."""
    (place / "die").touch()
    run_id = begin()
    env = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(place)])}
    assert in_own_process("review", "approve", run_id, env=env).returncode == 9
    (place / "die").unlink()
    assert paid(place) == ["100 ann"]
    assert cli("resume", run_id).exit_code == 4
    return run_id


@pytest.mark.slow
def test_a_call_in_doubt_is_shown_and_did_happen(place: Path) -> None:
    run_id = in_doubt(place)
    assert "happened | did-not-happen | give-up" in cli("review").stdout
    shown = cli("review", "show", run_id)
    for part in ("Did pay take effect?", "began", "attempt", "key", '"amount": 100'):
        assert part in shown.stdout
    assert f"statecraft review did-not-happen {run_id}" in shown.stderr
    assert cli("review", "happened", run_id, "--result", "12").exit_code == 2
    assert cli("review", "happened", run_id, "--result", "paid, says the bank").exit_code == 0
    assert receipts(run_id) == ["paid, says the bank"]
    assert paid(place) == ["100 ann"]


@pytest.mark.slow
def test_a_call_in_doubt_did_not_happen_and_runs_again(place: Path) -> None:
    run_id = in_doubt(place)
    assert cli("review", "did-not-happen", run_id, "--note", "not on the account").exit_code == 0
    assert receipts(run_id) == ["paid 100 to ann"]
    assert paid(place) == ["100 ann", "100 ann"]


@pytest.mark.slow
def test_a_call_in_doubt_is_given_up(place: Path) -> None:
    run_id = in_doubt(place)
    assert cli("review", "give-up", run_id, "--reason", "nobody knows").exit_code == 0
    assert "gave up on it: nobody knows" in receipts(run_id)[0]
    assert paid(place) == ["100 ann"]
