from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from statecraft.cli.fields import build, read_fields
from statecraft.cli.verb import Inputs
from statecraft.errors import ConfigError, InvalidPayload


class Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    count: int = 1
    tags: tuple[str, ...] = ()


def order(*sets: str, text: str | None = None) -> Order:
    return build(Order, read_fields(Inputs(text, sets)), "the input")


def test_values_are_json_or_else_text() -> None:
    assert order("title=a book", "count=3", 'tags=["x","y"]') == Order(title="a book", count=3, tags=("x", "y"))


def test_what_looks_like_a_number_is_text_where_text_is_meant() -> None:
    assert order("title=1984").title == "1984"
    assert order("title=true", "count=2") == Order(title="true", count=2)


def test_input_may_be_json_or_a_file_and_set_wins(place: Path) -> None:
    (place / "order.json").write_text('{"title": "x", "count": 2}')
    assert order(text='{"title": "x", "count": 2}') == Order(title="x", count=2)
    assert order("count=5", text="@order.json") == Order(title="x", count=5)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((), "title: is required .*--set title="),
        (("title=x", "count=many"), "count: "),
        (("title=x", "size=3"), "size: there is no such field .fields: title, count, tags."),
    ],
)
def test_what_does_not_validate_names_the_field_on_one_line(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidPayload, match=said) as caught:
        order(*sets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (Inputs("[1]"), "must be a JSON object"),
        (Inputs("{"), "is not JSON"),
        (Inputs("@nowhere.json"), "cannot read the file"),
        (Inputs(None, ("title",)), "is not name=value"),
        (Inputs(None, ("=x",)), "is not name=value"),
    ],
)
def test_what_cannot_be_read_says_why(inputs: Inputs, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_fields(inputs)
