"""How a run begins: its definition in the store, and its first transition."""

from __future__ import annotations

from statecraft.machine.definition import START_EVENT, Definition
from statecraft.store import chain, port


def machine_spec(definition: Definition) -> port.MachineSpec:
    """A definition as the store keeps it."""
    return port.MachineSpec(definition.name, definition.version, definition.fingerprint, definition.spec, tuple(definition.edges))


def first(definition: Definition, machine: int, run_id: bytes, now: int, payload: str, epoch: int) -> port.Transition:
    """The transition that starts a run: from nowhere to the start state, with the input as its payload."""
    target = definition.start
    link = chain.link(chain.GENESIS, run_id, 0, "", START_EVENT, target, now, payload, "[]", None, ())
    return port.Transition(run_id, 0, machine, "", START_EVENT, target, epoch, now, payload, "[]", None, 0, 0, 0, link)
