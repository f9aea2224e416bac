"""Child runs: started once, waited for as a row, read when they have ended, cancelled when nobody wants them any more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from statecraft import trace
from statecraft.calls import lane
from statecraft.calls.call import Call, Failure, Reply, canonical
from statecraft.calls.classify import said
from statecraft.calls.visit import AGAIN
from statecraft.clock import micros, stamp
from statecraft.engine.begin import first
from statecraft.engine.budgets import inherited
from statecraft.engine.fit import kept
from statecraft.engine.held import Held, fold
from statecraft.engine.jsonable import stored
from statecraft.engine.nursery import Nursery
from statecraft.engine.services import Services
from statecraft.errors import ChildFailed, ErrorKind, InvalidPayload, StatecraftError, StoreError
from statecraft.machine.child import Child
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition, Handler
from statecraft.records import RunRecord, Status, Waiting
from statecraft.store import chain, port

DEEPEST = 16
"""How many generations of child runs a run may have under it: a machine that runs itself ends here at the latest."""


class Family:
    """The child runs of one run, as one visit's handler sees them."""

    def __init__(self, held: Held, services: Services) -> None:
        self._held, self._services = held, services
        self._known: dict[str, RunRecord] | None = None

    @property
    def _nursery(self) -> Nursery:
        if self._services.nursery is None:
            raise StatecraftError("this engine was built without a nursery, so it runs no child runs")
        return self._services.nursery

    async def run(self, machine: Machine[Any], data: Any, *, ok_only: bool) -> Child[Any]:
        """Run a machine as a child and wait for its end. Raises `ChildFailed`, `NotAllowed` or `InvalidPayload`."""
        definition = machine.definition
        if type(data) is not definition.data_type:
            wanted = definition.data_type.__name__
            raise InvalidPayload(f"the child run of {definition.name} is started with {wanted}, not {type(data).__name__}")
        text = await self.call(definition, kept(data))
        if ok_only:
            well(text)
        return opened(definition, text)

    async def call(self, definition: Definition, payload: str) -> str:
        """The end of the child run as JSON: run_id, machine, status, state, reason, data. One journaled call."""
        visit = self._held.visit
        request = canonical({"machine": definition.name, "input": json.loads(payload)})
        digest, occurrence, key = visit.identify("child", request)
        where = lane.current()
        start_key = _start_key(visit.first, key, where)
        again = occurrence >= AGAIN

        async def perform(_call: Call) -> Reply:
            try:
                return Reply(await self._end_of(definition, payload, start_key, again=again))
            except StoreError as error:
                visit.end(error)  # Not the child's doing, so nothing of it is journaled.
                raise

        call = Call(visit, "child", definition.name, request, digest, occurrence, key, perform, _failure)
        return (await self._services.stack(call)).result

    async def _end_of(self, definition: Definition, payload: str, key: str, *, again: bool) -> str:
        """The end of the child with this key, started now if there is none. Parks while it is under way."""
        if self._known is None:
            self._known = {str(run.key): run for run in await self._nursery.of(self._held.id)}
        key, run = self._latest(self._known, key, again=again)
        if run is not None and run.status.closed:
            return await self._read(definition, run)
        if run is None:
            raw = await self._start(definition, payload, key)
        else:
            raw = bytes.fromhex(run.id)
            self._nursery.look_after(raw)
        raise self._held.visit.park(None, Waiting.CHILD, children=(raw,))

    def _latest(self, known: Mapping[str, RunRecord], key: str, *, again: bool) -> tuple[str, RunRecord | None]:
        """(start key, child run) of the latest child with this key, or of the one to start.

        After a redrive of this run, what ended before it does not count if it was cancelled by this run's death, or if
        its failure is what the run died of: then another child takes its place.
        """
        visit = self._held.visit
        named = [key, *(_renamed(key, turn) for turn in range(1, visit.redrives + 1))]
        latest = next((each for each in reversed(named) if each in known), key)
        run = known.get(latest)
        spent = latest != named[-1] and run is not None and run.status.closed and stamp(run.updated_at) <= visit.redriven_at
        if run is not None and spent and (again or run.status is Status.CANCELLED):
            return named[-1], None
        return latest, run

    async def _start(self, definition: Definition, payload: str, key: str) -> bytes:
        await self._check_depth(definition)
        held, nursery = self._held, self._nursery
        number, now = await nursery.register(definition), nursery.clock.now()
        draws = inherited(held)
        origin = chain.origin(key, held.tenant, held.run_id, draws)
        row = first(definition, number, nursery.ids.run_id(now), now, payload, 0, origin)
        deadline = None if definition.deadline is None else now + micros(definition.deadline)
        start = port.Start(
            row,
            port.Head(Status.READY, due_at=now),
            key,
            deadline,
            held.trace_id,
            tenant=held.tenant,
            parent=held.run_id,
            draws=draws,
            queue=held.queue,
            priority=held.priority,
            share=self._services.settings.share_of(held.tenant),
        )
        raw = cast(bytes, await held.visit.write(start))
        if raw == row.run_id:
            trace.emit("run.started", {"run_id": raw.hex(), "machine_name": definition.name, "parent": held.id})
        nursery.look_after(raw)
        return raw

    async def _check_depth(self, definition: Definition) -> None:
        depth, parent = 1, self._held.parent
        while parent is not None and depth <= DEEPEST:
            depth, parent = depth + 1, (await self._nursery.store.run(bytes.fromhex(parent))).parent
        if depth > DEEPEST:
            raise ChildFailed(
                f"{definition.name} was not started: run {self._held.id} is a child run in generation {DEEPEST} already, "
                f"and there are no more; a machine that runs itself must come to an end before",
                kind=ErrorKind.CHILD,
                name=definition.name,
            )

    async def _read(self, definition: Definition, run: RunRecord) -> str:
        """What the journal of the parent keeps of a child that has ended."""
        loaded = await self._nursery.store.load(bytes.fromhex(run.id))
        end = {"run_id": run.id, "machine": run.machine, "status": run.status, "state": run.state, "reason": _why(run, loaded)}
        try:
            data = json.loads(stored(fold(definition, loaded)))
        except ValueError as error:
            raise ChildFailed(
                f"child run {run.id} is {run.status}, but its data cannot be read by this {definition.name}: {said(error)}",
                kind=ErrorKind.CHILD,
                name=definition.name,
            ) from error
        return canonical({**end, "data": data})

    async def leave(self, lanes: Sequence[str]) -> None:
        """Cancel the open child runs that were started in these lanes: others were chosen."""
        open_runs = [run for run in await self._nursery.of(self._held.id) if not run.status.closed]
        for run in open_runs:
            where = lane_of(run.key)
            if any(lane.inside(where, each) for each in lanes):
                await self._nursery.cancel(run, "the run that started it has enough results")


