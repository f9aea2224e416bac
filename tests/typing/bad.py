"""Twenty mistakes that a type checker must refuse, one on each line marked `# mistake`. Never imported, only checked."""

from __future__ import annotations

from good import (
    Accepted,
    Dry,
    Hopeless,
    Outlined,
    Paper,
    Quoted,
    Term,
    dropped,
    editor,
    outlining,
    paper,
    printed,
    reading,
    writer,
)

from statecraft.engine.machine_tool import machine_tool
from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import Event
from statecraft.machine.joins import any_of
from statecraft.machine.properties import always, eventually, never


class Recipe(Data):
    dish: str = ""


class Cooked(Event): ...


kitchen = Machine("kitchen", data=Recipe)
served = kitchen.final("served", ok=True)


def has_terms(event: Outlined, data: Paper) -> bool:
    return bool(event.outline.terms)


@paper.state()
async def lying(run: Run[Paper]) -> Dry:
    return Hopeless(reason="no")  # mistake: answers with an event it does not declare


outlining.on(Dry)  # mistake: an event that the state does not declare
reading.on(Outlined.when(has_terms))  # mistake: the same, under a guard
reading.on(Quoted.when(has_terms))  # mistake: a guard for another event's payload
outlining.on(Outlined) >> "reading"  # mistake: the target is a string
outlining.on(Outlined) >> served  # mistake: the target belongs to a machine with other data
editor.on(Dry)  # mistake: a decision that the review does not offer
reading.on(Quoted.when(lambda event, data: len(event.qoutes) > 1))  # mistake: a typo inside a guard


never("printed", before=Accepted)  # mistake: a claim about a string
never(Accepted, before=printed)  # mistake: the event and the state are swapped
never(printed, before=Accepted(note=""))  # mistake: an event itself where its class is meant
never(printed, before=served)  # mistake: a milestone of a machine with other data
always(Accepted, before=printed, since=Dry)  # mistake: an event where only states undo
eventually(printed, dropped, within="3")  # mistake: moves are counted
paper.counterexample(never(served, before=Cooked))  # mistake: a claim about a machine with other data


@paper.state()  # mistake: a handler for other data
async def confused(run: Run[Recipe]) -> Dry:
    return Dry()


async def length_of(term: Term) -> int:
    return len(term.text)


def dish_of(recipe: Recipe) -> str:
    return recipe.dish


machine_tool(paper, result=dish_of)  # mistake: a result of other data


async def misled(run: Run[Paper]) -> list[int]:
    await run.child(paper, Recipe())  # mistake: a child started with other data
    await run.tool(writer, pages="two")  # mistake: an argument of another type, and one missing
    return await run.map(length_of, [Term("a")], join=any_of)  # mistake: one result taken for a list
