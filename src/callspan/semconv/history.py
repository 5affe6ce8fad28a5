"""Histories: selects the messages that are shown when not all of them fit, and cuts their texts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from callspan.record.bounded import newest_that_fit, weight
from callspan.record.call import CallRecord
from callspan.record.messages import Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from callspan.semconv.budgets import ByteBudget

_PER_PART = 60
_GIANT = 2
"""A message of more than half the room is counted as half of it: it is cut, not left out."""


class Chosen(msgspec.Struct, frozen=True):
    """Messages to be shown: the first, then `omitted` left out, then the rest."""

    first: Sequence[Message]
    omitted: int
    rest: Sequence[Message]
    about: int | None = None
    """Size of what is shown, where it is known."""


def chosen(messages: Sequence[Message], record: CallRecord, budget: ByteBudget) -> Chosen:
    """Return the first (system) message and the newest that fit into the budget's room, giants after a cut.

    Requests whose whole body fits are taken whole without measuring anything.
    """
    body_bytes = record.request.body_bytes
    if budget.plenty:
        return Chosen((), 0, messages, body_bytes)
    limit = budget.room
    if body_bytes is not None and body_bytes <= limit:
        return Chosen((), 0, messages, body_bytes)
    most = limit // _GIANT
    giants = []

    def room_for(index: int) -> int:
        found = message_weight(messages[index], limit)
        if found > most:
            giants.append(index)
        return min(most, found)

    start = newest_that_fit(len(messages), room_for, limit)
    if start <= 1:
        return Chosen((), 0, messages)
    budget.cut += max(0, (body_bytes or 0) - limit)
    return Chosen(messages[:1], start - 1, messages[start:], None if giants else limit)


def omission(count: int, record: CallRecord) -> str:
    """Return the words that stand where messages were left out."""
    whole = record.request.body_bytes
    size = "" if whole is None else f" of a request of {whole} bytes"
    return f"[callspan: {count} messages{size} left out]"


def message_weight(message: Message, limit: int) -> int:
    """Return about how many bytes a message takes as JSON, counted no further than `limit`."""
    total = _PER_PART
    for part in message.parts:
        total += _PER_PART + _part_weight(part, limit - total)
        if total > limit:
            break
    return total


def _part_weight(part: Part, limit: int) -> int:
    match part:
        case Text() | Refusal():
            return len(part.text)
        case Reasoning():
            return len(part.text or "")
        case ToolCall():
            return len(part.arguments or "") + len(part.name or "")
        case ToolResult():
            return weight(part.content, limit)
    return weight(getattr(part, "data", None), limit)


def joined_text(parts: Sequence[Part]) -> str:
    """Return the texts of a message, tool results included, joined by line breaks; "" where there are none.

    Reasoning, refusals, tool calls and media are no text.
    """
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, ToolResult):
            texts += _result_texts(part.content)
    return "\n".join(texts)


def _result_texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts = [item.get("text") for item in content if isinstance(item, dict)]
    return [text for text in texts if isinstance(text, str)]
