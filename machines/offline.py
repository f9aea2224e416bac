"""A model that is none: it answers the research agent's prompts by reading them, without a network or a key.

It picks terms out of the question, picks passages that hold them, quotes them word for word, and is as confident as the
quotes cover the terms. It knows nothing, invents nothing, and gives equal answers to equal requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from statecraft import ErrorKind, Usage
from statecraft.llm import ModelError, Reply, Request

from .language import concepts, ordered_concepts, related, sentences, terms_of  # noqa: TID252
from .prompts import plain  # noqa: TID252

ENOUGH = 3
"""Sources it wants before it stops looking."""
WANTED = 0.7
"""Coverage of the question it keeps searching for."""
HOPELESS = 0.3
"""Coverage below which the sources are of no use."""
REVIEWED = 0.9
"""Its confidence in a text that a person wrote."""
_MOST_QUOTES = 4

Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Source:
    """A numbered text of the prompt."""

    number: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Picked:
    """Words of a source, and the concepts of the question they hold."""

    source: int
    quote: str
    covers: frozenset[str]
    weight: float = 0.0
    """How much the source itself speaks for the quote."""


class OfflineModel:
    """Answers the four questions of the research agent (`Plan`, `Selection`, `Analysis`, `Draft`) and no others."""

    @property
    def model(self) -> str:
        """The id under which its calls are recorded."""
        return "offline-extractive"

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return "offline model (extractive, not an LLM)"

    async def complete(self, request: Request) -> Reply:
        """The answer to a request of the research agent. Raises `ModelError` for any other."""
        name = request.output.name if request.output is not None else "text"
        answer = _ANSWERS.get(name)
        if answer is None:
            known = ", ".join(_ANSWERS)
            raise ModelError(
                f"the offline model cannot answer {name!r}: it only fills in {known} for the research agent. "
                "Set ANTHROPIC_API_KEY to use Claude",
                kind=ErrorKind.PERMANENT,
            )
        prompt = _prompt(request)
        text = json.dumps(answer(prompt), ensure_ascii=False)
        usage = Usage(_tokens(f"{request.system or ''}{prompt}"), _tokens(text))
        return Reply(({"type": "text", "text": text},), "end_turn", usage, self.model)

    async def close(self) -> None:
        """Nothing to close."""


# --- the four answers -------------------------------------------------------------------------------------------------


def plan(prompt: str) -> Answer:
    """Terms and searches from the words of the question."""
    question = _first(prompt, "question")
    terms = terms_of(question)
    if not terms:
        reason = "the question has no words to search for" if question.strip() else "the question is empty"
        return {"answerable": False, "reason": reason, "terms": [], "searches": []}
    searches = [" ".join(terms[:6])]
    if len(terms) > 3:
        searches.append(" ".join(terms[:3]))
        searches.append(" ".join(terms[-3:]))
    return {"answerable": True, "reason": "", "terms": terms, "searches": searches}


def select(prompt: str) -> Answer:
    """Passages that hold enough of the question's concepts; other words to search by if they are few."""
    terms = terms_of(_first(prompt, "question"))
    wanted = set(ordered_concepts(terms))
    need = min(2, len(wanted))
    scored = [(len(wanted & concepts(f"{each.title} {each.text}")), each) for each in _sources(prompt, "passage")]
    relevant = [each for hits, each in sorted(scored, key=lambda pair: -pair[0]) if hits >= need]
    if len(relevant) + len(_all(prompt, "kept")) >= ENOUGH:
        return {"relevant": [each.number for each in relevant], "searches": []}
    held = set().union(*(concepts(f"{each.title} {each.text}") for each in relevant))
    further = _other_words(terms, wanted - held or wanted, _all(prompt, "search"))
    return {"relevant": [each.number for each in relevant], "searches": further}


