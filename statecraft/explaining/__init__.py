"""Why a run went where it went, and why it does not go on: from the record alone, in words and as JSON.

`Runtime.explain` reads; `facts` says what an explanation is made of; `past` folds the data, `table` tells which row was
taken and why not the others, `deciding` who decided, `calling` what the calls of a visit met, `standstill` why a run does
not move; `words` says all of it in short sentences.
"""

from statecraft.explaining.facts import (
    AskedGuard,
    BudgetUse,
    Decider,
    ExplainedCall,
    ExplainedRow,
    ExplainedStep,
    Explanation,
    Standstill,
    Try,
)
from statecraft.explaining.look import Explaining
from statecraft.explaining.words import lines_of

__all__ = [
    "AskedGuard",
    "BudgetUse",
    "Decider",
    "ExplainedCall",
    "ExplainedRow",
    "ExplainedStep",
    "Explaining",
    "Explanation",
    "Standstill",
    "Try",
    "lines_of",
]
