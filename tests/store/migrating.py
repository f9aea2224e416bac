"""Run by tests as a program: opens a database of an older schema, and dies or says when it has seen what.

python -m tests.store.migrating URL [POINT]    # with a point: killed just before that statement of the migration
"""

from __future__ import annotations

import os
import signal
import sys

from statecraft.store import database_of
from statecraft.store.schema import prepare


def main() -> None:
    url, points = sys.argv[1], sys.argv[2:]
    print("ready", flush=True)
    sys.stdin.readline()
    seen: list[str] = []

    def probe(point: str) -> None:
        seen.append(point)
        if point in points:
            os.kill(os.getpid(), signal.SIGKILL)

    database = database_of(url)
    prepare(database, probe=probe).close()
    database.dispose()
    print(f"ran {max(0, len(seen) - 1)} statements", flush=True)


if __name__ == "__main__":
    main()
