from __future__ import annotations

import asyncio
import contextvars
import json
import pickle
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from statecraft.errors import ConfigError
from statecraft.tools import CallInfo, Tool, ToolArgumentsInvalid, ToolResultInvalid, tool

INFO = CallInfo("key-1", 2, "0" * 32)


class Source(BaseModel):
    url: str
    title: str = ""


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


@tool
async def search(query: str, limit: Annotated[int, Field(ge=1, le=9, description="How many.")] = 3) -> list[Source]:
    """Search the documents.

    Best matches first.
    """
    return [Source(url=f"{query}/{n}") for n in range(limit)]


@tool(name="temperature-of", effect="read", risk="medium", timeout=timedelta(seconds=5), max_chars=10)
def temperature(city: str, day: date, unit: Unit = Unit.C) -> str:
    return f"{city} {day:%d.%m.} 20 {unit.value}"


@tool(effect="once", risk="high")
async def send(info: CallInfo, to: str, *, sources: list[Source]) -> str:
    """Send a mail."""
    return f"{info.key} {info.attempt} {to} {len(sources)}"


def run(used: Tool[..., Any], arguments: dict[str, Any]) -> Any:
    return asyncio.run(used.invoke(arguments, INFO))


def test_the_signature_and_the_docstring_become_the_spec() -> None:
    assert search.spec == {
        "name": "search",
        "description": "Search the documents.\n\nBest matches first.",
        "input_schema": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3, "description": "How many."},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    }


def test_a_declaration_keeps_what_it_is_told() -> None:
    assert (temperature.name, temperature.effect, temperature.risk) == ("temperature-of", "read", "medium")
    assert (temperature.timeout, temperature.max_chars) == (timedelta(seconds=5), 10)
    assert (search.effect, search.risk, search.timeout, search.max_chars) == ("read", None, timedelta(seconds=30), 20_000)


def test_a_tool_is_called_like_its_function() -> None:
    assert asyncio.run(search("a", limit=1)) == [Source(url="a/0")]
    assert temperature("Rome", date(2026, 5, 1)) == "Rome 01.05. 20 celsius"
    assert asyncio.run(send("ann", sources=[])) == " 1 ann 0"


def test_call_info_is_filled_in_and_hidden_from_the_model() -> None:
    assert set(send.spec["input_schema"]["properties"]) == {"to", "sources"}
    assert run(send, {"to": "ann", "sources": [{"url": "u"}]}) == "key-1 2 ann 1"


def test_bound_arguments_are_json_with_the_defaults_in_them() -> None:
    bound = temperature.bind("Rome", day=date(2026, 5, 1))
    assert bound == {"city": "Rome", "day": "2026-05-01", "unit": "celsius"}
    assert send.bind("ann", sources=[Source(url="u")]) == {"to": "ann", "sources": [{"url": "u", "title": ""}]}
    assert run(temperature, json.loads(json.dumps(bound))) == "Rome 01.05. 20 celsius"


