"""The feed's order among many writers: a reader that goes by positions never passes over an entry.

A sequence gives positions before commits are made, so a later commit may hold a lower position. Each transaction therefore
announces at its beginning, by a shared advisory lock, the last position given before it; its own are higher. A reader takes
first the last position given, then the lowest announcement, and reads up to the lower of both, in a snapshot made after that:
who announced later, gets positions above the first; who ended before, is in the snapshot. (Cutting at the oldest transaction
that goes on instead would stall behind any program on the server, and would not survive a dump and restore.)
"""

from __future__ import annotations

import sqlalchemy as sa

_NUMBER = "mod('feed_pos_seq'::regclass::oid::bigint, 2147483647)"
"""Our announcements among other programs' locks."""

_MODULUS = 2**31

ANNOUNCE = f"pg_advisory_xact_lock_shared({_NUMBER}::int, mod(last_value, {_MODULUS})::int) FROM feed_pos_seq"

_LAST = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM feed_pos_seq"

_ANNOUNCED = f"""
SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = {_NUMBER}
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608  # our own words


def end(sql: sa.Connection) -> int:
    """The position up to which nothing is missing, for every snapshot made after this."""
    last = int(sql.exec_driver_sql(_LAST).scalar_one())
    announced = sql.exec_driver_sql(_ANNOUNCED).scalars()
    # An announcement is the lower part of a position that is no higher than the last one.
    return min((last - (last - part) % _MODULUS for part in announced), default=last)
