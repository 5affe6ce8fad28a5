"""Operations: tools, agents, guardrails, handoffs and environment steps, each a span and an event."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, SupportsFloat

from callspan.agent.arguments import SupportsBool, Time, as_bool, as_dict, as_text, reward_value
from callspan.agent.context import SCOPE, current_context
from callspan.agent.decorators import AdvanceBlock, Block
from callspan.agent.kinds import ABSENT, AGENT, ENVIRONMENT, GUARDRAIL, HANDOFF, TOOL
from callspan.agent.misuse import UsageError, ignore_misuse, report_misuse
from callspan.agent.references import Reference, reference_or_none
from callspan.agent.sdk_objects import id_text, tool_call_field
from callspan.agent.tree import Node
from callspan.record.ids import new_id


class EventArguments(NamedTuple):
    """The arguments that all events share."""

    metadata: Mapping[str, object] | None = None
    """Merged into the metadata of the running code."""
    system: object = None
    """The component that acts."""
    sequence: object = None
    """The application's own number of the event."""


_NO_ARGUMENTS: Final = EventArguments()
_NO_RESULT: Final[Mapping[str, Any]] = MappingProxyType({})


class Operation(Node):
    """An operation in a timestep, a session or another operation, or outside of them.

    Used with `with`, `async with` or as a decorator. Set `error` to an exception or text if it failed without raising.
    If created by a session or timestep, it belongs to that; otherwise to the current scope at its start.
    """

    error: BaseException | str | None
    """The exception or text of a failure that raised nothing."""
    failed: bool = False
    """Whether a framework reports a failure to the model."""
    step_result: Mapping[str, Any] = _NO_RESULT
    """Of an environment step: the fields that state its result."""
    reads_arguments = True

    def __init__(
        self,
        name: str | None = None,
        input_value: object = None,
        owner: Node | None = None,
        event_arguments: EventArguments = _NO_ARGUMENTS,
        tool_call_id: str | None = None,
        call_id: str | None = None,
    ) -> None:
        super().__init__(owner)
        self.info = as_dict(event_arguments.metadata)
        self.event_arguments = event_arguments
        self.id = new_id()
        self.requested_id = tool_call_id
        self.call_id = call_id
        """The model's call that requested it; None if unknown."""
        self.input_value = input_value
        self.output_value: object = ABSENT
        self.name = as_text(name)
        self.error = None

    @property
    def output(self) -> object:
        """The result; None before it is set."""
        return None if self.output_value is ABSENT else self.output_value

    @output.setter
    def output(self, value: object) -> None:
        self.output_value = value

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Block:
        """Return such an operation for one call of a function."""
        value = arguments if self.input_value is None else self.input_value
        return type(self)(self.name or name, value, self.owner, self.event_arguments)


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

    kind = TOOL

    name: str | None
    """The tool's name: as given, else as in the model's tool call."""
    has_function: bool = False
    """Whether a decorated function of its name has run in it."""

    def new_block(self, name: str, arguments: Mapping[str, object]) -> Block:
        """Return a tool for one call of a function; within a hook's run of this tool, that is the run."""
        run: object = current_context().get(SCOPE)
        if isinstance(run, Tool) and run.is_automatic and run.name == (self.name or name) and not run.has_function:
            run.has_function = True
            run.info = {**self.info, **run.info}
            return _BlockOfRun()
        return super().new_block(name, arguments)

    @property
    def tool_call_id(self) -> str | None:
        """The id of the model's tool call; None if unknown."""
        return self.requested_id

    @property
    def arguments(self) -> object:
        """The arguments: as given, else from the model's tool call, parsed from JSON."""
        return self.input_value

    result = Operation.output
    """The result; None before it is set."""


