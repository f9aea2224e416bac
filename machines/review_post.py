"""A review as a whole: its comments in order, and how it is posted, once, as a file for machines and one for people.

The JSON has the shape of GitHub's "create a review for a pull request"; a few lines of your own send it there.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from statecraft import CallInfo, tool

from .changes import Unread  # noqa: TID252
from .review_prompts import SEVERITIES, Comment, Severity  # noqa: TID252
from .sandbox import TestReport  # noqa: TID252

MOST = 60
"""Comments of a review."""
Verdict = Literal["APPROVE", "COMMENT", "REQUEST_CHANGES"]


class Remark(BaseModel):
    """A comment of the review. `number` is what people call it by."""

    number: int = 0
    path: str
    line: int
    severity: Severity
    text: str
    suggestion: str = ""


class Posting(BaseModel):
    """A review that is to be posted."""

    commit: str
    event: Verdict
    summary: str
    remarks: list[Remark]
    unread: list[Unread]


class Receipt(BaseModel):
    """Where a review was posted, or why it was not."""

    files: list[str] = []
    problem: str = ""


def ranked(pages: Iterable[tuple[str, Sequence[Comment]]]) -> list[Remark]:
    """The comments of all files, the gravest first, each thing that is said about a line once, numbered from 1."""
    best: dict[tuple[str, int, str], Remark] = {}
    for path, comments in pages:
        for comment in comments:
            key = (path, comment.line, " ".join(re.findall(r"\w+", comment.text.lower())))
            remark = Remark(path=path, **comment.model_dump())
            if key not in best or _gravity(remark) < _gravity(best[key]):
                best[key] = remark
    order = sorted(best.values(), key=lambda remark: (_gravity(remark), remark.path, remark.line, remark.text))
    return numbered(order[:MOST])


def _gravity(remark: Remark) -> int:
    return SEVERITIES.index(remark.severity)


def numbered(remarks: Iterable[Remark]) -> list[Remark]:
    """The same remarks, numbered from 1."""
    return [remark.model_copy(update={"number": number}) for number, remark in enumerate(remarks, 1)]


def verdict_on(remarks: Sequence[Remark], tests: TestReport | None) -> Verdict:
    """What the review asks for. It never approves by itself: only a person does."""
    bad = tests is not None and tests.outcome in {"failed", "timed_out", "too_much_output"}
    return "REQUEST_CHANGES" if bad or any(remark.severity == "error" for remark in remarks) else "COMMENT"


def told(tests: TestReport | None) -> str:
    """How the tests went, in one sentence."""
    if tests is None:
        return "No tests were run."
    command = " ".join(tests.command)
    return {
        "passed": f"The tests passed ({command}).",
        "failed": f"The tests failed with exit code {tests.exit_code} ({command}).",
        "timed_out": f"The tests did not end in time ({command}).",
        "too_much_output": f"The tests were stopped because they printed {tests.printed:,} bytes ({command}).",
        "not_started": f"The tests could not be started: {tests.output[:200]}",
        "refused": f"The tests were not run: {tests.output[:200].removeprefix('not executed: ')}",
        "unknown": "How the tests went is not known.",
    }[tests.outcome]


# --- posting ----------------------------------------------------------------------------------------------------------


def payload(posting: Posting, key: str) -> dict[str, Any]:
    """The review as a machine reads it."""
    return {
        "commit_id": posting.commit,
        "event": posting.event,
        "body": _body(posting),
        "comments": [
            {"path": remark.path, "line": remark.line, "side": "RIGHT", "body": _comment(remark)} for remark in posting.remarks
        ],
        "idempotency_key": key,
    }


def markdown(posting: Posting) -> str:
    """The review as people read it."""
    parts = [f"# Review of {posting.commit[:12]}: {posting.event.replace('_', ' ').lower()}", _body(posting)]
    parts += [f"## `{remark.path}` line {remark.line}\n\n{_comment(remark)}" for remark in posting.remarks]
    return "\n\n".join(parts) + "\n"


def _body(posting: Posting) -> str:
    unread = "".join(f"\n- `{each.path}`: {each.reason}" for each in posting.unread)
    return f"{posting.summary}\n\nNot read:\n{unread}" if unread else posting.summary


def _comment(remark: Remark) -> str:
    body = f"**{remark.severity}**: {remark.text}"
    if not remark.suggestion:
        return body
    ticks = max((len(run) for run in re.findall(r"`+", remark.suggestion)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{body}\n\n{fence}suggestion\n{remark.suggestion}\n{fence}"


# The key makes a second attempt harmless: it finds what the first one wrote.
@tool(effect="idempotent", risk="medium", timeout=timedelta(seconds=30))
def post_review(info: CallInfo, out: str, posting: Posting) -> Receipt:
    """Write the review to a file (`.json` or `.md`), or both of them to a folder. What another review wrote stays."""
    target = Path(out)
    name = f"review-{posting.commit[:12]}-{sha256(info.key.encode()).hexdigest()[:12]}"
    files = [target] if target.suffix in {".json", ".md"} else [target / f"{name}.json", target / f"{name}.md"]
    texts = {
        ".json": json.dumps(payload(posting, info.key), ensure_ascii=False, indent=2) + "\n",
        ".md": f"{markdown(posting)}\n<!-- {info.key} -->\n",
    }
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not _put(file, texts[file.suffix].encode()):
                return Receipt(problem=f"{file} is there already, and holds something else")
    except OSError as error:
        return Receipt(problem=f"the review cannot be written to {out}: {error.strerror or error}")
    return Receipt(files=[str(file) for file in files])


def _put(file: Path, content: bytes) -> bool:
    """Write a file, whole or not at all; whether it now holds this. One that is there is never written over."""
    handle, made = tempfile.mkstemp(prefix=".review-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as fresh:
            fresh.write(content)
            fresh.flush()
            os.fsync(fresh.fileno())
        try:
            os.link(made, file)  # Fails if there is anything, a link too, under this name.
        except FileExistsError:
            return not file.is_symlink() and file.read_bytes() == content
        return True
    finally:
        Path(made).unlink(missing_ok=True)
