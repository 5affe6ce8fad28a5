"""Scope messages: the first input and the last output of a session, timestep, agent or operation, as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from callspan.record.bounded import fit_json, text_attribute
from callspan.record.call import CallRecord
from callspan.record.events import AGENT_START, SCOPE_TYPES, EventRecord, MessageRecord, Record
from callspan.record.messages import INSTRUCTION_ROLES, Conversation, Message
from callspan.semconv.content_attributes import (
    TOOL,
    Attributes,
    ByteBudget,
    SpanContent,
    answer_messages,
    message_json,
    messages_json,
    parts_json,
    put_json,
)
from callspan.semconv.gen_ai import INPUT_MESSAGES, OUTPUT_MESSAGES
from callspan.semconv.table import JSON, Put, Row

_Json: TypeAlias = dict[str, object]
_INCOMING, _ANSWER, _ENVIRONMENT, _CALL = range(4)
_MAX_INPUTS: Final = 8
"""Maximum number of input messages before the first output."""
_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content"})
_AGENT: Final = "agent"
_ENVIRONMENTS: Final = frozenset({"env", "environment"})
"""Senders of an environment's messages; `env` is the default."""


class ScopeExchange:
    """The input or output in one message, event or call, shared by all enclosing scopes."""

    __slots__ = ("_requested", "answer", "conversation", "kind", "message")

    def __init__(self, kind: int, message: _Json | None = None) -> None:
        self.kind = kind
        self.message = message
        self.conversation: Conversation | None = None
        self.answer: tuple[str, Sequence[Message]] | None = None
        self._requested: tuple[list[_Json], list[_Json]] | None = None

    def requested(self, room: int) -> tuple[list[_Json], list[_Json]]:
        """Return a call's instructions and its messages since the last assistant message, each within `room` bytes."""
        if self._requested is None:
            found = self.conversation or Conversation()
            system: list[_Json] = [{"role": "system", "parts": parts_json(found.system)}] if found.system else []
            system += [message_json(message) for message in found.input if message.role in INSTRUCTION_ROLES]
            news = messages_json(_since_the_last_answer(found.input))
            self._requested = _within(system, room), _within(news, room)
        return self._requested


def messages_of(record: Record, room: int) -> ScopeMessages | None:
    """Return empty messages for the span of a session, timestep or agent that starts; None for other records."""
    if isinstance(record, SCOPE_TYPES):
        return ScopeMessages(room)
    if isinstance(record, EventRecord) and record.event_type == AGENT_START:
        messages = ScopeMessages(room)
        messages.start(record)
        return messages
    return None


def exchange_in(record: Record, conversation: Conversation | None, room: int) -> ScopeExchange | None:
    """Return the input or output in a processed record, within `room` bytes; None if there is none.

    Content is converted to text at once, so that no reference to the application's objects is kept.
    """
    match record:
        case CallRecord():
            return _of_call(record, conversation)
        case MessageRecord() if record.content is not None:
            if record.sender == _AGENT:
                return ScopeExchange(_ANSWER, _answer(record.content, room, record.message_type))
            return ScopeExchange(_INCOMING, _incoming(record.content, room, record.sender))
        case EventRecord(event_type="action") if record.data is not None:
            return ScopeExchange(_ANSWER, _answer(record.data, room, "action"))
        case EventRecord(event_type="environment"):
            return ScopeExchange(_ENVIRONMENT, _environment(record, room))
        case EventRecord(event_type="agent" | "agent_start", data=dict(data)):
            if record.event_type == AGENT_START:
                return ScopeExchange(_INCOMING, _incoming(data["input"], room, None)) if "input" in data else None
            return ScopeExchange(_ANSWER, _answer(data["output"], room, "stop")) if "output" in data else None
    return None


