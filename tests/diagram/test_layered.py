"""The layout of our own: nothing lies on anything else, and what leads on lies below."""

from __future__ import annotations

from itertools import combinations

import pytest

from statecraft.diagram import plain
from statecraft.diagram.layered import Layout, layout
from statecraft.diagram.look import ANYWHERE, START, scene
from statecraft.records import Json
from tests.diagram.letters import LETTERS, machine, row, state
from tests.diagram.test_structure import DRAWINGS

MESH = machine(
    [*(state(f"s{n}") for n in range(9)), state("z", "final", ok=True)],
    [row(f"s{n}", f"to_{m}", f"s{m}") for n in range(9) for m in range(9)] + [row("s8", "end", "z")],
)
ALONE = machine([state("a"), state("never"), state("z", "final", ok=True)], [row("never", "go", "z")])


def laid(spec: Json) -> Layout:
    return layout(scene(plain(spec)))


@pytest.mark.parametrize("drawing", [*DRAWINGS.values(), plain(MESH), plain(ALONE)])
def test_no_place_lies_on_another(drawing: Json) -> None:
    found = layout(scene(drawing))
    places = {id(place): place for route in found.routes for place in route.places} | {
        id(place): place for place in found.states.values()
    }
    for one, other in combinations(places.values(), 2):
        beside = one.x + one.right <= other.x - other.left + 0.01 or other.x + other.right <= one.x - one.left + 0.01
        apart = one.y + one.height <= other.y + 0.01 or other.y + other.height <= one.y + 0.01
        assert beside or apart, (one.key, other.key)
        assert min(one.x - one.left, one.y) >= 0
        assert one.x + one.right <= found.width
        assert one.y + one.height <= found.height


def test_states_lie_below_what_leads_to_them_unless_the_row_leads_back() -> None:
    found = laid(LETTERS)
    assert found.states[START].y < found.states["draft"].y < found.states["approval"].y < found.states["sent"].y
    assert [route.arrow.id for route in found.routes if route.upward] == []
    assert found.states[ANYWHERE].y < found.states["dropped"].y


def test_a_loop_back_is_turned_round_and_drawn_upwards() -> None:
    back = machine(
        [state("a"), state("b"), state("z", "final", ok=True)],
        [row("a", "go", "b"), row("b", "again", "a"), row("b", "end", "z")],
    )
    assert [route.arrow.id for route in laid(back).routes if route.upward] == ["e_1"]


def test_the_same_machine_is_laid_out_the_same_way() -> None:
    one, other = laid(MESH), laid(MESH)
    assert {key: (place.x, place.y) for key, place in one.states.items()} == {
        key: (place.x, place.y) for key, place in other.states.items()
    }
