"""Messages: the turns of a conversation as typed parts with a finish reason, the same for every provider.

`callspan.providers` derives them from the wire bodies in a record; this module is provider-independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

INSTRUCTION_ROLES: Final = frozenset({"system", "developer"})
"""The roles of messages with instructions for the model."""

_HOSTED_NAMES: Final = ("server_label", "mcp_server_name", "type")
_OF_USER: Final = frozenset({"compaction_trigger", "configuration_update", "item_reference", "mcp_approval_response"})
"""Types of items of the Responses API that the application sends."""


class Text(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="text"):
    """Plain text, with the citations or annotations the provider attached to it."""

    text: str
    annotations: list[object] | None = None
    logprobs: object = None


class Reasoning(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="reasoning"
):
    """Reasoning of the model; without `text` if the provider returns it encrypted."""

    text: str | None = None
    signature: str | None = None
    """The provider's signature, to be sent back unchanged."""
    sealed: str | None = None
    """The encrypted payload: Anthropic's redacted thinking, OpenAI's encrypted content."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="refusal"):
    """The model's refusal, separate from its answers."""

    text: str


class ToolCall(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="tool_call"
):
    """A tool call of the model."""

    id: str | None = None
    """The id that a tool result refers to (Responses: `call_id`, not the item id)."""
    name: str | None = None
    arguments: str | None = None
    """The arguments as the model wrote them; Anthropic's input object as JSON text."""
    tool_type: str = "function"
    """`function`, `custom`, or the provider's name of another tool."""
    is_of_application: bool = True
    """Whether the application runs the tool; False for a hosted tool, which the provider runs."""
    incomplete: bool = False
    """True if the stream ended before the tool call was complete."""
    extra: dict[str, object] | None = None
    """Further fields as received: signatures, results of hosted tools."""


class ToolResult(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="tool_result"
):
    """The answer to a tool call, as sent back to the model (or returned by a hosted tool)."""

    id: str | None = None
    content: object = None
    """Text, or the provider's list of parts as received."""
    is_error: bool | None = None
    tool_type: str = "function"
    is_of_application: bool = True
    """Whether the application ran the tool."""


class Media(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="media"):
    """An image, audio, video or document: its location or hash, rarely its bytes."""

    modality: str
    """`image`, `audio`, `video` or `document`."""
    mime: str | None = None
    url: str | None = None
    """None if it was sent inline."""
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None
    """The requested resolution of an image, for example `low`."""
    sha256: str | None = None
    """Hex digest of the bytes, if they were sent."""
    size: int | None = None
    seconds: float | None = None
    """Length of a sound."""
    data: str | None = None
    """Base64, only where media are kept inline."""


class UnknownPart(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="unknown"
):
    """A part of a kind this version does not know, as received."""

    data: object


Part: TypeAlias = Text | Reasoning | Refusal | ToolCall | ToolResult | Media | UnknownPart


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One message of a conversation."""

    role: str
    """`user`, `assistant`, `system`, `developer`, `tool`, or the provider's own."""
    parts: list[Part] = []
    name: str | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str | None:
        """The text parts joined; None without text, as in a message with only tool calls."""
        texts = [part.text for part in self.parts if isinstance(part, Text)]
        return "".join(texts) if texts else None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The message's tool calls, in order."""
        return [part for part in self.parts if isinstance(part, ToolCall)]


def tool_name(tool: dict[str, object]) -> str | None:
    """Return the name in a tool definition of any API; for a hosted tool its server's label, else its type."""
    for inner in (tool.get("function"), tool.get("custom"), tool):
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and name:
            return name
    names = (tool.get(key) for key in _HOSTED_NAMES)
    return next((name for name in names if isinstance(name, str) and name), None)


def parse_arguments(arguments: object) -> object:
    """Return the arguments of a tool call, parsed if they are JSON text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(str.__str__(arguments))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return arguments


class Conversation(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The messages of one call, derived from its wire bodies."""

    system: list[Part] = []
    """Separate instructions (Anthropic `system`, Responses `instructions`)."""
    input: list[Message] = []
    output: list[Message] = []
    tools: list[object] = []


def without_media_bytes(conversation: Conversation) -> Conversation:
    """Return a conversation without the bytes of its media, which the bodies have too."""
    return msgspec.structs.replace(
        conversation,
        input=[_without_bytes(message) for message in conversation.input],
        output=[_without_bytes(message) for message in conversation.output],
    )


def _without_bytes(message: Message) -> Message:
    if Media not in map(type, message.parts):
        return message
    parts = [msgspec.structs.replace(part, data=None) if isinstance(part, Media) else part for part in message.parts]
    return msgspec.structs.replace(message, parts=parts)


def short_texts(message: Message) -> Iterator[str]:
    """Yield the parts of a message as short text: tool calls as `name(arguments)`, without reasoning."""
    for part in message.parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                yield text
            case ToolCall():
                yield f"{part.name or 'tool'}({part.arguments or ''})"
            case Reasoning():
                continue
            case Media(modality="audio") if message.text:  # the text is its transcript
                continue
            case UnknownPart(data={"type": str(kind)}):
                yield f"<{kind}>"
            case _:
                yield f"<{type(part).__name__.lower()}>"


def role_of_item(kind: str) -> str:
    """Return the role of an item of the Responses API that states none, by its type."""
    if kind.endswith("_output"):
        return "tool"
    return "user" if kind in _OF_USER else "assistant"
