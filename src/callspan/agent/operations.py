"""Operations: tools, agents, guardrails, handoffs and environment steps, each a span and an event."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple, SupportsFloat

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import SupportsBool, Time, as_bool, as_dict, as_int, as_text, reward_value
from callspan.agent.decorators import BlockDecorator
from callspan.agent.misuse import UsageError, or_unrecorded, refuse
from callspan.agent.references import Reference, id_text, reference_or_none, requesting_call, tool_call_field
from callspan.agent.runtime import Runtime
from callspan.agent.scope import Scope
from callspan.agent.tool_requests import find_tool_call, mark_started
from callspan.agent.totals import RunningTotals
from callspan.errors import application_error
from callspan.fail_open import fail_open
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import with_ids
from callspan.record.call import ErrorInfo
from callspan.record.events import AGENT_START, TOOL_START, EventRecord, Record, start_id
from callspan.record.ids import new_id
from callspan.record.messages import parse_arguments
from callspan.record.plain_json import plain_within
from callspan.semconv.metrics import AgentRun

_ABSENT: Final = msgspec.UNSET
TOOL_ERROR: Final = ErrorInfo(kind="unknown", type="tool_error")
_READ_ARGUMENTS: Final = fail_open("read the arguments of a tool")


class Labels(NamedTuple):
    """The arguments that all events share."""

    metadata: Mapping[str, object] | None = None
    """Merged into the metadata of the running code."""
    system: object = None
    """The component that acts."""
    sequence: object = None
    """The application's own number of the event."""


_ONE_TOOL: Final = {"tools": 1}
_NO_LABELS: Final = Labels()
_NO_RESULT: Final[Mapping[str, Any]] = MappingProxyType({})


class Operation(Scope, BlockDecorator):
    """An operation in a timestep, a session or another operation, or outside of them.

    Used with `with`, `async with` or as a decorator. Set `error` to an exception or text if it failed without raising.
    If created by a session or timestep, it belongs to that; otherwise to the current scope at its start.
    """

    error: BaseException | str | None
    """The exception or text of a failure that raised nothing."""
    _start_kind: ClassVar[str | None] = None
    """Type of the event written at its start, if any."""
    _fields: ClassVar[tuple[str, str]] = ("input", "output")
    """Names of input and output in the event's data."""
    _end_point = "event"
    hides_messages = True
    reads_arguments = True

    def __init__(
        self,
        name: str | None = None,
        given: object = None,
        owner: Scope | None = None,
        labels: Labels = _NO_LABELS,
        tool_call_id: str | None = None,
        call_id: str | None = None,
    ) -> None:
        super().__init__(owner)
        self._info = as_dict(labels.metadata)
        self._labels = labels
        self.id = new_id()
        self._tool_call_id = tool_call_id
        self.call_id = call_id
        """The model's call that requested it; None if unknown."""
        self._input = given
        self._output: object = _ABSENT
        self.name = as_text(name)
        self.error = None

    @property
    def output(self) -> object:
        """The result; None before it is set."""
        return None if self._output is _ABSENT else self._output

    @output.setter
    def output(self, value: object) -> None:
        self._output = value

    def function_returned(self, result: object) -> None:
        """Set the result."""
        self._output = result

    def _system(self) -> str | None:
        """Return the component that acts: as given, else the enclosing agent, or None."""
        return as_text(self._labels.system) or (None if self.agent is None else self.agent.name)

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Operation:
        """Return such an operation for one call of a function."""
        given = arguments if self._input is None else self._input
        return type(self)(self.name or name, given, self._owner, self._labels)

    def _read_input(self) -> None:
        """Copy the input, which the application may change in place before the end."""
        self._input, _ = plain_within(self._input)

    def _find_requester(self) -> None:
        """Find the call whose answer has the tool call, among the latest ones around."""
        if self._tool_call_id is not None and self.call_id is None:
            self.call_id = requesting_call(self._tool_call_id, self.above)

    def _announce(self, runtime: Runtime, base: Context) -> None:
        self._read_input()
        record, kind = self._record(None, None), self._start_kind
        if kind is None or (self.hides_messages and not runtime.writes_starts()):
            # Only an agent's span has content at its start.
            shown = runtime.without_callbacks(msgspec.structs.replace(record, data=None), self.level)
            self._begin_span(runtime, shown, base)
            return
        first = msgspec.structs.replace(record, event_id=start_id(self.id), event_type=kind)
        processed = runtime.process(first, self.level)
        self._begin_span(runtime, processed, base)
        self._write(runtime, with_ids(processed, self._span_ids()))
        self._observe_end(processed)

    def _final_record(self, error: BaseException | None, duration_ns: int) -> EventRecord:
        return msgspec.structs.replace(self._record(error, duration_ns), **self._span_ids())

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        input_name, output_name = self._fields
        data = {} if self._input is None else {input_name: self._input}
        if self._output is not _ABSENT:
            data[output_name] = self._output
        return msgspec.structs.replace(
            self._event_record(self.kind, self._start_ns, event_id=self.id),
            name=self.name,
            duration_ns=duration_ns,
            sequence=self.next_sequence(),
            external_sequence=as_int(self._labels.sequence),
            system=self._system(),
            data=data or None,
            call_id=self.call_id,
            tool_call_id=self._tool_call_id,
            error=self._failure(error),
            metadata=self._info,
        )

    def _failure(self, error: BaseException | None) -> ErrorInfo | None:
        return application_error(error if error is not None else self.error)


