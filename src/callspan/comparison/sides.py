"""Sides: the data of a call or a session that a diff compares: fields, parameters, tools and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Literal

import msgspec

from callspan.comparison.groups import SUMS
from callspan.records import (
    CallRecord,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
    tool_name,
)
from callspan.stores import (
    CallFilter,
    ConversationReader,
    Reader,
    SessionSummary,
    call_facts,
    cut_of,
    session_facts,
    whole_conversation,
)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A call or a session in a comparison."""

    id: str
    kind: Literal["call", "session"]
    facts: dict[str, object]
    """Fields by name: words, numbers, `Decimal` dollars; names of times end in `_ns`."""
    parameters: dict[str, object]
    tools: dict[str, object]
    """Definitions by name."""
    messages: list[Message]
    """For a session each message once, in the order of its calls."""


def read_side(reader: Reader, item: SessionSummary | CallRecord, limit: int) -> Side:
    """Return the side of a call, or of a session with its first `limit` calls, from a store."""
    if isinstance(item, CallRecord):
        return side_of_call(item, whole_conversation(item, reader.history(item)))
    calls = reader.calls(CallFilter(session_id=item.session.session_id, newest_first=False))
    return side_of_session(item, islice(calls, limit))


def side_of_call(call: CallRecord, conversation: Conversation) -> Side:
    """Return the side of a call with its whole conversation, including the calls it continues."""
    messages = [*_system(conversation.system), *conversation.input, *conversation.output]
    return Side(
        id=call.call_id,
        kind="call",
        facts=facts_of_call(call),
        parameters=call.request.params,
        tools=_by_name(conversation.tools),
        messages=messages,
    )


def facts_of_call(call: CallRecord) -> dict[str, object]:
    """Return the facts of a call by name; None: unknown, or not of this call.

    Flags are included only if set, metadata only if no fact has the same name.
    """
    facts = call_facts(call, "show") | {"cost_reason": call.cost.reason if call.cost else None}
    own_labels = {name: value for name, value in call.metadata.items() if facts.get(name) != value}
    return {name: None if value is False else value for name, value in facts.items()} | _prefixed("meta", own_labels)


def side_of_session(summary: SessionSummary, calls: Iterable[CallRecord]) -> Side:
    """Return the side of a session with these calls, oldest first."""
    session = summary.session
    scores = {name: score.mean for name, score in summary.scores.items()}
    facts: dict[str, object] = {
        **session_facts(summary, "show"),
        "models": ", ".join(summary.models) or None,
        **_prefixed("score", scores),
        **{measure.name: _sum(summary, measure.name) for measure in SUMS},
        **_prefixed("meta", session.metadata),
    }
    parameters: dict[str, object] = {}
    tools: dict[str, object] = {}
    messages: list[Message] = []
    reader = ConversationReader()
    for call in calls:
        new = reader.add(call)
        parameters |= call.request.params
        tools |= _by_name(call.conversation.tools if call.conversation else [])
        messages += [*_system(new.instructions), *new.messages, *new.answers]
    return Side(
        id=session.session_id, kind="session", facts=facts, parameters=parameters, tools=tools, messages=messages
    )


def _sum(summary: SessionSummary, name: str) -> int | Decimal | None:
    """Return a sum over the calls of a session; None if it is unknown for any of them."""
    if name == "cost_usd" and summary.calls_without_cost:
        return None
    if name.endswith("_tokens") and summary.calls_without_usage:
        return None
    number: int | Decimal | None = getattr(summary, name)
    return number


def text_of(message: Message) -> str:
    """Return a message as text for comparison: each part on its own lines, without ids of tool calls."""
    return "\n".join(map(part_text, message.parts))


def part_text(part: Part) -> str:
    """Return one part of a message as text."""
    match part:
        case Text(text=text):
            return text
        case Refusal(text=text):
            return f"(refused) {text}"
        case Reasoning(text=text):
            return f"(thinking) {text or 'sealed'}"
        case ToolCall():
            cut = " (cut off)" if part.incomplete else ""
            return f"{part.name or 'tool'}({part.arguments or ''}){cut}"
        case ToolResult(content=content):
            mark = "(error) " if part.is_error else ""
            return mark + (content if isinstance(content, str) else _json(content))
        case Media():
            source = part.url or part.file_id or part.sha256 or "inline"
            length = "" if part.seconds is None else f" {part.seconds:g} s"
            return f"({part.modality}{length} {part.mime or ''} {source[:80]})"
        case UnknownPart() if (end := cut_of(part)) is not None:
            return f"(cut after {end[1]:g} s of audio)"
    return _json(part)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _prefixed(prefix: str, values: Mapping[str, object]) -> dict[str, object]:
    return {f"{prefix}:{name}": value for name, value in values.items()}


def _system(parts: list[Part]) -> list[Message]:
    return [Message(role="system", parts=parts)] if parts else []


def _by_name(tools: Iterable[object]) -> dict[str, object]:
    return {(tool_name(tool) if isinstance(tool, dict) else None) or _json(tool): tool for tool in tools}