def analyze(prompt: str) -> Answer:
    """The quotes that cover most of the question together, and what they leave open."""
    terms = terms_of(_first(prompt, "question"))
    wanted = ordered_concepts(terms)
    quotes = pick_quotes(wanted, _sources(prompt, "source"))
    covered = set().union(*(quote.covers for quote in quotes))
    missing = [concept for concept in wanted if concept not in covered]
    coverage = confidence_of(wanted, quotes)
    open_terms = [term for term in terms if set(ordered_concepts([term])) <= set(missing)]
    searches = _other_words(terms, set(missing), _all(prompt, "search"))
    verdict, reason = "complete", f"the quotes cover {coverage:.0%} of the question"
    if coverage < WANTED and searches and int(_first(prompt, "rounds_left") or 0) > 0:
        verdict, reason = "needs_more_data", f"nothing yet about {', '.join(open_terms) or 'the whole question at once'}"
    elif coverage < HOPELESS or not quotes:
        verdict, reason = "unusable", f"the sources say too little about {', '.join(open_terms)}"
    return {
        "verdict": verdict,
        "quotes": [{"source": quote.source, "quote": quote.quote} for quote in quotes],
        "missing": open_terms,
        "searches": searches if verdict == "needs_more_data" else [],
        "reason": reason,
    }


def synthesize(prompt: str) -> Answer:
    """The quotes as an answer, changed as the check and the reviewer ask."""
    wanted = ordered_concepts(terms_of(_first(prompt, "question")))
    sources = _sources(prompt, "source")
    quotes = _noted(prompt, wanted) or pick_quotes(wanted, sources)
    instructions, replacement = _first(prompt, "instructions").strip(), _first(prompt, "replacement").strip()
    quotes = _revised(quotes, instructions, _all(prompt, "problem"), sources)
    titles = {source.number: source.title for source in sources}
    lines = [f"- \u201c{plain(quote.quote)}\u201d [{n}] ({titles.get(quote.source, '')})" for n, quote in enumerate(quotes, 1)]
    head = "The documentation says, word for word:"
    if instructions:
        head = f"Revised by the reviewer's instructions (\u201c{plain(instructions)}\u201d). {head}"
    answer = "\n".join([head, *lines])
    confidence = confidence_of(wanted, quotes)
    if replacement:
        marks = " ".join(f"[{n}]" for n in range(1, len(quotes) + 1))
        answer = replacement if re.search(r"\[\d+\]", replacement) or not marks else f"{replacement}\n\nSources: {marks}"
        confidence = REVIEWED
    citations = [{"number": n, "source": quote.source, "quote": quote.quote} for n, quote in enumerate(quotes, 1)]
    return {"answer": answer, "citations": citations, "confidence": confidence}


_ANSWERS: Mapping[str, Callable[[str], Answer]] = {"Plan": plan, "Selection": select, "Analysis": analyze, "Draft": synthesize}


# --- choosing quotes --------------------------------------------------------------------------------------------------


def pick_quotes(wanted: Sequence[str], sources: Sequence[Source]) -> list[Picked]:
    """A few quotes that together hold as many of the wanted concepts as can be, each adding something.

    Documents whose title speaks of the question come first, and in them what they begin with.
    """
    concept_set = set(wanted)
    offers = [offer for source in sources for offer in _offers(concept_set, source)]
    least = min(2, len(concept_set))
    offers = [offer for offer in offers if len(offer.covers) >= least] or offers
    picked: list[Picked] = []
    held: set[str] = set()
    while offers and len(picked) < _MOST_QUOTES:
        best = max(offers, key=lambda offer: len(offer.covers - held) + offer.weight if offer.covers - held else 0.0)
        if not best.covers - held:
            break
        picked.append(best)
        held |= best.covers
        offers = [offer for offer in offers if offer.quote != best.quote]
    return picked


def confidence_of(wanted: Sequence[str], quotes: Sequence[Picked]) -> float:
    """The share of the wanted concepts in all quotes together, and in those of the best source: half of the weight each.

    Words scattered over many documents are a worse answer than the same words in one place.
    """
    if not wanted or not quotes:
        return 0.0
    by_source: dict[int, set[str]] = {}
    for quote in quotes:
        by_source.setdefault(quote.source, set()).update(quote.covers)
    together = len(set().union(*by_source.values()))
    best = max(map(len, by_source.values()))
    return round(min(0.95, (together + best) / (2 * len(wanted))), 2)


