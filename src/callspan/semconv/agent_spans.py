"""Agent spans: what the spans of agents, workflows and tools of other instrumentations say.

Under which names they say it is in `vocabularies`. Ids are made of what a span states alone, so that reading it again,
or in another process, makes the same records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from callspan.providers.wire_json import objects
from callspan.record.call import ErrorInfo
from callspan.record.events import EventRecord, SessionRecord
from callspan.record.foreign_json import read_json
from callspan.record.labels import Ownership
from callspan.semconv.conversations import CONVERSATION, session_of_conversation
from callspan.semconv.records_from_spans import (
    ForeignSpan,
    conversation_of,
    duration_of,
    error_of,
    id_of_span,
    ownership_of,
)
from callspan.semconv.vocabularies import (
    ARGUMENTS,
    DETAILS,
    INPUT_MESSAGES,
    MCP_CALL,
    OUTPUT_MESSAGES,
    RESULT,
    RUN_NAME,
    TOOL_CALL_ID,
    TOOL_CHOICE,
    TOOL_MESSAGE,
    TOOL_NAME,
    Role,
    first_text,
    role_named,
)

_PYTHON_CALL: Final = frozenset({"args", "kwargs", "sanitize_inputs_outputs"})
"""The keys of arguments that are those of a Python function's call."""

_METHOD: Final = re.compile(r"(_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.(_execute_core|kickoff(_async)?|run)$")
"""What OpenInference writes behind the name of a crew, an agent or a tool: an id of the run, and the method."""


class ToolRun(NamedTuple):
    """What a span says of a run of a tool. None is unknown."""

    name: str
    tool_call_id: str | None
    arguments: object
    result: object
    start_ns: int
    duration_ns: int | None
    error: ErrorInfo | None


def tool_run(span: ForeignSpan) -> ToolRun:
    """Return what the span of a tool says."""
    attributes, name = span.attributes, run_name(span.attributes, span.name)
    tool_call_id = first_text(attributes, TOOL_CALL_ID)
    arguments, result = _first(attributes, ARGUMENTS), _first(attributes, RESULT)
    if arguments is None:
        arguments = _of_event(span, TOOL_MESSAGE) or _part(span, INPUT_MESSAGES, ("arguments",))
    if result is None:
        result = _of_event(span, TOOL_CHOICE) or _part(span, OUTPUT_MESSAGES, ("response", "result"))
    if result is None and "" in map(attributes.get, RESULT):
        result = ""  # it ran and returned nothing
    return ToolRun(
        name=name,
        tool_call_id=None if tool_call_id == name else tool_call_id,
        arguments=_without_call(_parsed(arguments)),
        result=_parsed(result),
        start_ns=span.start_ns,
        duration_ns=duration_of(span),
        error=error_of(span),
    )


def run_name(attributes: Mapping[str, object], span_name: str) -> str:
    """Return the name of the tool, agent or workflow that a span stands for."""
    stated = first_text(attributes, TOOL_NAME) or first_text(attributes, RUN_NAME)
    if stated is not None:
        return stated
    if MCP_CALL in span_name:
        return span_name.partition(f"{MCP_CALL} ")[2] or span_name
    return (span_name.partition(" ")[2] if role_named(span_name) else _METHOD.sub("", span_name)) or span_name


def is_same_tool(name: str | None, tool_call_id: str | None, other: str | None, other_id: str | None) -> bool:
    """Return whether a tool right within another one is the same run, by the names and the ids of their tool calls."""
    return name == other if tool_call_id is None or other_id is None else tool_call_id == other_id


def joined_runs(inner: ToolRun, outer: ToolRun) -> ToolRun:
    """Return the inner one of two spans of one run, with what only the outer one says."""
    return inner._replace(
        tool_call_id=inner.tool_call_id or outer.tool_call_id,
        arguments=outer.arguments if inner.arguments is None else inner.arguments,
        result=outer.result if inner.result is None else inner.result,
        error=inner.error or outer.error,
    )


_R = TypeVar("_R", bound="RunFacts")


