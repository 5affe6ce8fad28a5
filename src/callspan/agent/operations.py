"""Operations: the runs of tools and agents, guardrail checks and handoffs; each is a span and an event row."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import Time, as_bool, as_dict, as_int, as_text
from callspan.agent.context import metadata_of
from callspan.agent.decorators import Decorating
from callspan.agent.episode import RunningTotals
from callspan.agent.misuse import installed_or_warn
from callspan.agent.runtime import Runtime
from callspan.agent.scope import Scope, is_within, scope_of
from callspan.agent.tool_requests import parsed, requested, take
from callspan.errors import application_error
from callspan.fail_open import fail_open, value_of
from callspan.process.processed import Processed
from callspan.process.processors import with_ids
from callspan.record.call import ErrorInfo
from callspan.record.events import AGENT_START, TOOL_START, EventRecord, Record, start_id
from callspan.record.ids import new_id
from callspan.record.plain_json import plain

if TYPE_CHECKING:
    from callspan.agent.event_recorder import EventRecorder

_ABSENT: Final = msgspec.UNSET
TOOL_ERROR: Final = ErrorInfo(kind="unknown", type="tool_error")
_READ_ARGUMENTS: Final = fail_open("read the arguments of a tool")

_TOOL_CALL_PATHS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "id": (("call_id",), ("id",)),
    "name": (("name",), ("function", "name"), ("custom", "name")),
    "arguments": (("arguments",), ("input",), ("function", "arguments"), ("custom", "input")),
}
"""Where a provider's tool call has its fields: Responses items, Anthropic blocks, chat tool calls, in that order."""


def tool_call_field(call: object, field: str) -> object:
    """Return the `id`, `name` or `arguments` of a provider's tool call, an object or dict; None where it has none."""
    for path in () if call is None else _TOOL_CALL_PATHS[field]:
        value = functools.reduce(_member, path, call)
        if value is not None:
            return value
    return None


class Labels(NamedTuple):
    """What any event may have beside its content; None: not given."""

    metadata: Mapping[str, object] | None = None
    """Merged into that of the running code."""
    system: object = None
    """Which component acts."""
    sequence: object = None
    """The application's own number of it."""


_UNLABELLED: Final = Labels()


