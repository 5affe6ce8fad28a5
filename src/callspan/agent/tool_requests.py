"""Tool requests: matches tools that run in a scope to the tool calls of the latest answers there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from callspan.fail_open import fail_open
from callspan.providers import registry
from callspan.providers.hosted_tools import runs_in_application
from callspan.record.call import CallRecord
from callspan.record.messages import ToolCall, parse_arguments

MAX_PARALLEL: Final = 8
"""Maximum number of parallel calls whose answers a scope keeps."""
_READ: Final = fail_open("read the tool calls of an answer")


class Answer:
    """The answer of an ended call; its tool calls are read on first use."""

    __slots__ = ("_api", "_response", "_tool_calls", "call_id", "end_ns", "provider", "started_ids")

    def __init__(self, record: CallRecord) -> None:
        self._api = record.api
        self._response = record.response
        self.call_id, self.provider = record.call_id, record.provider
        self._tool_calls: list[ToolCall] | None = None
        self.end_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
        self.started_ids: set[str | None] = {None}
        """The ids of the tool calls whose tools have started."""

    def open(self) -> list[ToolCall]:
        """Return the tool calls for the application whose tools have not started."""
        return [tool_call for tool_call in self.tool_calls() if tool_call.id not in self.started_ids]

    def tool_calls(self) -> list[ToolCall]:
        """Return the tool calls for the application."""
        if self._tool_calls is None:
            self._tool_calls = []
            with _READ:
                endpoint, body = registry.by_api(self._api), self._response and registry.decoded(self._response.body)
                messages = [] if endpoint is None or body is None else endpoint.conversation(None, body).output
                parts = [part for message in messages for part in message.parts if isinstance(part, ToolCall)]
                self._tool_calls = list(filter(runs_in_application, parts))
        return self._tool_calls


def mark_started(answers: Iterable[Answer], tool_call_id: str) -> None:
    """Note the start of the tool for a tool call."""
    for answer in answers:
        answer.started_ids.add(tool_call_id)


def find_tool_call(answers: Iterable[Answer], name: str | None, arguments: object) -> str | None:
    """Return the id of the open tool call with this name and these arguments; None unless there is exactly one."""
    calls = [call for answer in answers for call in answer.open() if call.name == name]
    ids = [call.id for call in calls if (parse_arguments(call.arguments) or {}) == (arguments or {})]
    return ids[0] if len(ids) == 1 else None
