"""Strongly connected components: which places lie on a cycle together (R. Tarjan, "Depth-first search and linear graph
algorithms", SIAM J. Comput. 1, 1972), without recursion."""

from __future__ import annotations

from collections.abc import Sequence


def groups(onward: Sequence[Sequence[int]]) -> list[int]:
    """The number of each place's component. An edge leads to the same number or a lower one."""
    order = [-1] * len(onward)
    low = [0] * len(onward)
    found = [-1] * len(onward)
    open_ones: list[int] = []
    count = made = 0
    for root in range(len(onward)):
        if order[root] >= 0:
            continue
        stack = [(root, 0)]
        while stack:
            here, nth = stack.pop()
            if nth == 0:
                order[here] = low[here] = count
                count += 1
                open_ones.append(here)
            else:
                low[here] = min(low[here], low[onward[here][nth - 1]]) if found[onward[here][nth - 1]] < 0 else low[here]
            while nth < len(onward[here]):
                there = onward[here][nth]
                nth += 1
                if order[there] < 0:
                    stack += [(here, nth), (there, 0)]
                    break
                if found[there] < 0:
                    low[here] = min(low[here], order[there])
            else:
                if low[here] == order[here]:
                    while True:
                        member = open_ones.pop()
                        found[member] = made
                        if member == here:
                            break
                    made += 1
    return found


def acyclic_order(onward: Sequence[Sequence[int]]) -> list[int] | None:
    """The places so that every edge leads to an earlier one; None if there is a cycle."""
    number = groups(onward)
    if len(set(number)) < len(onward) or any(here in targets for here, targets in enumerate(onward)):
        return None
    return sorted(range(len(onward)), key=number.__getitem__)
