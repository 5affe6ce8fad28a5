"""Kinds: what differs between sessions, timesteps, tools, agents, guardrails, handoffs and environment steps.

A kind is a row of functions and flags. `first` starts the span and writes the first record; `last` returns the record
of the end. Everything else about a scope is the same for all kinds, in `tree.py`.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.arguments import as_bool, as_int, as_text
from callspan.agent.context import metadata_of, with_metadata
from callspan.agent.misuse import current_runtime_or_warn, report_loose_calls
from callspan.agent.references import requesting_call
from callspan.agent.registry import REGISTRY, open_level
from callspan.agent.tool_requests import Answer, requested_once, requests_of, requests_with_id
from callspan.agent.totals import RunningTotals
from callspan.agent.tree import LOOSE_CALLS, Node, scope_of
from callspan.errors import application_error, outcome_of, stated_error
from callspan.process.callbacks import Point
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import with_fields, with_span
from callspan.record.call import ErrorInfo
from callspan.record.events import (
    AGENT_START,
    TOOL_START,
    EventRecord,
    Record,
    ScopeRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
    start_id,
)
from callspan.record.labels import label_of
from callspan.record.merging import BY_DEFAULT
from callspan.record.messages import parse_arguments
from callspan.record.plain_json import plain_within
from callspan.record.span_handle import with_span_ids
from callspan.runtime.fail_open import fail_open
from callspan.runtime.nothing import nothing
from callspan.runtime.process_identity import own_identity, state_of
from callspan.semconv.conversations import note_conversation
from callspan.settings import Content, strictest
from callspan.spans.session import span_ref

if TYPE_CHECKING:
    from callspan.agent.operations import EnvironmentStep, Guardrail, Operation, Tool
    from callspan.agent.runtime import Runtime
    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep

ABSENT: Final = msgspec.UNSET
"""The output of an operation before it is set."""
TOOL_ERROR: Final = ErrorInfo(kind="unknown", type="tool_error")
_NO_ANSWERS: Final[Sequence[Answer]] = ()
_READ_ARGUMENTS: Final = fail_open("read the arguments of a tool")


def whole(_node: Any, final: ProcessedRecord[Any]) -> ProcessedRecord[Any]:
    """Return the whole record."""
    return final


def level_above(node: Node) -> Content:
    """Return the content level of the enclosing scope."""
    return "full" if node.above is None else node.above.level


class Kind(msgspec.Struct, frozen=True):
    """One kind of scope; the first argument of each function is the scope."""

    name: str
    """Named in errors; for an operation also the type of its event."""
    first: Callable[[Any, Runtime, Context], None]
    """Starts the span in a context, and writes the first record, if there is one."""
    last: Callable[[Any, BaseException | None, int], ScopeRecord]
    """Returns the record of the end, given the exception that ended the scope and the duration in nanoseconds."""
    end_point: Point = "event"
    """The callback point of its end."""
    enter: Callable[[Any, Context], Context] = Node.enter
    """Sets runtime and place; returns the base of the scope's context."""
    outer_level: Callable[[Any], Content] = level_above
    """Returns the content level that applies in addition to the context's level."""
    count: Callable[[Any], None] = nothing
    """Updates totals and registries at the end, also if nothing is recorded."""
    stored: Callable[[Any, ProcessedRecord[Any]], ProcessedRecord[Any]] = whole
    """Returns what is written of the processed final record, which ends the span."""
    ended: Callable[[Any, ProcessedRecord[Any]], None] = nothing
    """Passes on the processed final record: to enclosing scopes, totals and metrics."""
    finished: Callable[[Any, BaseException | None], None] | None = None
    """Runs after the end was recorded; None: nothing to do."""
    returned: Callable[[Any, object], None] = nothing
    """Receives the result of a decorated function."""
    record: Callable[[Any], Any] = nothing
    """Of a session or timestep: returns the record with what is known so far, without its end."""
    is_session: bool = False
    is_timestep: bool = False
    is_agent: bool = False
    is_tool: bool = False
    needs_session: bool = False
    """Whether it can be only inside a session."""
    hides_messages: bool = False
    """Whether messages inside are excluded from the input and output of enclosing scopes."""
    start_type: str | None = None
    """Of an operation: the type of the event written at its start, if any."""
    data_names: tuple[str, str] = ("input", "output")
    """Of an operation: the names of input and output in the event's data."""
    read_input: Callable[[Any], None] = nothing
    """Of an operation: reads what its input names, at the start."""


# Sessions.


