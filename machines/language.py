"""Just enough English to match a question with a text: stop words, roots, and words that mean nearly the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .corpus import split_words  # noqa: TID252

_STOP_WORDS = """
a about after all also am an and any anything are as at be because been before being best better between both but by
can cannot could did do does doing done each either else etc every everything for from get gets getting give given go
good got had happen happens has have having hello help her here hey hi him his how i if in inside instead into is it
its itself just know let like make makes making many may me might more most much must my need needs no not of off ok
on once one ones only or other our out over own person please possible python really same see shall she should simple
simplest so some somebody something still such sure take tell than thank thanks that the their them then there these
they thing things this those through to too up us use used uses using very want was way ways we well were what when
where whether which while who whom whose why will with within without work works would yes yet you your
"""
_ALIKE = (
    "delete remove erase unlink",
    "directory folder dir",
    "recursive recursively tree nested subfolder",
    "timeout deadline",
    "limit maximum bound cap",
    "run execute launch spawn invoke",
    "kill terminate",
    "child children subprocess",
    "crash fail failure",
    "copy duplicate clone",
    "compress zip gzip",
    "measure benchmark",
    "concurrent concurrently parallel simultaneously",
    "write dump save store serialize",
    "read load parse",
    "spreadsheet csv",
    "email mail",
    "cache memoize memoise",
    "sleep pause delay",
    "automatic automatically",
    "temporary temp scratch",
    "picture image photo",
    "password secret passphrase",
    "guess detect",
    "shuffle permute",
    "compare diff difference",
    "quote escape",
)
_ENDINGS = "ically ations ation ingly ments ment ings ing edly ied ies ed es ly s e y"
"""Longest first."""
_STOP = frozenset(_STOP_WORDS.split())
_LEAST = 3
_LONGEST_QUOTE = 400
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z>`'\"*(\[])")


def root(word: str) -> str:
    """A word without its ending: `removes`, `removed` and `remove` share one. Rough, but the same for both sides."""
    word = word.lower().removesuffix("'s")
    for ending in _ENDINGS.split():
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST and not (ending == "s" and word.endswith("ss")):
            word = word[: -len(ending)]
            break
    doubled = len(word) > _LEAST and word[-1] == word[-2] and word[-1] not in "lsz"
    return word[:-1] if doubled else word


_GROUPS = {root(word): group for group in _ALIKE for word in group.split()}


def terms_of(question: str) -> list[str]:
    """The words of a question that carry its meaning, in order, each once."""
    found: dict[str, str] = {}
    for word in split_words(question):
        if word not in _STOP and (len(word) > 1 or word.isdigit()):
            found.setdefault(root(word), word)
    return list(found.values())


def concepts(text: str) -> set[str]:
    """What a text speaks of: the roots of its words, words that mean nearly the same counted as one."""
    return set(ordered_concepts(word for word in split_words(text) if word not in _STOP))


def ordered_concepts(words: Iterable[str]) -> list[str]:
    """The concepts of words, in order, each once."""
    return list(dict.fromkeys(_GROUPS.get(root(word), root(word)) for word in words))


def related(word: str) -> list[str]:
    """Other words for nearly the same."""
    group = _GROUPS.get(root(word), "")
    return [other for other in group.split() if root(other) != root(word)]


def sentences(text: str) -> list[str]:
    """The pieces of a text worth quoting, verbatim: its short paragraphs whole, the others by sentences."""
    pieces: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        whole = paragraph.strip()
        if len(whole) <= _LONGEST_QUOTE:
            pieces.append(whole)
        else:
            pieces += [piece for piece in _SENTENCE.split(whole) if len(piece) <= _LONGEST_QUOTE]
    return [piece for piece in pieces if piece]
