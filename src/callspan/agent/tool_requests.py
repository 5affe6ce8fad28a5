"""Tool requests: matches tools that run in a scope to the tool calls of the latest answers there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from callspan.providers import registry
from callspan.record.call import CallRecord
from callspan.record.messages import ToolCall, parse_arguments
from callspan.runtime.fail_open import fail_open

MAX_PARALLEL: Final = 8
"""A scope keeps the answers of at most this many parallel calls."""
_READ: Final = fail_open("read the tool calls of an answer")


class Answer:
    """The answer of an ended call; its tool calls are read on first use."""

    __slots__ = ("_api", "_response", "_tool_calls", "call_id", "end_ns", "provider", "started")

    def __init__(self, record: CallRecord) -> None:
        self._api = record.api
        self._response = record.response
        self.call_id, self.provider = record.call_id, record.provider
        self._tool_calls: list[ToolCall] | None = None
        self.end_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
        self.started: set[int] = set()
        """The positions of the tool calls with started tools. Not the ids, because some have none."""

    def tool_calls(self) -> list[ToolCall]:
        """Return the tool calls for the application."""
        if self._tool_calls is None:
            self._tool_calls = []
            with _READ:
                endpoint, body = registry.by_api(self._api), self._response and registry.decoded(self._response.body)
                messages = [] if endpoint is None or body is None else endpoint.conversation(None, body).output
                parts = [part for message in messages for part in message.parts if isinstance(part, ToolCall)]
                self._tool_calls = [part for part in parts if part.is_of_application]
        return self._tool_calls


class ToolRequest(NamedTuple):
    """A tool call in an answer: the model's request to run a tool."""

    answer: Answer
    position: int
    tool_call: ToolCall

    @property
    def is_open(self) -> bool:
        """Whether its tool has not started."""
        return self.position not in self.answer.started

    def start(self) -> None:
        """Note the start of its tool."""
        self.answer.started.add(self.position)


def requests_with_id(answers: Iterable[Answer], tool_call_id: str) -> list[ToolRequest]:
    """Return the tool calls with this id, open ones first."""
    requests = [
        ToolRequest(answer, position, tool_call)
        for answer in answers
        for position, tool_call in enumerate(answer.tool_calls())
        if tool_call.id == tool_call_id
    ]
    return sorted(requests, key=lambda request: not request.is_open)


def requests_named(answers: Iterable[Answer], name: object) -> list[ToolRequest]:
    """Return the tool calls with this name."""
    return [
        ToolRequest(answer, position, tool_call)
        for answer in answers
        for position, tool_call in enumerate(answer.tool_calls())
        if tool_call.name == name
    ]


def requests_of(answers: Iterable[Answer], name: object, arguments: object) -> list[ToolRequest]:
    """Return the tool calls with this name and these arguments."""
    return [
        request
        for request in requests_named(answers, name)
        if (parse_arguments(request.tool_call.arguments) or {}) == (arguments or {})
    ]


def requested_once(requests: Sequence[ToolRequest]) -> ToolRequest | None:
    """Return the first of several tool calls that are the same, also by id and call; None if either may be meant."""
    identities = {(request.answer.call_id, request.tool_call.id) for request in requests}
    return requests[0] if len(identities) == 1 else None