class Tool(Operation):
    """One run of a tool: a span `execute_tool {name}`, an event `tool_start` at its start and one `tool` at its end.

    Set `result` to its result, or `error` to an exception or text if it failed without raising. The id of the tool call
    joins it to the model's call that requested it.

    Raises:
        UsageError: It was started twice; only inside `callspan.testing.capture()`, see `Session`.

    Example:
        >>> with callspan.tool("lookup", call="call_1", arguments={"id": 7}) as tool:
        ...     tool.result = {"name": "Ada"}
        >>> tool.tool_call_id
        'call_1'
    """

    kind = "tool"
    _start_kind = TOOL_START
    _fields = ("arguments", "result")

    name: str | None
    """The tool's name: as given, else as in the model's tool call."""

    @property
    def tool_call_id(self) -> str | None:
        """The id of the model's tool call; None if unknown."""
        return self._tool_call_id

    @property
    def arguments(self) -> object:
        """The arguments: as given, else those of the model's tool call, parsed from JSON."""
        return self._input

    result = Operation.output
    """The result; None before it is set."""

    def _read_input(self) -> None:
        self._input = parse_arguments(self._input)
        super()._read_input()
        with _READ_ARGUMENTS:
            scope = self.above
            while scope is not None and not scope.answers:
                scope = scope.above
            if scope is not None:
                self._tool_call_id = self._tool_call_id or find_tool_call(scope.answers, self.name, self._input)
                if self._tool_call_id is not None:
                    mark_started(scope.answers, self._tool_call_id)
            self._find_requester()

    def _note_end(self) -> None:
        # The time of a tool inside a tool is part of the outer tool's time.
        if self.above is not None:
            duration_ns = 0 if self.above.kind == "tool" else self.duration_ns or 0
            self.above.add({"tools": 1, "tool_ns": duration_ns})
            if self.agent is not None:
                self.agent.own_work.add(_ONE_TOOL)


class Agent(Operation):
    """One run of one of several agents: a span `invoke_agent {name}`, the parent of its calls and operations.

    It writes an event `agent_start` at its start and an event `agent` at its end. Set `output` to its result.
    """

    kind = "agent"
    _start_kind = AGENT_START
    hides_messages = False
    _is_exchange = True

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.own_work = RunningTotals()
        """The calls and tools inside that are in no agent inside."""

    def _observe_end(self, final: ProcessedRecord[Record]) -> None:
        super()._observe_end(final)
        record, runtime = final.record, self.runtime
        if not isinstance(record, EventRecord) or record.event_type != self.kind or self._has_given_times:
            return
        if runtime is not None:
            asked = self.own_work.totals()
            runtime.agent_ended(AgentRun(record.name, asked.calls, asked.tools))


class Guardrail(Operation):
    """One check of an input or output: a span `guardrail {name}` and an event `guardrail`.

    Set `triggered` to whether it was triggered; a bool returned by a decorated function sets it too.
    """

    kind = "guardrail"
    triggered: bool | None = None

    def function_returned(self, result: object) -> None:
        """Set the result; a bool is whether it was triggered."""
        super().function_returned(result)
        if isinstance(result, bool):
            self.triggered = result

    def _note_end(self) -> None:
        self._info.update(without_none({"triggered": as_bool(self.triggered)}))


class Handoff(Operation):
    """A handoff from one agent to another: a span `handoff {to}` and an event `handoff`."""

    kind = "handoff"

    def _read_input(self) -> None:
        super()._read_input()
        with _READ_ARGUMENTS:
            self._find_requester()


def environment_fields(
    *, before: object, observation: object, reward: object, terminated: object, truncated: object, info: object
) -> dict[str, Any]:
    """Return the fields of an environment's event that state the result of its step, without an invalid reward."""
    states, amount = {"before": before, "after": observation, "info": info}, None
    try:
        amount = reward_value(reward)
    except UsageError as error:
        refuse(error)
    return {
        "data": without_none(states) or None,
        "reward": amount,
        "terminated": as_bool(terminated),
        "truncated": as_bool(truncated),
    }


class EnvironmentStep(Operation):
    """An environment step with a duration: a span `environment`, and the same event as written by `environment(...)`.

    Calls inside (a simulated user, a judge) are its children.
    """

    kind = "environment"
    _fields = ("before", "after")
    _is_exchange = True
    _result: Mapping[str, Any] = _NO_RESULT

    def set_result(
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        info: object = None,
    ) -> None:
        """Set the result of the step, see `Timestep.environment`; the last one counts."""
        self._result = environment_fields(
            before=self._input, observation=observation, reward=reward, terminated=terminated,
            truncated=truncated, info=info,
        )  # fmt: skip

    def _system(self) -> str | None:
        return as_text(self._labels.system)

    def _record(self, error: BaseException | None, duration_ns: int | None) -> EventRecord:
        return msgspec.structs.replace(super()._record(error, duration_ns), **self._result)

    def _note_end(self) -> None:
        if self.step is not None:
            self.step.note_episode_end(self._result)

    def _observe_end(self, final: ProcessedRecord[Record]) -> None:
        super()._observe_end(final)
        self.count_reward(final.record)


