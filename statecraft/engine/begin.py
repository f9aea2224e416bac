"""How a run begins: its definition in the store, and its first transition."""

from __future__ import annotations

from datetime import datetime, timedelta

from statecraft.clock import LAST, micros, stamp
from statecraft.errors import ConfigError
from statecraft.machine.definition import START_EVENT, Definition
from statecraft.machine.event import Forked, Migrated, event_name
from statecraft.machine.migration import edges
from statecraft.records import Status, Waiting
from statecraft.store import chain, port

_PRIORITIES = 2**31

LONGEST_NAME = 1_000
"""Bytes of a key, a tenant or a queue: an index of PostgreSQL takes 2,704 in all."""


def machine_spec(definition: Definition) -> port.MachineSpec:
    """A definition as the store keeps it."""
    edges = (*definition.edges, *rewrites(definition))
    return port.MachineSpec(definition.name, definition.version, definition.fingerprint, definition.spec, edges)


def rewrites(definition: Definition) -> tuple[tuple[str, str, str], ...]:
    """The edges of moves that no row declares. They are no part of the fingerprint: they lead no run anywhere by themselves."""
    going = [name for name, state in definition.states.items() if state.kind != "final"]
    forked, migrated = event_name(Forked), event_name(Migrated)
    moved = edges(definition.migrations, going)
    return (*((name, forked, name) for name in going), *((old, migrated, new) for old, new in moved))


def first(
    definition: Definition, machine: int, run_id: bytes, now: int, payload: str, epoch: int, origin: bytes
) -> port.Transition:
    """The transition that starts a run: from nowhere to the start state, with the input as its payload. `origin` is
    `chain.origin` of what its head is started with."""
    target = definition.start
    link = chain.link(origin, run_id, 0, machine, "", START_EVENT, target, epoch, now, payload, "[]", None, ())
    return port.Transition(run_id, 0, machine, "", START_EVENT, target, epoch, now, payload, "[]", None, 0, 0, 0, link)


def beginning(now: int, at: datetime | None, delay: timedelta | None) -> int:
    """When a run may begin that is started now. Raises `ConfigError`."""
    if at is not None and delay is not None:
        raise ConfigError("a delayed start has a time (at=) or a wait (delay=), not both")
    if at is not None and at.tzinfo is None:
        raise ConfigError(f"at={at.isoformat()} has no time zone; use an aware datetime, such as datetime.now(UTC)")
    begins = stamp(at) if at is not None else now + micros(delay or timedelta(0))
    if begins > stamp(LAST):
        raise ConfigError("a delayed start begins after the year 9999; give an earlier time or a shorter wait")
    return max(now, begins)


def check_name(what: str, name: str | None) -> None:
    """Raises `ConfigError` for a name that not every database can keep in an index."""
    try:
        fits = name is None or ("\0" not in name and len(name.encode()) <= LONGEST_NAME)
    except UnicodeEncodeError:  # Half of a character.
        fits = False
    if not fits:
        raise ConfigError(f"a {what} is a text of at most {LONGEST_NAME} bytes without \\0, not {(name or '')[:80]!a}")


def check_place(tenant: str | None, queue: str, priority: int, key: str | None = None) -> None:
    """Raises `ConfigError` for what is no tenant, queue, priority or key."""
    for what, name in (("tenant", tenant), ("queue", queue), ("key", key)):
        check_name(what, name)
    if tenant == "":
        raise ConfigError("a tenant has a name; leave tenant out for a run that belongs to none")
    if not queue:
        raise ConfigError("a queue has a name; leave queue out for the default one")
    if not -_PRIORITIES <= priority < _PRIORITIES:
        raise ConfigError(f"a priority is a number of 32 bits, not {priority}")


_RESERVED = ("schedule:", "child:")


def check_key(key: str | None) -> None:
    """Raises `ConfigError` for a start key that schedules or child runs may need: theirs would be taken for yours."""
    taken = next((each for each in _RESERVED if key is not None and key.startswith(each)), None)
    if taken is not None:
        raise ConfigError(f"keys that begin with {taken!r} are given by the library, not by you: {str(key)[:120]!r}")


def head_until(now: int, begins: int) -> port.Head:
    """The head of a run that nobody holds yet: ready, or waiting for its time."""
    if begins <= now:
        return port.Head(Status.READY, due_at=now)
    return port.Head(Status.WAITING, waiting_for=Waiting.START, due_at=begins)