def enter_session(session: Session, outside: Context) -> Context:
    """Put a session below its parent, and make it one of the open sessions with its id."""
    session.runtime = current_runtime_or_warn()
    identity = session.identity
    enclosing, parent = scope_of(outside), identity.parent
    if isinstance(parent, Node):
        outside, enclosing = parent.inner or outside, parent
    outer_id = parent if isinstance(parent, str) else enclosing.place.session_id if enclosing else None
    session.parent_id = outer_id if outer_id != session.id else None
    session.process = own_identity()
    session.is_update = session.episode.enter(session) or session.is_remote
    session.begin_ns = session.episode.begin_ns(session.start_ns)
    session.info = {**metadata_of(outside), **session.info}
    # Calls get the user as metadata: of a session's fields, their records have only its id and name.
    return outside if identity.user_id is None else with_metadata(outside, {"user_id": identity.user_id})


def session_level(session: Session) -> Content:
    """Return the strictest level of the enclosing session and of open sessions with the same id."""
    return strictest(open_level(session.id), open_level(session.parent_id))


def start_session(session: Session, runtime: Runtime, base: Context) -> None:
    """Start the span of a session, unless another process has it; write the record, unless the session runs already."""
    record = session_record(session)
    is_begun = record.resumed_ns is not None
    # The record keeps the first start; the span of a continued session starts now.
    record = msgspec.structs.replace(record, start_ns=session.start_ns)
    processed = runtime.process(record, session.level, None if session.is_update else "session_start")
    session.processed_name = processed.record.name
    note_conversation(processed.record)
    remote = runtime.spans.remote(session.origin)
    if remote is None:
        session.start_span(runtime, processed, base, link=runtime.spans.remote(session.episode.span))
    else:
        session.span = remote
    session.last_span = session.span
    session.episode.span = span_ref(session.span, session.place)
    if is_begun:
        session.write(runtime, with_span(processed, session.span))


def end_of_session(session: Session, error: BaseException | None, duration_ns: int) -> SessionRecord:
    """Return the last record of a session; one that continues another process's session does not end it."""
    if session.is_remote:
        return session_record(session)
    is_failure = session.status is None and error is None and session.success is False
    record: SessionRecord = _ended(session, error, duration_ns)
    end_ns = session.episode.end_ns(session.start_ns + duration_ns)
    return msgspec.structs.replace(record, end_ns=end_ns, outcome="failure" if is_failure else record.outcome)


def session_goes_on(session: Session) -> bool:
    """Return whether the session with this id stays open when this one ends.

    It does if another one is open, or if the process that began this one runs: that has the session, not its fork.
    """
    if session.is_remote:
        return True
    here = own_identity()
    open_now: list[Any] = [session, *session.episode.open_sessions()]
    return any(
        one.process != here if one is session else not one.is_remote
        for one in open_now
        if one.process == here or state_of(one.process) == "runs"
    )


def without_end(session: Session, final: ProcessedRecord[SessionRecord]) -> ProcessedRecord[SessionRecord]:
    """Return the last record of a session without what it says of an end, if the session stays open."""
    if not session_goes_on(session):
        return final
    is_stated = session.status is not None or final.record.outcome not in BY_DEFAULT
    outcome = final.record.outcome if is_stated else None
    return with_fields(final, {"end_ns": None, "outcome": outcome, "error": None, "totals": None})


def forget_session(session: Session) -> None:
    """Take a session from the open ones."""
    session.episode.exit(session)


def measure_session(session: Session, final: ProcessedRecord[Record]) -> None:
    """Measure a session that has ended now, and say once that calls beside one without any may be its own."""
    if session.runtime is not None and not session.has_given_times:
        session.runtime.session_ended(final, session.start_ns)
    if _lacks_calls(session):
        report_loose_calls()


def _lacks_calls(session: Session) -> bool:
    """Return whether a session has no call, while others have ended outside of sessions since."""
    if LOOSE_CALLS[0] == session.loose_before or session.is_automatic or session.is_remote:
        return False
    return not session.counted_in[0].totals().calls


def session_record(session: Session) -> SessionRecord:
    """Return the record with what is known so far, without its end."""
    # Two steps: a call with more than fifteen keywords builds a dictionary, which takes several times as long.
    identity, runtime = session.identity, session.runtime
    record = SessionRecord(
        session_id=session.id,
        seen_ns=session.episode.next_time_ns(),
        name=session.name,
        group_id=identity.group_id,
        task_id=identity.task_id,
        experiment=identity.experiment,
        user_id=identity.user_id,
        parent_session_id=session.parent_id,
        service=runtime.service if runtime is not None else None,
        outcome=session.status,
        success=session.success,
        metadata=dict(session.info),
        content_level=session.content_level,
    )
    if (session.is_update or session.process != own_identity()) and session_goes_on(session):
        return record
    # Absent fields keep the values of the first start, which the store may lack if that has ended.
    record = msgspec.structs.replace(
        record,
        user_id=identity.user_id or label_of(session.info, "user_id"),
        start_ns=session.start_ns,
        resumed_ns=session.begin_ns,
        # Another process may have had the session meanwhile.
        host=_host(),
        pid=os.getpid(),
        process=own_identity(),
    )
    if session.is_update:
        return record
    return with_span_ids(record, session.span)


