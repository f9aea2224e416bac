"""A model that is none: it reviews code by a few rules, without a network or a key.

It looks at one new line at a time, and looks up whether a new function is named in any test. It understands nothing beyond
that, and gives equal answers to equal conversations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from statecraft import ErrorKind, Usage
from statecraft.llm import ModelError, Reply, Request

from .changes import is_test  # noqa: TID252
from .review_prompts import Comment, Comments, Overview, Severity  # noqa: TID252

Block = dict[str, Any]
_LINE = re.compile(r"^ *(\d+) \+ (.*)$", re.MULTILINE)
_DEF = re.compile(r"^(?:async )?def ([a-z]\w*)\(")
_FEW = 3
"""New functions that are looked for in the tests."""
_MOST = 12
"""Comments on one file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wrong with a line that matches."""

    files: str
    """Pattern of the paths it is for."""
    line: str
    severity: Severity
    text: str
    instead: tuple[str, str] | None = None
    """What to replace in the line, and by what."""
    tests: bool = True
    """Whether it is for tests, too."""


_PYTHON, _SCRIPT = r"\.pyi?$", r"\.[cm]?[jt]sx?$"
RULES = (
    Rule("", r"^(?:<{7}|>{7}|={7})(?: |$)", "error", "A conflict of a merge was left in the file."),
    Rule("", r"-----BEGIN [A-Z ]*PRIVATE KEY-----", "error", "This looks like a private key. Take it out, and replace the key."),
    Rule(
        "", r"\b(?:AKIA[0-9A-Z]{16}|ghp_\w{30,}|sk-[\w-]{20,}|xox[bp]-[\w-]{10,})", "error", "This looks like a key to a service."
    ),
    Rule(
        "",
        r"(?i)(?:password|passwd|secret|api_?key|token)\w*[\"']?\s*[:=]\s*[\"'][^\"'\s{}$<>]{8,}[\"']",
        "error",
        "This looks like a secret in the source. Read it from the environment, and replace it where it is in use.",
        tests=False,
    ),
    Rule(
        _PYTHON,
        r"^\s*except\s*:",
        "warning",
        "A bare `except` also catches KeyboardInterrupt and SystemExit, so the program cannot be stopped here.",
        (r"except\s*:", "except Exception:"),
    ),
    Rule(_PYTHON, r"^\s*except .*:\s*pass\b", "warning", "The error is swallowed: nobody will learn that it happened."),
    Rule(
        _PYTHON,
        r"\bdef\b.*=\s*(?:\[\]|\{\}|list\(\)|dict\(\)|set\(\))\s*[,)]",
        "warning",
        "The default is made once and shared by all calls, so what one call adds the next one sees. Use None.",
    ),
    Rule(_PYTHON, r"(?<![\w.])(?:eval|exec)\(", "error", "This runs any code that the text holds. Parse the text instead."),
    Rule(
        _PYTHON,
        r"\bshell\s*=\s*True\b|\bos\.(?:system|popen)\(",
        "error",
        "A shell reads this command: a file name or input with `;` in it is run. Give a list.",
    ),
    Rule(
        _PYTHON, r"\bpickle\.loads?\(|\byaml\.load\((?!.*Safe)", "error", "Data from outside can run code when it is loaded so."
    ),
    Rule(
        _PYTHON, r"\bverify\s*=\s*False\b", "error", "Without verification anybody on the way can answer in the server's place."
    ),
    Rule(_PYTHON, r"[!=]= None\b", "note", "Compare with None by identity.", (r"([!=])= None\b", "")),
    Rule(_PYTHON, r"^\s*(?:breakpoint\(|import i?pdb|i?pdb\.set_trace)", "error", "A breakpoint was left in."),
    Rule(_PYTHON, r"^\s*print\(", "note", "A print was left in: log it, or take it out.", tests=False),
    Rule(_SCRIPT, r"\bconsole\.log\(|\bdebugger\b", "note", "Debugging output was left in.", tests=False),
    Rule(_SCRIPT, r"(?<![\w.])eval\(|\.innerHTML\s*=", "error", "Text from outside becomes code here."),
    Rule("", r"\b(?:TODO|FIXME|XXX)\b", "note", "Work was left for later: say where it is tracked, or finish it."),
)


class OfflineReview:
    """Answers the questions of the review agent (`Comments`, `Overview`) and no others."""

    @property
    def model(self) -> str:
        """The id under which its calls are recorded."""
        return "offline-rules"

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return "offline model (a few rules, not an LLM)"

    async def complete(self, request: Request) -> Reply:
        """The answer to a request of the review agent. Raises `ModelError` for any other."""
        content = answer(request.messages, request.output.schema if request.output is not None else {})
        stop = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
        usage = Usage(_tokens([request.system, *request.messages]), _tokens(content))
        return Reply(tuple(content), stop, usage, request.model or self.model)

    async def close(self) -> None:
        """Nothing to close."""


def answer(messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> list[Block]:
    """The blocks that answer a conversation, when an answer of `schema` is wanted. Raises `ModelError` for another one."""
    wanted = frozenset(schema.get("properties", {}))
    rules = _ANSWERS.get(wanted)
    if rules is None:
        raise ModelError(
            f"the offline model cannot answer with {', '.join(sorted(wanted)) or 'text'}: it only plays the review agent. "
            "Set ANTHROPIC_API_KEY to use Claude",
            kind=ErrorKind.PERMANENT,
        )
    said = rules(_text(messages[0]["content"]), _results(messages))
    return said if isinstance(said, list) else [{"type": "text", "text": json.dumps(said.model_dump(), ensure_ascii=False)}]


# --- reading a file ---------------------------------------------------------------------------------------------------


def _read(prompt: str, results: Mapping[str, str]) -> Comments | list[Block]:
    """Look up the new functions in the tests, then comment."""
    path = _first(prompt, "path")
    lines = [(int(number), line) for number, line in _LINE.findall(_first(prompt, "diff").replace("\u2039", "<"))]
    made = _functions(path, lines)
    if made and not results:
        return [_lookup(name) for name in made]
    found = [comment for number, line in lines for comment in _comments_on(path, number, line)]
    untested = [name for name in made if not any(is_test(each) for each in _paths(results.get(_id(name), "")))]
    for name in untested:
        text = f"No test mentions `{name}`: what happens when it is given nothing, or something wrong?"
        found.append(Comment(line=made[name], severity="note", text=text, suggestion=""))
    return Comments(comments=found[:_MOST])


def _comments_on(path: str, number: int, line: str) -> Iterator[Comment]:
    for rule in RULES:
        if not re.search(rule.files, path) or (is_test(path) and not rule.tests) or not re.search(rule.line, line):
            continue
        suggestion = ""
        if rule.instead is not None:
            old, new = rule.instead
            suggestion = re.sub(old, new or (lambda hit: "is None" if hit[1] == "=" else "is not None"), line)
        yield Comment(line=number, severity=rule.severity, text=rule.text, suggestion=suggestion)


def _functions(path: str, lines: Sequence[tuple[int, str]]) -> dict[str, int]:
    """The first few new functions of a Python module that is no test, and their lines."""
    if not path.endswith(".py") or is_test(path):
        return {}
    found = {hit[1]: number for number, line in lines if (hit := _DEF.match(line)) is not None}
    return dict(list(found.items())[:_FEW])


def _lookup(name: str) -> Block:
    return {"type": "tool_use", "id": _id(name), "name": "find_text", "input": {"text": name}}


def _id(name: str) -> str:
    return f"toolu_{name[:50]}"


def _paths(result: str) -> list[str]:
    try:
        hits = json.loads(result)
    except ValueError:
        return re.findall(r'"path":\s*"([^"]+)"', result)  # It was cut.
    return [str(hit["path"]) for hit in hits] if isinstance(hits, list) else []


# --- summing up -------------------------------------------------------------------------------------------------------


def _sum_up(prompt: str, results: Mapping[str, str]) -> Overview:  # noqa: ARG001
    files, comments = _all(prompt, "file"), _all(prompt, "comment")
    worst = [comment for comment in comments if comment.startswith("error")]
    parts = [f"{len(files)} {'file was' if len(files) == 1 else 'files were'} read by a few rules, without a language model."]
    if worst:
        parts.append(f"Most important: {worst[0].removeprefix('error ')}")
    elif comments:
        parts.append("Nothing that was found keeps it from being merged.")
    else:
        parts.append("The rules have nothing to say about it.")
    parts.append(f"{_first(prompt, 'tests')}")
    return Overview(summary=" ".join(part for part in parts if part))


_ANSWERS: Mapping[frozenset[str], Callable[[str, Mapping[str, str]], Any]] = {
    frozenset(Comments.model_fields): _read,
    frozenset(Overview.model_fields): _sum_up,
}


# --- the conversation -------------------------------------------------------------------------------------------------


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, (list, tuple)) else []
    return "\n".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _results(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the tools answered, by the id of the call."""
    blocks = [block for message in messages if not isinstance(message["content"], str) for block in message["content"]]
    return {block["tool_use_id"]: _text(block.get("content", "")) for block in blocks if block.get("type") == "tool_result"}


def _all(prompt: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}>(.*?)</{tag}>", prompt, re.DOTALL)


def _first(prompt: str, tag: str) -> str:
    return next(iter(_all(prompt, tag)), "")


def _tokens(value: object) -> int:
    """About four characters a token, as a real model would count."""
    return -(-len(json.dumps(value, ensure_ascii=False, default=str)) // 4)
