"""How good the research agent is: questions about the standard library, with what a right answer cites and says.

    statecraft eval research --model offline

What is expected was read in the documentation itself, and a test holds each fact against the Python at hand.
"""

from __future__ import annotations

from pathlib import Path

from statecraft.evals import Contains, Ends, Grade, Holds, Suite, Trial, Visited, Within
from statecraft.llm import LLM

from .offline import OfflineModel  # noqa: TID252
from .research import Brief, citation_problems, research  # noqa: TID252

CASES = Path(__file__).with_name("research_cases.jsonl")


def cites(trial: Trial) -> Grade:
    """The answer cites one of the documents that have the answer."""
    wanted, cited = trial.case.expect["cites"], {citation["document"] for citation in trial.value("citations")}
    right = bool(cited & set(wanted))
    return Grade("cites", right, "" if right else f"cites {', '.join(sorted(cited)) or 'nothing'}, not {' or '.join(wanted)}")


def published_only_what_stands(trial: Trial) -> bool:
    """An answer that was published says nothing that its sources do not."""
    data = trial.data
    assert isinstance(data, Brief)
    return trial.run.state != "complete" or not citation_problems(data.answer, data.citations, data.sources)


suite = Suite(
    research,
    CASES,
    [
        Ends(),
        Visited(),
        Holds(cites, expects=("cites",)),
        Contains("answer"),
        Holds(published_only_what_stands),
        Within(tokens=12_000, steps=12),
    ],
    name="research",
)


def offline() -> LLM:
    """What `--model offline` asks: the extractive model, which needs no key and answers alike each time."""
    return OfflineModel()
