"""What a handler is given: `Run`. The engine passes its own subclass; a unit test may pass a small fake."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from statecraft.machine.child import Child
from statecraft.machine.data import D, Data
from statecraft.machine.joins import All, AnyOf, Collect, First, Join, all_of
from statecraft.records import Json

if TYPE_CHECKING:
    from statecraft.machine.declare import Machine

C = TypeVar("C", bound=Data)
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")


BY_SETTINGS: Final = "by settings"
"""Do as the runtime's settings say."""


class ToolLike(Protocol[P, R_co]):
    """Anything that `run.tool` can call: a name, arguments that become JSON, and a result that comes back from JSON."""

    @property
    def name(self) -> str:
        """Unique among the tools of a state."""
        ...

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The arguments of a call as a JSON object."""
        ...

    def load(self, text: str, /) -> R_co:
        """The result of a call, from its JSON text. For an async tool: what awaiting it gives."""
        ...


AnyTool = ToolLike[..., Any]
"""A tool of which only the name matters."""


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What was left, at one moment, of all budgets that a call would draw on: the run's, its state's, its ancestors' and
    its tenant's."""

    share: float
    """Used share of the budget that is used most, from 0; 0 without any budget."""
    amounts: Mapping[str, float]
    """The least that is left, by unit."""

    def left(self, unit: str) -> float:
        """How much is left: of `tokens`, `money` (dollars), `calls` or `wall` (seconds). Infinite where nothing limits it."""
        return self.amounts.get(unit, math.inf)


class Model(Protocol):
    """The language model as a handler sees it. Every question is journaled: asked once, recalled after a crash."""

    @overload
    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, Json]],
        *,
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
        model: str | None = None,
        max_tokens: int = 4096,
        repairs: int = 2,
        max_turns: int = 8,
        tool_concurrency: int = 8,
        check: Callable[[str], Sequence[str]] | None = None,
        context: Any = BY_SETTINGS,
    ) -> str: ...
    @overload
    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, Json]],
        *,
        output: type[T],
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
        model: str | None = None,
        max_tokens: int = 4096,
        repairs: int = 2,
        max_turns: int = 8,
        tool_concurrency: int = 8,
        check: Callable[[T], Sequence[str]] | None = None,
        context: Any = BY_SETTINGS,
    ) -> T: ...
    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, Json]],
        *,
        output: type[Any] = str,
        system: str | None = None,
        tools: Sequence[AnyTool] = (),
        model: str | None = None,
        max_tokens: int = 4096,
        repairs: int = 2,
        max_turns: int = 8,
        tool_concurrency: int = 8,
        check: Callable[[Any], Sequence[str]] | None = None,
        context: Any = BY_SETTINGS,
    ) -> Any:
        """Ask, let the model use `tools`, and give its answer back as `output` (its text by default).

        `prompt` is one user message or a whole conversation. `model` defaults to the runtime's. `max_tokens` limits each
        reply, `max_turns` the replies that are taken, the final one included, `tool_concurrency` the tools that run at once,
        `repairs` how often an answer that does not validate is sent back. `check` says what else is wrong with an answer, as
        sentences for the model; no sentences, no repair. `context` is a `SummarizeOld`, a `SlidingWindow` or another context
        policy, or None for no compaction; by default the settings decide.

        Raises `CallError`; of its subclasses `OutputInvalid` when the last repair did not help, and `Looped` when the
        model keeps making one call with one result. `NotAllowed` if the state does not declare one of the tools: then
        nobody was asked.
        """
        ...


class Run(Generic[D]):
    """One visit to one state, as its handler sees it: read `data`, call out through the methods, answer with an event.

    Everything a handler does that could turn out differently a second time goes through here, so that it is recorded
    once and recalled afterwards. All methods raise `NotImplementedError` in this class; a fake overrides what it needs.
    """

    id: str
    """The run's id, 32 hex digits."""
    data: D
    """The run's data as of entering the state. Frozen: change it by answering with an event."""
    state: str
    """The state being visited."""
    visit: int
    """Which visit to this state it is, from 1."""
    step: int
    """Number of the transition that entered the state; 0 is the start."""
    llm: Model
    """The language model."""
    tools: Sequence[AnyTool]
    """The tools declared for the state."""

    async def tool(self, tool: ToolLike[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a tool of the state. Raises `CallError` if it fails for good, `NotAllowed` if the state lacks it."""
        raise NotImplementedError

    @overload
    async def gather(self, a: Awaitable[T1], /) -> tuple[T1]: ...
    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], /
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], f: Awaitable[T6], /
    ) -> tuple[T1, T2, T3, T4, T5, T6]: ...
    @overload
    async def gather(self, *awaitables: Awaitable[T]) -> tuple[T, ...]: ...
    async def gather(self, *awaitables: Awaitable[Any]) -> tuple[Any, ...]:
        """Await all at the same time; the results in the order given. If one raises, the others still finish.

        Raises the first error in the order given.
        """
        raise NotImplementedError

    @overload
    async def map(
        self, fn: Callable[[S], Awaitable[R]], items: Iterable[S], *, concurrency: int = 8, join: All | First = all_of
    ) -> list[R]: ...
    @overload
    async def map(
        self, fn: Callable[[S], Awaitable[R]], items: Iterable[S], *, concurrency: int = 8, join: Collect
    ) -> list[R | Exception]: ...
    @overload
    async def map(self, fn: Callable[[S], Awaitable[R]], items: Iterable[S], *, concurrency: int = 8, join: AnyOf) -> R: ...
    async def map(
        self, fn: Callable[[S], Awaitable[Any]], items: Iterable[S], *, concurrency: int = 8, join: Join = all_of
    ) -> Any:
        """`await fn(item)` for every item, at most `concurrency` at a time; the results in the order of the items.

        An item that parks the run (a child run, a long wait) keeps its place among the `concurrency`. `join` says when
        it is enough: by default all items end, and the first error in their order is raised; `collect` puts errors in
        the place of results; `any_of` answers one result and `first(n)` a list of `n`, from the items that succeed first.
        What the other items had under way is stopped, their child runs are cancelled, and the choice is recorded.
        """
        raise NotImplementedError

    async def child(self, machine: Machine[C], data: C, /, *, ok_only: bool = True) -> Child[C]:
        """Run another machine as a child of this run and wait for its end. The state declares it: `children=[machine]`.

        The child is a run of its own with the same trace and tenant, drawing on the same budgets. While it is under way
        this run is parked and costs nothing; a crash never starts a second one; whatever ends this run cancels it.
        Raises `ChildFailed` if it ends otherwise than `done` (not with `ok_only=False`), `NotAllowed` if the state does
        not declare the machine, `InvalidPayload` if `data` is not of its data type.
        """
        raise NotImplementedError

    def progress(self, text: str = "", /, **fields: Json) -> None:
        """Tell whoever follows the run live how far it is. Not recorded: it may come again after a crash, and nothing may
        depend on it."""
        raise NotImplementedError

    async def budget(self) -> BudgetLeft:
        """What is left to spend, recorded: the same after a crash and in a replay. Lets a handler choose a cheaper model."""
        raise NotImplementedError

    async def sleep(self, duration: timedelta | float) -> None:
        """Wait for a duration (a number means seconds). A long sleep parks the run, which then costs nothing."""
        raise NotImplementedError

    async def now(self) -> datetime:
        """The time in UTC, recorded: the same after a crash and in a replay."""
        raise NotImplementedError

    async def random(self) -> float:
        """A number in [0, 1), recorded likewise."""
        raise NotImplementedError
