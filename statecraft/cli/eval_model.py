"""The suite that a TARGET names, and the models that its runs and its judges ask."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from statecraft.cli.screen import short_path
from statecraft.cli.target import SHIPPED, load_module, shipped_module
from statecraft.errors import ConfigError

if TYPE_CHECKING:
    from statecraft.engine.settings import Settings
    from statecraft.evals import Suite
    from statecraft.llm.port import LLM

EVALS = {"research": "research_eval", "extract": "extract_eval"}
"""Modules of the shipped suites, by the machine's name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A suite, and where its hooks are looked for: its own module, then its machine's."""

    text: str
    suite: Suite
    modules: tuple[ModuleType, ...]

    def hook(self, name: str) -> Callable[[], LLM] | None:
        """The function `name()` of the suite's module or of its machine's."""
        for module in self.modules:
            found: Any = getattr(module, name, None)
            if callable(found):
                return found  # type: ignore[no-any-return]  # what it answers is looked at by _model
        return None

    def settings(self) -> Settings:
        """The `settings` of either module, so that a machine's gates hold here too; else the default."""
        from statecraft.engine.settings import Settings

        found = (getattr(module, "settings", None) for module in self.modules)
        return next((each for each in found if isinstance(each, Settings)), None) or Settings()

    @property
    def machine_flag(self) -> str:
        """`-m TARGET` for commands on the suite's runs; empty if the machine is at hand anyway."""
        name = self.suite.machine.name
        for module in reversed(self.modules):
            attribute = next((key for key, value in vars(module).items() if value is self.suite.machine), None)
            if attribute is not None and name not in SHIPPED:
                file = getattr(module, "__file__", None)
                return f" -m {short_path(Path(file)) if file else module.__name__}:{attribute}"
        return ""


@dataclass(frozen=True, slots=True)
class Models:
    """Who is asked."""

    llm: LLM | Mapping[str, LLM]
    label: str
    mark: str = ""
    """What tells a recording from another of the same model."""


def load_suite(text: str) -> Found:
    """Find the suite that a TARGET names. Raises `ConfigError` naming what is wrong."""
    from statecraft.evals import Suite

    if text in SHIPPED and text not in EVALS:
        raise ConfigError(f"no suite comes with {text}; suites come with {' and '.join(EVALS)}")
    forms = f"package.module:suite, path/to/file.py:suite or {' or '.join(EVALS)}"
    module, name = (shipped_module(EVALS[text]), "suite") if text in EVALS else load_module(text, forms)
    suites = [key for key, value in vars(module).items() if isinstance(value, Suite)]
    there = f"it has {', '.join(suites)}" if suites else "it has no suite"
    place = text.rpartition(":")[0] or text
    if not name:
        raise ConfigError(f"TARGET {text!r} names no suite: write {place}:{suites[0] if suites else 'suite'} ({there})")
    found = getattr(module, name, None)
    if not isinstance(found, Suite):
        what = f"is a {type(found).__name__}, not a suite" if found is not None else "is not there"
        raise ConfigError(f"{text} {what}; {there}")
    handlers = found.machine.definition.handlers.values()
    homes = (sys.modules.get(str(getattr(handler.fn, "__module__", ""))) for handler in handlers)
    return Found(text, found, tuple(dict.fromkeys([module, *(home for home in homes if home is not None)])))


def models_for(found: Found, choice: str | None, *, go_on: bool = False) -> Models:
    """The models of `--model`. A recording is begun anew, unless it is to be gone on with. Raises `ConfigError`."""
    kind, colon, file = (choice or "").partition(":")
    mark = ""
    if kind == "cassette" and colon:
        from statecraft.llm.scripted import ScriptedLLM

        llm: Any = ScriptedLLM.cassette(file)
        judge: Any = ScriptedLLM.cassette(_of_judge(file)) if _asks_another(found) else None
        mark = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    elif kind == "record" and colon:
        from statecraft.llm.cassette import Recorder

        llm = Recorder(_asked(found, None), file, append=go_on)
        judge = Recorder(_judge(found), _of_judge(file), append=go_on) if _asks_another(found) else None
    else:
        llm, judge = _asked(found, choice), _judge(found) if _asks_another(found) else None
    if judge is None:
        return Models(llm, llm.label, mark)
    names = {definition.name for definition in _family(found.suite.machine)}
    every = {**dict.fromkeys(names, llm), **{each.name: judge for each in found.suite.judges}}
    return Models(every, f"{llm.label}; judge: {judge.label}", mark)


def _asked(found: Found, choice: str | None) -> LLM:
    from statecraft.llm.claude import Claude

    if choice == "offline" or choice is None:
        hook = found.hook("offline" if choice else "model")
        if hook is not None:
            return _model(hook, found)
        if choice:
            raise ConfigError(f"--model offline: {found.modules[0].__name__} has no offline() that answers such a model")
    claude = Claude(None if choice == "live" else choice)
    claude.check()
    return claude


def _asks_another(found: Found) -> bool:
    """Whether judges ask another model than the machine."""
    return bool(found.suite.judges) and found.hook("judge") is not None


def _judge(found: Found) -> LLM:
    hook = found.hook("judge")
    assert hook is not None
    return _model(hook, found)


def _model(hook: Callable[[], Any], found: Found) -> LLM:
    llm: Any = hook()
    if not callable(getattr(llm, "complete", None)):
        name = getattr(hook, "__name__", "model")
        raise ConfigError(f"{name}() for {found.text} must answer a model: an object with complete(), not {type(llm).__name__}")
    return llm  # type: ignore[no-any-return]  # it quacks


def _of_judge(file: str) -> str:
    return f"{file}.judge"


def _family(machine: Any) -> Iterator[Any]:
    """The definitions of a machine and of all that it runs as children."""
    seen: set[str] = set()
    waiting = [machine.definition]
    while waiting:
        definition = waiting.pop()
        if definition.name not in seen:
            seen.add(definition.name)
            yield definition
            waiting += [child.definition for handler in definition.handlers.values() for child in handler.children]
