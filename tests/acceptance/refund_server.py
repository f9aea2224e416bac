"""Run by the refund tests as a script: imports everything once, then forks a fresh process for each request line.

A request is one JSON line: {"folder", "kill_at", "die", "doubt"}. The child drives one ticket from wherever the database
says it stands to its end, or to a question that nobody answers. When asked about the refund it lowers the amount, and
approves what it is asked then. It dies by SIGKILL at persistence point number `kill_at`, or about the tool: `die` is
`before` (it has begun, nothing is paid), `after` (the shop has committed, the tool has not returned) or `recording` (at the
first persistence point after the shop has committed: what the tool said cannot be durable). A refund in doubt is answered
as `doubt` says: `look` looks into the shop by the idempotency key, `give_up` gives up, nothing leaves it open.
The answer line is {"status": exit status, "said": what the child said, as JSON (only if it lived)}.

Each payment is noted in a file: `begun` when the tool begins, `paid` when the shop has committed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from machines import shop
from machines import support as agent
from statecraft import Approve, DidNotHappen, GiveUp, Happened, Modify, Runtime, Status
from statecraft.decisions import Decision
from statecraft.records import ReviewRecord
from statecraft.store import open_store
from statecraft.testing import KillAt, PointCounter

EMAIL = "ann@example.com"
MESSAGE = "The kettle of order 1042 arrived broken. Please refund it."
NEVER = -1
LESS = {"order": 1042, "cents": 3000, "reason": "half of it"}


def deadly(folder: Path, die: str | None, probe: PointCounter | KillAt) -> None:
    """Have the shop note each payment, and this process die in the middle of one."""
    pay, notes = shop.refund, folder / "payments.txt"

    def refund(path: str, email: str, order: int, cents: int, reason: str, key: str) -> shop.Refund:
        note(notes, "begun")
        if die == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        known = len(shop.refunds_of(path, EMAIL))
        made = pay(path, email, order, cents, reason, key)
        if len(shop.refunds_of(path, EMAIL)) > known:
            note(notes, "paid")
        if die == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if die == "recording":
            assert isinstance(probe, KillAt)
            probe.at = probe.points
        return made

    shop.refund = refund


def note(path: Path, word: str) -> None:
    with path.open("a") as notes:
        notes.write(f"{word}\n")


def answer(review: ReviewRecord, path: str, doubt: str | None) -> Decision | None:
    """What the reviewer decides; None leaves the question open."""
    if review.kind == "gate":
        return Approve() if review.arguments == LESS else Modify(LESS)
    if doubt == "give_up":
        return GiveUp("nobody can tell")
    if doubt != "look":
        return None
    made = [refund for refund in shop.refunds_of(path, EMAIL) if refund.key == review.show["key"]]
    return Happened(made[0]) if made else DidNotHappen()


async def drive(request: dict[str, Any], probe: PointCounter | KillAt) -> dict[str, object]:
    """Start or go on with the ticket, to its end or an open question."""
    folder = Path(request["folder"])
    url, path = f"sqlite:///{folder / 'runs.db'}", str(folder / "shop.db")
    settings = replace(agent.settings, take="own")
    async with Runtime(
        url, machines=[agent.support], llm=agent.model(), settings=settings, store=open_store(url, probe=probe)
    ) as runtime:
        ticket = agent.Ticket(email=EMAIL, message=MESSAGE, shop=path)
        run = await runtime.start(agent.support, ticket, key="the-ticket")  # Goes on with it, if there is one.
        run = await runtime.wait(run.id)
        first = probe.points
        while run.status is Status.WAITING:
            (review,) = await runtime.reviews(run.id, open_only=True)
            decision = answer(review, path, request.get("doubt"))
            if decision is None:
                break
            await runtime.decide(run.id, decision, by="flag")
            run = await runtime.wait(run.id)
        asked = [[review.kind, review.decision] for review in await runtime.reviews(run.id)]
    return {"status": run.status, "state": run.state, "first_asked": first, "points": probe.points, "asked": asked}


def child(request: dict[str, Any], out: int) -> None:
    """The forked process: never returns."""
    kill_at, die = request.get("kill_at"), request.get("die")
    kills = kill_at is not None or die == "recording"
    probe = KillAt(NEVER if kill_at is None else int(kill_at)) if kills else PointCounter()
    deadly(Path(request["folder"]), die, probe)
    try:
        said = asyncio.run(drive(request, probe))
    except BaseException as error:
        os.write(out, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)
    os.write(out, json.dumps(said).encode())
    os._exit(0)


def warm() -> None:
    """One ticket before the first fork, so that each child inherits what only a first run has to prepare."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(drive({"folder": folder}, PointCounter()))


def serve() -> None:
    """Answer request lines until standard input ends."""
    warm()
    for line in sys.stdin:
        out, answered = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(out)
            child(json.loads(line), answered)
        os.close(answered)
        _, status = os.waitpid(pid, 0)
        said = os.read(out, 65_536).decode()
        os.close(out)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "said": said}), flush=True)


if __name__ == "__main__":
    serve()
