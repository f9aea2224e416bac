"""SC131: a budget that the most expensive run does not keep to, told before the first run."""

from __future__ import annotations

from collections.abc import Iterator

from statecraft.errors import Finding
from statecraft.machine.definition import Definition
from statecraft.machine.event import BudgetExhausted, BudgetWarning, event_name
from statecraft.machine.worst import Reached, WorstCase
from statecraft.machine.worst_text import amount

_PLANNED = (event_name(BudgetWarning), event_name(BudgetExhausted))


def check_budgets(definition: Definition, worst: WorstCase) -> Iterator[Finding]:
    """A warning for each budget below what the visits' own caps allow, and where the run then goes.

    A budget that is itself the only cap is doing its work, and so is one whose end the table has rows for: no finding.
    """
    for reached in worst.reaches:
        if reached.bound not in ("budget", "state budget") or reached.worst is None:
            continue
        sources = {row.source for row in definition.rows if row.event in _PLANNED}
        if sources and (not reached.state or sources & {reached.state, ""}):
            continue
        yield _finding(definition, reached, reached.worst)


def _finding(definition: Definition, reached: Reached, most: float) -> Finding:
    whose = f"the budget of {reached.state}" if reached.state else "the machine's budget"
    limit, need = amount(reached.metric, reached.limit), amount(reached.metric, most)
    rows = dict.fromkeys(f"{source} -({event})-> {target}" for source, event, target in reached.rows)
    shown = ", ".join(list(rows)[:3]) + (", ..." if len(rows) > 3 else "")
    taken = f"some day a run takes {shown}" if rows else f"no row takes {reached.event}, so the run would be dead"
    fix = f"raise it to {need}, lower the caps of the visits, or give BudgetWarning or BudgetExhausted a row of their own"
    message = f"{whose} is {limit}, and a run may use {need}: {taken}"
    return Finding("SC131", "warning", reached.state or definition.name, message, fix)