class Operation(Scope, Decorating):
    """An operation in a timestep, a session or another operation, or on its own.

    Used with `with`, `async with` or as a decorator. Set `error` to an exception or text if it failed without raising.
    Created by a session or timestep it belongs to that one, else to the innermost scope at its start.
    """

    __slots__ = (
        "_counted",
        "_id",
        "_input",
        "_labels",
        "_metadata",
        "_output",
        "_parent",
        "_tool_call_id",
        "error",
        "name",
    )

    _kind: ClassVar[str]
    """Type of its event."""
    _start_kind: ClassVar[str | None] = None
    """Type of the event that announces its start; None: only the end is an event."""
    _fields: ClassVar[tuple[str, str]] = ("input", "output")
    """Names of input and output in its event."""
    _is_aside = True
    _reads_arguments = True

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        labels: Labels = _UNLABELLED,
    ) -> None:
        super().__init__()
        self._labels = labels
        self._parent = owner
        self._above = owner
        self._id = new_id()
        self._counted = False
        self._tool_call_id: str | None = None
        self._input = given
        self._output: object = _ABSENT
        self._metadata: Mapping[str, object] = {}
        self.name = as_text(name)
        self.error: BaseException | str | None = None

    def __repr__(self) -> str:
        """Return its id, name and state."""
        return f"<{type(self).__name__} {self.id} name={self.name!r} {self.state}>"

    @property
    def id(self) -> str:
        """The id of the event row."""
        return self._id

    @property
    def output(self) -> object:
        """The result; None before it is set."""
        return None if self._output is _ABSENT else self._output

    @output.setter
    def output(self, value: object) -> None:
        self._output = value

    def _returned(self, result: object) -> None:
        """Keep what a decorated function returned as the output."""
        self._output = result

    def _system(self) -> str | None:
        """Return the component that acts: as given, else the agent it runs in, or None."""
        scope: Any = self._above
        while scope is not None and not scope._is_agent:
            scope = scope._above
        return as_text(self._labels.system) or (None if scope is None else scope.name)

    def _fresh(self, name: str, arguments: Mapping[str, object]) -> Operation:
        """Return a new operation like this one, for one call of a function."""
        return type(self)(
            self.name or name, arguments if self._input is None else self._input, self._parent, self._labels
        )

    def _admit(self, at: Time | None) -> int:
        if self._parent is not None and not self._started:
            self._parent._check_open()
        return super()._admit(at)

    def _open(self, current: Context) -> Context:
        around, owner = scope_of(current), self._parent
        if owner is not None:
            owner = owner._innermost()
        if owner is None or is_within(around, owner):
            self._above = around
        else:
            self._above, current = owner, owner._inner or current
        self._runtime = installed_or_warn() if self._above is None else self._above._runtime
        if self._above is not None:
            self._place = self._above._place
        return current

    def _announce(self, runtime: Runtime, base: Context) -> None:
        around, own = metadata_of(base), self._labels.metadata
        self._metadata = around if own is None else {**around, **as_dict(own)}
        record = self._record(None, None)
        if self._start_kind is None or (self._is_aside and not runtime.writes_starts()):
            # The start of a span shows no content of an operation that is no agent.
            self._begin_span(runtime.process(msgspec.structs.replace(record, data=None), self._level), base)
            return
        shown = runtime.process(
            msgspec.structs.replace(record, event_id=start_id(self._id), event_type=self._start_kind), self._level
        )
        self._begin_span(shown, base)
        self._write(with_ids(shown, self._span_ids()))
        self._observe_end(shown)

    def _close(self, error: BaseException | None) -> Processed[Record] | None:
        duration_ns = self._elapsed_ns()
        if not self._counted:
            self._counted = True
            self._count(duration_ns)
        if self._runtime is None:
            return None
        record = msgspec.structs.replace(self._record(error, duration_ns), **self._span_ids())
        return self._runtime.process(record, self._level, "event")

    def _count(self, duration_ns: int) -> None:
        """Add it to the totals of the enclosing scopes, if it counts there."""

    def _observe_end(self, final: Processed[Record]) -> None:
        if self._above is not None and not self._is_aside:
            self._above._observe(final)

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        input_name, output_name = self._fields
        data = {} if self._input is None else {input_name: self._input}
        if self._output is not _ABSENT:
            data[output_name] = self._output
        return msgspec.structs.replace(
            self._event_record(self._kind, self._start_ns, event_id=self._id),
            name=self.name,
            duration_ns=duration_ns,
            sequence=self._sequence(),
            external_sequence=as_int(self._labels.sequence),
            system=self._system(),
            data=data or None,
            tool_call_id=self._tool_call_id,
            error=self._failure(error),
            metadata=self._own_metadata(),
        )

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return application_error(error if error is not None else self.error)

    def _own_metadata(self) -> dict[str, object]:
        return dict(self._metadata)


class Tool(Operation):
    """One run of a tool: a span `execute_tool {name}` and an event row, announced at its start by a `tool_start` row.

    Set `result` to what it returned, or `error` to an exception or text where it failed without raising. The tool
    call's id joins it to the call of the model that requested it.

    Raises:
        UsageError: It is started twice; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.tool("lookup", call="call_1", arguments={"id": 7}) as tool:
        ...     tool.result = {"name": "Ada"}
        >>> tool.tool_call_id
        'call_1'
    """

    __slots__ = ("_given",)

    _is_tool = True
    _kind = "tool"
    _start_kind = TOOL_START
    _fields = ("arguments", "result")

    name: str
    """The tool's name: as given, else as the model called it."""

    def __init__(
        self,
        name: str | None = None,
        call: object = None,
        arguments: object = None,
        owner: EventRecorder | None = None,
        labels: Labels = _UNLABELLED,
    ) -> None:
        requested = None if isinstance(call, str) else call
        given = tool_call_field(requested, "arguments") if arguments is None else arguments
        super().__init__(as_text(name) or _text(tool_call_field(requested, "name")) or "tool", given, owner, labels)
        self._given = (name, call, arguments)
        self._tool_call_id = call if isinstance(call, str) else _text(tool_call_field(requested, "id"))

    @property
    def tool_call_id(self) -> str | None:
        """The id of the model's tool call; None if unknown."""
        return self._tool_call_id

    @property
    def arguments(self) -> object:
        """The arguments: as given, else the model's own, parsed where they are JSON text."""
        return self._input

    result = Operation.output
    """What the tool returned; None before it is set."""

    def _fresh(self, name: str, arguments: Mapping[str, object]) -> Operation:
        given, call, own = self._given
        return Tool(given or name, call, arguments if own is None else own, self._parent, self._labels)

    def _announce(self, runtime: Runtime, base: Context) -> None:
        self._read_arguments()
        super()._announce(runtime, base)

    def _read_arguments(self) -> None:
        with _READ_ARGUMENTS:
            self._input = plain(parsed(self._input))
            scope = self._above
            while scope is not None and not scope._answers:
                scope = scope._above
            if scope is not None:
                self._tool_call_id = self._tool_call_id or requested(scope._answers, self.name, self._input)
                if self._tool_call_id is not None:
                    take(scope._answers, self._tool_call_id)

    def _count(self, duration_ns: int) -> None:
        # The time of a tool inside a tool is part of the outer tool's time.
        if self._above is not None:
            self._above._add_to_totals(RunningTotals.add_tool, 0 if self._above._is_tool else duration_ns)


