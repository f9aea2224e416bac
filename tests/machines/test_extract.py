"""The extraction agent, played with the offline model: every row of its tables, and what it leaves in the database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from machines.extract import Approved, Batch, extract
from machines.extract_document import checked, document, joined
from machines.extract_eval import offline, suite
from machines.extract_files import MOST_BYTES, PIECE, html_text, pieces, read_text, survey
from machines.extract_offline import OfflineExtraction
from machines.extract_rows import NAMES, Edit, Findings, Row, edited, number_problems, quote_problems, twins
from statecraft import Runtime, Status, run
from statecraft.evals import evaluate
from statecraft.machine import Machine
from statecraft.testing import ManualClock
from tests.machines.extract_cases import (
    CASES,
    DOLLAR,
    SCAN,
    SURE,
    TAXI,
    WRONG,
    Played,
    an_invoice,
    decide,
    folder_of,
    play,
    table,
)

TEXT = "Ann A-1 2026-05-04 EUR net 10.00 tax 1.90 total 11.90"


# --- the machines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [extract, document], ids=str)
def test_the_machines_have_no_findings_and_every_bound(machine: Machine[Batch]) -> None:
    definition = machine.definition
    assert machine.check() == ()
    assert definition.deadline is not None
    assert definition.budget is not None
    assert [state.name for state in definition.states.values() if state.kind != "final" and state.timeout is None] == []


# --- what code checks ---------------------------------------------------------------------------------------------------


def test_what_stands_in_the_document_and_adds_up_has_no_problems() -> None:
    invoice = an_invoice()
    assert number_problems(invoice) + quote_problems(invoice, TEXT) == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"total": "12.00"}, "total: 10.00 net and 1.90 tax make 11.90, not 12.00"),
        ({"net": "9.00", "total": "10.90"}, "lines: they add up to 10.00, which is neither net (9.00) nor total (10.90)"),
        ({"number": ""}, "number: nothing was found"),
    ],
)
def test_what_does_not_add_up_or_is_missing_is_a_problem(values: dict[str, str], problem: str) -> None:
    assert number_problems(an_invoice(**values)) == [problem]


def test_a_quote_that_is_not_in_the_document_is_a_problem() -> None:
    made_up = an_invoice(number="B-2")
    assert quote_problems(made_up, TEXT) == ["number: the quote 'B-2' is not in the document"]


@pytest.mark.parametrize(
    ("name", "quote", "value"),
    [("total", "total 11.90", "119.00"), ("date", "2026-05-04", "2026-05-14"), ("supplier", "Ann", "Anna"), ("tax", "", "1.90")],
)
def test_a_real_quote_that_does_not_say_the_value_is_a_problem(name: str, quote: str, value: str) -> None:
    plain = an_invoice().model_dump()
    plain[name] = {"value": value, "quote": quote, "confidence": 1.0}
    problems = quote_problems(type(an_invoice()).model_validate(plain), TEXT)
    assert [problem.split(":")[0] for problem in problems] == [name]


@pytest.mark.parametrize("said", ["1.234,56 €", "1,234.56", "1 234,56", "EUR 1234.56", "1'234.56"])
def test_amounts_are_recognized_however_they_are_written(said: str) -> None:
    plain = an_invoice().model_dump()
    plain["total"] = {"value": "1234.56", "quote": said, "confidence": 1.0}
    assert quote_problems(type(an_invoice()).model_validate(plain), f"{TEXT} {said}") == []


@pytest.mark.parametrize("wrong", [{"date": "04.05.2026"}, {"date": "2026-02-30"}, {"total": "1.234,50"}, {"currency": "Euro"}])
def test_a_value_in_another_form_is_not_taken(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        an_invoice(**wrong)
    with pytest.raises(ValidationError):
        Edit.model_validate({"row": "a#1", **wrong})


def test_a_person_s_value_needs_no_quote_and_no_confidence() -> None:
    row = checked(a_row(an_invoice(number="B-2")), [TEXT])
    assert row.doubtful
    assert not edited(row, Edit(row=row.id, number="A-1")).doubtful


def test_an_invoice_cut_in_two_is_joined_without_saying_its_lines_twice() -> None:
    first, second = an_invoice(total=""), an_invoice(number="", supplier="", date="")
    more = second.model_copy(
        update={"lines": [*second.lines, second.lines[0].model_copy(update={"quote": "5.00", "amount": "5.00"})]}
    )
    (whole,) = joined([Findings(invoices=[first]), Findings(invoices=[more])])
    assert [whole.field(name).value for name in NAMES] == ["A-1", "Ann", "2026-05-04", "EUR", "10.00", "1.90", "11.90"]
    assert [line.amount for line in whole.lines] == ["10.00", "5.00"]


def test_two_rows_of_one_supplier_and_number_are_twins() -> None:
    rows = [a_row(an_invoice()), a_row(an_invoice(supplier="ANN"), "b.txt"), a_row(an_invoice(supplier="Ben"), "c.txt")]
    assert twins(rows) == {"b.txt#1": "a.txt#1"}


def a_row(invoice: object, file: str = "a.txt") -> Row:
    return Row.model_validate({"id": f"{file}#1", "document": "d", "file": file, "record": 1, "invoice": invoice})


# --- files --------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_said_file_by_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, f"{SURE} {SCAN}")
    (folder / "huge.txt").write_bytes(b"x" * (MOST_BYTES + 1))
    (folder / "photo.jpg").write_bytes(b"x")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "gone.txt").symlink_to(tmp_path / "gone.txt")
    (folder / ".hidden.txt").write_text("x")
    os.mkfifo(folder / "pipe.txt")
    found = survey(str(folder))
    assert [filed.name for filed in found.files] == [SURE]
    assert {unread.name: unread.reason.split(":")[0] for unread in found.unread} == {
        SCAN: "it is binary",
        "huge.txt": "it is larger than 100,000 bytes",
        "photo.jpg": ".jpg is none of .csv, .eml, .htm, .html, .md, .text, .txt",
        "link.txt": "it leads out of the folder",
        "gone.txt": "it leads out of the folder",
        "pipe.txt": "it is no file",
    }
    assert read_text(str(folder), "../secret.txt").problem == "it leads out of the folder"
    assert read_text(str(folder), SURE, "0" * 64).problem == "it changed while it was being read"


@pytest.mark.parametrize(("name", "raw"), [("a.html", b"<![foo bar><p>x"), ("a.eml", b"From: <@\n\nx")])
def test_what_python_s_parsers_stumble_over_is_said_too(tmp_path: Path, name: str, raw: bytes) -> None:
    """Newer ones may not: but none may fail the run."""
    (tmp_path / name).write_bytes(raw)
    read = read_text(str(tmp_path), name)
    assert "it is no sound ." in read.problem or "x" in read.pieces[0]


def test_a_table_whose_lines_end_as_they_did_long_ago_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\rc,d\r")
    assert read_text(str(tmp_path), "a.csv").pieces == ["a\tb\nc\td"]


def test_a_file_and_a_glob_name_files_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, f"{SURE} {DOLLAR}")
    assert [filed.name for filed in survey(str(folder / SURE)).files] == [SURE]
    assert [filed.name for filed in survey(str(folder / "*.html")).files] == [DOLLAR]
    assert survey(str(folder / "nothing")).problem.endswith("nothing cannot be read: No such file or directory")


def test_a_page_is_read_as_it_is_shown_and_a_mail_with_its_head() -> None:
    assert html_text("<title>a</title><tr><td>b&amp;c</td><td>d</td></tr><script>e</script>f<br>g") == "b&c\td\nf\ng"
    mail = read_text("", "05-print-shop.eml").pieces[0]
    assert mail.startswith("From: Accounts <accounts@quickprint.example>\nDate: Tue, 12 May 2026")
    assert "Total due                   € 296.43" in mail
    assert "track(" not in read_text("", DOLLAR).pieces[0]


def test_a_long_text_is_cut_between_lines_and_nothing_is_lost() -> None:
    text = "\n".join(f"line {number}" for number in range(4000))
    parts = pieces(text)
    assert all(len(part) <= PIECE for part in parts)
    assert {line for part in parts for line in part.split("\n")} >= set(text.split("\n"))


# --- whole runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each case is played."""
    return {name: tmp_path_factory.mktemp("case") for name in CASES}


