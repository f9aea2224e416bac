"""A model that makes the same call with the same result again and again: told once, stopped the next time. Pure."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statecraft.errors import ConfigError, ErrorKind, Looped
from statecraft.ids import digest
from statecraft.llm.port import Block

_QUOTED = 120
"""Characters of a call's arguments that are quoted."""


@dataclass(frozen=True, slots=True)
class LoopPolicy:
    """When a repetition counts as a loop."""

    times: int = 3
    """So many equal results of equal tool calls are a loop: the model is told, and stopped at the next one. From 2 up."""
    within: int = 9
    """Among so many of the question's latest tool results."""
    moves: int | None = 10
    """So many equal moves of a run are a loop (`engine.loop`). From 2 up; None lets a run repeat itself up to its other
    bounds."""
    moves_within: int = 40
    """Among so many of its latest moves."""

    def __post_init__(self) -> None:
        pairs = (("times", self.times, "within", self.within), ("moves", self.moves, "moves_within", self.moves_within))
        for name, times, span, within in pairs:
            if times is not None and times < 2:
                raise ConfigError(f"loops.{name} is at least 2, not {times}: once is no repetition")
            if times is not None and within < times:
                raise ConfigError(f"loops.{span} is at least loops.{name} ({times}), not {within}")


class Repeats:
    """Watches the tool results of one question."""

    def __init__(self, policy: LoopPolicy) -> None:
        self._policy = policy
        self._last: deque[bytes] = deque(maxlen=policy.within)
        self._told: set[bytes] = set()

    def see(self, uses: Sequence[Block], results: Sequence[Block]) -> list[str]:
        """Take in what one round of tools brought, and give what the model must be told, if anything.

        A mistake in the arguments is a result as well. Raises `Looped` when the model goes on with a call that it was
        told about in an earlier round.
        """
        marks = [_mark(use, result) for use, result in zip(uses, results, strict=True)]
        self._last.extend(marks)
        counts = Counter(self._last)
        self._told &= counts.keys()  # What is forgotten may be told anew.
        notes: list[str] = []
        for mark, use in dict(zip(marks, uses, strict=True)).items():
            if counts[mark] < self._policy.times:
                continue
            if mark in self._told:
                raise Looped(_stopped(use, counts[mark]), kind=ErrorKind.LOOP, name=str(use.get("name")))
            self._told.add(mark)
            notes.append(_note(use, counts[mark]))
        return notes


def _mark(use: Block, result: Block) -> bytes:
    said = [use.get("name"), use.get("input"), result.get("content"), bool(result.get("is_error"))]
    return digest(json.dumps(said, sort_keys=True, default=str))


def _call(use: Block) -> str:
    arguments = use.get("input")
    listed = arguments if isinstance(arguments, Mapping) else {"arguments": arguments}
    text = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in listed.items())
    return f"{use.get('name')}({text if len(text) <= _QUOTED else text[:_QUOTED] + '...'})"


def _note(use: Block, times: int) -> str:
    return (
        f"You have called {_call(use)} {times} times and got the same result each time; calling it again changes nothing. "
        "Change your approach: use other arguments or another tool, or give your final answer with what you have, "
        "and say what is missing."
    )


def _stopped(use: Block, times: int) -> str:
    return f"the model called {_call(use)} {times} times with the same result, the last time after it was told so"
