"""The exported suite finds what is wrong with a store that is nearly as good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from statecraft.errors import Fenced, RunHeld
from statecraft.records import FeedEntry
from statecraft.store import open_store
from statecraft.store.port import Adjust, Call, Claim, Renew, Reserve, Start, Store, Write
from statecraft.testing.conformance import FleetConformance

FAILED = (Exception, pytest.fail.Exception)


class Careless:
    """Our store, but for one thing."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def submit(self, write: Write) -> object:
        return await self.store.submit(write)


class Unfenced(Careless):
    """Takes no notice when a late writer is refused."""

    async def submit(self, write: Write) -> object:
        try:
            return await self.store.submit(write)
        except Fenced:
            return None


class Forgiving(Careless):
    """Lets a call in whose epoch is not the run's."""

    async def submit(self, write: Write) -> object:
        if isinstance(write, Call):
            write = replace(write, epoch=(await self.store.run(write.run_id)).epoch)
        return await self.store.submit(write)


class Keyless(Careless):
    """Looks for the owner of a key before it writes, and not as it writes."""

    async def submit(self, write: Write) -> object:
        if isinstance(write, Start) and write.key is not None:
            write = replace(write, key=f"{write.key}-{write.transition.run_id.hex()}")
        return await self.store.submit(write)


class Generous(Careless):
    """Reads what a meter holds, and reserves in another transaction."""

    async def submit(self, write: Write) -> object:
        if isinstance(write, Reserve):
            free = all([(await self.store.used([each.meter]))[each.meter] + each.amount <= each.limit for each in write.amounts])
            if free:
                write = replace(write, amounts=tuple(replace(each, limit=10**9) for each in write.amounts))
        return await self.store.submit(write)


class Racing(Careless):
    """Changes a meter's state by a look and a write."""

    async def submit(self, write: Write) -> object:
        if not isinstance(write, Adjust):
            return await self.store.submit(write)
        state = await self.store.submit(Adjust(write.meter, lambda old: (old or "", old or None)))
        changed, answer = write.change(cast("str | None", state))
        await self.store.submit(Adjust(write.meter, lambda _: (changed, None)))
        return answer


class Sharing(Careless):
    """Answers a claim of a run that somebody holds as if it were free."""

    async def submit(self, write: Write) -> object:
        try:
            return await self.store.submit(write)
        except RunHeld:
            assert isinstance(write, Claim)
            return await self.store.run(write.run_id)


class Hopeful(Careless):
    """Says of every lease that it was renewed."""

    async def submit(self, write: Write) -> object:
        answer = await self.store.submit(write)
        return [] if isinstance(write, Renew) else answer


class Hasty(Careless):
    """Answers before anything is written."""

    async def submit(self, write: Write) -> object:
        self.late = asyncio.ensure_future(self.store.submit(write))
        self.late.add_done_callback(lambda late: late.cancelled() or late.exception())
        return write.transition.run_id if isinstance(write, Start) else None

    async def close(self) -> None:
        await asyncio.wait({self.late})
        await self.store.close()


class Skipping(Careless):
    """Leaves entries out of its feed now and then."""

    async def feed(self, after: int, run_id: bytes | None = None, limit: int = 500) -> list[FeedEntry]:
        found = await self.store.feed(after, run_id, limit)
        return found[:2] + found[3:] if 3 < len(found) < 20 else found


class Swapped(FleetConformance):
    """The suite, run by hand over a careless store."""

    def __init__(self, careless: type[Careless]) -> None:
        self.careless = careless

    def open(self, place: str, probe: Callable[[str], None] | None = None) -> Store:
        return cast(Store, self.careless(open_store(place, probe=probe)))


NEARLY: list[tuple[type[Careless], Callable[..., None]]] = [
    (Unfenced, FleetConformance.test_the_same_move_twice_is_fenced),
    (Forgiving, FleetConformance.test_calls_and_attempts_are_fenced),
    (Keyless, FleetConformance.test_of_many_starts_with_one_key_at_once_one_wins_and_all_agree),
    (Generous, FleetConformance.test_reservations_made_at_the_same_moment_never_overshoot),
    (Racing, FleetConformance.test_changes_of_one_meter_are_never_lost),
    (Sharing, FleetConformance.test_of_two_stores_that_claim_the_same_runs_each_run_has_one_owner),
    (Hopeful, FleetConformance.test_renewing_extends_what_is_held_and_names_what_is_lost),
    (Hasty, FleetConformance.test_a_crash_at_a_commit_fails_the_writers_and_everybody_after_them),
    (Skipping, FleetConformance.test_the_feed_resumes_behind_any_position_for_one_run_or_all),
]


@pytest.mark.slow
@pytest.mark.parametrize(("careless", "behaviour"), NEARLY, ids=lambda each: each.__name__)
def test_a_store_that_is_nearly_as_good_is_found_out(
    tmp_path: Path, careless: type[Careless], behaviour: Callable[..., None]
) -> None:
    given = {"point": "before"} if "crash" in behaviour.__name__ else {}
    behaviour(Swapped(Careless), place=f"sqlite:///{tmp_path / 'sound.db'}", **given)
    with pytest.raises(FAILED):
        behaviour(Swapped(careless), place=f"sqlite:///{tmp_path / 'careless.db'}", **given)


def test_without_a_place_and_a_store_the_suite_says_what_to_write() -> None:
    with pytest.raises(NotImplementedError, match=r"override `open\(place, probe\)`"):
        FleetConformance().open("anywhere")