@pytest.fixture(scope="module")
def played(places: dict[str, Path]) -> dict[str, Played]:
    """Each case, played once."""
    return {name: asyncio.run(play(case, places[name])) for name, case in CASES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_different_folders_take_different_ways(played: dict[str, Played], places: dict[str, Path], name: str) -> None:
    case, ended = CASES[name], played[name]
    assert ended.path == case.path
    assert ended.replays
    assert len(table(places[name])) == case.rows == ended.batch.written


@pytest.mark.slow
def test_every_row_of_the_tables_was_taken(played: dict[str, Played]) -> None:
    for machine, moves in (
        (extract, [move for each in played.values() for move in each.moves]),
        (document, [move for each in played.values() for move in each.child_moves]),
    ):
        taken = {(move.source, move.event, move.target) for move in moves}
        named = {(row.source, row.event, row.target) for row in machine.definition.rows if row.source}
        assert {row for row in named - taken if row[1] != "failure"} == set()
    events = {(move.source, move.event) for each in played.values() for move in (*each.moves, *each.child_moves)}
    assert {("extracting", "budget_exhausted"), ("asking", "call_failed")} <= events  # rows for any failure


@pytest.mark.slow
def test_what_was_approved_or_corrected_says_so_in_the_table(played: dict[str, Played], places: dict[str, Path]) -> None:
    assert played["approved"].run.status is Status.DONE
    wanted = "SELECT file, total, checked_by FROM invoices ORDER BY file"
    assert table(places["approved"], wanted) == [(SURE, "378.00", "code"), (DOLLAR, "64.95", "person")]
    assert table(places["corrected"], wanted) == [(WRONG, "96.48", "person"), (TAXI, "32.00", "person")]
    assert table(places["corrected"], "SELECT sum(line) FROM invoices_lines") == [(6,)]


@pytest.mark.slow
def test_a_rejected_document_is_done_with_and_a_forgotten_one_is_not(played: dict[str, Played], places: dict[str, Path]) -> None:
    done = "SELECT file, records FROM invoices_documents ORDER BY file"
    assert table(places["rejected"], done) == [(SURE, 1), (DOLLAR, 0)]
    assert table(places["forgotten"], done) == [(SURE, 1)]
    assert [left.name for left in played["forgotten"].batch.left] == [DOLLAR]


@pytest.mark.slow
def test_what_a_run_leaves_is_named_with_its_reason(played: dict[str, Played]) -> None:
    unread = {each.name: each.reason for each in played["sure"].batch.unread}
    assert unread == {SCAN: "it is binary", "blank.txt": "there is no text in it"}
    (silent,) = played["silent"].batch.left
    assert silent.name == SURE
    assert "is failed in failed" in silent.reason
    assert [left.name for left in played["dear"].batch.left] == ["copy-09.txt", "copy-10.txt"]


@pytest.mark.slow
def test_a_made_up_quote_is_asked_about_again_and_then_shown_to_a_person(played: dict[str, Played]) -> None:
    (paper,) = played["inventive"].papers
    assert "total: the quote 'Grand total: 378.00 pounds' is not in the document" in paper.rows[0].unquoted
    assert [move.event for move in played["inventive"].child_moves].count("answered") == 3


@pytest.mark.slow
def test_a_correction_that_is_wrong_comes_back(played: dict[str, Played]) -> None:
    assert played["corrected wrongly"].run.state == "complete"
    assert played["corrected wrongly"].batch.written == 0


@pytest.mark.slow
def test_the_same_folder_twice_writes_nothing_twice(tmp_path: Path) -> None:
    batch = Batch(folder=str(folder_of(tmp_path, SURE)), database=str(tmp_path / "out.db"))
    first, second = (run(extract, batch, llm=OfflineExtraction(), url="sqlite://") for _ in range(2))
    assert (first.run.state, second.run.state, second.data.known) == ("complete", "nothing_new", [SURE])
    assert table(tmp_path) == [(SURE, 1)]


@pytest.mark.slow
def test_two_runs_at_once_over_one_folder_write_each_document_once(tmp_path: Path) -> None:
    batch = Batch(folder=str(folder_of(tmp_path, f"{SURE} {DOLLAR}")), database=str(tmp_path / "out.db"))

    async def go() -> list[Batch]:
        clock = ManualClock()
        async with Runtime("sqlite://", machines=[extract], llm=OfflineExtraction(), clock=clock) as runtime:
            runs = [await runtime.start(extract, batch) for _ in range(2)]
            runs = [await runtime.wait(each.id) for each in runs]
            assert {each.state for each in runs} == {"human_review"}
            runs = [await decide(runtime, clock, each, [Approved()]) for each in runs]
            assert [each.state for each in runs] == ["complete", "complete"]
            return [await runtime.data(each.id, Batch) for each in runs]

    first, second = asyncio.run(go())
    assert (first.written, first.elsewhere) == (2, [])
    assert (second.written, second.elsewhere) == (0, [SURE, DOLLAR])
    assert table(tmp_path) == [(SURE, 1), (DOLLAR, 1)]


@pytest.mark.slow
def test_a_table_that_is_taken_away_before_writing_fails_the_run(tmp_path: Path) -> None:
    batch = Batch(folder=str(folder_of(tmp_path, DOLLAR)), database=str(tmp_path / "out.db"))

    async def go() -> str:
        clock = ManualClock()
        async with Runtime("sqlite://", machines=[extract], llm=OfflineExtraction(), clock=clock) as runtime:
            begun = await runtime.wait((await runtime.start(extract, batch)).id)
            (tmp_path / "out.db").write_bytes(b"")
            return (await decide(runtime, clock, begun, [Approved()])).state

    assert asyncio.run(go()) == "failed"


@pytest.mark.slow
def test_the_eval_of_the_offline_model_lets_nothing_wrong_pass_unseen() -> None:
    report = evaluate(suite, llm=offline())
    wrong = {each.name: [grade.grader for grade in each.trials[0].grades if not grade.passed] for each in report.cases}
    assert {name: graders for name, graders in wrong.items() if graders} == {"an odd date": ["ends", "records"]}
