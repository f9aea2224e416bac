"""Where settings come from: flag, then environment, then the nearest project file, then the default."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from statecraft.errors import ConfigError
from statecraft.store import shown

DEFAULT_URL = "sqlite:///statecraft.db"
KEYS = frozenset({"url", "machines"})


@dataclass(frozen=True, slots=True)
class Config:
    """What the project's file says."""

    path: Path | None = None
    """The file it was read from; None if there is none."""
    url: str | None = None
    machines: tuple[str, ...] = ()
    """TARGETs that name the machines of this project."""


@dataclass(frozen=True, slots=True)
class Database:
    """Which database, and why that one."""

    url: str
    source: str
    """`--db`, `STATECRAFT_URL`, the project file's name, or `default`."""

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for a server or a database in memory."""
        return sqlite_file(self.url)

    @property
    def migrate(self) -> bool:
        """Whether a verb that opens it brings its schema up: a file, yes; what a fleet shares, only `statecraft migrate`."""
        return self.file is not None

    @property
    def flag(self) -> str:
        """What to add to a command so that it finds the same database; empty if it would anyway."""
        return f" --db {shlex.quote(str(self.file or shown(self.url)))}" if self.source == "--db" else ""


def find_config(folder: Path) -> Config:
    """Read `statecraft.toml` or `[tool.statecraft]` of `pyproject.toml`, in the nearest folder that has either.

    Raises `ConfigError` for a file that does not parse or a key that is not known.
    """
    for place in (folder, *folder.parents):
        for name in ("statecraft.toml", "pyproject.toml"):
            path = place / name
            if path.is_file() and (table := _table(path)) is not None:
                return _config(path, table)
    return Config()


def find_database(flag: str | None, config: Config) -> Database:
    """The database to use. Paths in a project file are relative to that file, others to the current folder."""
    if flag:
        return Database(as_url(flag), "--db")
    if url := os.environ.get("STATECRAFT_URL"):
        return Database(as_url(url), "STATECRAFT_URL")
    if config.url and config.path:
        return Database(as_url(config.url, config.path.parent), config.path.name)
    return Database(DEFAULT_URL, "default")


def as_url(text: str, folder: Path | None = None) -> str:
    """A database URL; a plain path becomes a SQLite one. Relative SQLite paths count from `folder`, if given.

    Raises `ConfigError` for a path with a question mark, behind which a URL has options: another file would be opened.
    """
    if "://" not in text and "?" in text:
        raise ConfigError(f"the path {text!r} has a question mark, which no database's path may have here; choose another name")
    url = text if "://" in text else f"sqlite:///{text}"
    path = sqlite_file(url)
    if folder is None or path is None or path.is_absolute():
        return url
    return f"sqlite:///{folder / path}"


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for another database or one in memory."""
    scheme, _, rest = url.partition("://")
    path = rest.removeprefix("/").partition("?")[0]
    if scheme.partition("+")[0] != "sqlite" or path in ("", ":memory:"):
        return None
    return Path(path)


def actor(flag: str | None) -> str:
    """Who acts: `--by`, then `STATECRAFT_ACTOR`, then the user of the operating system."""
    if name := flag or os.environ.get("STATECRAFT_ACTOR"):
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("cannot tell who you are: add --by NAME or set STATECRAFT_ACTOR") from error


def _table(path: Path) -> Mapping[str, object] | None:
    """The settings of one file; None if the file holds none."""
    import tomllib

    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        if path.name == "pyproject.toml":
            return None
        raise ConfigError(f"{path} cannot be read as TOML ({error}); correct it or move it away") from error
    if path.name == "statecraft.toml":
        return parsed
    tool = parsed.get("tool")
    return tool.get("statecraft") if isinstance(tool, dict) else None


def _config(path: Path, table: Mapping[str, object]) -> Config:
    if unknown := sorted(set(table) - KEYS):
        raise ConfigError(f"{path}: unknown setting {unknown[0]!r}; there are {', '.join(sorted(KEYS))}")
    url, machines = table.get("url"), table.get("machines", [])
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"{path}: url must be a text such as {DEFAULT_URL!r}")
    if not isinstance(machines, list) or not all(isinstance(item, str) for item in machines):
        raise ConfigError(f'{path}: machines must be a list of targets such as ["package.module:machine"]')
    return Config(path, url, tuple(str(item) for item in machines))
