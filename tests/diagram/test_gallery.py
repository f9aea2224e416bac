from __future__ import annotations

from pathlib import Path

import pytest

from statecraft.diagram import gallery

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "machines", ROOT / "examples"]

DOOR = '''
from statecraft import Data, Event, Machine, Run

class Push(Event):
    """Somebody pushed."""

door = Machine("{name}", data=Data)

@door.state(start=True)
async def closed(run: Run[Data]) -> Push:
    """Wait for a push."""
    return Push()

opened = door.final("opened", ok=True)
door.transitions(closed.on(Push) >> opened)
'''


def test_the_pictures_in_the_gallery_show_the_machines_as_they_are() -> None:
    assert gallery.stale(SOURCES, ROOT / "diagrams") == [], "run: make diagrams"


@pytest.mark.slow
def test_a_machine_is_drawn_in_three_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doors.py").write_text(DOOR.replace("{name}", "door"))
    out = tmp_path / "out"
    assert gallery.main([str(tmp_path / "doors.py"), str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["door.dot", "door.mmd", "door.svg"]
    assert gallery.mark((out / "door.dot").read_text()) in (out / "door.svg").read_text()
    assert gallery.stale([tmp_path / "doors.py"], out) == []
    assert capsys.readouterr().out == f"{out / 'door.svg'}\n"


@pytest.mark.slow
def test_a_changed_machine_makes_its_pictures_stale_and_orphans_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "gates.py", tmp_path / "out"
    source.write_text(DOOR.replace("{name}", "gate"))
    gallery.main([str(source), str(out)])
    (out / "gate.svg").write_text("<svg/>")
    (out / "old.mmd").write_text("stateDiagram-v2\n")
    source.write_text(DOOR.replace("{name}", "gate").replace("opened", "wide_open"))
    assert gallery.stale([source], out) == ["gate.dot", "gate.mmd", "gate.svg", "old.mmd"]


@pytest.mark.slow
def test_drawing_again_removes_the_pictures_of_machines_that_are_gone(tmp_path: Path) -> None:
    source, out = tmp_path / "hatches.py", tmp_path / "out"
    source.write_text(DOOR.replace("{name}", "hatch"))
    gallery.main([str(source), str(out)])
    source.write_text(DOOR.replace("{name}", "lid"))
    gallery.main([str(source), str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["lid.dot", "lid.mmd", "lid.svg"]