def _offers(wanted: set[str], source: Source) -> Iterable[Picked]:
    """Every quote that a source has to offer. Its title counts for each, since it says what the text is about."""
    title = wanted & concepts(source.title)
    for place, quote in enumerate(sentences(source.text)):
        inside = wanted & concepts(quote)
        if inside:
            yield Picked(source.number, quote, frozenset(inside | title), len(title) + (0.5 if place == 0 else 0.0))


def _noted(prompt: str, wanted: Sequence[str]) -> list[Picked]:
    """The quotes that the analysis chose."""
    titles = {source.number: source.title for source in _sources(prompt, "source")}
    found = re.findall(r'<note source="(\d+)">(.*?)</note>', prompt, re.DOTALL)
    return [Picked(int(n), text, frozenset(set(wanted) & concepts(f"{titles.get(int(n), '')} {text}"))) for n, text in found]


def _revised(quotes: Sequence[Picked], instructions: str, problems: Sequence[str], sources: Sequence[Source]) -> list[Picked]:
    """The quotes without those objected to by number, shortened or led by what the instructions speak of."""
    dropped = {int(n) for problem in problems for n in re.findall(r"\[(\d+)\]", problem)}
    if re.search(r"\b(?:drop|remove|without|omit|leave out|delete)\b", instructions, re.IGNORECASE):
        dropped |= {int(n) for n in re.findall(r"\b\d+\b", instructions)}
    kept = [quote for n, quote in enumerate(quotes, 1) if n not in dropped] or list(quotes)
    focus = ordered_concepts(terms_of(instructions))
    led = [quote for quote in pick_quotes(focus, sources)[:2] if quote.quote not in {other.quote for other in quotes}]
    kept = [*(Picked(quote.source, quote.quote, frozenset()) for quote in led), *kept]
    return kept[:2] if re.search(r"\b(?:short|shorter|brief|briefer)\b", instructions, re.IGNORECASE) else kept


def _other_words(terms: Sequence[str], about: set[str], tried: Sequence[str]) -> list[str]:
    """Searches in other words for some concepts, each between its neighbours in the question, which give it a direction."""
    known = {search.lower() for search in tried}
    open_terms = [place for place, term in enumerate(terms) if set(ordered_concepts([term])) & about]
    options = [[(place, word) for word in related(terms[place])] for place in open_terms]
    swaps = [option[turn] for turn in range(max(map(len, options), default=0)) for option in options if turn < len(option)]
    found = [" ".join([*terms[max(0, place - 1) : place], word, *terms[place + 1 : place + 2]]) for place, word in swaps]
    found.append(" ".join(terms[place] for place in open_terms))
    return [search for search in dict.fromkeys(found) if search and search.lower() not in known][:3]


# --- reading the prompt -----------------------------------------------------------------------------------------------


def _prompt(request: Request) -> str:
    """What the user says, in one text."""
    texts: list[str] = []
    for message in request.messages:
        content = message.get("content", "")
        if message.get("role") == "user":
            texts += [content] if isinstance(content, str) else [str(block.get("text", "")) for block in content]
    return "\n".join(texts)


def _all(prompt: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}>(.*?)</{tag}>", prompt, re.DOTALL)


def _first(prompt: str, tag: str) -> str:
    return next(iter(_all(prompt, tag)), "")


def _sources(prompt: str, tag: str) -> list[Source]:
    found = re.findall(rf'<{tag} n="(\d+)" title="([^"\n]*)">\n(.*?)\n</{tag}>', prompt, re.DOTALL)
    return [Source(int(number), title, text) for number, title, text in found]


def _tokens(text: str) -> int:
    """About four characters a token, as a real model would count."""
    return -(-len(text) // 4)
