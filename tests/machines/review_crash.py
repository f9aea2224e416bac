"""Run by the kill test as a script: dies at persistence points of one review, goes on in another process, and says how it ended.

Arguments: the folder to work in, and how many points to leave out between two deaths. Each point has a database, a repository
and an `out` of its own. The answer is one JSON line: `points`, and for each death the final state, the files that were posted,
how often the tests ran, and what a replay and a verification of the record complained about.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from machines.review import Approved, Change, review, settings
from machines.review_offline import OfflineReview
from statecraft import Approve, DidNotHappen, Runtime, Settings, Status
from statecraft.store import open_store
from statecraft.testing import KillAt, PointCounter
from tests.machines.review_cases import NEW, OLD, Repo

OWN = Settings(gate=settings.gate, take="all", poison=1_000)


async def drive(folder: Path, probe: Callable[[str], None]) -> dict[str, object]:
    """Start or go on with the review, to its end; a person says yes to everything."""
    url = f"sqlite:///{folder}/runs.db"
    command = ["sh", "-c", f"echo ran >> {folder}/ran"]
    change = Change(repo=str(folder / "repo"), range="HEAD~1..HEAD", out=str(folder / "out"), test=command, test_seconds=20)
    store = open_store(url, probe=probe)
    async with Runtime(url, machines=[review], llm=OfflineReview(), settings=OWN, store=store) as runtime:
        run = await runtime.start(review, change, key="the-run")
        if not run.status.closed:
            run = await runtime.resume(run.id)
        run = await runtime.wait(run.id)
        while run.status is Status.WAITING:
            asked = await runtime.reviews(run.id, open_only=True)
            if asked and asked[0].kind == "doubt":
                await runtime.decide(run.id, DidNotHappen(), by="flag")
            elif asked and asked[0].kind == "gate":
                await runtime.decide(run.id, Approve(), by="flag")
            else:
                await runtime.send(run.id, Approved(), by="flag")
            run = await runtime.wait(run.id)
        problems = [str(each) for each in await runtime.verify(run.id)]
        difference = (await runtime.replay(run.id)).divergence
        return {"state": run.state, "problems": [*problems, *([str(difference)] if difference else [])]}


def forked(folder: Path, at: int | None) -> tuple[int, dict[str, object]]:
    """One process that drives the review, killed at a point or not: its exit status, and what it said."""
    out, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        probe: PointCounter | KillAt = PointCounter() if at is None else KillAt(at)
        said: dict[str, object] = {}
        try:
            said = asyncio.run(drive(folder, probe))
        except BaseException as error:
            said = {"state": f"{type(error).__name__}: {error}"}
        os.write(answer, json.dumps({**said, "points": probe.points}).encode())
        os._exit(0)
    os.close(answer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(out) as file:
        text = file.read()
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else {}


def case(folder: Path, at: int | None) -> dict[str, object]:
    repo = Repo(folder / "repo")
    repo.commit({"cart.py": OLD})
    repo.commit({"cart.py": NEW, "other.py": "x = eval(y)\n"})
    died = None
    if at is not None:
        died = forked(folder, at)[0] == -signal.SIGKILL
    _, said = forked(folder, None)
    files = sorted(path.name for path in (folder / "out").iterdir()) if (folder / "out").exists() else []
    ran = (folder / "ran").read_text().count("ran") if (folder / "ran").exists() else 0
    return {**said, "died": died, "files": len(files), "ran": ran}


def main() -> None:
    folder, stride = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    whole = case(folder / "whole", None)
    points = int(str(whole["points"]))
    deaths = [case(folder / f"at{at}", at) for at in range(stride // 2, points, stride)]
    print(json.dumps({"points": points, "whole": whole, "deaths": deaths}))


if __name__ == "__main__":
    main()
