from __future__ import annotations

from pathlib import Path

import pytest

from statecraft.cli.target import load_target, shipped_module
from statecraft.errors import ConfigError, DefinitionError

UNSOUND = """
from statecraft import Data, Event, Machine, Run


class Went(Event):
    pass


lost = Machine("lost", data=Data)


@lost.state(start=True)
async def here(run: Run[Data]) -> Went:
    return Went()


lost.transitions()
"""

OPEN = """
from statecraft import Data, Machine

draft = Machine("draft", data=Data)
"""


@pytest.mark.parametrize("text", ["post:letters", "post.py:letters"])
def test_a_machine_is_found_by_module_and_by_file(text: str) -> None:
    assert load_target(text).machine.name == "letters"


def test_a_file_in_a_package_may_import_its_neighbours(place: Path) -> None:
    package = place / "agents_of_ours" / "post_office"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "declared.py").write_text((place / "post.py").read_text())
    (package / "again.py").write_text("from .declared import letters\n")
    found = load_target("agents_of_ours/post_office/again.py:letters")
    assert found.module.__name__ == "agents_of_ours.post_office.again"
    assert found.machine.name == "letters"


def test_a_shipped_machine_is_found_by_its_name_and_by_both_of_its_modules() -> None:
    found = [
        load_target(text).machine for text in ("research", "machines.research:research", "statecraft.machines.research:research")
    ]
    assert found[0] is found[1] is found[2]
    assert shipped_module("research").__name__.endswith("machines.research")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere:letters", "there is no module 'nowhere'"),
        ("resarch", "there is no module 'resarch'; did you mean research? TARGET is"),
        ("nowhere.py:letters", "there is no file nowhere.py"),
        ("post:packets", "post has no 'packets'; it has letters"),
        ("post:number", "post:number is a int, not a machine; it has letters"),
        ("post", "TARGET 'post' names no machine: write post:letters"),
        ("post.py", "TARGET 'post.py' names no machine: write post.py:letters"),
        ("broken:x", "importing broken failed with ZeroDivisionError"),
        ("hungry:x", "importing hungry failed with ModuleNotFoundError: No module named 'no_such_thing'"),
        ("leaving:x", "importing leaving failed with SystemExit: 3"),
        ("leaving.py:x", "importing leaving.py failed with SystemExit: 3"),
        ("draft:draft", "machine draft is not closed"),
    ],
)
def test_each_way_to_be_wrong_has_its_own_words(place: Path, text: str, said: str) -> None:
    (place / "broken.py").write_text("1 / 0\n")
    (place / "leaving.py").write_text("raise SystemExit(3)\n")
    (place / "hungry.py").write_text("import no_such_thing\n")
    (place / "draft.py").write_text(OPEN)
    with pytest.raises(ConfigError) as caught:
        load_target(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_machine_that_is_not_sound_shows_its_findings(place: Path) -> None:
    (place / "unsound.py").write_text(UNSOUND)
    with pytest.raises(DefinitionError) as caught:
        load_target("unsound.py:lost")
    assert caught.value.findings
