"""Where a machine's most expensive run is looked for: among all its situations if they are few, else in bounds that need
fewer of them and are never too low."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from statecraft.machine.caps import Metric, of_nth, of_state, of_visit
from statecraft.machine.closed_form import ClosedForm, terminates
from statecraft.machine.definition import Definition
from statecraft.machine.longest import Longest, longest
from statecraft.machine.product import MOST, Explorer, Graph, TooMany
from statecraft.machine.ways import Ways, compiled


class Search:
    """The situations of one machine, found once for all metrics. Looks at `most` of them at once, and a few times that
    altogether."""

    def __init__(self, definition: Definition, most: int = MOST) -> None:
        self._definition, self._most = definition, most
        self._graphs: list[Graph] = []
        self._exact = True
        self.situations = 0
        """How many were looked at."""
        self.stops = False
        """Whether `max_steps` ever ends a run."""
        self.free_steps = inf
        """How many steps a run could make without `max_steps`."""
        ways = compiled(definition)
        if terminates(ways):
            graph = self._by_components(ways)
            self.free_steps = self._of_graph(graph, "steps").amount
            if self.free_steps <= definition.max_steps:
                self._graphs, self._exact = [graph], graph.exact
                return
        self.stops = True
        self._count_steps()

    def longest(self, metric: Metric) -> tuple[Longest, bool]:
        """The most that visits along a path may use, under all bounds but the machine's budget of it; whether it is exact."""
        found = min((self._of_graph(graph, metric) for graph in self._graphs), key=lambda each: each.amount, default=None)
        if self._exact and found is not None:
            return found, True
        crude = self._crude(metric)
        return Longest(crude if found is None else min(crude, found.amount), ()), False

    def of_state(self, name: str, metric: Metric) -> float:
        """The most that the visits of one state may use, without its state's budget."""
        state = self._definition.states[name]
        each = of_visit(state, metric)
        if each in (0, inf):
            return each
        place = list(self._definition.states).index(name)
        visits = [each if place == number else 0.0 for number in range(len(self._definition.states))]
        return min((self._under(graph, metric, visits).amount for graph in self._graphs), default=inf)

    def free_time(self) -> float:
        """How long a run could take without a bound on the whole of it."""
        return min((self._under(graph, "wall").amount for graph in self._graphs), default=inf)

    # --- the situations ---------------------------------------------------------------------------------------------------

    def _by_components(self, ways: Ways) -> Graph:
        """All situations, but one for each component that has too many of them. The second time that there are too many,
        every component that may have as many as the one that has most is left, so that there are few further times."""
        wide: frozenset[int] = frozenset()
        while True:
            explorer = Explorer(ways, wide=wide)
            try:
                graph = explorer.graph(self._most)
            except TooMany as many:
                self.situations += self._most
                least = explorer.counting.most(many.group)
                larger = (group for group in set(ways.group) if wide and explorer.counting.most(group) >= least)
                wide |= {many.group, *larger}
            else:
                self.situations += len(graph.places)
                return graph

    def _count_steps(self) -> None:
        """What `max_steps` leaves: all situations at each step if they are few, else without counting visits."""
        ways = compiled(self._definition, "counted")
        for coarse in (False, True):
            try:
                graph = Explorer(ways, counted=True, coarse=coarse).graph(self._most)
            except TooMany:
                self.situations += self._most
                continue
            self.situations += len(graph.places)
            self._graphs, self._exact = [graph], not coarse
            break
        else:
            self._exact = False
        ways = compiled(self._definition, "any time")
        if not self._exact and terminates(ways):
            self._graphs.append(self._by_components(ways))

    # --- their weights ----------------------------------------------------------------------------------------------------

    def _of_graph(self, graph: Graph, metric: Metric) -> Longest:
        if graph.counting.off:
            return self._lumped(graph, metric)
        wide = ClosedForm(graph.ways).inside(metric) if graph.wide else ()
        weights = graph.weights(metric, wide=wide)
        found = longest(graph, weights, by_time=metric == "wall")
        if found.amount < inf or metric == "wall":
            return found
        # One visit without a bound is enough for the amount. What people want to see is the run that makes most of them.
        return replace(found, moves=longest(graph, [float(weight == inf) for weight in weights]).moves)

    def _lumped(self, graph: Graph, metric: Metric) -> Longest:
        """Where nobody counts visits, a state's budget is spent whole in each visit, or once and for all."""
        states = graph.ways.states
        each = [0 if state.kind == "final" else of_nth(state, metric, 1) for state in states]
        apart = [0 if of_state(state, metric) < inf else visit for state, visit in zip(states, each, strict=True)]
        by_visits = longest(graph, graph.weights(metric, each), by_time=metric == "wall")
        if metric in ("steps", "wall") or apart == each:
            return by_visits
        lump = sum(whole for state in states if (whole := of_state(state, metric)) < inf)
        by_budgets = longest(graph, graph.weights(metric, apart))
        return min(by_visits, Longest(by_budgets.amount + lump, ()), key=lambda found: found.amount)

    def _under(self, graph: Graph, metric: Metric, visits: list[float] | None = None) -> Longest:
        """The longest path if visits cost this and no bound of the whole run's time holds."""
        wide = ClosedForm(graph.ways).inside(metric) if graph.wide else ()
        return longest(graph, graph.weights(metric, visits, wide))

    def _crude(self, metric: Metric) -> float:
        """As many visits as there can be, each the most expensive one."""
        definition = self._definition
        steps = definition.max_steps + len(definition.states)
        work = [state for state in definition.states.values() if state.kind != "final"]
        most = max(of_nth(state, metric, 1) for state in work)
        apart = max((of_nth(state, metric, 1) for state in work if of_state(state, metric) == inf), default=0)
        lump = sum(whole for state in work if (whole := of_state(state, metric)) < inf)
        return min(steps * most if most else 0, (steps * apart if apart else 0) + lump)