class RunFacts(msgspec.Struct, eq=False):
    """An agent, a workflow or a tool, or a chain that may be a workflow: what decides where it belongs."""

    role: Role
    start_ns: int
    end_ns: int | None
    ownership: Ownership
    """Whom its span says that it serves."""
    has_runs: bool = False
    """Whether an agent or a tool runs in it."""
    serves: Ownership = Ownership()
    """Of a session: whom it serves, as far as the spans in it say so by now."""

    @property
    def is_session(self) -> bool:
        """Whether it is a session if no other one is around it."""
        return self.role in ("agent", "workflow") or (self.role == "chain" and self.has_runs)

    def had_ended(self, start_ns: int, clocks_ns: int) -> bool:
        """Return whether it had ended when something began, on clocks that differ by no more than that."""
        return self.end_ns is not None and self.end_ns + clocks_ns < start_ns


def session_among(runs: Iterable[_R], start_ns: int, clocks_ns: int) -> _R | None:
    """Return the session of what began at this time in these runs, the outermost first; None outside of a session.

    It is the outermost agent, workflow or chain with an agent or a tool. But a place below a span proves nothing by
    itself: an agent that began after its end, or that states another user, tenant or service, is a session of its own.
    """
    session: _R | None = None
    for run in runs:
        is_apart = session is None or (
            session.had_ended(run.start_ns, clocks_ns) or run.ownership.contradicts(session.serves)
        )
        if run.is_session and is_apart:
            session = run
    return None if session is None or session.had_ended(start_ns, clocks_ns) else session


def session_of(span: ForeignSpan, name: str) -> SessionRecord:
    """Return the record of the session that an outermost span of an agent or a workflow is."""
    conversation, ownership = conversation_of(span.attributes), ownership_of(span)
    error = error_of(span)
    session_id = id_of_span(span) if conversation is None else session_of_conversation(conversation, ownership)
    return SessionRecord(
        session_id=session_id,
        seen_ns=span.end_ns or span.start_ns,
        name=name,
        user_id=ownership.user,
        service=span.service,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        outcome=None if span.end_ns is None else outcome_of(error),
        error=None if is_cancelled(error) else error,
        metadata={} if conversation is None else {CONVERSATION: conversation},
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
    )


def is_cancelled(error: ErrorInfo | None) -> bool:
    """Return whether this ended a run without being a failure of it: a cancelled task, a closed generator."""
    return error is not None and error.kind == "cancelled"


def outcome_of(error: ErrorInfo | None) -> str:
    """Return how a session ended, given the error of its span."""
    return "success" if error is None else "cancelled" if is_cancelled(error) else "error"


def agent_event(span: ForeignSpan, name: str) -> EventRecord:
    """Return the record of a run of an agent, as its span says."""
    return EventRecord(
        event_id=id_of_span(span),
        event_type="agent",
        name=name,
        time_ns=span.start_ns,
        duration_ns=duration_of(span),
        error=error_of(span),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
    )


def tool_event(span: ForeignSpan, run: ToolRun) -> EventRecord:
    """Return the record of a run of a tool, whose span this is."""
    data = {"arguments": run.arguments, "result": run.result}
    return EventRecord(
        event_id=id_of_span(span),
        event_type="tool",
        name=run.name,
        time_ns=run.start_ns,
        duration_ns=run.duration_ns,
        data={name: value for name, value in data.items() if value is not None} or None,
        tool_call_id=run.tool_call_id,
        error=run.error,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
    )


def _first(attributes: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := attributes.get(name)) not in (None, "")), None)


def _of_event(span: ForeignSpan, source: tuple[str, str]) -> object:
    event, attribute = source
    return span.events.get(event, {}).get(attribute)


def _part(span: ForeignSpan, messages: str, members: tuple[str, ...]) -> object:
    """Return what the first part of the messages in the details of a tool's span has under one of these names."""
    details = _parsed(span.events.get(DETAILS, span.attributes).get(messages))
    parts = (part for message in objects(details) for part in objects(message, "parts"))
    return next((value for part in parts for name in members if (value := part.get(name)) is not None), None)


def _parsed(value: object) -> object:
    """Return JSON text as its value; any other value unchanged."""
    reading = read_json(value) if isinstance(value, str) and value.startswith(("{", "[", '"')) else None
    return value if reading is None else reading.value


def _without_call(arguments: object) -> object:
    """Return the arguments of a Python function that are only keywords as these."""
    if not isinstance(arguments, dict) or not isinstance(arguments.get("kwargs"), dict):
        return arguments
    return arguments["kwargs"] if arguments.keys() <= _PYTHON_CALL and not arguments.get("args") else arguments