def _start_key(seq: int, key: str, where: str) -> str:
    return f"{of_visit(seq)}{key}:{where}" if where else f"{of_visit(seq)}{key}"


def _renamed(key: str, turn: int) -> str:
    """The start key of the child that takes the place of another after redrive number `turn` of a visit."""
    head, colon, where = key.removeprefix("child:").partition(":")
    return f"child:{head}~{turn}{colon}{where}"


def of_visit(seq: int) -> str:
    """How the start keys of all child runs begin that a visit of their parent started."""
    return f"child:{seq}."


def lane_of(key: str | None) -> str:
    """The lane in which a child run with this start key was started."""
    parts = (key or "").split(":", 2)
    return parts[2] if len(parts) == 3 else ""


def _why(run: RunRecord, loaded: port.Loaded) -> str | None:
    """Why the child ended otherwise than well: what the run says, or the event that led to its end."""
    if run.reason is not None or run.status is not Status.FAILED or not loaded.tail:
        return run.reason
    _, event, payload = loaded.tail[-1]
    told = json.loads(payload)
    said = told.get("message") or told.get("reason")
    return f"by {event}: {said}" if isinstance(said, str) else f"by {event}"


def well(text: str) -> None:
    """Raise `ChildFailed` unless the child ended as done. `text` is the end as `Family.call` answers it."""
    end = json.loads(text)
    if end["status"] == Status.DONE:
        return
    why = f": {end['reason']}" if end["reason"] else ""
    message = f"child run {end['run_id']} of {end['machine']} is {end['status']} in {end['state']}{why}"
    raise ChildFailed(message, kind=ErrorKind.CHILD, name=end["machine"])


def opened(definition: Definition, text: str) -> Child[Any]:
    """The end of a child as its parent's handler gets it."""
    end = json.loads(text)
    data = definition.data_type.model_validate_json(json.dumps(end["data"]))
    return Child(end["run_id"], Status(end["status"]), end["state"], data, end["reason"])


def machines_of(definition: Definition) -> list[Machine[Any]]:
    """The machines that the states of a definition may run as children."""
    found = {id(machine): machine for handler in definition.handlers.values() for machine in nested(handler)}
    return list(found.values())


def nested(handler: Handler) -> list[Machine[Any]]:
    """The machines that a handler may run as children, those of machine tools included."""
    tools = (getattr(tool, "machine", None) for tool in handler.tools)
    return [*handler.children, *(machine for machine in tools if machine is not None)]


def _failure(error: Exception) -> Failure:
    return Failure(ErrorKind.CHILD, f"{type(error).__name__}: {said(error)}")
