"""What the pytest plugin's fixtures give: makers of runtimes, models and APIs, and a database of each kind. For annotations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statecraft.engine.settings import Settings
from statecraft.runtime import Runtime

if TYPE_CHECKING:
    from statecraft.clock import Clock
    from statecraft.ids import Ids
    from statecraft.llm.port import LLM
    from statecraft.llm.scripted import Script, ScriptedLLM
    from statecraft.machine.declare import Machine
    from statecraft.testing.messages_api import FakeMessagesAPI
    from statecraft.testing.postgres import PostgresServer


class MakeRuntime:
    """What `statecraft_runtime` gives: `async with statecraft_runtime(machine, llm=...) as rt:`.

    Every runtime that it makes is on the same database, which is empty when the test begins; on one in memory each has its own.
    """

    def __init__(self, url: str, clock: Clock | None) -> None:
        self.url = url
        """The test's database."""
        self._clock = clock

    def __call__(
        self,
        *machines: Machine[Any],
        llm: LLM | Mapping[str, LLM] | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> Runtime:
        """A runtime, not entered yet.

        `clock` defaults to the test's `manual_clock` if the test asks for that fixture, else to the machine's own clock;
        `settings` to `Settings(debug=True)`, which finds handlers that change their data in place.
        """
        held = settings or Settings(debug=True)
        return Runtime(self.url, machines=machines, llm=llm, settings=held, clock=clock or self._clock, ids=ids)


class MakeLLM:
    """What `scripted_llm` gives: `scripted_llm(["first", "second"])` is a `ScriptedLLM`."""

    def __call__(self, replies: Script, *, model: str = "scripted") -> ScriptedLLM:
        """A model that answers from a list, or from a function of the request."""
        from statecraft.llm.scripted import ScriptedLLM

        return ScriptedLLM(replies, model=model)

    def rules(self, rules: Sequence[Any], default: Any = None) -> ScriptedLLM:
        """A model that answers by the first rule that fits; see `ScriptedLLM.rules`."""
        from statecraft.llm.scripted import ScriptedLLM

        return ScriptedLLM.rules(rules, default)


class MakeAPI:
    """What `fake_messages_api` gives: `api = fake_messages_api(script=["429_retry_after", "ok"])`, listening until the test ends.

    It runs beside the test on a thread of its own, by the real clock. Use `FakeMessagesAPI` for one by the test's clock.
    """

    def __init__(self, closing: contextlib.ExitStack) -> None:
        self._closing = closing

    def __call__(self, scenario: Any = "ok", **settings: Any) -> FakeMessagesAPI:
        """An API that listens; the settings are those of `FakeMessagesAPI`."""
        from statecraft.testing.messages_api import FakeMessagesAPI

        return self._closing.enter_context(FakeMessagesAPI(scenario, **settings))


@contextlib.contextmanager
def store_url(kind: str, folder: Path, server: Callable[[], PostgresServer]) -> Iterator[str]:
    """The URL of an empty database of a kind: `memory`, `sqlite` (a file in the folder) or `postgresql`."""
    if kind == "postgresql":
        database = server().create_database()
        try:
            yield database
        finally:
            server().drop_database(database)
    else:
        yield "sqlite://" if kind == "memory" else f"sqlite:///{folder / 'statecraft.db'}"
