"""A machine with every sort of row: guarded ones, a loop, a review, rows of anywhere, of a class of events, of an operator."""

from __future__ import annotations

from statecraft import Ask, CallFailed, Data, Event, Failure, Machine, OperatorEvent, ReviewExpired, Run, days


class Letter(Data):
    pauses: list[float] = []
    """Seconds to sleep for at each try."""
    tries: int = 0
    enough: int = 2
    broken: bool = False


class Tried(Event):
    tries: int


class Approved(Event):
    """Yes."""


class Praised(Approved):
    """Yes, and well done."""


class Withdrawn(OperatorEvent):
    """An operator takes it back."""


def enough(event: Tried, data: Letter) -> bool:
    return event.tries >= data.enough


def hopeless(event: Tried, data: Letter) -> bool:
    return event.tries > 100 * data.enough


letters = Machine("letters", data=Letter, max_steps=20)


@letters.state(start=True, max_visits=10)
async def trying(run: Run[Letter]) -> Tried:
    """Sleep, and try."""
    for pause in run.data.pauses:
        await run.sleep(pause)
    if run.data.broken:
        raise ValueError("it is broken")
    return Tried(tries=run.data.tries + 1)


@letters.review(timeout=days(3))
async def asking(run: Run[Letter]) -> Ask[Approved | Praised]:
    """Send it?"""
    return Ask("Send it?")


sent = letters.final("sent", ok=True)
lost = letters.final("lost")

letters.transitions(
    trying.on(Tried.when(hopeless)) >> lost,
    trying.on(Tried.when(enough)) >> asking,
    trying.on(Tried) >> trying,
    trying.on(CallFailed) >> asking,
    asking.on(Praised) >> sent,
    asking.on(Approved) >> sent,
    asking.on(ReviewExpired) >> lost,
    letters.anywhere.on(Withdrawn) >> lost,
    letters.anywhere.on(Failure) >> lost,
)
