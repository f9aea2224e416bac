"""A lane tells equal calls of different items apart; several parks are one."""

from __future__ import annotations

import hashlib

from statecraft.calls import lane
from statecraft.calls.park import Park, combined
from statecraft.calls.visit import Visit
from statecraft.records import Waiting


def visit() -> Visit:
    return Visit(None, None, b"0" * 16, 1, 1)  # type: ignore[arg-type]


def test_outside_of_choices_a_digest_is_that_of_kind_and_request() -> None:
    digest, occurrence, _ = visit().identify("tool", "{}")
    assert (digest, occurrence) == (hashlib.sha256(b"tool\n{}").digest(), 0)


def test_equal_calls_in_two_lanes_are_two_calls_whichever_comes_first() -> None:
    def keys(order: str) -> dict[str, str]:
        found, one = {}, visit()
        for where in order:
            with lane.within(where):
                found[where] = one.identify("tool", "{}")[2]
        return found

    assert keys("ab") == keys("ba")
    assert len(set(keys("ab").values())) == 2
    assert lane.current() == ""


def test_a_lane_knows_what_is_inside() -> None:
    outer = lane.below("", b"x" * 32, 0, 1)
    inner = lane.below(outer, b"y" * 32, 0, 3)
    assert lane.inside(inner, outer)
    assert lane.inside(outer, outer)
    assert not lane.inside(outer, inner)
    assert not lane.inside(lane.below("", b"x" * 32, 0, 11), outer)


def test_what_stopped_lanes_wait_for_is_dropped_and_the_rest_kept() -> None:
    one = visit()
    with lane.within("a"):
        one.park(None, Waiting.CHILD, children=(b"child",))
    assert one.parked is not None
    assert one.parked.children == (b"child",)
    kept = one.park(70, Waiting.TIMER)
    one.drop(["a"])
    assert one.parked is kept


def test_several_parks_are_one() -> None:
    timer, child = Park(5, Waiting.TIMER), Park(None, Waiting.CHILD, children=(b"a", b"b"))
    other, review = Park(None, Waiting.CHILD, children=(b"b", b"c")), Park(9, Waiting.REVIEW)
    both = combined([timer, child, other])
    assert both is not None
    assert (both.due_at, both.why, both.children) == (5, Waiting.CHILD, (b"a", b"b", b"c"))
    seen = combined([child, review])
    assert seen is not None
    assert (seen.due_at, seen.why, seen.children) == (9, Waiting.REVIEW, (b"a", b"b"))
    assert combined([child]) is child
    assert combined([]) is None
