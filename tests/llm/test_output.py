from __future__ import annotations

import json
import pickle
from enum import Enum
from typing import Annotated, Any, Literal

import anthropic
import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from statecraft.errors import ConfigError
from statecraft.llm import Output, OutputMismatch, repair_message


class Author(BaseModel):
    name: str


class Verdict(BaseModel):
    """What the judge says."""

    label: Literal["good", "bad"]
    score: int = Field(ge=0, le=10, description="How sure.")
    authors: list[Author] = []
    title: str | None = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    children: list[Tree]


class Free(BaseModel):
    scores: dict[str, int]


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Pair(BaseModel):
    inner: list[tuple[int, str]]


class Anything(BaseModel):
    value: Any


class Bare(BaseModel):
    items: list  # type: ignore[type-arg]


GOOD = {"label": "good", "score": 7, "authors": [{"name": "Ada"}], "title": None}


def errors_of(output: Output[Any], text: str) -> tuple[str, ...]:
    with pytest.raises(OutputMismatch) as caught:
        output.parse(text)
    return caught.value.errors


def schema_of(kind: type[Any]) -> dict[str, Any]:
    spec = Output.of(kind).spec
    assert spec is not None
    return dict(spec.schema)


def test_plain_text_has_no_schema_and_is_the_answer() -> None:
    output = Output.of(str)
    assert (output.spec, output.parse("{not json")) == (None, "{not json")


def test_a_model_is_read_from_its_json() -> None:
    assert Output.of(Verdict).parse(json.dumps(GOOD)) == Verdict(label="good", score=7, authors=[Author(name="Ada")])


def test_the_schema_closes_objects_and_says_in_words_what_it_cannot_express() -> None:
    schema = schema_of(Verdict)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["label", "score"]
    assert schema["description"] == "What the judge says."
    assert schema["properties"] == {
        "label": {"enum": ["good", "bad"]},
        "score": {"type": "integer", "description": "How sure.\n\n(maximum: 10; minimum: 0)"},
        "authors": {"type": "array", "items": {"$ref": "#/$defs/Author"}, "description": "(default: [])"},
        "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "(default: None)"},
    }
    assert schema["$defs"] == {
        "Author": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "additionalProperties": False,
            "required": ["name"],
        }
    }


def _skeleton(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_skeleton(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _skeleton(inner) for name, inner in value.items()} if key in ("properties", "$defs") else _skeleton(value)
        for key, value in schema.items()
        if key not in ("description", "title")
    }


def test_the_schema_has_the_structure_that_the_sdk_sends_itself() -> None:
    assert _skeleton(schema_of(Verdict)) == _skeleton(anthropic.transform_schema(Verdict))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list[Author], '{"value": [{"name": "Ada"}]}', [Author(name="Ada")]),
        (list[str], '{"value": []}', []),
        (int, '{"value": 3}', 3),
        (bool, '{"value": true}', True),
        (Colour, '{"value": "blue"}', Colour.BLUE),
        (Literal["a", "b"], '{"value": "b"}', "b"),
        (Author | None, '{"value": null}', None),
        (Annotated[int, Field(ge=3)], '{"value": 3}', 3),
    ],
)
def test_what_is_no_object_is_asked_for_under_value_and_unwrapped(kind: type[Any], text: str, value: object) -> None:
    assert schema_of(kind)["properties"].keys() == {"value"}
    assert Output.of(kind).parse(text) == value


def test_types_local_to_a_function_work() -> None:
    class Local(BaseModel):
        colours: list[Colour]

    assert Output.of(Local).parse('{"colours": ["red"]}').colours == [Colour.RED]


