"""Conversations as the store keeps them: each message a row named by the hash of its parent and its text."""

from __future__ import annotations

from collections.abc import Sequence

from statecraft.calls.call import canonical
from statecraft.ids import digest
from statecraft.llm.port import Message, OutputSpec, Request, ToolSpec
from statecraft.records import Json
from statecraft.store.chain import message_hash
from statecraft.store.port import Blob, MessageNode


class Transcript:
    """Names the messages of one visit's requests. Remembers what it named, so a growing conversation costs one hash
    a message, not one a message and turn."""

    def __init__(self) -> None:
        self._named: dict[tuple[bytes | None, int], tuple[Message, MessageNode]] = {}
        self._stored: set[bytes] = set()
        self._roots: dict[str, Message] = {}
        self._sizes: dict[bytes | None, int] = {None: 0}

    def head(self, request: Request) -> tuple[bytes | None, tuple[MessageNode, ...]]:
        """The name of the last message, and the messages not known to be stored: a call made beside this one may be
        recorded later than it, or never, so only `stored` says what need not be written again."""
        parent, fresh = None, []
        for message in self._with_system(request):
            known = self._named.get((parent, id(message)))
            if known is None or known[0] is not message:
                known = (message, self._name(parent, message))
                self._sizes[known[1].hash] = self._sizes[parent] + size(known[1].body)
                self._named[(parent, id(message))] = known
            parent = known[1].hash
            if parent not in self._stored:
                fresh.append(known[1])
        return parent, tuple(fresh)

    def stored(self, nodes: Sequence[MessageNode]) -> None:
        """These messages are durable: their call was recorded."""
        self._stored.update(node.hash for node in nodes)

    def size(self, head: bytes | None) -> int:
        """Bytes of the messages up to `head`, as JSON."""
        return self._sizes[head]

    def _with_system(self, request: Request) -> Sequence[Message]:
        if request.system is None:
            return request.messages
        root = self._roots.setdefault(request.system, {"role": "system", "content": request.system})
        return [root, *request.messages]

    @staticmethod
    def _name(parent: bytes | None, message: Message) -> MessageNode:
        body = canonical(dict(message))
        return MessageNode(message_hash(parent, body), parent, body)


def size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def describe(request: Request, head: bytes | None) -> tuple[str, tuple[Blob, ...]]:
    """The canonical JSON that identifies a request, with its large fixed parts by name, and those parts."""
    tools = None if not request.tools else canonical([_tool(tool) for tool in request.tools])
    output = None if request.output is None else canonical(_output(request.output))
    blobs = tuple(Blob(digest(text), text) for text in (tools, output) if text is not None)
    identity: dict[str, Json] = {
        "model": request.model,
        "head": None if head is None else head.hex(),
        "max_tokens": request.max_tokens,
        "tools": None if tools is None else digest(tools).hex(),
        "output": None if output is None else digest(output).hex(),
        "options": dict(request.options),
    }
    return canonical(identity), blobs


def _tool(tool: ToolSpec) -> Json:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}


def _output(output: OutputSpec) -> Json:
    return {"name": output.name, "schema": output.schema}
