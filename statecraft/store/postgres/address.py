"""Where a PostgreSQL database is, and how it is connected to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from statecraft.errors import ConfigError
from statecraft.store.postgres import arrays

DEFAULTS: dict[str, object] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "statecraft",
}
"""Used unless the URL says otherwise. A connection whose other end is gone without a word is found out within a minute."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is. Its text holds no password."""

    options: dict[str, Any] = field(repr=False)
    """As libpq takes them."""

    def __str__(self) -> str:
        user, host, port, name = (str(self.options.get(key) or "") for key in ("user", "host", "port", "dbname"))
        return f"postgresql://{user and user + '@'}{host}{port and ':' + port}/{name}"


def parse(url: str) -> Target:
    """The target of a URL, as libpq reads it. Raises `ConfigError`; its text holds no password."""
    scheme, _, rest = url.partition("://")
    try:
        return Target(dict(conninfo_to_dict(f"postgresql://{rest}")))
    except psycopg.Error as error:
        said = str(error).strip()
        why = f" ({said})" if "query parameter" in said else ""
        raise ConfigError(
            f"a {scheme} URL of this form is not known{why}; use postgresql://user:password@host:5432/database?option=value, and "
            "write special characters of a name or password as %XX"
        ) from None


def connect(target: Target, settings: str = "") -> psycopg.Connection[Any]:
    """A connection in autocommit mode, told `settings` (SQL) first."""
    options = {**DEFAULTS, **target.options, "client_encoding": "utf8"}
    link = psycopg.connect(autocommit=True, **options)
    try:
        # One type for all numbers, whatever their size: a statement is prepared once.
        link.adapters.register_dumper(int, Int8Dumper)
        link.adapters.register_dumper(int, Int8BinaryDumper)
        arrays.register(link.adapters)
        link.execute(f"SET default_transaction_isolation = 'read committed'; {settings}".encode())
    except BaseException:
        link.close()
        raise
    return link
