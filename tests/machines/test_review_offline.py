"""The offline model of the review agent: what its rules see in a line, and what they leave alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from machines.review_offline import OfflineReview, answer
from machines.review_prompts import Comments, read
from statecraft.llm import ModelError, Request

SCHEMA = Comments.model_json_schema()


def said(path: str, line: str) -> list[tuple[str, str]]:
    """Severity and suggestion of each comment on a new line."""
    messages = [{"role": "user", "content": read("a change", path, f"@@ from line 7\n    7 + {line}")}]
    (block,) = answer(messages, SCHEMA)
    return [(each["severity"], each["suggestion"]) for each in json.loads(block["text"])["comments"]]


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("a.py", "    except:", [("warning", "    except Exception:")]),
        ("a.py", "    except ValueError:", []),
        ("a.py", "class A:  # def f(x=[])", [("warning", "")]),
        ("a.py", "    return literal_eval(x)", []),
        ("a.py", "    return eval(x)", [("error", "")]),
        ("a.py", "    re.compile(x); model.eval()", []),
        ("a.py", "    os.system(command)", [("error", "")]),
        ("a.py", "    run(command, shell=True)", [("error", "")]),
        ("a.py", "    if x != None:", [("note", "    if x is not None:")]),
        ("a.py", "    print(x)", [("note", "")]),
        ("tests/test_a.py", "    print(x)", []),
        ("a.py", 'password = "correct horse"', []),
        ("a.py", 'password = "correct-horse-7"', [("error", "")]),
        ("tests/test_a.py", 'password = "correct-horse-7"', []),
        ("a.py", 'password = os.environ["PASSWORD"]', []),
        ("a.ts", "console.log(x)", [("note", "")]),
        ("a.md", "eval(x)", []),
        ("a.md", "TODO: say more", [("note", "")]),
        ("a.c", "<<<<<<< HEAD", [("error", "")]),
    ],
)
def test_a_rule_sees_what_it_is_for_and_nothing_else(path: str, line: str, found: list[tuple[str, str]]) -> None:
    assert said(path, line) == found


def test_a_new_function_is_looked_up_before_it_is_called_untested() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": read("t", "a.py", "    1 + def total(x):")}]
    (asked,) = answer(messages, SCHEMA)
    assert (asked["name"], asked["input"]) == ("find_text", {"text": "total"})
    for path, comments in (("tests/test_a.py", 0), ("b.py", 1)):
        found: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": asked["id"],
            "content": json.dumps([{"path": path, "line": 1, "text": "x"}]),
        }
        told = [*messages, {"role": "assistant", "content": [asked]}, {"role": "user", "content": [found]}]
        (block,) = answer(told, SCHEMA)
        assert len(json.loads(block["text"])["comments"]) == comments


def test_it_answers_no_other_question() -> None:
    with pytest.raises(ModelError, match="only plays the review agent"):
        asyncio.run(OfflineReview().complete(Request("", [{"role": "user", "content": "Hello"}])))