@functools.cache
def _host() -> str:
    return socket.gethostname()


# Timesteps.


def enter_timestep(step: Timestep, outside: Context) -> Context:
    """Put a timestep below its session or the current scope in it, with the next index."""
    base, session, parent = step.enter(outside), step.owner, step.above
    step.index = next(session.episode.indices)
    step.place = msgspec.structs.replace(parent.place, timestep_id=step.id, timestep=step.index)
    session.open_steps[step.id] = REGISTRY.open_steps[step.id] = step
    parent.add({"timesteps": 1})
    step.counted_in = (RunningTotals(), *parent.counted_in)
    return base


def start_timestep(step: Timestep, runtime: Runtime, base: Context) -> None:
    """Start the span of a timestep, in a trace of its own if that is set, and write its first record."""
    session = step.owner
    link = session.last_span if runtime.trace_per_timestep and step.above is session else None
    processed = runtime.process(timestep_record(step), step.level, "timestep_start")
    step.start_span(runtime, processed, base, link=link, root=link is not None, workflow=session.processed_name)
    # Only the span: a session must not keep references to its timesteps, because there may be a million.
    session.last_span = step.span
    step.write(runtime, with_span(processed, step.span))


def forget_timestep(step: Timestep) -> None:
    """Take a timestep from the open ones; its span is kept for late rewards."""
    step.owner.open_steps.pop(step.id, None)
    REGISTRY.step_spans.put(step.id, span_ref(step.span, step.place))
    REGISTRY.open_steps.pop(step.id, None)


def timestep_record(step: Timestep) -> TimestepRecord:
    """Return the record with what is known so far, without its end."""
    session = step.owner
    record = TimestepRecord(
        timestep_id=step.id,
        session_id=session.id,
        seen_ns=session.episode.next_time_ns(),
        index=step.index,
        user_step_id=step.step_id,
        name=step.name,
        turn=step.turn,
        parent_timestep_id=step.above.place.timestep_id,
        start_ns=step.start_ns,
        metadata=dict(step.info),
        terminated=step.terminated,
        truncated=step.truncated,
        outcome=step.status,
    )
    return with_span_ids(record, step.span)


def _ended(node: Any, error: BaseException | None, duration_ns: int) -> Any:
    """Return the last record of a session or timestep."""
    failure = None if error is None else stated_error(error)
    is_error = isinstance(failure, Exception | str)
    return msgspec.structs.replace(
        node.kind.record(node),
        end_ns=node.start_ns + duration_ns,
        outcome=node.status or outcome_of(failure),
        error=application_error(failure) if is_error else None,
        totals=totals_of(node),
    )


def totals_of(node: Any) -> Totals | None:
    """Return the totals of a session or timestep; None for a session that another process has."""
    return None if node.kind is SESSION and node.is_remote else node.counted_in[0].totals()


# Operations.


def start_operation(operation: Operation, runtime: Runtime, base: Context) -> None:
    """Start the span of an operation, and write the event of its start if its kind has one."""
    read_input(operation)
    kind, record = operation.kind, event_of(operation, None, None)
    if kind.start_type is None or (kind.hides_messages and not runtime.writes_starts()):
        # Only an agent's span has content at its start.
        unstored = runtime.without_callbacks(msgspec.structs.replace(record, data=None), operation.level)
        operation.start_span(runtime, unstored, base)
        return
    start = msgspec.structs.replace(record, event_id=start_id(operation.id), event_type=kind.start_type)
    processed = runtime.process(start, operation.level)
    operation.start_span(runtime, processed, base)
    operation.write(runtime, with_fields(processed, operation.span_ids()))
    kind.ended(operation, processed)


def end_of_operation(operation: Operation, error: BaseException | None, duration_ns: int) -> EventRecord:
    """Return the event of an operation's end."""
    return msgspec.structs.replace(event_of(operation, error, duration_ns), **operation.span_ids())


def event_of(operation: Operation, error: BaseException | None, duration_ns: int | None) -> EventRecord:
    """Return the event of an operation with what is known so far."""
    input_name, output_name = operation.kind.data_names
    data = {} if operation.input_value is None else {input_name: operation.input_value}
    if operation.output_value is not ABSENT:
        data[output_name] = operation.output_value
    failure = application_error(error) or application_error(operation.error)
    record = msgspec.structs.replace(
        operation.event_record(operation.kind.name, operation.start_ns, event_id=operation.id),
        name=operation.name,
        duration_ns=duration_ns,
        sequence=operation.next_sequence(),
        external_sequence=as_int(operation.event_arguments.sequence),
        system=_system_of(operation),
        data=data or None,
        call_id=operation.call_id,
        tool_call_id=operation.requested_id,
        error=failure or (TOOL_ERROR if operation.failed else None),
        metadata=operation.info,
    )
    return msgspec.structs.replace(record, **operation.step_result) if operation.step_result else record


