from __future__ import annotations

from pathlib import Path

import pytest

from statecraft.cli.config import Config, actor, as_url, find_config, find_database, sqlite_file
from statecraft.errors import ConfigError


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(place / "statecraft.toml", url="sqlite:///file.db")
    monkeypatch.setenv("STATECRAFT_URL", "env.db")
    assert find_database("flag.db", config).url == "sqlite:///flag.db"
    assert find_database(None, config).url == "sqlite:///env.db"
    monkeypatch.delenv("STATECRAFT_URL")
    assert find_database(None, config).url == f"sqlite:///{place}/file.db"
    assert find_database(None, Config()).url == "sqlite:///statecraft.db"


def test_the_nearest_file_that_has_settings_is_read(place: Path) -> None:
    (place / "pyproject.toml").write_text('[tool.statecraft]\nurl = "runs.db"\nmachines = ["post:letters"]\n')
    inner = place / "a" / "b"
    inner.mkdir(parents=True)
    (inner.parent / "pyproject.toml").write_text('[project]\nname = "other"\n')
    found = find_config(inner)
    assert found == Config(place / "pyproject.toml", "runs.db", ("post:letters",))
    (inner / "statecraft.toml").write_text('url = "nearer.db"\n')
    assert find_config(inner).url == "nearer.db"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = 3", "url must be a text"),
        ("machines = 'x'", "machines must be a list"),
        ("colour = 1", "unknown setting 'colour'"),
        ("url = ", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(place: Path, text: str, said: str) -> None:
    (place / "statecraft.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        find_config(place)


def test_paths_and_urls_of_sqlite_are_told_apart() -> None:
    assert as_url("runs.db") == "sqlite:///runs.db"
    with pytest.raises(ConfigError, match="has a question mark"):
        as_url("what?.db")
    assert as_url("/tmp/runs.db") == "sqlite:////tmp/runs.db"
    assert sqlite_file("sqlite:////tmp/runs.db") == Path("/tmp/runs.db")
    assert sqlite_file("sqlite+pysqlite:///runs.db?mode=ro") == Path("runs.db")
    assert sqlite_file("sqlite://") is None
    assert sqlite_file("postgresql://host/name") is None
    assert as_url("postgresql://host/name", Path("/x")) == "postgresql://host/name"


def test_the_actor_is_the_flag_then_the_environment_then_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECRAFT_ACTOR", "bea")
    assert actor("ann") == "ann"
    assert actor(None) == "bea"
    monkeypatch.delenv("STATECRAFT_ACTOR")
    monkeypatch.setenv("LOGNAME", "cleo")
    assert actor(None) == "cleo"
