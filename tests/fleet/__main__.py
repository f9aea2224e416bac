"""`python -m tests.fleet --minutes 30`: a soak of the length asked for, on a private server."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from statecraft.testing.postgres import PostgresServer
from tests.fleet.soak import Soak


def main() -> None:
    """A soak of the length asked for, on a private server."""
    parser = argparse.ArgumentParser(description="Soak a fleet of real processes on a real PostgreSQL.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    wanted = parser.parse_args()
    print(f"soaking for {wanted.minutes} minutes with seed {wanted.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        soak = Soak(server, server.create_database(), Path(folder), minutes=wanted.minutes, seed=wanted.seed)
        outcome = asyncio.run(soak.run())
    print(outcome)
    sys.exit(bool(outcome.wrong) or outcome.fenced == 0)


if __name__ == "__main__":
    main()
