"""Scope messages: the first input and the last output of a session, timestep or agent, as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from callspan.providers.wire_json import Json
from callspan.record.bounded import fit_json, text_attribute
from callspan.record.call import CallRecord
from callspan.record.events import AGENT_START, SCOPE_TYPES, EventRecord, MessageRecord, Record
from callspan.record.messages import INSTRUCTION_ROLES, Conversation, Message
from callspan.semconv.content_attributes import (
    TOOL,
    Attributes,
    ByteBudget,
    answer_messages,
    message_json,
    messages_json,
    parts_json,
    put_json,
)
from callspan.semconv.gen_ai import INPUT_MESSAGES, OUTPUT_MESSAGES

_Answer: TypeAlias = tuple[str, Sequence[Message]]
"""The outcome of a call and its output messages."""
_MAX_INPUTS: Final = 8
"""Maximum number of input messages before the first output."""
_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content"})
_ENVIRONMENTS: Final = frozenset({"env", "environment"})
"""Senders of an environment's messages; `env` is the default."""


class ScopeExchange(msgspec.Struct, eq=False):
    """The input or output in one message, event or call, shared by all enclosing scopes."""

    incoming: Json | None = None
    """A message from outside."""
    answer: Json | _Answer | None = None
    """Output of the agent or the model."""
    environment: Json | None = None
    """The result of an environment's step."""
    conversation: Conversation | None = None
    """The messages of a call."""
    _requested: tuple[list[Json], list[Json]] | None = None

    def requested(self, conversation: Conversation, room: int) -> tuple[list[Json], list[Json]]:
        """Return a call's instructions and its messages since the last assistant message, each within `room` bytes."""
        if self._requested is None:
            system: list[Json] = (
                [{"role": "system", "parts": parts_json(conversation.system)}] if conversation.system else []
            )
            system += [message_json(message) for message in conversation.input if message.role in INSTRUCTION_ROLES]
            new_messages = messages_json(_since_the_last_answer(conversation.input))
            self._requested = _within(system, room), _within(new_messages, room)
        return self._requested


def messages_of(record: Record, room: int) -> ScopeMessages | None:
    """Return empty messages for the span of a session, timestep or agent that starts; None for other records."""
    if isinstance(record, SCOPE_TYPES):
        return ScopeMessages(room)
    if isinstance(record, EventRecord) and record.event_type == AGENT_START:
        item = exchange_in(record, None, room)
        return ScopeMessages(room, None if item is None else item.incoming)
    return None


def exchange_in(record: Record, conversation: Conversation | None, room: int) -> ScopeExchange | None:
    """Return the input or output in a processed record, within `room` bytes; None if the record has neither.

    Content is converted to text at once, so that no reference to the application's objects is kept.
    """
    match record:
        case CallRecord() if conversation is not None and record.operation in _OPERATIONS:
            has_answer = any(message.parts for message in conversation.output)
            answer = (record.outcome, conversation.output) if has_answer else None
            return ScopeExchange(conversation=conversation, answer=answer)
        case MessageRecord(sender="agent") if record.content is not None:
            return ScopeExchange(answer=_answer(record.content, room, record.message_type))
        case MessageRecord() if record.content is not None:
            return ScopeExchange(incoming=_incoming(record.content, room, record.sender))
        case EventRecord(event_type="action") if record.data is not None:
            return ScopeExchange(answer=_answer(record.data, room, "action"))
        case EventRecord(event_type="environment"):
            return ScopeExchange(environment=_environment(record, room))
        case EventRecord(event_type="agent_start", data={"input": given}):
            return ScopeExchange(incoming=_incoming(given, room, None))
        case EventRecord(event_type="agent", data={"output": given}):
            return ScopeExchange(answer=_answer(given, room, "stop"))
    return None