def test_binding_fails_like_the_call_would() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'day'"):
        temperature.bind("Rome")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(ToolArgumentsInvalid, match="limit: Input should be less than or equal to 9"):
        search.bind("a", limit=10)


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        ({}, ("query: Field required",)),
        ({"query": "a", "limit": 0}, ("limit: Input should be greater than or equal to 1",)),
        ({"query": "a", "more": 1}, ("more: there is no such parameter (parameters: query, limit)",)),
        (
            {"query": 5, "limit": "x"},
            ("query: Input should be a valid string", "limit: Input should be a valid integer, unable to parse"),
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name_before_the_call(
    arguments: dict[str, Any], errors: tuple[str, ...]
) -> None:
    with pytest.raises(ToolArgumentsInvalid) as caught:
        run(search, arguments)
    assert len(caught.value.errors) == len(errors)
    assert all(error.startswith(expected) for error, expected in zip(caught.value.errors, errors, strict=True))
    assert pickle.loads(pickle.dumps(caught.value)).errors == caught.value.errors


def test_results_are_written_as_json_and_read_back() -> None:
    found = [Source(url="u", title="t")]
    assert search.dump(found) == '[{"url":"u","title":"t"}]'
    assert search.load(search.dump(found)) == found

    @tool
    def when() -> datetime | None:
        return None

    instant = datetime(2026, 5, 1, tzinfo=UTC)
    assert (when.load(when.dump(instant)), when.load(when.dump(None))) == (instant, None)


def test_a_result_of_another_type_than_declared_is_not_written() -> None:
    with pytest.raises(ToolResultInvalid, match="tool search returned a str, which is not what it declares"):
        search.dump("nothing")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_result_that_json_cannot_hold_is_not_written() -> None:
    @tool
    def measure() -> float:
        return 0.0

    with pytest.raises(ToolResultInvalid, match=r"tool measure returned a float.*valid number"):
        measure.dump(float("inf"))


def test_a_recorded_result_that_no_longer_fits_is_refused() -> None:
    with pytest.raises(
        ToolResultInvalid, match=r"a recorded result of tool search no longer fits its type: 0.url: Field required"
    ):
        search.load("[{}]")


def test_the_model_reads_text_as_it_is_and_the_rest_as_json_up_to_the_limit() -> None:
    assert search.render([Source(url="u")]) == '[{"url":"u","title":""}]'
    assert temperature.render("short") == "short"
    assert temperature.render("0123456789abc") == "0123456789\n[cut: the first 10 of 13 characters]"


def test_a_plain_function_runs_in_a_thread_with_the_callers_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @tool
    def where() -> str:
        return f"{variable.get()} {threading.current_thread() is threading.main_thread()}"

    async def story() -> str:
        variable.set("mine")
        return await where.invoke({}, INFO)

    assert asyncio.run(story()) == "mine False"


def test_what_a_tool_raises_comes_out_as_it_is() -> None:
    @tool
    def broken(n: int) -> int:
        return 1 // n

    with pytest.raises(ZeroDivisionError):
        run(broken, {"n": 0})


def test_a_stop_iteration_from_a_plain_tool_does_not_hang_the_caller() -> None:
    @tool
    def drained() -> int:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(drained, {})


def test_a_plain_tool_that_would_end_the_program_only_fails() -> None:
    @tool
    def parse(line: str) -> str:
        sys.exit(2)

    with pytest.raises(RuntimeError, match=r"the tool called sys.exit\(2\)"):
        run(parse, {"line": "--no-such-option"})


def test_parameters_may_have_any_name_python_allows() -> None:
    @tool
    def odd(schema: int, copy: int, _hidden: int, title: int, model_config: int) -> list[int]:
        return [schema, copy, _hidden, title, model_config]

    arguments = odd.bind(1, 2, 3, title=4, model_config=5)
    assert run(odd, arguments) == [1, 2, 3, 4, 5]
    assert list(odd.spec["input_schema"]["properties"]) == ["schema", "copy", "_hidden", "title", "model_config"]


def test_annotations_may_name_types_local_to_the_caller() -> None:
    class Local(BaseModel):
        n: int

    @tool
    def bare(local: Local) -> Local:
        return local

    @tool(name="other")
    def configured(local: Local) -> Local:
        return local

    assert run(bare, {"local": {"n": 1}}) == Local(n=1)
    assert run(configured, {"local": {"n": 2}}) == Local(n=2)


def test_a_bound_method_may_be_a_tool() -> None:
    class Corpus:
        def count(self, word: str) -> int:
            return len(word)

    assert run(tool(Corpus().count), {"word": "abc"}) == 3


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    @tool
    def now() -> None: ...

    assert now.spec["input_schema"] == {"type": "object", "properties": {}, "additionalProperties": False}
    assert run(now, {}) is None


def _no_result(a: int):  # type: ignore[no-untyped-def]
    return a


def _no_annotation(a) -> int:  # type: ignore[no-untyped-def]
    return 1


def _variadic(*words: str) -> int:
    return 1


def _positional(a: int, /) -> int:
    return a


def _late_info(a: int, info: CallInfo) -> int:
    return a


def _unknown(a: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    return 1


def _foreign(a: threading.Lock) -> int:
    return 1


def _generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (_no_result, "tool _no_result does not say what it returns"),
        (_no_annotation, "parameter 'a' has no annotation"),
        (_variadic, "parameter 'words' cannot be given by name"),
        (_positional, "parameter 'a' cannot be given by name"),
        (_late_info, "takes a CallInfo that is not its first parameter"),
        (_unknown, "annotation that cannot be resolved: name 'Missing'"),
        (_foreign, "a parameter's type cannot be read from JSON"),
        (_generator, "is not a plain or async function"),
        (Source, "is not a plain or async function"),
    ],
)
def test_a_function_no_model_could_call_is_refused_with_the_reason(fn: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tool(fn)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="tool name 'two words' is not"):
        tool(name="two words")(lambda: None)
    with pytest.raises(ConfigError, match="timeout and max_chars must be greater than 0"):
        tool(timeout=timedelta(0))(_positional)
