"""Machines with a migration that cannot be right, each with a neighbour whose migration can."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from statecraft import Ask, Data, Event, Failure, Machine, Migration, Run, hours


class Note(Data):
    text: str = ""


class Written(Event):
    text: str


class Kept(Event): ...


class Dropped(Event): ...


def diary(*migrations: Migration) -> Machine[Note]:
    m = Machine("m", data=Note, migrations=migrations)

    @m.state(start=True)
    async def writing(run: Run[Note]) -> Written: ...  # type: ignore[empty-body]

    @m.review(timeout=hours(1))
    async def reading(run: Run[Note]) -> Ask[Kept | Dropped]: ...  # type: ignore[empty-body]

    done, lost = m.final("done", ok=True), m.final("lost")
    m.transitions(
        writing.on(Written) >> reading,
        reading.on(Kept) >> done,
        reading.on(Dropped) >> lost,
        m.anywhere.on(Failure) >> lost,
    )
    return m


def by_length(data: dict[str, Any]) -> Literal["writing", "reading"]:
    return "reading" if data["text"] else "writing"


def by_chance(data: dict[str, Any]) -> str:
    return "writing"


def by_fate(data: dict[str, Any]) -> Literal["reading", "done"]:
    return "done"


def shortened(data: dict[str, Any]) -> dict[str, Any]:
    return {"text": data["text"][:10]}


def of_two(data: dict[str, Any], more: int) -> dict[str, Any]:
    return data


async def later(data: dict[str, Any]) -> dict[str, Any]:
    return data


def a(*origins: str, **rest: Any) -> Migration:
    return Migration(since=origins or "0", **rest)


THIS = diary().definition.fingerprint
OTHER = "0" * 64

Case = tuple[str, Callable[[], Machine[Any]], Callable[[], Machine[Any]], str]


def case(code: str, wrong: list[Migration], right: list[Migration], text: str) -> Case:
    def refused() -> Machine[Any]:
        return diary(*wrong)

    refused.__name__ = text.replace(" ", "_")
    return code, refused, partial(diary, *right), text


MIGRATIONS: list[Case] = [
    case("SC141", [a(states={"old": "draft"})], [a(states={"old": "writing"})], "old becomes draft, which is no state of m"),
    case(
        "SC141",
        [a("0", states={"old": "draft"}), a("0.1", states={"drafts": "writing"})],
        [a("0", states={"old": "draft"}), a("0.1", states={"draft": "writing"})],
        "old becomes draft, which is no state of m",
    ),
    case("SC142", [a(states={"old": "done"})], [a(states={"old": "reading"})], "old becomes done, which is final"),
    case("SC142", [a(states={"old": by_fate})], [a(states={"old": by_length})], "old becomes done, which is final"),
    case("SC143", [a("0"), a("0")], [a("0"), a("0.1")], "two migrations begin with 0"),
    case("SC143", [a(OTHER), a(OTHER[:12])], [a(OTHER), a("f" * 12)], "two migrations begin with 000000000000"),
    case("SC144", [a(states={"old": by_chance})], [a(states={"old": by_length})], "does not say which states"),
    case("SC145", [a(data=later)], [a(data=shortened)], "the function of the data is not a plain function"),
    case("SC145", [a(data=of_two)], [a(data=partial(of_two, more=1))], "the function of the data is not a plain function"),
    case("SC146", [a(events={"fine": "nice"})], [a(events={"fine": "kept"})], "fine becomes nice, which no review of m takes"),
    case("SC147", [a(THIS[:12])], [a(THIS[:7])], "this is the definition itself"),
]
