"""A program that draws every machine it finds: `python -m statecraft.diagram.gallery SOURCE... FOLDER`.

A source is a Python file or a folder of them. Each machine becomes `<name>.dot`, `<name>.mmd` and `<name>.svg`. The texts are
the same on every computer; the SVG's bytes depend on the version of Graphviz, so it names the DOT text it was drawn from.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from statecraft.diagram.dot import to_dot
from statecraft.diagram.mermaid import to_mermaid
from statecraft.diagram.picture import render
from statecraft.machine.definition import Definition


def definitions(sources: list[Path]) -> dict[str, Definition]:
    """Every machine declared at the top level of the sources' modules, by name."""
    found: dict[str, Definition] = {}
    for path in (file for source in sources for file in _files(source)):
        for value in vars(_module(path)).values():
            definition = getattr(value, "definition", None)
            if isinstance(definition, Definition):
                found[definition.name] = definition
    return found


def texts(found: dict[str, Definition]) -> dict[str, str]:
    """The DOT and Mermaid text of each machine, by file name."""
    drawn: dict[str, str] = {}
    for name, definition in sorted(found.items()):
        drawn[f"{name}.dot"] = to_dot(definition)
        drawn[f"{name}.mmd"] = to_mermaid(definition)
    return drawn


def mark(dot: str) -> str:
    """The comment in an SVG that names the DOT text it was drawn from."""
    return f"<!-- drawn from DOT with SHA-256 {sha256(dot.encode()).hexdigest()} -->"


def stale(sources: list[Path], folder: Path) -> list[str]:
    """Names of the pictures in `folder` that are missing, differ from their machine, or have none."""
    wanted = texts(definitions(sources))
    old = [name for name, text in wanted.items() if not _holds(folder / name, text, whole=True)]
    svgs = {name.replace(".dot", ".svg"): text for name, text in wanted.items() if name.endswith(".dot")}
    old += [name for name, dot in svgs.items() if not _holds(folder / name, mark(dot), whole=False)]
    orphans = [path.name for path in folder.glob("*.*") if path.name not in wanted.keys() | svgs.keys()]
    return sorted([*old, *orphans])


def main(arguments: list[str]) -> int:
    """Draw, and say what was drawn. Answers the exit code."""
    if len(arguments) < 2:
        print("usage: python -m statecraft.diagram.gallery SOURCE... FOLDER", file=sys.stderr)
        return 2
    *sources, last = map(Path, arguments)
    last.mkdir(parents=True, exist_ok=True)
    wanted = texts(definitions(sources))
    for path in last.glob("*.*"):
        if path.suffix in {".dot", ".mmd", ".svg"} and f"{path.stem}.dot" not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (last / name).write_text(text)
        if name.endswith(".dot"):
            svg = render(text, "svg").decode().rstrip("\n")
            (last / name).with_suffix(".svg").write_text(f"{svg}\n{mark(text)}\n")
            print(last / name.replace(".dot", ".svg"))
    return 0


def _holds(path: Path, text: str, *, whole: bool) -> bool:
    if not path.exists():
        return False
    return path.read_text() == text if whole else text in path.read_text()


def _files(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from sorted(path for path in source.glob("*.py") if not path.stem.startswith("_"))
    else:
        yield source


def _module(path: Path) -> ModuleType:
    """The module of a file: as part of its package if it is in one, by its path otherwise."""
    if (path.parent / "__init__.py").exists():
        home = str(path.parent.parent.resolve())
        if home not in sys.path:
            sys.path.insert(0, home)
        return importlib.import_module(f"{path.parent.name}.{path.stem}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