class _BlockOfRun(AdvanceBlock):
    """The block of a decorated function whose run a hook records: nothing of its own."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Agent(Operation):
    """One run of one of several agents: a span `invoke_agent {name}`, the parent of its calls and operations.

    It writes an event `agent_start` at its start and an event `agent` at its end. Set `output` to its result.
    """

    kind = AGENT


class Guardrail(Operation):
    """One check of an input or output: a span `guardrail {name}` and an event `guardrail`.

    Set `triggered` to whether it was triggered; a bool returned by a decorated function sets it too.
    """

    kind = GUARDRAIL
    triggered: bool | None = None


class Handoff(Operation):
    """A handoff from one agent to another: a span `handoff {to}` and an event `handoff`."""

    kind = HANDOFF


def environment_fields(
    *, before: object, observation: object, reward: object, terminated: object, truncated: object, info: object
) -> dict[str, Any]:
    """Return the fields of an environment's event that state the result of its step, without an invalid reward."""
    states, amount = {"before": before, "after": observation, "info": info}, None
    try:
        amount = reward_value(reward)
    except UsageError as error:
        report_misuse(error)
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

    kind = ENVIRONMENT

    def set_result(
        self,
        observation: object = None,
        reward: SupportsFloat | None = None,
        terminated: SupportsBool | None = None,
        truncated: SupportsBool | None = None,
        info: object = None,
    ) -> None:
        """Set the result of the step, see `Timestep.environment`; the last one counts."""
        self.step_result = environment_fields(
            before=self.input_value, observation=observation, reward=reward, terminated=terminated,
            truncated=truncated, info=info,
        )  # fmt: skip


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
            name: The tool's name; by default the name in `call`, or of the decorated function.
            call: The model's tool call as object or dict (a chat tool call, a Responses item, a block with a tool
                use, a function call), which provides id, name and arguments; or its id; or a response or record with
                only one tool call. By default, or if it has no id, the only open tool call of the latest answer with
                this name and these arguments.
            arguments: Override the arguments in `call`; for a decorated function its arguments.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into the values of `callspan.metadata`; None values are omitted.
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
        reference = reference_or_none(call)
        name = as_text(name) or _text(tool_call_field(reference.requested, "name"))
        tool_arguments = tool_call_field(reference.requested, "arguments") if arguments is None else arguments
        event_arguments = EventArguments(metadata, system, sequence)
        return Tool(
            name,
            tool_arguments,
            self._operations_owner,
            event_arguments,
            _tool_call_id(reference),
            _requester(reference),
        )

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
            name: The agent's name; by default the decorated function's.
            input: Its input; for a decorated function its arguments.
            description: The purpose of the agent.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into the values of `callspan.metadata`; None values are omitted.
            sequence: Your own number of the event.

        Raises:
            UsageError: It was started twice; only inside `callspan.testing.capture()`, see `Session`.

        Example:
            >>> with callspan.invoke_agent("planner", input="Plan a trip.") as agent:
            ...     agent.output = ["book a train"]
        """
        about = as_dict(metadata) | without_none({"description": as_text(description)})
        return Agent(name, input, self._operations_owner, EventArguments(about, system, sequence))

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
            name: The check's name; by default the decorated function's.
            input: The checked value; for a decorated function its arguments.
            system: The component that acts; by default the enclosing agent.
            metadata: Any JSON values, merged into the values of `callspan.metadata`; None values are omitted.
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
        return Guardrail(name, input, self._operations_owner, EventArguments(metadata, system, sequence))

    @ignore_misuse
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
        reference = reference_or_none(call)
        ids = _tool_call_id(reference), _requester(reference)
        handoff = Handoff(to, reason, self._operations_owner, EventArguments(system=sender), *ids)
        handoff.start(current=False, at=at)
        handoff.end()
        return handoff.id

    @property
    def _operations_owner(self) -> Node | None:
        return self if isinstance(self, Node) else None


def without_none(values: Mapping[str, object]) -> dict[str, object]:
    """Return the items without None values."""
    return {name: value for name, value in values.items() if value is not None}


def _tool_call_id(reference: Reference) -> str | None:
    return reference.text or id_text(tool_call_field(reference.requested, "id"))


def _requester(reference: Reference) -> str | None:
    """Return the id of the call that requested a tool; None for text, which may be the id of the tool call."""
    return None if reference.text is not None else reference.call_id


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
