"""New messages: finds the messages that each call adds to a conversation. Most calls repeat earlier ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from callspan.formatting import excerpt
from callspan.record.call import CallRecord
from callspan.record.messages import INSTRUCTION_ROLES, Message, Part, Reasoning, Text, ToolCall, parse_arguments

_QUESTION: Final = 160
"""Characters of a question."""
_REMINDER: Final = "<system-reminder>"
"""The beginning of texts that Claude Code adds to the user's messages."""


def instructions(call: CallRecord) -> list[Part]:
    """Return the instructions of a request, both separate and among its messages."""
    if call.conversation is None:
        return []
    instruction_messages = (message for message in call.conversation.input if message.role in INSTRUCTION_ROLES)
    return [*call.conversation.system, *(part for message in instruction_messages for part in message.parts)]


def spoken(call: CallRecord) -> list[Message]:
    """Return the messages of a request without instructions."""
    messages = call.conversation.input if call.conversation is not None else []
    return [message for message in messages if message.role not in INSTRUCTION_ROLES]


def question(call: CallRecord) -> str | None:
    """Return the last text of the user in a request, on one line and shortened; None if no text was sent or kept."""
    return next((excerpt(text, _QUESTION) for text in map(words_of_user, reversed(spoken(call))) if text), None)


def words_of_user(message: Message) -> str:
    """Return the user's own words in a message, without reminders that a program added; "" without such words."""
    if message.role != "user":
        return ""
    texts = (part.text for part in message.parts if isinstance(part, Text))
    return " ".join(text for text in texts if not text.startswith(_REMINDER))


class NewMessages(NamedTuple):
    """A call without the messages that earlier calls have sent or returned."""

    call: CallRecord
    instructions: list[Part]
    """Its instructions, if they differ from the previous call's."""
    messages: list[Message]
    """Its new messages, in order."""
    sent_before: int
    """Number of repeated messages, without instructions."""
    before: CallRecord | None
    """The call that sent or returned the last repeated message; None if it is unknown or nothing was repeated."""
    answers: list[Message]
    """Its answers, one per choice."""


class ConversationReader:
    """Finds the new messages of calls, which are added oldest first.

    A message is repeated if an earlier call, its answer included, begins with the same messages up to and including it.
    Reasoning, annotations and finish reasons are ignored, because requests repeat answers without them. If a request
    sends only the latest messages, each that was sent before is repeated, except the last.

    Example:
        >>> reader = ConversationReader()
        >>> [len(reader.add(call).messages) for call in calls]
        [1, 1, 1]
    """

    def __init__(self) -> None:
        self._known: dict[bytes, CallRecord | None] = {}
        """By hash of a part and everything before it: the last call that sent or returned it."""
        self._seen: set[bytes] = set()
        """Hashes of messages without their history."""
        self._instructions: list[Part] = []

    def add(self, call: CallRecord, *, is_whole: bool = False) -> NewMessages:
        """Return the messages that a call adds to the earlier ones.

        `is_whole`: its messages begin with the calls that it continues at the provider; otherwise it has only the new
        ones.
        """
        messages, answers = spoken(call), call.conversation.output if call.conversation is not None else []
        node = b"" if is_whole else _root(call)
        self._known.setdefault(node, None)
        repeated, last_call = 0, None
        for number, message in enumerate(messages):
            nodes = _nodes(node, message)
            node = nodes[-1]
            if repeated == number and node in self._known:
                repeated, last_call = number + 1, self._known[node]
            self._known.update(dict.fromkeys(nodes[1:], call))
        repeated = repeated or self._of_window(messages)
        self._seen.update(_nodes(b"", message)[-1] for message in (*messages, *answers))
        for answer in answers:
            self._known.update(dict.fromkeys(_nodes(node, answer)[1:], call))
        return NewMessages(call, self._changed(call), messages[repeated:], repeated, last_call, answers)

    def _of_window(self, messages: list[Message]) -> int:
        new = 0
        while new < len(messages) - 1 and _nodes(b"", messages[new])[-1] in self._seen:
            new += 1
        return new

    def _changed(self, call: CallRecord) -> list[Part]:
        latest = instructions(call)
        if not latest or latest == self._instructions:
            return []
        self._instructions = latest
        return latest


def _root(call: CallRecord) -> bytes:
    """Return the key of the history before a call's first message; empty unless the provider keeps it."""
    request = call.request
    if request.continues is not None:
        return request.continues.encode()
    return b"" if request.conversation_id is None else call.call_id.encode()


def _nodes(node: bytes, message: Message) -> list[bytes]:
    """Return the hash of the history before a message, then after each of its parts.

    By part, because one answer may be sent again as several messages.
    """
    nodes = [node]
    for part in _compared(message.parts):
        compared = msgspec.json.encode([message.role, message.name, part])
        nodes.append(hashlib.sha256(nodes[-1] + compared).digest())
    return nodes


def _compared(parts: Iterable[Part]) -> Iterable[object]:
    for part in parts:
        match part:
            case Reasoning():
                continue
            case Text(text=text):
                yield text
            case ToolCall():
                # Parsed: a request may format them differently than the answer.
                yield [part.id, part.name, parse_arguments(part.arguments or "{}")]
            case _:
                yield part
