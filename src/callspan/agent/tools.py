"""Tool: one run of a tool, joined by its tool call's id to the call that asked for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.child_scope import ChildScope
from callspan.agent.context import metadata_of
from callspan.agent.faults import error_info
from callspan.agent.runtime import Runtime
from callspan.agent.scope import IDLE, Scope, treated
from callspan.agent.values import as_text
from callspan.fail_open import fail_open, value_of
from callspan.record.codec import plain
from callspan.record.events import TOOL_START, EventRecord, start_id
from callspan.record.ids import new_id

if TYPE_CHECKING:
    from callspan.agent.event_recorder import EventRecorder

_ABSENT: Final = msgspec.UNSET

_FACTS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "id": (("call_id",), ("id",)),
    "name": (("name",), ("function", "name"), ("custom", "name")),
    "arguments": (("arguments",), ("input",), ("function", "arguments"), ("custom", "input")),
}
"""Where a tool call of the model says what: Responses items, Anthropic blocks, chat tool calls, in that order."""


def tool_call_fact(call: object, fact: str) -> object:
    """Return the id, name or arguments of a provider's tool call, object or dict; None where it has none."""
    for path in _FACTS[fact]:
        value = functools.reduce(_member, path, call)
        if value is not None:
            return value
    return None


class Tool(ChildScope):
    """One run of a tool: a span `execute_tool {name}` and an event row, announced at its start by a `tool_start` row.

    Set `result` to what it gave, or `error` to an exception or text where it failed without raising.
    """

    is_aside = True

    __slots__ = ("_arguments", "_error", "_given", "_id", "_metadata", "_name", "_result", "_tool_call_id")

    def __init__(
        self,
        name: str | None = None,
        call: object = None,
        arguments: object = None,
        owner: EventRecorder | None = None,
    ) -> None:
        super().__init__(owner)
        self._given = (name, call, arguments, owner)
        self._id = new_id()
        asked = None if isinstance(call, str) else call
        self._name = as_text(name) or _text(tool_call_fact(asked, "name")) or "tool"
        self._tool_call_id = call if isinstance(call, str) else _text(tool_call_fact(asked, "id"))
        self._arguments = tool_call_fact(asked, "arguments") if arguments is None else arguments
        self._result: object = _ABSENT
        self._metadata: Mapping[str, object] = {}
        self._error: BaseException | str | None = None

    @property
    def id(self) -> str:
        """The id of the event row."""
        return self._id

    @property
    def name(self) -> str:
        """The tool's name: as given, else as the model called it."""
        return self._name

    @property
    def tool_call_id(self) -> str | None:
        """The id the model gave its request for this tool; None when unknown."""
        return self._tool_call_id

    @property
    def arguments(self) -> object:
        """The arguments: as given, else the model's own, parsed where they are JSON text."""
        return self._arguments

    @property
    def result(self) -> object:
        """What the tool gave; None before it is set."""
        return None if self._result is _ABSENT else self._result

    @result.setter
    def result(self, value: object) -> None:
        self._result = value

    @property
    def error(self) -> BaseException | str | None:
        """Why the tool failed; None when it did not."""
        return self._error

    @error.setter
    def error(self, value: BaseException | str | None) -> None:
        self._error = value

    def returned(self, result: object) -> None:
        """Keep what a decorated function returned as the result."""
        self._result = result

    def fresh(self, name: str, arguments: Mapping[str, object]) -> Scope:
        """Return a new run of the same tool with a function's arguments; an idle one where nothing records."""
        if self.nobody_records():
            return IDLE
        given, call, own, owner = self._given
        return Tool(given or name, call, arguments if own is None else own, owner)

    def _renew(self) -> None:
        super()._renew()
        self._id = new_id()
        self._result, self._error = _ABSENT, None

    def _announce(self, runtime: Runtime, base: Context) -> None:
        self._metadata = metadata_of(base)
        with fail_open("read the arguments of a tool"):
            self._arguments = plain(_parsed(self._arguments))
        first = self._record(None, None)
        told = msgspec.structs.replace(first, event_id=start_id(self._id), event_type=TOOL_START)
        shown = treated(told, runtime)
        self.begin_span(shown, base)
        self.write(shown)

    def _close(self, error: BaseException | None) -> None:
        duration = self.elapsed_ns()
        # A tool inside a tool is part of the outer one's time.
        own_time = 0 if isinstance(self._owner, Tool) else duration
        scope: Scope | None = self._owner
        while scope is not None:
            scope.running.add_tool(own_time)
            scope = scope.above
        if self.runtime is None:
            return
        shown = treated(self._record(error, duration), self.runtime, "event")
        self.span.end(shown, error)
        self.write(shown)

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        data = {"arguments": self._arguments} if self._arguments is not None else {}
        if self._result is not _ABSENT:
            data["result"] = self._result
        session = self.session
        return EventRecord(
            event_id=self._id,
            session_id=self.place.session_id,
            timestep_id=self.place.timestep_id,
            timestep=self.place.timestep,
            event_type="tool",
            name=self._name,
            time_ns=self.start_ns,
            duration_ns=duration_ns,
            sequence=session.next_sequence() if session is not None else None,
            data=data or None,
            system=None if self.above is None else self.above.acting(),
            tool_call_id=self._tool_call_id,
            error=error_info(error if error is not None else self._error),
            flags=list(self._flags),
            metadata=dict(self._metadata),
        )


def _member(value: object, name: str) -> object:
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, Mapping):
        return value.get(name)
    return value_of(functools.partial(getattr, value, name, None))


def _parsed(arguments: object) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return arguments


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