class Agent(Operation):
    """One run of an agent among several: a span `invoke_agent {name}`, parent of its calls and operations.

    An event row `agent`, announced at its start by a row `agent_start`. Set `output` to its result.
    """

    __slots__ = ("_facts", "_has_loop", "description")

    _kind = "agent"
    _start_kind = AGENT_START
    _is_agent = True
    _is_aside = False

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        description: str | None = None,
        labels: Labels = _UNLABELLED,
    ) -> None:
        super().__init__(name, given, owner, labels)
        self.description = as_text(description)
        self._facts: dict[str, object] = {}
        """What is known of the tool loop of an SDK that it is."""
        self._has_loop = False
        """Whether it holds such a loop."""

    def _fresh(self, name: str, arguments: Mapping[str, object]) -> Operation:
        given = arguments if self._input is None else self._input
        return Agent(self.name or name, given, self._parent, self.description, self._labels)

    def _own_metadata(self) -> dict[str, object]:
        about = {**self._facts, "description": self.description}
        return {**self._metadata, **{name: value for name, value in about.items() if value is not None}}


class Guardrail(Operation):
    """One check of an input or output: a span `guardrail {name}` and an event row `guardrail`.

    Set `triggered` to whether it found something; a decorated function's return value is that where it is a bool.
    """

    __slots__ = ("triggered",)

    _kind = "guardrail"

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        labels: Labels = _UNLABELLED,
    ) -> None:
        super().__init__(name, given, owner, labels)
        self.triggered: bool | None = None

    def _returned(self, result: object) -> None:
        """Keep what a decorated function returned as the output; a bool also sets `triggered`."""
        super()._returned(result)
        if isinstance(result, bool):
            self.triggered = result

    def _own_metadata(self) -> dict[str, object]:
        triggered = as_bool(self.triggered)
        return {**self._metadata} if triggered is None else {**self._metadata, "triggered": triggered}


class Handoff(Operation):
    """A handoff from one agent to another: a span `handoff {to}` and an event row `handoff`."""

    __slots__ = ("_sender",)

    _kind = "handoff"

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: EventRecorder | None = None,
        sender: str | None = None,
        call: object = None,
    ) -> None:
        super().__init__(name, given, owner)
        self._sender = as_text(sender)
        self._tool_call_id = call if isinstance(call, str) else as_text(tool_call_field(call, "id"))

    @classmethod
    def made(
        cls, to: str, sender: str | None, call: object, reason: object, owner: EventRecorder | None, at: Time | None
    ) -> str:
        """Record a handoff immediately; return its event's id."""
        handoff = cls(to, reason, owner, sender, call)
        handoff.start(current=False, at=at)
        handoff.end()
        return handoff.id

    def _system(self) -> str | None:
        """Return the sending agent: as given, else the agent it runs in."""
        return self._sender or super()._system()


def _member(value: object, name: str) -> object:
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, Mapping):
        return value.get(name)
    return value_of(functools.partial(getattr, value, name, None))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
