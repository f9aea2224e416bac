"""Drive the real engine along a path: no model, no tools, every bound really reached, and a crash around every step.

    @pytest.mark.parametrize("path", research.paths("transitions"), ids=str)
    def test_the_engine_takes(path: Path) -> None:
        drive(research, path, Brief(question="?"))

The handlers are replaced by one that answers with the path's events; everything else is what production runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from statecraft.engine.settings import Settings
from statecraft.errors import ConfigError
from statecraft.ids import digest
from statecraft.machine.covering import Path
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event
from statecraft.records import RunRecord, Status, TransitionRecord
from statecraft.runtime import Runtime
from statecraft.testing.lives import Dying, Ground, SteadyIds, refuse_inside_a_loop
from statecraft.testing.payloads import NoPayload, check_start, samples, script
from statecraft.testing.staging import Stage, provoked, staged_settings

D = TypeVar("D", bound=Data)

_DEATHS = 4
"""More deaths than this for each step, and the run does not get on."""
_INPUTS = 10
"""Inputs that are tried if none is given."""


@dataclass(frozen=True, slots=True)
class Driven(Generic[D]):
    """What became of a run that was driven along a path."""

    run: RunRecord
    history: tuple[TransitionRecord, ...]
    data: D
    """After the last leg."""
    deaths: int
    """How often its process died on the way."""


def drive(
    machine: Machine[D],
    path: Path,
    input: D | None = None,
    *,
    examples: Sequence[Event] = (),
    crash: bool = True,
    settings: Settings | None = None,
) -> Driven[D]:
    """Run the machine along a path of `machine.paths()`, in a database in memory, and assert that it went there.

    The run is started with `input` (default: the data's own defaults, or drawn data). Payloads that make the guards answer as
    the path says are taken from `examples`, else drawn. Reviews are decided in the name of `drive`; limits of time are waited
    out on a clock that stands still otherwise; calls, outputs and loops that fail are raised by the handler. With `crash`, the
    process dies before and after the commit of each step and another one goes on.

    Raises `AssertionError` if the engine goes another way, if its history does not verify or replay, or if the data differ
    from what the events make of them; `NoPayload` if a guard could not be satisfied; `ConfigError` if a payload must be drawn
    and Hypothesis is not installed, or if path or input are not of this machine.
    """
    refuse_inside_a_loop("drive")
    definition = machine.definition
    check_start(definition, input)
    _check_path(definition, path)
    data, events = _script(definition, path, input, examples)
    with closing(Ground()) as ground:
        stage = Stage(definition, path, events, ground, crash=crash)
        ids = SteadyIds(digest(str(path))[:16], 1)

        def open_runtime() -> Runtime:
            store = ground.store(stage.probe)
            options: dict[str, Any] = {"settings": staged_settings(definition, settings), "clock": ground.clock, "ids": ids}
            return Runtime(ground.url, machines=[stage.machine], llm=stage.llm, store=store, **options)

        for deaths in range(_DEATHS * (len(path.legs) + 1)):
            stage.probe, ids.begins = Dying(), deaths == 0
            driven = ground.live(stage.probe, open_runtime, lambda runtime: _story(runtime, stage, data))
            if driven is not None:
                run, history = driven
                found = _expected(definition, data, events)
                return Driven(run, tuple(history), found, deaths)
            stage.revive()
    raise AssertionError(f"{path}: the run does not get on, however often its process is started again")


def _check_path(definition: Definition, path: object) -> None:
    if not isinstance(path, Path):
        raise ConfigError(f"drive goes along one of {definition.name}.paths(), not a {type(path).__name__}")
    if path.machine != definition.name or path.start != definition.start:
        raise ConfigError(f"the path is one of {path.machine}, not of {definition.name}")


def _script(definition: Definition, path: Path, input: Any, examples: Sequence[Event]) -> tuple[Any, list[Event]]:
    """(what the run is started with, one event for each leg)."""
    stuck: NoPayload | None = None
    for data in [input] if input is not None else _inputs(definition):
        try:
            return data, script(definition, path, data, examples, lambda leg, at: provoked(definition, leg, at))
        except NoPayload as none:
            stuck = stuck or none
    raise stuck or NoPayload(f"no {definition.data_type.__name__} to start with could be drawn; pass drive(..., input=...)")


def _inputs(definition: Definition) -> Sequence[Data]:
    try:
        return [definition.data_type()]
    except ValidationError:
        return samples(definition.data_type, _INPUTS)


def _expected(definition: Definition, data: Any, events: Sequence[Event]) -> Any:
    for event in events:
        data = definition.fold(data, event)
    return data


async def _story(runtime: Runtime, stage: Stage, data: Any) -> tuple[RunRecord, list[TransitionRecord]]:
    """What every life does, whatever came before it."""
    await stage.start(runtime, data)
    await stage.play(runtime)
    return await _check(runtime, stage, data)


async def _check(runtime: Runtime, stage: Stage, data: Any) -> tuple[RunRecord, list[TransitionRecord]]:
    run, history = await runtime.get(stage.run_id), await runtime.history(stage.run_id)
    path, definition = stage.path, stage.definition
    for leg, row in itertools.zip_longest(path.legs, history[1:]):
        if (
            leg is None
            or row is None
            or (row.source, row.event, row.target) != (leg.source, leg.event.__event_name__, leg.target)
        ):
            wanted = "nothing more" if leg is None else f"{leg.source} -({leg})-> {leg.target}"
            raise AssertionError(f"{path}: the journal should have {wanted}\n{await stage.told(runtime)}")
        asked = ", ".join(f"{name}={held}" for name, held in row.guards) or "none"
        assert row.guards == leg.guards, f"{path}: step {row.seq} asked other guards: {asked}, not {leg.guards}"
    assert run.state == path.states[-1], f"{path}: the run stands in {run.state}"
    final = definition.states[run.state]
    if final.kind == "final":
        assert run.status is (Status.DONE if final.ok else Status.FAILED), f"{path}: the run is {run.status}"
        assert run.owner is None, f"{path}: {run.owner} still holds the run"
    problems = await runtime.verify(run.id)
    assert not problems, f"{path}: the stored history does not verify: {problems[0]}"
    stage.calm = True
    replayed = await runtime.replay(run.id)
    assert replayed.agrees, f"{path}: the replay differs: {replayed.divergence}"
    folded, wanted = await runtime.data(run.id), _expected(definition, data, stage.events)
    assert folded.model_dump_json() == wanted.model_dump_json(), f"{path}: the journal folds to {folded}, not to {wanted}"
    return run, history
