"""LangGraph: five nodes in a row under a checkpointer, `durability="sync"` (each step is saved before the next begins).

The asynchronous savers are the documented ones for many runs in one process; PostgreSQL gets a pool, as its guide advises.
https://docs.langchain.com/oss/python/langgraph/durable-execution
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypedDict

from benchmarks.rivals.work import STEPS, contend, crowded, pad


class Pad(TypedDict):
    count: int
    text: str


async def step(state: Pad) -> dict[str, object]:
    return {"count": state["count"] + 1, "text": pad(state["count"] + 1)}


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[Any]:
    saver: Any = importlib.import_module("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver
    pool: Any = importlib.import_module("psycopg_pool").AsyncConnectionPool
    rows: Any = importlib.import_module("psycopg.rows").dict_row
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": rows}
    async with pool(url, min_size=10, max_size=10, kwargs=options) as connections:
        yield saver(connections)


def _saver(url: str) -> AbstractAsyncContextManager[Any]:
    if url.startswith("sqlite"):
        saver: Any = importlib.import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        made: AbstractAsyncContextManager[Any] = saver.from_conn_string(url.removeprefix("sqlite:///"))
        return made
    return _postgres(url)


async def go(url: str, runs: int) -> float:
    graph: Any = importlib.import_module("langgraph.graph")
    async with _saver(url) as saver:
        await saver.setup()
        builder = graph.StateGraph(Pad)
        names = [f"step_{number}" for number in range(STEPS)]
        for name in names:
            builder.add_node(name, step)
        for a, b in zip([graph.START, *names], [*names, graph.END], strict=True):
            builder.add_edge(a, b)
        agent = builder.compile(checkpointer=saver)

        async def one(number: int) -> object:
            config = {"configurable": {"thread_id": str(number)}}
            end = await agent.ainvoke({"count": 0, "text": pad(0)}, config, durability="sync")
            assert end["count"] == STEPS, end
            return end

        return await crowded(one, runs)


def how(url: str) -> str:
    if url.startswith("sqlite"):
        return 'durability="sync", AsyncSqliteSaver, WAL, synchronous=FULL'
    return 'durability="sync", AsyncPostgresSaver, pool of 10, synchronous_commit=on'


if __name__ == "__main__":
    contend(go, how)
