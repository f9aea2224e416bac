"""What people install is complete: the wheel holds the library, its types and its agents, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = {".py", ".md", ".jsonl", ".typed", ".csv", ".eml", ".html", ".txt"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_the_mark_of_types(unpacked: Path) -> None:
    wanted = {path.relative_to(ROOT) for path in (ROOT / "statecraft").rglob("*.py")} | {Path("statecraft/py.typed")}
    wanted |= {path.relative_to(ROOT) for path in (ROOT / "statecraft/store/migrations").rglob("*.sql")}
    wanted |= {Path("statecraft/diagram/page.css"), Path("statecraft/diagram/page.js")}
    wanted |= {Path("statecraft") / path.relative_to(ROOT) for path in (ROOT / "machines").rglob("*") if path.suffix in SHIPPED}
    held = {
        path.relative_to(unpacked)
        for path in unpacked.rglob("*")
        if path.is_file() and ".dist-info" not in path.parent.as_posix()
    }
    assert held == wanted


@pytest.mark.slow
def test_the_agents_work_from_where_the_wheel_puts_them(unpacked: Path, tmp_path: Path) -> None:
    code = "import statecraft.machines.research as found; print(found.__file__, found.research.definition.name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(unpacked))


@pytest.mark.slow
def test_the_wheel_names_its_licence_its_command_and_its_plugin(unpacked: Path) -> None:
    [info] = unpacked.glob("*.dist-info")
    assert "License-Expression: MIT" in (info / "METADATA").read_text()
    assert "statecraft = statecraft.cli:main" in (info / "entry_points.txt").read_text()
    assert "[pytest11]\nstatecraft = statecraft.testing.plugin" in (info / "entry_points.txt").read_text()
