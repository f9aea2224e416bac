"""Machines by TARGET, and the model that goes with one."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from statecraft.cli.pace import Paced
from statecraft.cli.verb import Session, one_line
from statecraft.errors import ConfigError, StatecraftError

if TYPE_CHECKING:
    from statecraft.engine.settings import Settings
    from statecraft.llm.port import LLM
    from statecraft.machine.declare import Machine

SHIPPED = ("research", "support", "review", "extract")
"""Names of the machines that come with the library."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine, and the module it was found in."""

    text: str
    machine: Machine[Any]
    module: ModuleType


def load_target(text: str) -> Target:
    """Find the machine that a TARGET names.

    Raises `ConfigError` naming what is wrong with it, or the `DefinitionError` of a machine that is not sound.
    """
    module, name = load_module(text)
    return _pick(text, module, name)


def load_targets(text: str) -> list[Target]:
    """The machine that a TARGET names; all of its module, in order, for one that names none. Raises like `load_target`."""
    from statecraft.machine.declare import Machine

    module, name = load_module(text)
    if name:
        return [_pick(text, module, name)]
    names: dict[Machine[Any], str] = {}
    for key, value in vars(module).items():
        if isinstance(value, Machine):
            names.setdefault(value, key)
    return [_pick(f"{text}:{key}", module, key) for key in names.values()] or [_pick(text, module, "")]


FORMS = f"package.module:machine, path/to/file.py:machine or {', '.join(SHIPPED)}"
"""What a TARGET may be, where a machine is meant."""


def load_module(text: str, forms: str = FORMS) -> tuple[ModuleType, str]:
    """The module of a TARGET, and the name behind its colon, if there is one. Raises `ConfigError`, telling its `forms`."""
    if text in SHIPPED:
        return shipped_module(text), text
    place, colon, name = text.rpartition(":")
    if not colon or not name or (os.name == "nt" and name.startswith(("\\", "/"))):
        place, name = text, ""
    return _from_file(Path(place), forms) if place.endswith(".py") else _from_import(place, forms), name