class Operations:
    """Creates operations, in the scope that inherits this, else in the current one at their start."""

    def tool(
        self,
        name: str | None = None,
        call: object = None,
        arguments: object = None,
        *,
        system: str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
    ) -> Tool:
        """Return a tool run in the current timestep, for `with`, `async with` or as a decorator.

        Args:
            name: The tool's name; by default that of `call`, or of the decorated function.
            call: The model's tool call (a chat tool call, a Responses tool call item or a Messages tool use block,
                as object or dict), which provides id, name and arguments; or its id; or the response or record of
                which it is the only one. By default the only open tool call of the latest answer with this name and
                these arguments.
            arguments: Override those of `call`; for a decorated function its arguments.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into those of `callspan.metadata`; None values are omitted.
            sequence: Your own number of the event.

        Raises:
            UsageError: It was started twice; only inside `callspan.testing.capture()`, see `Session`.

        Example:
            >>> @callspan.tool
            ... def add(a: int, b: int) -> int:
            ...     return a + b
            >>> add(1, 2)
            3
        """
        named = reference_or_none(call)
        name = as_text(name) or _text(tool_call_field(named.requested, "name"))
        given = tool_call_field(named.requested, "arguments") if arguments is None else arguments
        labels = Labels(metadata, system, sequence)
        return Tool(name, given, self._operations_owner, labels, _tool_call_id(named), _requester(named))

    def invoke_agent(
        self,
        name: str | None = None,
        *,
        input: object = None,  # noqa: A002 - the public word
        description: str | None = None,
        system: str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
    ) -> Agent:
        """Return a run of one of several agents, for `with`, `async with` or as a decorator.

        Args:
            name: The agent's name; by default that of the decorated function.
            input: Its input; for a decorated function its arguments.
            description: The purpose of the agent.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into those of `callspan.metadata`; None values are omitted.
            sequence: Your own number of the event.

        Raises:
            UsageError: It was started twice; only inside `callspan.testing.capture()`, see `Session`.

        Example:
            >>> with callspan.invoke_agent("planner", input="Plan a trip.") as agent:
            ...     agent.output = ["book a train"]
        """
        about = as_dict(metadata) | without_none({"description": as_text(description)})
        return Agent(name, input, self._operations_owner, Labels(about, system, sequence))

    def guardrail(
        self,
        name: str | None = None,
        *,
        input: object = None,  # noqa: A002 - the public word
        system: str | None = None,
        metadata: Mapping[str, object] | None = None,
        sequence: int | None = None,
    ) -> Guardrail:
        """Return a check of a model's input or output, for `with`, `async with` or as a decorator.

        Args:
            name: The check's name; by default that of the decorated function.
            input: The checked value; for a decorated function its arguments.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into those of `callspan.metadata`; None values are omitted.
            sequence: Your own number of the event.

        Raises:
            UsageError: It was started twice; only inside `callspan.testing.capture()`, see `Session`.

        Example:
            >>> @callspan.guardrail
            ... def is_offensive(text: str) -> bool:
            ...     return "idiot" in text
            >>> is_offensive("Hello")
            False
        """
        return Guardrail(name, input, self._operations_owner, Labels(metadata, system, sequence))

    @or_unrecorded
    def handoff(
        self, to: str, sender: str | None = None, *, call: object = None, reason: object = None, at: Time | None = None
    ) -> str:
        """Record a handoff from one agent to another; return the event's id.

        Args:
            to: The agent that takes over.
            sender: The agent that hands over; by default the current one, see `invoke_agent`.
            call: The tool call that requested it, or its id.
            reason: The reason, or the data that is handed over; any JSON value.
            at: The time, now by default.

        Raises:
            UsageError: `at` is not a valid time; only inside `callspan.testing.capture()`, see `Session`.

        Example:
            >>> with callspan.session("support"), callspan.invoke_agent("triage"):
            ...     event_id = callspan.handoff("billing", reason="a question about an invoice")
        """
        named = reference_or_none(call)
        ids = _tool_call_id(named), _requester(named)
        handoff = Handoff(to, reason, self._operations_owner, Labels(system=sender), *ids)
        handoff.start(current=False, at=at)
        handoff.end()
        return handoff.id

    @property
    def _operations_owner(self) -> Scope | None:
        return self if isinstance(self, Scope) else None


def without_none(values: Mapping[str, object]) -> dict[str, object]:
    """Return the items whose value is not None."""
    return {name: value for name, value in values.items() if value is not None}


def _tool_call_id(named: Reference) -> str | None:
    return named.text or id_text(tool_call_field(named.requested, "id"))


def _requester(named: Reference) -> str | None:
    """Return the id of the call that requested a tool; None for text, which may be the id of the tool call."""
    return None if named.text is not None else named.call_id


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
