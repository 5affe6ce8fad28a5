"""Budgets: the byte limits of attributes, and which messages are kept, and how much of them, if not all fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from callspan.record.bounded import fitted, newest_that_fit, text_attribute, weight
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.messages import Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult

AttributeValue: TypeAlias = str | bool | int | float | tuple[str, ...]
"""Types of attribute values, those OpenTelemetry's SDK stores unchanged."""
Attributes: TypeAlias = dict[str, AttributeValue]
_LEAST_CUT: Final = 32
"""Minimum bytes of a truncated text: fewer cannot hold the note of its original size."""
_EMPTY: Final = (b"{}", b"0")
"""JSON values without information: results of truncation without room for a note."""


class ByteBudget(msgspec.Struct, eq=False):
    """The number of bytes that content attributes of one span may still use.

    `attribute` is the limit of each attribute, `left` the rest for all together, `cut` what was left out so far (in
    bytes, or characters if only they are known cheaply). `plenty` means that everything surely fits: then nothing is
    measured or counted. Not thread-safe.
    """

    attribute: int
    left: int
    plenty: bool = False
    cut: int = 0

    @property
    def room(self) -> int:
        """Return the number of bytes the next attribute may use; 0 or less: none."""
        return min(self.left, self.attribute)

    def share(self, parts: int) -> ByteBudget:
        """Return a separate budget with one of `parts` equal parts of the rest."""
        return ByteBudget(self.attribute, self.left // parts)

    def settle(self, share: ByteBudget, given: int) -> None:
        """Return the unused bytes of a share that got `given` bytes to this budget, and count what it cut."""
        self.left -= given - share.left
        self.cut += share.cut


def spread(budget: ByteBudget, parts: Sequence[tuple[int, Callable[[ByteBudget], None]]]) -> None:
    """Set each part within the budget; if not all fit, the largest are truncated.

    A part is its approximate size in bytes and the function that sets it. Smaller ones come first, each with an
        equal share of the rest, and leave their unused bytes to the larger ones.
    """
    waiting = len(parts)
    for _, put in sorted(parts, key=itemgetter(0)):
        share = budget.share(waiting)
        given = share.left
        put(share)
        budget.settle(share, given)
        waiting -= 1


def put_text(attributes: Attributes, name: str, text: str, budget: ByteBudget) -> None:
    """Set `name` to `text`, truncated to the room; not set if there is no room for the note of its size."""
    if budget.plenty and text.isascii():
        attributes[name] = text
        return
    room = budget.room
    if room < _LEAST_CUT and len(text) > room:
        budget.cut += len(text)
        return
    attributes[name] = kept = text_attribute(text, room)
    budget.left -= len(kept) if kept.isascii() else len(kept.encode())
    budget.cut += len(text) - len(kept) if len(text) > len(kept) else 0


def put_json(attributes: Attributes, name: str, value: object, budget: ByteBudget, about: int | None = None) -> None:
    """Set `name` to `value` as JSON, truncated to the room; not set if there is too little.

    `about` is the approximate size of the value, if known.
    """
    if budget.plenty:
        attributes[name] = encode_json(value).decode()
        return
    room = budget.room
    if room > 1:
        data, cut = fitted(value, room, about)
        put_encoded(attributes, name, data, budget, cut)


def put_encoded(attributes: Attributes, name: str, data: bytes, budget: ByteBudget, cut: int = 0) -> None:
    """Set `name` to JSON that fits and from which `cut` bytes were removed; not set if it has no information."""
    if cut and data in _EMPTY:
        budget.cut += cut
        return
    attributes[name] = data.decode()
    if not budget.plenty:
        budget.left -= len(data)
        budget.cut += cut


_PER_PART = 60
_GIANT = 2
"""A message larger than 1/2 of the room counts as 1/2: it is truncated, not left out."""


class Chosen(msgspec.Struct, frozen=True):
    """Messages to keep: the first, then (`omitted` messages left out) the rest."""

    first: Sequence[Message]
    omitted: int
    rest: Sequence[Message]
    about: int | None = None
    """Approximate size of the kept messages, if known."""


def chosen(messages: Sequence[Message], record: CallRecord, budget: ByteBudget) -> Chosen:
    """Return the first (system) message and the newest that fit into the budget; very large ones are truncated later.

    If the whole body fits, all messages are returned without measuring them.
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
    """Return the text that replaces omitted messages."""
    whole = record.request.body_bytes
    size = "" if whole is None else f" of a request of {whole} bytes"
    return f"[callspan: {count} messages{size} left out]"


def message_weight(message: Message, limit: int) -> int:
    """Return the approximate size of a message as JSON in bytes; stops counting at `limit`."""
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

    Reasoning, refusals, tool calls and media are not included.
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
