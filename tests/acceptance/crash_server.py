"""Run by the kill tests as a script: imports everything once, then forks a fresh process for each request line.

A request is one JSON line: {"url", "calls", "kill_at", "kill_after"}. The child drives one research run from wherever
the database says it stands to its end, approving the review by flag. It dies by SIGKILL at persistence point number
`kill_at`, or is killed from outside after `kill_after` seconds. The answer line is {"status": exit status,
"points": persistence points passed (only if it lived)}.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from machines import research as agent
from statecraft import Runtime, Settings, Status
from statecraft.llm.port import LLM, Reply, Request
from statecraft.store import open_store
from statecraft.testing import KillAt, PointCounter


class Counting:
    """The offline model, noting each request in a file that survives the process."""

    def __init__(self, inner: LLM, path: str) -> None:
        self.inner, self.path = inner, path
        self.model, self.label = inner.model, inner.label

    async def complete(self, request: Request) -> Reply:
        with Path(self.path).open("a") as notes:
            notes.write("model\n")
        return await self.inner.complete(request)

    async def close(self) -> None:
        await self.inner.close()


async def drive(url: str, notes: str, probe: Callable[[str], None]) -> None:
    """Start or go on with the run, to its end."""
    store = open_store(url, probe=probe)
    model = Counting(agent.model(), notes)
    async with Runtime(
        url, machines=[agent.research], llm=model, settings=Settings(take="own", poison=1_000), store=store
    ) as runtime:
        run = await runtime.start(agent.research, agent.Brief(question=agent.DEMO_QUESTION), key="the-run")
        if not run.status.closed:
            run = await runtime.resume(run.id)
        run = await runtime.wait(run.id)
        while run.status is Status.WAITING:
            await runtime.send(run.id, agent.Approved(), by="flag")
            run = await runtime.wait(run.id)


def child(request: dict[str, object], answer: int) -> None:
    """The forked process: never returns."""
    kill_at = request.get("kill_at")
    probe: PointCounter | KillAt = PointCounter() if kill_at is None else KillAt(int(str(kill_at)))
    try:
        asyncio.run(drive(str(request["url"]), str(request["calls"]), probe))
    except BaseException as error:
        os.write(answer, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)
    os.write(answer, str(probe.points).encode())
    os._exit(0)


def warm() -> None:
    """One whole run before the first fork, so that each child inherits what only a first run has to prepare."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(drive(f"sqlite:///{folder}/runs.db", f"{folder}/calls.txt", PointCounter()))


def serve() -> None:
    """Answer request lines until standard input ends."""
    warm()
    for line in sys.stdin:
        request = json.loads(line)
        out, answer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(out)
            child(request, answer)
        os.close(answer)
        limit = request.get("kill_after")
        # A child that ends closes its end of the pipe, which makes it readable.
        if limit is not None and not select.select([out], [], [], limit)[0]:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        said = os.read(out, 4096).decode()
        os.close(out)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "said": said}), flush=True)


if __name__ == "__main__":
    serve()
