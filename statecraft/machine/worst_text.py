"""A worst case in words, for people."""

from __future__ import annotations

from collections.abc import Sequence

from statecraft.machine.caps import METRICS, Metric
from statecraft.machine.longest import Row
from statecraft.machine.worst import Bound, Reached, WorstCase
from statecraft.money import billionths, decimal
from statecraft.money import shown as shown_money

_SHOWN = 12
"""Moves of a witness that are written out."""
_TELLING: tuple[Metric, ...] = ("money", "tokens", "calls", "steps")
"""Whose witness is shown: of the first one that has any."""
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def worst_lines(worst: WorstCase) -> list[str]:
    """A few lines: what a run may use at most, a run that does, what is not bounded, which bounds it comes to."""
    known: list[Metric] = [metric for metric in METRICS if worst.of(metric).value is not None]
    lines = [f"{worst.machine}: at most {', '.join(amount(metric, worst.of(metric).value or 0) for metric in known)}"]
    lines += [_open(metric, worst.of(metric)) for metric in METRICS if metric not in known]
    rough: list[Metric] = [metric for metric in known if not worst.of(metric).exact]
    if rough:
        lines.append(f"not exact, but never less, since the machine has too many situations: {', '.join(rough)}")
    bounds = ((metric, worst.of(metric)) for metric in _TELLING)
    telling = ((metric, bound.witness) for metric, bound in bounds if bound.by == "path" and bound.witness)
    lines += [f"witness ({metric}): {path(witness)}" for metric, witness in list(telling)[:1]]
    return [*lines, *(_reach(each) for each in worst.reaches)]


def amount(metric: Metric, value: float) -> str:
    """An amount of a metric in words: `16 steps`, `$1.33`, `2 d 0 h`."""
    if metric == "money":
        return shown_money(billionths(decimal(value, "an amount")))
    if metric == "wall":
        return duration(value)
    return f"{value:,.0f} {metric if value != 1 else metric[:-1]}"


def duration(seconds: float) -> str:
    """Seconds as the two largest units that matter: `2 d 0 h`, `5 min 30 s`, `90 s` as `1 min 30 s`."""
    for place, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            below, name = (_UNITS[place + 1]) if place + 1 < len(_UNITS) else (1, "s")
            whole, rest = divmod(seconds, length)
            return f"{whole:.0f} {unit} {rest // below:.0f} {name}"
    return f"{seconds:g} s"


def path(rows: Sequence[Row]) -> str:
    """Moves as text, the middle of a long path left out: `a -(event)-> b -(event)-> a`."""
    steps = [f" -({event})-> {target}" for _, event, target in rows]
    if len(steps) > _SHOWN:
        half = _SHOWN // 2
        steps[half:-half] = [f" ... ({len(steps) - 2 * half} more moves) ..."]
    return (rows[0][0] if rows else "") + "".join(steps)


def _open(metric: Metric, bound: Bound) -> str:
    cure = "timeout=" if metric == "wall" else "per_visit= or budget="
    whole = "a deadline" if metric == "wall" else f"a budget of {metric}"
    return f"{metric}: unbounded, since {', '.join(bound.states)} may use any amount (declare {cure}, or {whole} for the machine)"


def _reach(reached: Reached) -> str:
    named = {"budget": "the machine's budget", "state budget": f"the budget of {reached.state}"}
    whose = named.get(reached.bound, reached.bound)
    without = "without end" if reached.worst is None else amount(reached.metric, reached.worst)
    rows = dict.fromkeys(f"{event} -> {target}" for _, event, target in reached.rows)
    taken = f"taken by {', '.join(rows)}" if rows else f"no row takes {reached.event}: the run is dead then"
    return f"{whose} of {amount(reached.metric, reached.limit)} may be reached ({without} without it); {taken}"
