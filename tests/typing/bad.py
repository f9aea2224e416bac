"""Nine mistakes that a type checker must refuse, one on each line marked `# mistake`. Never imported, only checked."""

from __future__ import annotations

from good import Dry, Hopeless, Outlined, Paper, Quoted, editor, outlining, paper, reading

from statecraft.machine.context import Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.event import Event


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


@paper.state()  # mistake: a handler for other data
async def confused(run: Run[Recipe]) -> Dry:
    return Dry()
