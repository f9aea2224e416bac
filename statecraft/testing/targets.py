"""Machines by where they are: `module:name`, or a module or package with all the machines in it."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from statecraft.errors import ConfigError
from statecraft.testing.cover import Cover


@dataclass(slots=True)
class Named:
    """What was found under some names."""

    covers: list[Cover] = field(default_factory=list[Cover])
    missing: list[str] = field(default_factory=list[str])
    """Why a name names no machine."""


def named(names: Sequence[str]) -> Named:
    """The machines of these names, each once. Imports their modules."""
    found: dict[str, Cover] = {}
    missing: list[str] = []
    for name in names:
        try:
            covers = [cover for module in _modules(name) for cover in _covers(module, name.partition(":")[2])]
        except Exception as error:  # noqa: BLE001 - whatever a module raises: the session goes on and says so
            missing.append(f"{name} cannot be looked at: {type(error).__name__}: {error}")
            continue
        found |= {cover.fingerprint: cover for cover in covers}
        if not covers:
            missing.append(f"{name} names no machine: write module:name, a module or a package")
    return Named(list(found.values()), missing)


def loaded(names: Sequence[str]) -> set[str]:
    """The fingerprints of those machines of these names whose modules are loaded: others cannot have run."""
    found: set[str] = set()
    for name in names:
        module, _, attribute = name.partition(":")
        for place, each in list(sys.modules.items()):
            if place == module or (not attribute and place.startswith(f"{module}.")):
                with contextlib.suppress(ConfigError):
                    found |= {cover.fingerprint for cover in _covers(each, attribute)}
    return found


def _modules(name: str) -> Iterator[ModuleType]:
    module = importlib.import_module(name.partition(":")[0])
    yield module
    if ":" not in name:
        for each in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
            yield importlib.import_module(each.name)


def _covers(module: ModuleType, attribute: str) -> Iterator[Cover]:
    """The closed machines that a module holds; or the one of this name, which raises `ConfigError` if it is not closed."""
    from statecraft.machine.declare import Machine

    for thing in [getattr(module, attribute, None)] if attribute else list(getattr(module, "__dict__", {}).values()):
        if isinstance(thing, Machine):
            with contextlib.nullcontext() if attribute else contextlib.suppress(ConfigError):
                yield Cover.of(thing.definition)
