"""Burr: one action five times, saved by the SQLite persister after each. Its persister blocks, so runs go one after another.

https://burr.apache.org/concepts/state-persistence/
"""

from __future__ import annotations

import importlib
import time
from typing import Any

from benchmarks.rivals.work import STEPS, contend, pad


async def go(url: str, runs: int) -> float:
    core: Any = importlib.import_module("burr.core")
    saved: Any = importlib.import_module("burr.core.persistence")
    persister = saved.SQLitePersister.from_values(db_path=url.removeprefix("sqlite:///"), table_name="state")
    persister.initialize()

    def step(state: Any) -> Any:
        return state.update(count=state["count"] + 1, text=pad(state["count"] + 1))

    step.__annotations__ = {"state": core.State, "return": core.State}
    write = core.action(reads=["count", "text"], writes=["count", "text"])(step)

    def one(number: int) -> None:
        agent = (
            core.ApplicationBuilder()
            .with_actions(write=write)
            .with_transitions(("write", "write"))
            .with_state(count=0, text=pad(0))
            .with_entrypoint("write")
            .with_identifiers(app_id=str(number), partition_key="bench")
            .with_state_persister(persister)
            .build()
        )
        for _ in range(STEPS):
            agent.step()
        assert agent.state["count"] == STEPS

    begun = time.perf_counter()
    for number in range(runs):
        one(number)
    return time.perf_counter() - begun


def how(url: str) -> str:
    assert url.startswith("sqlite")
    return "SQLitePersister, one run at a time, rollback journal, synchronous=FULL"


if __name__ == "__main__":
    contend(go, how)
