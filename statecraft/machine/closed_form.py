"""What a run may cost inside one component of a machine at most, without looking at its situations: never too low, and
linear in the size of the machine.

A stay in a component falls into stretches. Each begins where the run enters it, after a visit of a bounded state, or after
an event that comes once per run; from there the run goes through states without a bound, and through bounded ones that are
used up, and that graph has no cycle. So a stretch costs at most the longest path in it, and there are at most as many of
them as the bounds allow visits, the entry, and one for each event that comes once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from statecraft.machine.caps import Metric, of_nth, of_state
from statecraft.machine.groups import acyclic_order
from statecraft.machine.ways import Ways


def free(ways: Ways, state: int) -> list[int]:
    """Where a run may go from a state without using up any bound."""
    kind = ways.visited if ways.bound(state) is None else ways.spent
    return [way.target for way in kind[state] if not way.once]


def terminates(ways: Ways) -> bool:
    """Whether every run ends by the bounds of its states alone, whatever `max_steps` is: without them nothing goes round."""
    return acyclic_order([free(ways, state) for state in range(len(ways.states))]) is not None


class ClosedForm:
    """Bounds of each component of a machine whose runs end by the bounds of its states."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        onward = [[there for there in free(ways, state) if ways.group[there] == ways.group[state]] for state in _all(ways)]
        order = acyclic_order(onward)
        assert order is not None
        self._onward, self._order = onward, order

    def inside(self, metric: Metric) -> list[float]:
        """What a stay in each component may cost, by its number."""
        visits = [0 if state.kind == "final" else of_nth(state, metric, 1) for state in self._ways.states]
        by_visits = self._sums(metric, visits)
        whole = [of_state(state, metric) for state in self._ways.states]
        if metric in ("steps", "wall") or all(each == inf for each in whole):
            return by_visits
        lumped = self._sums(metric, [0 if limit < inf else visit for visit, limit in zip(visits, whole, strict=True)])
        for state, limit in enumerate(whole):
            lumped[self._ways.group[state]] += limit if limit < inf else 0
        return [min(pair) for pair in zip(by_visits, lumped, strict=True)]

    def _sums(self, metric: Metric, visits: Sequence[float]) -> list[float]:
        ways, group = self._ways, self._ways.group
        stretch = self._stretches(metric, visits)
        entry, rest, once = ([0.0] * (max(group) + 1) for _ in range(3))
        for state in _all(ways):
            here = group[state]
            entry[here] = max(entry[here], stretch[state])
            inside = [way for way in (*ways.visited[state], *ways.spent[state]) if group[way.target] == here]
            bound = ways.bound(state)
            if bound is not None:
                onward = max((stretch[way.target] for way in inside if not way.once), default=0)
                rest[here] += bound * (visits[state] + onward)
            once[here] = max([once[here], *(stretch[way.target] for way in inside if way.once)])
        times = ways.relevant.bit_count()
        return [entry[each] + rest[each] + (times * once[each] if times else 0) for each in range(len(entry))]

    def _stretches(self, metric: Metric, visits: Sequence[float]) -> list[float]:
        """The most that a stretch from each state on may cost. A bounded state is used up in it: only steps count there."""
        found = [0.0] * len(visits)
        for state in self._order:
            passing = visits[state] if self._ways.bound(state) is None or metric == "steps" else 0
            found[state] = passing + max((found[there] for there in self._onward[state]), default=0)
        return found


def _all(ways: Ways) -> range:
    return range(len(ways.states))
