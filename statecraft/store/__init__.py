"""The durable home of runs: a port (`statecraft.store.port`) and its implementation over SQL."""

from __future__ import annotations

from collections.abc import Callable

from statecraft.store.port import Store


def open_store(url: str, *, probe: Callable[[str], None] | None = None, migrate: bool = True) -> Store:
    """A store for a database URL, not opened yet: `sqlite:///path/to/file.db`, or `sqlite://` for memory.

    Opening brings an older schema up, unless `migrate` is off: then `StoreUnavailable` says that it is due. `probe` is called with `before` just before and `after` just after each commit, for tests that crash there.
    Raises `ConfigError` for a URL that is not supported.
    """
    # SQLAlchemy is heavy, so it loads with the first store.
    from statecraft.store.sql import SqlStore
    from statecraft.store.sqlite import Sqlite, parse

    return SqlStore(Sqlite(parse(url)), probe=probe, migrate=migrate)
