"""Recorded replies: ask a model once, answer from the file ever after.

A cassette is a file of JSON lines, one for each call: the SHA-256 of the request, the request, and the reply or the
failure. Of what looks like a key only `[hidden]` is written, in requests and replies alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic_core import to_jsonable_python

from statecraft.errors import ConfigError, ErrorKind
from statecraft.llm.port import LLM, ModelError, Reply, Request, StreamingLLM
from statecraft.records import Json, Usage

VERSION = 1
"""Of the file's format; written into each line."""
_HIDDEN = "[hidden]"
_KEYS = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}|\bBearer\s+[A-Za-z0-9._~+/-]{8,}=*|\bAKIA[0-9A-Z]{16}\b")
"""Texts that look like what identifies a caller."""
_SECRET_NAMES = re.compile(
    r"(?i)^(?:x[-_])?(?:api[-_]?key|authorization|auth[-_]?token|access[-_]?token|password|secret|cookie)$"
)
_DIFFERENCES = 3
"""Differences that an error names at most."""
_AROUND = 30
"""Characters of a text that an error quotes on either side of where it differs."""


class NotRecorded(ModelError):
    """The cassette has no reply for this request."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind=ErrorKind.PERMANENT)


class Recorder:
    """Passes requests on to another model and writes down what it answers; failures too.

    The file is begun anew with the first answer (with `append` it is gone on with), and complete up to the last one at any
    moment. Equal requests made side by
    side are written in the order of their answers.
    """

    def __init__(self, llm: LLM, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self._llm = llm
        self._path = Path(path)
        self._begun = append

    @property
    def model(self) -> str:
        """The recorded model's id."""
        return self._llm.model

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return f"{self._llm.label} (recording)"

    async def complete(self, request: Request) -> Reply:
        """The model's reply, after it was written down. Raises the model's `ModelError`, likewise."""
        return await self._recorded(request, self._llm.complete(request))

    async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
        """Likewise; told piece by piece if the model can be heard."""
        if isinstance(self._llm, StreamingLLM):
            return await self._recorded(request, self._llm.stream(request, heard))
        return await self.complete(request)

    async def close(self) -> None:
        """Close the model."""
        await self._llm.close()

    async def _recorded(self, request: Request, answer: Awaitable[Reply]) -> Reply:
        asked = _plain(request)
        try:
            reply = await answer
        except ModelError as error:
            self._write(asked, {"error": _failure(error)})
            raise
        self._write(asked, {"reply": asdict(reply)})
        return reply

    def _write(self, asked: Json, outcome: dict[str, Json]) -> None:
        line = {"v": VERSION, "digest": _digest(asked), "model": self.model, "request": asked, **_hide(outcome)}
        with self._path.open("a" if self._begun else "w", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._begun = True


class Cassette:
    """A recording, ready to answer. `ScriptedLLM.cassette(path)` makes a model of it.

    Raises `ConfigError` naming the line if the file is missing or is no cassette.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.model = "recorded"
        """The model that was recorded."""
        self._replies: defaultdict[str, list[Json]] = defaultdict(list)
        self._requests: dict[str, Json] = {}
        self._used: defaultdict[str, int] = defaultdict(int)
        for entry in _lines(self.path):
            self._replies[entry["digest"]].append(entry)
            self._requests.setdefault(entry["digest"], entry["request"])
            self.model = entry["model"]

    def answer(self, request: Request) -> Reply:
        """The recorded reply to an equal request; the n-th to the n-th. Raises the recorded `ModelError`, or `NotRecorded`."""
        asked = _plain(request)
        digest = _digest(asked)
        recorded, number = self._replies.get(digest, []), self._used[digest]
        if number < len(recorded):
            self._used[digest] += 1
            return _outcome(recorded[number])
        if recorded:
            raise NotRecorded(
                f"{self.path} has this request {len(recorded)} times, and it came once more; record it again: {_said(asked)}"
            )
        raise NotRecorded(f"{self.path} has no such request; record it again. {self._nearest(asked)}")

    def _nearest(self, asked: Json) -> str:
        """What differs from the recorded request that begins most like this one."""
        now = dict(_leaves(asked))
        nearest: dict[str, Json] = {}
        best = -1
        for request in self._requests.values():
            then = dict(_leaves(request))
            alike = sum(then.get(where, _HIDDEN) == value for where, value in now.items())
            if alike > best:
                nearest, best = then, alike
        if not nearest:
            return "It is empty"
        places = [where for where in {**nearest, **now} if nearest.get(where) != now.get(where)]
        shown = [_difference(where, nearest.get(where), now.get(where)) for where in places[:_DIFFERENCES]]
        rest = f"; and {len(places) - _DIFFERENCES} more" if len(places) > _DIFFERENCES else ""
        return f"The nearest recorded one differs in {'; '.join(shown)}{rest}"


def _lines(path: Path) -> Iterator[dict[str, Json]]:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise ConfigError(f"the cassette {path} cannot be read: {error.strerror}; make it with Recorder(llm, path)") from error
    for number, line in enumerate(lines if any(lines) else (), 1):
        try:
            entry = json.loads(line)
            known = entry["v"] == VERSION and ("reply" in entry or "error" in entry)
            if not known or not {"digest", "request", "model"} <= entry.keys():
                raise ValueError(line)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"line {number} of {path} is no line of a cassette of version {VERSION}; record it again"
            ) from error
        yield entry


def _plain(request: Request) -> Json:
    """The request as JSON, without secrets: what equal requests have in common."""
    return _hide(to_jsonable_python(request))


def _hide(value: Json) -> Json:
    if isinstance(value, str):
        return _KEYS.sub(_HIDDEN, value)
    if isinstance(value, dict):
        return {name: _HIDDEN if _is_secret(name, inner) else _hide(inner) for name, inner in value.items()}
    return [_hide(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_secret(name: str, value: Json) -> bool:
    return isinstance(value, str) and bool(_SECRET_NAMES.match(name))


def _digest(asked: Json) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _failure(error: ModelError) -> dict[str, Json]:
    said = {"message": str(error), "kind": error.kind.value}
    return {**said, "retry_after": error.retry_after, "maybe_billed": error.maybe_billed}


def _outcome(entry: dict[str, Json]) -> Reply:
    if "error" in entry:
        error = entry["error"]
        raise ModelError(
            error["message"],
            kind=ErrorKind(error["kind"]),
            retry_after=error["retry_after"],
            maybe_billed=error["maybe_billed"],
        )
    reply = entry["reply"]
    return Reply(**{**reply, "content": tuple(reply["content"]), "usage": Usage(**reply["usage"])})


def _leaves(value: Json, where: str = "") -> Iterator[tuple[str, Json]]:
    """Every value that is no list and no object, with the path to it."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{place}]")
    else:
        yield where, value


def _difference(where: str, then: Json, now: Json) -> str:
    """One difference. Long texts are quoted around the first character that differs."""
    if isinstance(then, str) and isinstance(now, str):
        start = max(0, _alike(then, now) - _AROUND)
        then, now = then[start : start + 2 * _AROUND], now[start : start + 2 * _AROUND]
        at = f" from character {start}" if start else ""
        return f"{where}{at}: recorded {then!r}, now {now!r}"
    return f"{where}: recorded {_short(then)}, now {_short(now)}"


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _short(value: Json) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 2 * _AROUND else text[: 2 * _AROUND] + "..."


def _said(asked: Json) -> str:
    messages = asked["messages"]
    return _short(messages[-1]["content"] if messages else "")