def shipped_module(name: str) -> ModuleType:
    """The module of a shipped machine: `statecraft.machines.NAME` once installed, `machines.NAME` in a checkout."""
    for module in (f"statecraft.machines.{name}", f"machines.{name}"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
    raise ConfigError(f"the shipped machine {name!r} is not installed; reinstall statecraft-agents")


def find_machine(name: str, session: Session) -> Target:
    """The machine called `name`: from `-m`, then `STATECRAFT_MACHINES`, then the project file, then the shipped ones.

    Raises `ConfigError` if none of them holds it.
    """
    seen: list[str] = []
    for text in _candidates(name, session):
        target = load_target(text)
        if target.machine.name == name:
            return target
        seen.append(f"{text} is {target.machine.name!r}")
    looked = f" ({'; '.join(seen)})" if seen else ""
    raise ConfigError(
        f"the run's machine {name!r} is not at hand{looked}: add -m TARGET, such as -m my_module:{name}, "
        f"or set STATECRAFT_MACHINES"
    )


def project_targets(session: Session, who: str) -> tuple[str, ...]:
    """The TARGETs of `STATECRAFT_MACHINES`, else of the project's file. Raises `ConfigError`: `who` needs machines."""
    named = os.environ.get("STATECRAFT_MACHINES", "")
    texts = tuple(filter(None, (part.strip() for part in named.split(",")))) or session.config.machines
    if not texts:
        raise ConfigError(f"{who} needs machines: name TARGETs, set STATECRAFT_MACHINES, or list machines in statecraft.toml")
    return texts


def model_for(target: Target, session: Session) -> LLM:
    """The model a machine runs with: `--model`, else what the module's `model()` answers, else Claude.

    A model that is certain to be needed and has no key raises `ConfigError` here, before anything is written.
    """
    from statecraft.llm.claude import Claude

    hook = getattr(target.module, "model", None)
    if session.drive.model or not callable(hook):
        claude = Claude(session.drive.model)
        if session.drive.model or _asks_model(target.machine):
            claude.check()
        return _paced(claude, session)
    llm: Any = hook()
    if not callable(getattr(llm, "complete", None)):
        what = f"an object with complete(), not {type(llm).__name__}"
        raise ConfigError(f"model() of {target.module.__name__} must answer a model: {what}")
    return _paced(llm, session)


def settings_for(target: Target) -> Settings:
    """The settings a machine runs with: the `settings` of its module, so that its gates hold here too, or the default."""
    from statecraft.engine.settings import Settings

    found = getattr(target.module, "settings", None)
    return found if isinstance(found, Settings) else Settings()


def _paced(llm: LLM, session: Session) -> LLM:
    return Paced(llm, session.drive.pace) if session.drive.pace else llm


def _asks_model(machine: Machine[Any]) -> bool:
    """Whether a handler's own code mentions `.llm`: enough to ask for a key early, never a reason to refuse one late."""
    handlers = machine.definition.handlers.values()
    return any("llm" in getattr(getattr(handler.fn, "__code__", None), "co_names", ()) for handler in handlers)


def _candidates(name: str, session: Session) -> Iterator[str]:
    yield from session.drive.machines
    yield from filter(None, (part.strip() for part in os.environ.get("STATECRAFT_MACHINES", "").split(",")))
    yield from session.config.machines
    if name in SHIPPED:
        yield name


def _from_file(path: Path, forms: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; TARGET is {forms}")
    if (inside := _in_package(path.resolve())) is not None:
        return inside
    # The file's neighbours must be importable, as they are when Python runs it.
    _importable(path.resolve().parent)
    name = f"_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StatecraftError:
        raise
    except (Exception, SystemExit) as error:
        raise _import_failed(str(path), error) from error
    return module


def _in_package(path: Path) -> ModuleType | None:
    """The module of a file in a package, imported as part of it, so that its relative imports work; None for a file in none."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts, folder = [folder.name, *parts], folder.parent
    if len(parts) == 1:
        return None
    _importable(folder)
    module = _from_import(".".join(parts))
    # Another package of that name may come first on the path: then the file is loaded by itself.
    return module if module.__file__ is not None and Path(module.__file__).resolve() == path else None


def _from_import(name: str, forms: str = FORMS) -> ModuleType:
    _importable(Path.cwd())
    for module in (name, *_elsewhere(name)):
        try:
            return importlib.import_module(module)
        except StatecraftError:
            raise
        except ModuleNotFoundError as error:
            if not _is_part(str(error.name), module):
                raise _import_failed(name, error) from error
        except (Exception, SystemExit) as error:
            raise _import_failed(name, error) from error
    raise ConfigError(f"there is no module {name!r}; TARGET is {forms}")


def _elsewhere(name: str) -> tuple[str, ...]:
    """The other home of a shipped machine's module."""
    if name.startswith("machines."):
        return (f"statecraft.{name}",)
    return (name.removeprefix("statecraft."),) if name.startswith("statecraft.machines.") else ()


def _is_part(missing: str, module: str) -> bool:
    return module == missing or module.startswith(f"{missing}.")


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_failed(place: str, error: BaseException) -> ConfigError:
    return ConfigError(f"importing {place} failed with {type(error).__name__}: {one_line(error)} (add --debug for the traceback)")


def _pick(text: str, module: ModuleType, name: str) -> Target:
    from statecraft.machine.declare import Machine

    machines = [key for key, value in vars(module).items() if isinstance(value, Machine)]
    place = text.rpartition(":")[0] or text
    there = f"it has {', '.join(machines)}" if machines else "it has no machine"
    if not name:
        raise ConfigError(f"TARGET {text!r} names no machine: write {place}:{machines[0] if machines else 'machine'} ({there})")
    if not hasattr(module, name):
        raise ConfigError(f"{place} has no {name!r}; {there}")
    found = getattr(module, name)
    if not isinstance(found, Machine):
        raise ConfigError(f"{text} is a {type(found).__name__}, not a machine; {there}")
    found.definition  # noqa: B018  # an unfinished declaration is told here, with its own error
    return Target(text, found, module)