def test_an_output_is_built_once_per_type() -> None:
    assert Output.of(Verdict) is Output.of(Verdict)
    assert Output.of(list[Verdict]) is Output.of(list[Verdict])
    assert Output.of(int).parse('{"value": 1}') is not True


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Free, "output Free.scores is a dict, whose keys the model cannot be told; use a list of a model with `key` and `value`"),
        (dict[str, int], "is a dict, whose keys"),
        (list[Free], r"output Free.scores is a dict"),
        (Anything, "output Anything.value may be anything, so the model cannot be told what to write; give it a type"),
        (Pair, r"output Pair.inner\[\] is a tuple, whose places the model cannot be told; use a model with named fields"),
        (Bare, r"output Bare.items\[\] may be anything"),
        (Tree, "output .*Tree contains itself; use a flat list"),
        (Loose, "output Loose allows fields it does not name.*remove extra='allow'"),
        (object, "output object cannot be written as a JSON schema|may be anything"),
    ],
)
def test_a_type_the_model_cannot_be_told_is_refused_with_the_fix(kind: type[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Output.of(kind)


def many(kind: Any, number: int) -> type[BaseModel]:
    fields: dict[str, Any] = {f"field_{each}": kind for each in range(number)}
    return create_model("Many", **fields)


def test_more_optional_fields_than_a_grammar_can_hold_are_refused() -> None:
    assert Output.of(many((int, 0), 24)).spec is not None
    with pytest.raises(ConfigError, match=r"output Many has 25 optional fields.*make fields required"):
        Output.of(many((int, 0), 25))


def test_more_unions_than_a_grammar_can_hold_are_refused() -> None:
    assert Output.of(many((int | None, ...), 16)).spec is not None
    with pytest.raises(ConfigError, match=r"output Many has 17 fields of several types.*ask for it in parts"):
        Output.of(many((int | None, ...), 17))


def test_what_a_definition_holds_counts_as_well() -> None:
    inner = many((int, 0), 20)
    more: dict[str, Any] = {f"more_{each}": (int, 0) for each in range(5)}
    outer = create_model("Outer", first=(inner, ...), **more)
    with pytest.raises(ConfigError, match="has 25 optional fields"):
        Output.of(outer)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "Ada"}\n```',
        'Here it is:\n```\n{"name": "Ada"}\n```\nI hope it helps.',
        'Sure! {"name": "Ada"}',
        '{"name": "Ada"} is the author.',
    ],
)
def test_a_fence_or_prose_around_the_json_is_forgiven(text: str) -> None:
    assert Output.of(Author).parse(text) == Author(name="Ada")


@pytest.mark.parametrize(
    "text",
    ["", "I cannot say.", '{"name": "Ad', '{"a": {"name": "Ada"}, "b": ', '{"name": "Ada"} or {"name": "Bob"}', "Sure {name}"],
)
def test_a_cut_or_doubtful_answer_is_never_guessed_at(text: str) -> None:
    assert errors_of(Output.of(Author), text) == ("the answer is not one complete JSON object",)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_json_could_not_hold_again_is_a_mistake(number: str) -> None:
    with pytest.raises(OutputMismatch, match=f"the number {number} is not finite"):
        Output.of(float).parse(f'{{"value": {number}}}')


def test_an_answer_nested_beyond_measure_is_a_mistake() -> None:
    with pytest.raises(OutputMismatch, match="not one complete JSON object"):
        Output.of(float).parse('{"value": ' * 20_000)


def test_errors_name_the_field_what_is_wrong_and_what_was_given() -> None:
    errors = errors_of(Output.of(Verdict), json.dumps({"label": "good", "score": 99, "authors": [{}]}))
    assert errors == (
        "score: Input should be less than or equal to 10 (got 99)",
        "authors.0.name: Field required",
    )


def test_errors_are_few_and_short() -> None:
    errors = errors_of(Output.of(list[Author]), json.dumps({"value": [{"name": 5 * [100 * "x"]}] * 30}))
    assert len(errors) == 21
    assert errors[-1] == "and 10 more"
    assert max(map(len, errors)) < 150


def test_the_repair_message_lists_every_error() -> None:
    message = repair_message(["a: wrong", "b: worse"])
    assert message.splitlines()[1:3] == ["- a: wrong", "- b: worse"]
    assert "complete, corrected JSON" in message


def test_a_mismatch_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(OutputMismatch(["a", "b"]))).errors == ("a", "b")