class ScopeMessages:
    """The first input and the last output of one span: a few messages, in bounded memory.

    Thread-safe: each update is one assignment, and the last one wins.
    """

    __slots__ = ("_agent_input", "_incoming", "_outputs", "_requested", "room")

    def __init__(self, room: int, agent_input: Json | None = None) -> None:
        """`agent_input` is the input of an agent, which takes precedence over the input of its first call."""
        self.room = room
        """Byte limit of one message, or of the messages of one call."""
        self._agent_input = agent_input
        self._incoming: list[Json] = []
        self._requested: tuple[list[Json], list[Json]] | None = None
        self._outputs: dict[str, Json | _Answer] = {}
        """The last answer and the last message of the environment, in the order of their arrival."""

    def add(self, item: ScopeExchange) -> None:
        """Add a message, event or call."""
        if item.conversation is not None and self._requested is None:
            self._requested = item.requested(item.conversation, self.room)
        if item.answer is not None:
            self._set("answer", item.answer)
        if item.environment is not None:
            self._set("environment", _reply(item.environment))
        if item.incoming is not None:
            if self._outputs:
                self._set("environment", _reply(item.incoming))
            elif len(self._incoming) < _MAX_INPUTS:
                self._incoming.append(item.incoming)

    def close(self, record: Record) -> None:
        """Set the output given by an agent at its end; it takes precedence over the output of its last call."""
        if isinstance(record, EventRecord) and (item := exchange_in(record, None, self.room)) is not None:
            self.add(item)

    def attributes(self, budget: ByteBudget) -> Attributes:
        """Return the attributes of the input and output messages, within the budget."""
        attributes: Attributes = {}
        for name, messages in ((OUTPUT_MESSAGES, self._output_messages()), (INPUT_MESSAGES, self._input_messages())):
            if messages:
                put_json(attributes, name, messages, budget)
        return attributes

    def _set(self, kind: str, output: Json | _Answer) -> None:
        other_outputs = {other: earlier_output for other, earlier_output in self._outputs.items() if other != kind}
        self._outputs = {**other_outputs, kind: output}

    def _input_messages(self) -> list[Json]:
        instructions, new_messages = self._requested or ([], [])
        if self._agent_input is not None:
            return [*instructions, self._agent_input]
        received_parts = [message["parts"] for message in self._incoming]
        return [
            *instructions,
            *self._incoming,
            *(message for message in new_messages if message["parts"] not in received_parts),
        ]

    def _output_messages(self) -> list[Json]:
        messages: list[Json] = []
        for output in self._outputs.values():
            messages += answer_messages(*output) if isinstance(output, tuple) else [output]
        return messages


def _reply(message: Json) -> Json:
    """Return a message of the environment as output."""
    role = {"role": TOOL} if message.get("name") in _ENVIRONMENTS else {}
    return {"finish_reason": "continue", **message, **role}


def _since_the_last_answer(messages: Sequence[Message]) -> list[Message]:
    last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return [message for message in messages[last + 1 :] if message.role not in INSTRUCTION_ROLES]


def _incoming(content: object, room: int, sender: str | None) -> Json:
    message: Json = {"role": "user", "parts": [_text(content, room)]}
    if sender and sender != "user":
        message["name"] = sender
    return message


def _answer(content: object, room: int, reason: str) -> Json:
    return {"role": "assistant", "parts": [_text(content, room)], "finish_reason": reason}


def _environment(record: EventRecord, room: int) -> Json | None:
    after = record.data.get("after") if isinstance(record.data, dict) else None
    parts = [] if after is None else [_text(after, room)]
    end = "terminated" if record.terminated else "truncated" if record.truncated else "continue"
    if record.reward is not None:
        parts.append({"type": "text", "content": f"reward: {record.reward}"})
    is_empty = not parts and end == "continue"
    return None if is_empty else {"role": TOOL, "name": "environment", "parts": parts, "finish_reason": end}


def _text(content: object, room: int) -> Json:
    text = text_attribute(content, room) if isinstance(content, str) else fit_json(content, room)[0].decode()
    return {"type": "text", "content": text}


def _within(messages: list[Json], room: int) -> list[Json]:
    data, cut = fit_json(messages, room)
    shorter = msgspec.json.decode(data) if cut else messages
    return shorter if isinstance(shorter, list) else []
