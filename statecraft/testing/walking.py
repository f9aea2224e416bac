"""The rules by which Hypothesis walks a run. Loaded by `walks`, and only where Hypothesis is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from statecraft.engine.settings import Settings
from statecraft.machine.definition import Definition
from statecraft.machine.event import Event, SystemEvent, event_name
from statecraft.testing.payloads import strategy_of
from statecraft.testing.playing import Play
from statecraft.testing.walks import Stepping


class Drawing:
    """What a walk draws from."""

    def __init__(self, definition: Definition, input: Any, examples: Sequence[Event]) -> None:
        self.definition, self._examples = definition, examples
        self.inputs: st.SearchStrategy[Any] = strategy_of(definition.data_type) if input is None else st.just(input)
        own = {name for state in definition.states.values() for name in state.events}
        self.sent = sorted(name for name in own if not issubclass(definition.events[name], SystemEvent))
        """Events that people might send."""

    def event(self, data: st.DataObject, names: Sequence[str]) -> Event:
        """One of these events, with a payload."""
        name = data.draw(st.sampled_from(sorted(names)), label="event")
        kind = self.definition.events[name]
        examples = [example for example in self._examples if event_name(type(example)) == name]
        payloads: st.SearchStrategy[Event] = strategy_of(kind)
        return data.draw(st.sampled_from(examples) | payloads if examples else payloads, label="payload")


class Walk(RuleBasedStateMachine):
    """One run, walked at random."""

    drawing: ClassVar[Drawing]
    settings: ClassVar[Settings | None]

    def __init__(self) -> None:
        super().__init__()
        self.stepping: Stepping | None = None

    @property
    def play(self) -> Play:
        """The run."""
        assert self.stepping is not None
        return self.stepping.play

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """Start the run."""
        drawn = data.draw(self.drawing.inputs, label="input")
        self.stepping = Stepping(Play(self.drawing.definition, drawn, self.settings))

    @precondition(lambda self: self.play.asks)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """A legal event."""
        assert self.stepping is not None
        self.stepping.answer(self.drawing.event(data, self.play.asks))

    @precondition(lambda self: self.play.asks and not self.play.reviewing)
    @rule()
    def fail(self) -> None:
        """A handler that raises."""
        assert self.stepping is not None
        self.stepping.answer(RuntimeError("the handler failed on purpose"))

    @rule(data=st.data())
    def send_what_nobody_waits_for(self, data: st.DataObject) -> None:
        """An illegal event."""
        assert self.stepping is not None
        if refused := [name for name in self.drawing.sent if not (self.play.reviewing and name in self.play.asks)]:
            self.stepping.refuse(self.drawing.event(data, refused))

    @precondition(lambda self: self.play.asks)
    @rule()
    def crash(self) -> None:
        """A process that dies."""
        assert self.stepping is not None
        self.stepping.crash()

    def teardown(self) -> None:
        """Replay what was walked."""
        if self.stepping is not None:
            self.stepping.close()
