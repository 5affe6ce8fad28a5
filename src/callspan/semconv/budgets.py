"""Budgets: what attributes may hold, and which messages are shown, and how much of them, where not all of them fit."""

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
"""What a span attribute may hold here: what the SDK of OpenTelemetry keeps as it is."""
Attributes: TypeAlias = dict[str, AttributeValue]
_LEAST_CUT: Final = 32
"""Bytes below which a beginning of a text cannot tell that and how much of it was cut."""
_EMPTY: Final = (b"{}", b"0")
"""What JSON becomes where there is no room even to tell its size."""


class ByteBudget(msgspec.Struct, eq=False):
    """How many bytes of content the attributes of one span may still take.

    `attribute` is the cap of each, `left` what all of them together may still take, `cut` what was left out
    so far (in bytes or, where only that is known cheaply, characters). `plenty` says that there is far more
    room than the call can take: then nothing is measured or counted. Not for use by several threads.
    """

    attribute: int
    left: int
    plenty: bool = False
    cut: int = 0

    @property
    def room(self) -> int:
        """Return how many bytes the next attribute may take; 0 or less: none."""
        return min(self.left, self.attribute)

    def share(self, parts: int) -> ByteBudget:
        """Return a budget of its own with one of `parts` equal parts of the rest."""
        return ByteBudget(self.attribute, self.left // parts)

    def settle(self, share: ByteBudget, given: int) -> None:
        """Take back what a share that was given `given` bytes has not used, and count what it has cut."""
        self.left -= given - share.left
        self.cut += share.cut


def spread(budget: ByteBudget, parts: Sequence[tuple[int, Callable[[ByteBudget], None]]]) -> None:
    """Have each part put itself within the budget; where not all fit, whatever is largest is what gets cut.

    A part is about how many bytes it has, and what puts it. The smaller ones go first, each with an equal part of
    the rest, and leave to the larger ones what they do not need.
    """
    waiting = len(parts)
    for _, put in sorted(parts, key=itemgetter(0)):
        share = budget.share(waiting)
        given = share.left
        put(share)
        budget.settle(share, given)
        waiting -= 1


def put_text(attributes: Attributes, name: str, text: str, budget: ByteBudget) -> None:
    """Set `name` to as much of `text` as there is room for; to nothing where that could not tell its size."""
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
    """Set `name` to `value` as JSON within the room there is; to nothing where there is too little.

    `about` is the value's size where it is known.
    """
    if budget.plenty:
        attributes[name] = encode_json(value).decode()
        return
    room = budget.room
    if room > 1:
        data, cut = fitted(value, room, about)
        put_encoded(attributes, name, data, budget, cut)


def put_encoded(attributes: Attributes, name: str, data: bytes, budget: ByteBudget, cut: int = 0) -> None:
    """Set `name` to JSON that is known to fit and from which `cut` bytes were left out; not to what says nothing."""
    if cut and data in _EMPTY:
        budget.cut += cut
        return
    attributes[name] = data.decode()
    if not budget.plenty:
        budget.left -= len(data)
        budget.cut += cut


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
