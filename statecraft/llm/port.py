"""The port to a language model: one request, one reply, in plain values.

Messages and content blocks are JSON objects in the shape of the Anthropic Messages API, kept and resent verbatim
(unknown fields and unknown blocks included), because a provider may bind later turns to the exact earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from statecraft.errors import ErrorKind, StatecraftError
from statecraft.records import Json, Usage

Message = Mapping[str, Json]
"""`{"role": "user" | "assistant", "content": str | list of blocks}`."""
Block = Mapping[str, Json]
"""`{"type": "text" | "tool_use" | "tool_result" | ..., ...}`."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it."""

    name: str
    description: str
    input_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """A JSON schema the answer must have, already in the form the provider accepts."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that determines a reply. Canonical: equal requests have equal digests."""

    model: str
    messages: Sequence[Message]
    system: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    output: OutputSpec | None = None
    max_tokens: int = 4096
    options: Mapping[str, Json] = field(default_factory=dict)
    """Provider options passed through, such as `{"thinking": {...}}`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. A usable reply always has a stop reason and usage; anything less is a `ModelError`."""

    content: tuple[Block, ...]
    stop_reason: str
    """`end_turn`, `stop_sequence`, `tool_use`, `max_tokens`, `pause_turn`, `refusal`,
    `model_context_window_exceeded`, or a word not known yet."""
    usage: Usage
    model: str
    request_id: str | None = None
    stop_details: Mapping[str, Json] | None = None
    """More about the stop, such as the `category` of a refusal."""

    @property
    def text(self) -> str:
        """The text blocks, joined."""
        return "".join(str(block.get("text", "")) for block in self.content if block.get("type") == "text")

    @property
    def tool_uses(self) -> tuple[Block, ...]:
        """The `tool_use` blocks, in order."""
        return tuple(block for block in self.content if block.get("type") == "tool_use")


class ModelError(StatecraftError):
    """One attempt failed. The adapter classifies; the retry policy decides."""

    def __init__(self, message: str, *, kind: ErrorKind, retry_after: float | None = None, maybe_billed: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        """Seconds the server asked us to wait, if it said so."""
        self.maybe_billed = maybe_billed
        """Whether the provider may have done (and charged for) the work."""


class LLM(Protocol):
    """A model behind the port. Implementations keep no state that a reply depends on."""

    @property
    def model(self) -> str:
        """The default model id."""
        ...

    @property
    def label(self) -> str:
        """How this model is shown to people, such as `claude-sonnet-5-5` or `offline (extractive, no model)`."""
        ...

    async def complete(self, request: Request) -> Reply:
        """Make one attempt. Raises `ModelError`; never retries, never sleeps."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class StreamingLLM(LLM, Protocol):
    """A model that can also be heard while it answers. A model need not be one."""

    async def stream(self, request: Request, heard: Callable[[str], None]) -> Reply:
        """Make one attempt like `complete`, and tell `heard` each piece of the answer's text as it comes.

        The pieces are for people to watch: what counts is the reply, and pieces of an attempt that fails are void.
        """
        ...
