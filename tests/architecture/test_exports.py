"""The public face: small, importable, explained."""

from __future__ import annotations

import inspect

import statecraft

MOST_NAMES = 78


def test_the_public_face_fits_on_one_screen() -> None:
    assert 0 < len(statecraft.__all__) <= MOST_NAMES
    assert len(set(statecraft.__all__)) == len(statecraft.__all__)


def test_every_public_name_can_be_imported_and_listed() -> None:
    missing = [name for name in statecraft.__all__ if not hasattr(statecraft, name)]
    assert not missing
    assert set(statecraft.__all__) <= set(dir(statecraft))


def test_every_public_class_and_function_says_what_it_is() -> None:
    public = {name: getattr(statecraft, name) for name in statecraft.__all__ if not name.startswith("__")}
    silent = [
        name
        for name, thing in public.items()
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not (thing.__doc__ or "").strip()
    ]
    assert not silent


def test_every_public_method_says_what_it_does() -> None:
    """Methods that come from elsewhere, and those that a documented protocol explains, are not counted."""
    silent: list[str] = []
    for name in statecraft.__all__:
        thing = getattr(statecraft, name)
        if not inspect.isclass(thing) or not thing.__module__.startswith("statecraft"):
            continue
        for method, member in vars(thing).items():
            if inspect.isfunction(member) and not method.startswith("_") and not (inspect.getdoc(getattr(thing, method)) or ""):
                silent.append(f"{name}.{method}")
    assert not silent
