"""A Hypothesis state machine for any machine: it walks the real engine at random, and looks at it after every step.

    TestResearch = state_machine_of(research, input=Brief(question="?")).TestCase

Rules: a legal event with a drawn payload; a handler that raises; an event that nobody waits for, which must be refused and
change nothing; a process that dies, after which the run stands where it stood. After each of them the journal must fold to
the data that the events make, verify, and keep to the bounds of the machine; in the end it must replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from statecraft.engine.settings import Settings
from statecraft.machine.declare import Machine
from statecraft.machine.event import Event
from statecraft.testing.payloads import check_start, hypothesis_or_not
from statecraft.testing.playing import Play

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

EXAMPLES = 50
"""Runs that one test walks."""
STEPS = 20
"""Rules that are tried in each of them."""


def state_machine_of(
    machine: Machine[Any], *, input: Any = None, examples: Sequence[Event] = (), settings: Settings | None = None
) -> type[RuleBasedStateMachine]:
    """A `RuleBasedStateMachine` whose rules walk a run of the machine, with its handlers replaced by the walk.

    Runs are started with `input`, or with drawn data. Payloads are drawn by their types; `examples` are drawn as well. Its
    `TestCase` is what a test module names; its `TestCase.settings` (default: 50 runs of 20 rules, no deadline) may be
    replaced. Raises `ConfigError` if Hypothesis is not installed, or if `input` is not of the machine's data type.
    """
    hypothesis_or_not("state_machine_of")
    check_start(machine.definition, input)
    from hypothesis import HealthCheck
    from hypothesis import settings as limits

    from statecraft.testing.walking import Drawing, Walk

    drawing = Drawing(machine.definition, input, tuple(examples))
    members = {"drawing": drawing, "settings": settings, "__doc__": Walk.__doc__}
    walk: type[Walk] = type(f"Walk_{machine.name}", (Walk,), members)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    walk.TestCase.settings = limits(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=slow)
    return walk


class Stepping:
    """A `Play` for whoever cannot await: each step runs to its end, and is looked at."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self._runner = asyncio.Runner()
        self._runner.run(play.begin())
        self._runner.run(play.sound())

    def answer(self, event: Event | Exception) -> None:
        """Answer for the handler, or decide the review."""
        self._look_after(self.play.answer(event))

    def refuse(self, event: Event) -> None:
        """Send what nobody waits for."""
        self._look_after(self.play.refuse(event))

    def crash(self) -> None:
        """The process dies, and another one goes on."""
        self._look_after(self.play.crash())

    def _look_after(self, step: Any) -> None:
        self._runner.run(step)
        self._runner.run(self.play.sound())

    def close(self) -> None:
        """Replay the run, and forget it."""
        try:
            self._runner.run(self.play.replays())
            self._runner.run(self.play.end())
        finally:
            self._runner.close()
            self.play.ground.close()
