"""What tells one model from another, so that a finished trial is never taken for one by another model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from statecraft.llm.port import LLM

_OURS = "statecraft"


def mark_of(llm: LLM | Mapping[str, LLM] | None, machine: str) -> str:
    """The id and the label of the model that runs of `machine` ask and, for a model of your own making, a digest of its code.

    The code is its module and what that imports from the same top-level package (for a module that is in none, from the
    same folder): an offline model that was changed is another model.
    """
    found = llm.get(machine) if isinstance(llm, Mapping) else llm
    if found is None:
        return "no model"
    return f"{found.model}\n{found.label}\n{code_of(type(found))}"


def label_of(llm: LLM | Mapping[str, LLM] | None, machine: str) -> str:
    """How the model of a machine is shown to people."""
    found = llm.get(machine) if isinstance(llm, Mapping) else llm
    return "no model" if found is None else found.label


def code_of(kind: type) -> str:
    """The SHA-256 of the source files that a class is made of; empty for a class of this library."""
    start = sys.modules.get(kind.__module__)
    if start is None or _is_library(start.__name__):
        return ""
    files = {module.__name__: file for module in _reachable(start) if (file := getattr(module, "__file__", None))}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        path = Path(file)
        digest.update(f"{name}\n".encode() + (path.read_bytes() if path.suffix == ".py" and path.is_file() else b""))
    return digest.hexdigest()


def _is_library(name: str) -> bool:
    """Whether a module is part of this library; its shipped agents are not, since people change them."""
    return name.partition(".")[0] == _OURS and name.split(".")[1:2] != ["machines"]


def _reachable(start: ModuleType) -> Iterator[ModuleType]:
    """A module and those of the same project that it uses, through what they imported."""
    seen = {start.__name__}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        yield module
        for value in list(vars(module).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(name, str) and name not in seen and name in sys.modules and _same_project(name, start):
                seen.add(name)
                waiting.append(sys.modules[name])


def _same_project(name: str, start: ModuleType) -> bool:
    if _is_library(name):
        return False
    if "." in start.__name__:
        return name.partition(".")[0] == start.__name__.partition(".")[0]
    file, other = getattr(start, "__file__", None), getattr(sys.modules[name], "__file__", None)
    return bool(file and other) and Path(str(file)).parent == Path(str(other)).parent
