"""A schedule starts runs, a worker takes them by priority, and people hear of the one that needs them."""

import asyncio
from datetime import timedelta

from statecraft import Ask, Data, Event, Every, Failure, Machine, ReviewExpired, Run, Runtime, Settings, days, hours
from statecraft.alerts import Alert, Callback

URL = "sqlite:///invoices.db"  # or postgresql://..., and a worker on each of ten machines


class Invoice(Data):
    customer: str
    amount: int


class Small(Event): ...


class Large(Event): ...


class Approved(Event): ...


invoices = Machine("invoices", data=Invoice, max_steps=5)


@invoices.state(start=True)
async def reading(run: Run[Invoice]) -> Small | Large:
    return Small() if run.data.amount < 1000 else Large()


@invoices.review(timeout=days(2))
async def asking(run: Run[Invoice]) -> Ask[Approved]:
    return Ask(f"Pay {run.data.amount} to {run.data.customer}?")


paid, left = invoices.final("paid", ok=True), invoices.final("left")

invoices.transitions(
    reading.on(Small) >> paid,
    reading.on(Large) >> asking,
    asking.on(Approved) >> paid,
    asking.on(ReviewExpired) >> left,
    invoices.anywhere.on(Failure) >> left,
)


heard: list[Alert] = []
settings = Settings(queues=("money",), concurrency=1, channels=(Callback("team", heard.append),))


async def office() -> None:
    """Starts runs and works on none: `take="none"`."""
    async with Runtime(URL, machines=[invoices], settings=Settings(take="none")) as rt:
        await rt.start(invoices, Invoice(customer="Ann", amount=40), queue="money")
        await rt.start(invoices, Invoice(customer="Bob", amount=7000), queue="money", priority=9)
        await rt.start(invoices, Invoice(customer="Cid", amount=60), queue="money", delay=hours(8))
        rent = Invoice(customer="the landlord", amount=900)
        await rt.schedule("rent", invoices, rent, Every(timedelta(seconds=1)), queue="money")


async def worker() -> None:
    """One of many: what `statecraft worker 07_a_fleet_in_one_file.py:invoices --queue money` runs."""
    async with Runtime(URL, machines=[invoices], settings=settings) as rt:
        async for entry in rt.follow():
            if entry.kind == "claimed":
                print("taken:", (await rt.data(entry.run_id, Invoice)).customer)
                if (await rt.get(entry.run_id)).key:  # The run of the schedule: its key names its instant.
                    await rt.pause_schedule("rent")
                    break
        await rt.idle()  # Nothing in hand, nothing due. Bob waits for a person, Cid for the evening.
        stats = await rt.stats()
        print(stats.runs["waiting"], "runs wait,", stats.reviews, "for a person")


if __name__ == "__main__":
    asyncio.run(office())
    asyncio.run(worker())
    print("told:", *(f"{alert.type}, {alert.text.split(' asks: ')[-1]}" for alert in heard))
