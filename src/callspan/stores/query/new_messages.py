"""New messages: finds the messages that each call adds to a conversation. Most calls repeat earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from msgspec.structs import replace

from callspan.formatting import excerpt
from callspan.joining.same_message import Node, ToolIds, nodes_of
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord
from callspan.record.messages import INSTRUCTION_ROLES, Message, Part, Text, ToolCall, ToolResult

_QUESTION: Final = 160
"""Characters of a question."""
_REMINDER: Final = "<system-reminder>"
"""The beginning of texts that Claude Code adds to the user's messages."""
_WITH_IDS: Final = frozenset({ToolCall, ToolResult})


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
    repeated: list[Message]
    """Its other messages, without instructions, in order."""
    before: CallRecord | None
    """The call that sent or returned the last repeated message; None if it is unknown or nothing was repeated."""
    answers: list[Message]
    """Its answers, one per choice."""


class ConversationReader:
    """Finds the new messages of calls, which are added oldest first, and which tool call each result is of.

    A message is repeated if an earlier call, its answer included, begins with the same messages up to and including it.
    If a request sends only the latest messages, each that was sent before is repeated, except the last. No two tool
    calls have one id, and results have that of their call, whatever the wire says.

    Example:
        >>> reader = ConversationReader()
        >>> [len(reader.add(call).messages) for call in calls]
        [1, 1, 1]
    """

    def __init__(self) -> None:
        self._known: dict[Node, CallRecord | None] = {}
        """By the node of a part: the last call that sent or returned it."""
        self._seen: set[object] = set()
        """Messages without their history."""
        self._unseen: list[Message] = []
        """Messages that are to be in `_seen`, once it is asked for."""
        self._instructions: list[Part] = []
        self._ids = ToolIds()
        self._asked: dict[str, list[tuple[ToolCall, str | None]]] = {}
        """By call: the tool calls of its answers, each with the id given here, for which no tool has run yet."""

    def add(self, call: CallRecord, *, is_whole: bool = False) -> NewMessages:
        """Return the messages that a call adds to the earlier ones.

        `is_whole`: its messages begin with the calls that it continues at the provider; otherwise it has only the new
        ones.
        """
        sent, returned = spoken(call), call.conversation.output if call.conversation is not None else []
        node = b"" if is_whole else _root(call)
        self._known.setdefault(node, None)
        repeated, last_call, messages = 0, None, list[Message]()
        self._ids.begin()
        for number, message in enumerate(sent):
            nodes = nodes_of(node, message)
            node = nodes[-1]
            if repeated == number and node in self._known:
                repeated, last_call = number + 1, self._known[node]
            self._known.update(dict.fromkeys(nodes[1:], call))
            messages.append(self._identified(message, nodes, is_new=False))
        repeated = repeated or self._of_window(sent)
        self._unseen += (*sent, *returned)
        answers = [self._answer(call, message, nodes_of(node, message)) for message in returned]
        return NewMessages(call, self._changed(call), messages[repeated:], messages[:repeated], last_call, answers)

    def tool_call_of(self, tool: EventRecord) -> str | None:
        """Return the id that the tool call of a tool has in the messages of earlier calls; None if it is unknown."""
        asked = self._asked.get(tool.call_id or "", [])
        by_id = (at for at, (call, _) in enumerate(asked) if call.id == tool.tool_call_id)
        by_name = (at for at, (call, _) in enumerate(asked) if call.name == tool.name)
        at = next(chain(by_id, by_name), None)
        return self._ids.of_event(tool.tool_call_id) if at is None else asked.pop(at)[1]

    def _identified(self, message: Message, nodes: Sequence[Node], *, is_new: bool) -> Message:
        if _WITH_IDS.isdisjoint(map(type, message.parts)):
            return message
        pairs = zip(message.parts, nodes[1:], strict=True)
        return replace(message, parts=[self._ids.identified(part, node, is_new=is_new) for part, node in pairs])

    def _answer(self, call: CallRecord, message: Message, nodes: Sequence[Node]) -> Message:
        self._known.update(dict.fromkeys(nodes[1:], call))
        self._ids.begin()
        answer = self._identified(message, nodes, is_new=True)
        idents = (part.id for part in answer.tool_calls)
        self._asked.setdefault(call.call_id, []).extend(zip(message.tool_calls, idents, strict=True))
        return answer

    def _of_window(self, messages: list[Message]) -> int:
        self._seen.update(map(_without_history, self._unseen))
        self._unseen, new = [], 0
        while new < len(messages) - 1 and _without_history(messages[new]) in self._seen:
            new += 1
        return new

    def _changed(self, call: CallRecord) -> list[Part]:
        latest = instructions(call)
        if not latest or latest == self._instructions:
            return []
        self._instructions = latest
        return latest


def _without_history(message: Message) -> object:
    """Return what tells a message from others where its history is not there: equal results have other ids."""
    return nodes_of(b"", message)[-1], *(part.id for part in message.parts if isinstance(part, ToolResult))


def _root(call: CallRecord) -> bytes:
    """Return the key of the history before a call's first message; empty unless the provider keeps it."""
    request = call.request
    if request.continues is not None:
        return request.continues.encode()
    return b"" if request.conversation_id is None else call.call_id.encode()
