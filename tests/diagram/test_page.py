"""The page: one file, no network, nothing in it that a model wrote can act, and a run that can be replayed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from statecraft.diagram import Drawing, Step, of_run, overlay, plain, story, to_html
from statecraft.diagram.page import embedded
from statecraft.records import CallRecord, Status, Usage
from tests.diagram.letters import BEGIN, LETTERS, RUN, Did, head, journal, machine, row, state
from tests.diagram.seen import Page, clicked, ids_in_svg

RUDE = "</script><script>alert(1)</script><!-- \u2028\u2029 \" ' & <img src=x onerror=alert(2)> ]]> {title} %s \\"
SPEC = {
    **LETTERS,
    "data": {"properties": {"to": {}, "text": {}, "seen": {}}},
    "append": ["seen"],
    "events": {"written": {}, "unclear": {}, "approved": {}},
}
HISTORY = journal(
    Did("unclear", "draft", payload={"seen": ["a"], "why": "kept in the journal only"}),
    Did("written", "approval", 500, guards=(("is_risky", True),), payload={"text": RUDE, "seen": ["b"]}),
    Did("approved", "sent"),
    given={"to": "Ann", "text": "", "seen": []},
)
CALLS = [CallRecord(RUN, 1, 0, "llm", "m", "d", 0, False, {}, {}, 1, BEGIN, BEGIN, 1, Usage(400, 100), cost=1_000_000)]
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")


def told() -> tuple[Step, ...]:
    return story(SPEC, drawn(), HISTORY, CALLS)


def drawn() -> Drawing:
    return of_run(SPEC, overlay(HISTORY, CALLS, head(HISTORY, Status.DONE)))


def page(**how: bool) -> str:
    return to_html(drawn(), told(), **{"graphviz": False, **how})


def svg_of(text: str) -> str:
    return text[text.index("<svg") : text.index("</svg>") + 6]


def test_each_step_tells_what_it_took_and_how_the_data_changed() -> None:
    start, unclear, written, approved = told()
    assert [(c.field, c.before, c.after) for c in start.changes] == [("to", "", "Ann")]
    assert [(c.field, c.before, c.after) for c in unclear.changes] == [("seen", "[]", '[\n "a"\n]')]
    assert [(c.field, c.before) for c in written.changes] == [("text", ""), ("seen", "1 items")]
    assert written.changes[1].after == '+ [\n "b"\n]'
    assert (written.row, written.took, written.guards) == ("e_0", "10 s · 1 call · 500 tokens · $0.001", ("is_risky: yes",))
    assert written.calls == ("llm m (failed)",)
    assert (approved.changes, approved.row) == ((), "e_3")


def test_events_of_the_library_change_no_data_and_rewrites_change_all_of_it() -> None:
    history = journal(
        Did("call_failed", "draft", payload={"text": "not data"}),
        Did("migrated", "draft", payload={"data": {"text": "new"}}),
        Did("forked", "draft", payload={"data": None}),
        given={"to": "Ann", "text": "old"},
    )
    ov = overlay(history, [], head(history, Status.RUNNING))
    _, failed, migrated, forked = story(SPEC, of_run(SPEC, ov), history)
    assert failed.changes == forked.changes == ()
    assert [(c.field, c.before, c.after) for c in migrated.changes] == [("to", "Ann", ""), ("text", "old", "new")]
    assert migrated.row == "e_6"


def test_what_a_run_did_before_a_migration_changed_its_data_too() -> None:
    history = journal(
        Did("jotted", "draft", payload={"words": "a few", "why": "kept in the journal only"}),
        Did("migrated", "draft", payload={"data": {"text": "a few"}}),
        given={"words": ""},
    )
    ov = overlay(history, [], head(history, Status.RUNNING))
    _, jotted, migrated = story(SPEC, of_run(SPEC, ov), history)
    assert [(c.field, c.before, c.after) for c in jotted.changes] == [("words", "", "a few")]
    assert [(c.field, c.before, c.after) for c in migrated.changes] == [("words", "a few", ""), ("text", "", "a few")]


def test_a_very_long_value_is_cut_and_its_length_told() -> None:
    history = journal(Did("written", "sent", payload={"text": "x" * 9_000}), given={"text": ""})
    ov = overlay(history, [], head(history, Status.DONE))
    (change,) = story(SPEC, of_run(SPEC, ov), history)[1].changes
    assert change.after.endswith("… (9,000 characters)")
    assert len(change.after) < 2_100


@pytest.mark.parametrize("graphviz", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_page_loads_nothing_and_its_policy_allows_only_its_own_script_and_style(graphviz: bool) -> None:
    text = page(graphviz=graphviz)
    found = Page(text)
    assert found.loads == []
    assert found.tags.count("script") == 2
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    for tag in ("style", "script"):
        own = base64.b64encode(hashlib.sha256(found.blocks[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{own}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


def test_what_a_model_wrote_comes_out_of_the_page_as_it_went_in_and_nothing_of_it_acts() -> None:
    found = Page(page())
    assert "img" not in found.tags
    assert json.loads(found.blocks["data"])["steps"][2]["changes"][0]["after"] == RUDE
    assert not set("<>&\u2028\u2029") & set(found.blocks["data"])


@pytest.mark.parametrize("graphviz", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rude_names_of_machines_states_guards_and_events_stay_texts(graphviz: bool) -> None:
    rude = machine([state(RUDE, doc=RUDE), state("z", "final", ok=True)], [row(RUDE, RUDE, "z", RUDE)], name=RUDE)
    text = to_html(plain(rude), graphviz=graphviz)
    found = Page(text)
    assert (found.tags.count("script"), "img" in found.tags, found.loads) == (2, False, [])
    assert json.loads(found.blocks["data"])["states"][0]["name"] == RUDE
    assert len(ids_in_svg(svg_of(text))) == 3


def test_embedded_json_reads_back_as_what_it_was() -> None:
    assert json.loads(embedded({RUDE: [RUDE, 1, None]})) == {RUDE: [RUDE, 1, None]}


@needs_node
@pytest.mark.slow
def test_the_slider_replays_the_run_and_a_click_tells_the_facts(tmp_path: Path) -> None:
    shown = clicked(page(), tmp_path)
    assert [at["now"] for at in shown["at"]] == [["s_draft"], ["e_2", "s_draft"], ["e_0", "s_approval"], ["e_3", "s_sent"]]
    assert shown["at"][0]["seen"] == ["s_draft"]
    assert shown["at"][2]["seen"] == ["e_0", "e_2", "s_approval", "s_draft"]
    assert shown["at"][2]["what"] == "#2: draft → approval"
    assert "is_risky: yes" in shown["at"][2]["facts"]
    assert RUDE in shown["rows"][2]
    assert shown["clicked"]["e_0"].startswith("draft → approval|fromdraft")
    assert "≤ 3 visits" in shown["clicked"]["s_draft"]


@needs_node
@pytest.mark.slow
def test_a_page_without_a_run_has_no_slider_but_tells_facts(tmp_path: Path) -> None:
    shown = clicked(to_html(plain(LETTERS), graphviz=False), tmp_path)
    assert (shown["rows"], shown["at"]) == ([], [])
    assert "is_risky" in shown["clicked"]["e_0"]


def test_a_page_needs_no_renderer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("statecraft.diagram.picture.find_spec", lambda name: None)
    assert "e_5" in ids_in_svg(svg_of(to_html(plain(LETTERS))))
