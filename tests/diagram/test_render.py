from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from statecraft.diagram import Format, render, to_dot
from statecraft.errors import ConfigError
from tests.diagram.letters import LETTERS

DOT = to_dot(LETTERS)
MAGIC: dict[Format, bytes] = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
can_render = pytest.mark.skipif(
    shutil.which("dot") is None and find_spec("pygraphviz") is None, reason="no Graphviz on this machine"
)


@pytest.mark.slow
@can_render
@pytest.mark.parametrize("fmt", MAGIC)
def test_a_picture_has_the_format_asked_for(fmt: Format) -> None:
    assert render(DOT, fmt).startswith(MAGIC[fmt])


@pytest.mark.slow
@can_render
def test_states_and_rows_can_be_found_in_the_svg_by_their_ids() -> None:
    svg = render(DOT, "svg").decode()
    for name in ("s_draft", "s_sent", "e_0", "e_5", "start", "anywhere"):
        assert f'id="{name}"' in svg


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pygraphviz") is None, reason="the render extra is not installed")
def test_without_the_program_the_wheel_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert render(DOT, "png").startswith(MAGIC["png"])


def test_with_neither_the_error_names_both_fixes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("statecraft.diagram.picture.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install Graphviz .* pip install 'statecraft-agents\[render\]'"):
        render(DOT)


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="cannot draw 'gif': choose one of svg, png, pdf"):
        render(DOT, "gif")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@can_render
def test_text_that_is_not_dot_is_an_error_of_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        render("digraph {")
    assert "\n" not in str(caught.value)