class ScopeMessages:
    """The first input and the last output of one span: a few messages, in bounded memory.

    Thread-safe: each update is one assignment, and the last one wins.
    """

    __slots__ = ("_answer", "_environment", "_incoming", "_is_given", "_requested", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        """Byte limit of one message, or of the messages of one call."""
        self._incoming: list[_Json] = []
        self._requested: tuple[list[_Json], list[_Json]] | None = None
        self._answer: tuple[str, Sequence[Message]] | _Json | None = None
        self._environment: tuple[_Json, bool] | None = None
        self._is_given = False

    def add(self, item: ScopeExchange) -> None:
        """Add a message, event or call."""
        if item.kind == _CALL:
            self._requested = self._requested or item.requested(self.room)
            self._answer = item.answer or self._answer
        elif item.kind == _ANSWER:
            self._answer = item.message
        elif item.message is None:
            return
        elif item.kind == _ENVIRONMENT or self._answer is not None or self._environment is not None:
            word = {"finish_reason": "continue", **item.message}
            if word.get("name") in _ENVIRONMENTS:
                word["role"] = TOOL
            self._environment = word, self._answer is None
        elif len(self._incoming) < _MAX_INPUTS and not self._is_given:
            self._incoming.append(item.message)
        if self._environment is not None and (item.kind == _ANSWER or item.answer is not None):
            self._environment = self._environment[0], True

    def start(self, record: Record) -> None:
        """Set the input given to an agent at its start; it takes precedence over the input of its first call."""
        item = exchange_in(record, None, self.room)
        if item is not None and item.message is not None:
            self._incoming, self._is_given = [item.message], True

    def close(self, record: Record) -> None:
        """Set the output given by an agent at its end; it takes precedence over the output of its last call."""
        if isinstance(record, EventRecord) and (item := exchange_in(record, None, self.room)) is not None:
            self.add(item)

    def attributes(self, budget: ByteBudget) -> Attributes:
        """Return the attributes of the input and output messages, within the budget."""
        attributes: Attributes = {}
        for name, messages in ((OUTPUT_MESSAGES, self._outputs()), (INPUT_MESSAGES, self._inputs())):
            if messages:
                put_json(attributes, name, messages, budget)
        return attributes

    def _inputs(self) -> list[_Json]:
        instructions, news = self._requested or ([], [])
        shown = [*instructions, *self._incoming]
        seen = [message["parts"] for message in self._incoming]
        return shown if self._is_given else [*shown, *(message for message in news if message["parts"] not in seen)]

    def _outputs(self) -> list[_Json]:
        answer, environment = self._answer, self._environment
        shown = answer_messages(*answer) if isinstance(answer, tuple) else [answer] if answer else []
        if environment is None:
            return shown
        return [environment[0], *shown] if environment[1] else [*shown, environment[0]]


def _of_call(record: CallRecord, conversation: Conversation | None) -> ScopeExchange | None:
    if conversation is None or record.operation not in _OPERATIONS:
        return None
    item = ScopeExchange(_CALL)
    item.conversation = Conversation(system=conversation.system, input=conversation.input)
    if any(message.parts for message in conversation.output):
        item.answer = record.outcome, conversation.output
    return item


def _since_the_last_answer(messages: Sequence[Message]) -> list[Message]:
    last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return [message for message in messages[last + 1 :] if message.role not in INSTRUCTION_ROLES]


def _incoming(content: object, room: int, sender: str | None) -> _Json:
    message: _Json = {"role": "user", "parts": [_text(content, room)]}
    if sender and sender != "user":
        message["name"] = sender
    return message


def _answer(content: object, room: int, reason: str) -> _Json:
    return {"role": "assistant", "parts": [_text(content, room)], "finish_reason": reason}


def _environment(record: EventRecord, room: int) -> _Json | None:
    parts = [_text(after, room)] if (after := _given(record, "after")) is not None else []
    end = "terminated" if record.terminated else "truncated" if record.truncated else "continue"
    if record.reward is not None:
        parts.append({"type": "text", "content": f"reward: {record.reward}"})
    is_empty = not parts and end == "continue"
    return None if is_empty else {"role": TOOL, "name": "environment", "parts": parts, "finish_reason": end}


def _operation_messages(record: EventRecord, room: int) -> tuple[_Json | None, _Json | None]:
    """Return the input and output of a guardrail, handoff or environment step, each as a message or None.

    The output is not the model's, so its role is `tool`.
    """
    if record.event_type == "environment":
        before = _given(record, "before")
        known: _Json = {"role": TOOL, "name": "environment", "parts": [_text(before, room)]}
        return None if before is None else known, _environment(record, room)
    given, parts = _given(record, "input"), []
    if (output := _given(record, "output")) is not None:
        parts.append(_text(output, room))
    if record.event_type == "guardrail" and (triggered := record.metadata.get("triggered")) is not None:
        parts.append(_text({"triggered": triggered}, room))
    if record.event_type == "handoff" and record.name is not None:
        parts.append(_text(f"handoff to {record.name}", room))
    came_in = None if given is None else _incoming(given, room, None)
    if came_in is not None and record.event_type == "handoff":
        came_in |= {"role": "assistant"} | ({} if record.system is None else {"name": record.system})
    name = {} if record.name is None else {"name": record.name}
    return came_in, {"role": TOOL, **name, "parts": parts, "finish_reason": "stop"} if parts else None


def _put_operation_messages(attributes: Attributes, record: EventRecord, shown: SpanContent) -> None:
    came_in, came_out = _operation_messages(record, shown.budget.room)
    for name, message in ((OUTPUT_MESSAGES, came_out), (INPUT_MESSAGES, came_in)):
        if message is not None:
            put_json(attributes, name, [message], shown.budget)


_PUT_MESSAGES: Final = Put(_put_operation_messages)
OPERATION_MESSAGES: Final = (
    Row(OUTPUT_MESSAGES, JSON, _PUT_MESSAGES, "Output, as a message with the role `tool`."),
    Row(INPUT_MESSAGES, JSON, _PUT_MESSAGES),
)
"""Guardrails, handoffs and environment steps as messages, which backends render as a conversation."""


def _given(record: EventRecord, name: str) -> object:
    return record.data.get(name) if isinstance(record.data, dict) else None


def _text(content: object, room: int) -> _Json:
    text = text_attribute(content, room) if isinstance(content, str) else fit_json(content, room)[0].decode()
    return {"type": "text", "content": text}


def _within(messages: list[_Json], room: int) -> list[_Json]:
    data, cut = fit_json(messages, room)
    shorter = msgspec.json.decode(data) if cut else messages
    return shorter if isinstance(shorter, list) else []
