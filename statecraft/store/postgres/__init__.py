"""Everything that is particular to PostgreSQL; nothing outside of this package knows it."""

from statecraft.store.postgres.server import Postgres, parse

__all__ = ["Postgres", "parse"]
