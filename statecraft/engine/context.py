"""What a handler receives: the run's data, and the only ways out of the process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from statecraft.calls import classify
from statecraft.calls.budget import tenant_draws
from statecraft.calls.call import Action, Call, Failure, Reply, Scope, canonical
from statecraft.calls.gate import action_text
from statecraft.clock import instant
from statecraft.engine import live
from statecraft.engine.budgets import metered, own_draws, remaining
from statecraft.engine.children import Family, nested, well
from statecraft.engine.fanout import together
from statecraft.engine.held import Held
from statecraft.engine.joining import Joining, mapped
from statecraft.engine.machine_tool import MachineTool
from statecraft.engine.model import StepModel
from statecraft.engine.services import Services
from statecraft.errors import CallError, ErrorKind, NotAllowed
from statecraft.machine.child import Child
from statecraft.machine.context import BudgetLeft, Run
from statecraft.machine.data import Data
from statecraft.machine.declare import Machine
from statecraft.machine.joins import All, Join, all_of
from statecraft.records import Draw, Waiting
from statecraft.tools import CallInfo, Tool

D = TypeVar("D", bound=Data)
C = TypeVar("C", bound=Data)


class StepRun(Run[D]):
    """The run as one visit's handler sees it. Lives as long as the handler."""

    scope: Scope
    """On whose account the visit makes its calls; made on first use."""

    def __init__(self, held: Held, services: Services) -> None:
        self.id = held.id
        self.data = cast(D, held.data)
        self.state = held.state
        self.visit = held.visits[held.state]
        self.step = held.seq
        self.tools = held.definition.handlers[held.state].tools
        self.trace_id = held.trace_id
        self.journal = held.visit
        """The journal of this visit; for the engine's own parts."""
        self._services = services
        self._may_call_tools = held.definition.states[held.state].tools
        self._held = held
        self._kin: Family | None = None

    def __getattr__(self, name: str) -> Any:
        # Most visits ask no model. Made on first use, because it and this object refer to each other, and what refers
        # to itself is only freed by the garbage collector.
        if name == "llm":
            self._refuse_in_review()
            llm = self._services.llm_of(self._held.definition.name)
            self.llm = StepModel(self.scope, self.journal, self._services, self.answer, self._may_call_tools, llm)
            return self.llm
        if name == "scope":
            self.scope = Scope(self.id, self.state, self.data, self._held.tenant, self._draws, self._held.used)
            return self.scope
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def _refuse_in_review(self) -> None:
        """A review spends nothing: its handler is asked anew whenever it is looked at, and no budget of its own bounds it."""
        if self._held.definition.states[self.state].kind == "review":
            raise NotAllowed(f"{self.state} is a review, and asks no model; ask it in the state before, and show what it said")

    @property
    def _draws(self) -> tuple[Draw, ...]:
        """Budgets that the visit's calls draw on: its own, and those of the runs above it."""
        return (*own_draws(self._held), *self._held.draws)

    # --- tools -------------------------------------------------------------------------------------------------------

    async def tool(self, tool: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool. Its arguments are validated first, its result is durable before the handler sees it.

        Raises `NotAllowed` if the state does not declare the tool, `CallError` if the tool failed for good.
        """
        return tool.load(await self.use(tool, tool.bind(*args, **kwargs)))

    async def use(self, tool: Tool[..., Any], arguments: Mapping[str, Any]) -> str:
        """The tool's result as JSON text. `arguments` are plain JSON values."""
        self._check_declared(tool)
        if isinstance(tool, MachineTool):
            end = await self._family().call(tool.machine.definition, tool.payload(arguments))
            well(end)
            return end
        return (await self._services.stack(self._tool_call(tool, arguments))).result

    async def answer(self, tool: Tool[..., Any], arguments: Mapping[str, Any]) -> str:
        """The tool's result, or its failure (`CallError.message`), as a model reads it: with a note if a person changed
        the arguments, since the model would take the answer for one to what it asked; and if it was cut, with the place
        where the record keeps all of it."""
        if isinstance(tool, MachineTool):
            return tool.render(tool.load(await self.use(tool, arguments)))
        self._check_declared(tool)
        call = self._tool_call(tool, arguments)
        try:
            text = tool.render(tool.load((await self._services.stack(call)).result))
        except CallError as error:
            error.message = f"{self.journal.note(call)}{error.message}"
            raise
        if len(text) > tool.max_chars:
            text += f"\n[kept whole in the record: run {self.id}, step {self.step}, call {call.digest.hex()[:12]}]"
        return f"{self.journal.note(call)}{text}"

    def _check_declared(self, tool: Tool[..., Any]) -> None:
        if tool.name not in self._may_call_tools:
            declared = ", ".join(self._may_call_tools) or "none"
            raise NotAllowed(
                f"state {self.state} does not declare the tool {tool.name!r} (declared: {declared}); add it to tools=[...]"
            )

    def _tool_call(self, tool: Tool[..., Any], arguments: Mapping[str, Any]) -> Call:
        def performing(arguments: Mapping[str, Any]) -> Callable[[Call], Awaitable[Reply]]:
            async def perform(call: Call) -> Reply:
                info = CallInfo(key=call.key, attempt=call.attempt, run_id=self.id, report=self._reporter(call))
                return Reply(tool.dump(await tool.invoke(arguments, info)))

            return perform

        request = action_text(tool.name, arguments)
        digest, occurrence, key = self.journal.identify("tool", request)
        return Call(
            visit=self.journal,
            kind="tool",
            name=tool.name,
            request=request,
            digest=digest,
            occurrence=occurrence,
            key=key,
            perform=performing(arguments),
            classify=partial(classify.of_tool, errors=self._services.settings.errors),
            timeout=tool.timeout.total_seconds(),
            once=tool.effect == "once",
            dependency=f"tool:{tool.name}",
            scope=self.scope,
            price=tool.price,
            action=Action(tool.name, arguments, tool.risk or "high", digest, tool.validate, performing),
        )

    def _reporter(self, call: Call) -> Callable[[str, Mapping[str, Any]], None]:
        def report(text: str, fields: Mapping[str, Any]) -> None:
            if self._services.live.followed(self.id):
                self._services.live.publish(self.id, live.piece(call, self.state, "tool", text, fields))

        return report

    def progress(self, text: str = "", /, **fields: Any) -> None:
        """Tell whoever follows the run live how far the handler is."""
        if self._services.live.followed(self.id):
            at = self.journal.clock.now()
            said = live.Live(self.id, "progress", self.state, "", text, fields, self.step, at)
            self._services.live.publish(self.id, said)

    # --- several at once ---------------------------------------------------------------------------------------------

    async def gather(self, *awaitables: Awaitable[Any]) -> Any:
        """Await all; results in order. Nothing is cancelled when one fails: the first error in order is raised last."""
        return tuple(await together(awaitables))

    async def map(
        self, fn: Callable[[Any], Awaitable[Any]], items: Iterable[Any], *, concurrency: int = 8, join: Join = all_of
    ) -> Any:
        """`fn` of each item, at most `concurrency` at once; `join` says when it is enough."""
        if isinstance(join, All):
            return await mapped(fn, list(items), concurrency)
        family = self._family() if nested(self._held.definition.handlers[self.state]) else None
        return await Joining(self.journal, self._services.stack, family).map(fn, list(items), concurrency, join)

    # --- child runs --------------------------------------------------------------------------------------------------

    async def child(self, machine: Machine[C], data: C, /, *, ok_only: bool = True) -> Child[C]:
        """Run a machine as a child run and wait for its end, parked meanwhile."""
        declared = self._held.definition.handlers[self.state].children
        if not any(machine is each for each in declared):
            known = ", ".join(each.name for each in declared) or "none"
            raise NotAllowed(
                f"state {self.state} does not declare the machine {machine.name!r} (declared: {known}); add it to children=[...]"
            )
        return cast("Child[C]", await self._family().run(machine, data, ok_only=ok_only))

    def _family(self) -> Family:
        """The child runs of this run."""
        if self._kin is None:
            self._kin = Family(self._held, self._services)
        return self._kin

    async def budget(self) -> BudgetLeft:
        """What is left to spend, the same in every execution of this visit."""

        async def perform(call: Call) -> Reply:
            now = call.visit.clock.now()
            draws = (*self._draws, *tenant_draws(self._services.settings.tenants, self._held.tenant, now))
            used = await call.visit.store.used([meter for draw in draws for meter in metered(draw)])
            return Reply(canonical(remaining(draws, used, now)))

        left = json.loads(await self._local("budget", "{}", perform))
        return BudgetLeft(left["share"], left["left"])

    # --- time and chance ---------------------------------------------------------------------------------------------

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass, durably: a long sleep parks the run and holds nothing."""
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
        visit = self.journal
        visit.slept = True

        async def perform(_call: Call) -> Reply:
            return Reply(canonical({"due": visit.clock.now() + int(max(0.0, seconds) * 1_000_000)}))

        due = json.loads(await self._local("sleep", canonical({"seconds": seconds}), perform))["due"]
        remaining = (due - visit.clock.now()) / 1_000_000
        if remaining > self._services.settings.retry.park_after:
            raise visit.park(due, Waiting.TIMER)
        if remaining > 0:
            await visit.clock.sleep(remaining)

    async def now(self) -> datetime:
        """The current instant (UTC), the same in every execution of this visit."""

        async def perform(call: Call) -> Reply:
            return Reply(str(call.visit.clock.now()))

        return instant(int(await self._local("now", "{}", perform)))

    async def random(self) -> float:
        """A number in [0, 1), the same in every execution of this visit."""

        async def perform(_call: Call) -> Reply:
            return Reply(repr(self._services.ids.uniform()))

        return float(await self._local("random", "{}", perform))

    async def _local(self, kind: str, request: str, perform: Callable[[Call], Awaitable[Reply]]) -> str:
        digest, occurrence, key = self.journal.identify(kind, request)
        call = Call(self.journal, kind, kind, request, digest, occurrence, key, perform, _local_failure)
        return (await self._services.stack(call)).result


def _local_failure(error: Exception) -> Failure:
    return Failure(ErrorKind.PERMANENT, f"{type(error).__name__}: {error}")