def _system_of(operation: Operation) -> str | None:
    """Return the component that acts: as given, else the enclosing agent (not for an environment), else None."""
    agent = None if operation.kind is ENVIRONMENT else operation.agent
    return as_text(operation.event_arguments.system) or (None if agent is None else agent.name)


def read_input(operation: Operation) -> None:
    """Copy the input, which the application may change in place before the end, and read what it names."""
    if operation.kind.start_type == TOOL_START:
        operation.input_value = parse_arguments(operation.input_value)
    operation.input_value, _ = plain_within(operation.input_value)
    with _READ_ARGUMENTS:
        operation.kind.read_input(operation)


def join_tool_call(tool: Tool) -> None:
    """Find the model's tool call of a tool: the only open one with its name and arguments in the latest answers.

    Several that are the same, without ids, are requested by the same call.
    """
    scope, answers = tool.above, _NO_ANSWERS
    while scope is not None and not (answers := scope.latest_answers()):
        scope = scope.above
    if tool.requested_id is None:
        answers = [answer for answer in answers if tool.call_id in (None, answer.call_id)]
        requests = [request for request in requests_of(answers, tool.name, tool.input_value) if request.is_open]
        request = requested_once(requests)
    else:
        request = next(iter(requests_with_id(answers, tool.requested_id)), None)
    if request is not None:
        request.start()
        tool.requested_id, tool.call_id = request.tool_call.id, tool.call_id or request.answer.call_id
    find_requester(tool)


def find_requester(operation: Operation) -> None:
    """Find the call that requested the tool, by the latest answers in the scopes around it."""
    if operation.requested_id is not None and operation.call_id is None:
        operation.call_id = requesting_call(operation.requested_id, operation.above)


def count_tool(tool: Tool) -> None:
    """Add a tool to the totals. The time of a tool inside a tool is part of the outer tool's time."""
    if tool.above is not None:
        duration_ns = 0 if tool.above.kind.is_tool else tool.duration_ns or 0
        tool.above.add({"tools": 1, "tool_ns": duration_ns})


def tell_above(node: Node, processed: ProcessedRecord[Record]) -> None:
    """Pass a record to the enclosing scopes: it is a message of their input or output."""
    if node.above is not None:
        node.above.observe(processed)


def note_triggered(guardrail: Guardrail) -> None:
    """Add to the metadata whether the guardrail was triggered."""
    triggered = as_bool(guardrail.triggered)
    if triggered is not None:
        guardrail.info["triggered"] = triggered


def keep_output(operation: Operation, result: object) -> None:
    """Make the result of a decorated function the output."""
    operation.output_value = result


def keep_check(guardrail: Guardrail, result: object) -> None:
    """Make the result of a check the output; a bool says whether it was triggered."""
    guardrail.output_value = result
    if isinstance(result, bool):
        guardrail.triggered = result


def note_episode_end(world: EnvironmentStep) -> None:
    """Tell the timestep whether the episode has ended."""
    if world.step is not None:
        world.step.note_episode_end(world.step_result)


def world_ended(world: EnvironmentStep, processed: ProcessedRecord[EventRecord]) -> None:
    """Pass on the result of an environment step, and count its reward."""
    tell_above(world, processed)
    world.count_reward(processed.record)


SESSION: Final = Kind(
    "session",
    start_session,
    end_of_session,
    "session_end",
    enter_session,
    session_level,
    count=forget_session,
    stored=without_end,
    ended=measure_session,
    record=session_record,
    is_session=True,
)
TIMESTEP: Final = Kind(
    "timestep",
    start_timestep,
    _ended,
    "timestep_end",
    enter_timestep,
    count=forget_timestep,
    record=timestep_record,
    is_timestep=True,
    needs_session=True,
)
_operation = functools.partial(
    Kind, first=start_operation, last=end_of_operation, returned=keep_output, hides_messages=True
)
TOOL: Final = _operation(
    "tool",
    start_type=TOOL_START,
    data_names=("arguments", "result"),
    read_input=join_tool_call,
    count=count_tool,
    is_tool=True,
)
AGENT: Final = _operation("agent", start_type=AGENT_START, ended=tell_above, hides_messages=False, is_agent=True)
GUARDRAIL: Final = _operation("guardrail", count=note_triggered, returned=keep_check)
HANDOFF: Final = _operation("handoff", read_input=find_requester)
ENVIRONMENT: Final = _operation(
    "environment", data_names=("before", "after"), count=note_episode_end, ended=world_ended
)
