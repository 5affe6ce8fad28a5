"""Attributes of the spans of sessions, timesteps, environment steps, tools, agents, guardrails and handoffs.

This module combines those of the vocabularies with the `callspan.*` ones. Pure: records in, attributes out.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, NamedTuple

from callspan.record.call import ErrorInfo
from callspan.record.events import AGENT_START, EventRecord, Record, SessionRecord, TimestepRecord, Totals
from callspan.record.messages import Conversation
from callspan.semconv import gen_ai, openinference
from callspan.semconv import llm as llm_tables
from callspan.semconv.call import EXCEPTION_TYPE, STEP_INDEX
from callspan.semconv.content_attributes import Attributes, ByteBudget, SpanContent
from callspan.semconv.events import (
    ENVIRONMENT,
    ENVIRONMENT_CONTENT,
    ERROR,
    REWARD_OF_ENVIRONMENT,
    SESSION,
    TERMINATED,
    WITHIN,
)
from callspan.semconv.scope_messages import OPERATION_MESSAGES
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    Each,
    Put,
    Row,
    Table,
    data_rows,
    in_metadata,
    json_row,
    text_row,
)

_NS: Final = 1e9


def _seconds(totals: Totals) -> tuple[float, float]:
    return totals.model_ns / _NS, totals.tool_ns / _NS


def _rest_s(record: TimestepRecord) -> float | None:
    """Return the seconds of a timestep outside its calls and tools; None if it had neither."""
    totals, start_ns, end_ns = record.totals, record.start_ns, record.end_ns
    if totals is None or start_ns is None or end_ns is None or not totals.model_ns + totals.tool_ns:
        return None
    return max(0, end_ns - start_ns - totals.model_ns - totals.tool_ns) / _NS


def _put_rewards(attributes: Attributes, record: SessionRecord | TimestepRecord, _shown: SpanContent) -> None:
    if record.totals is not None:
        for objective, value in record.totals.rewards.items():
            attributes[f"callspan.reward.{objective}"] = value


_REWARDS: Final = Put(_put_rewards)
_SECONDS: Final = Each("totals", _seconds)
_COUNTS: Final = "Failed calls are errors, runs of tools are tools."
_TIMES: Final = "Seconds in calls and in tools, added up."

_TOTALS: Final = (
    Row("callspan.reward", DOUBLE, "totals.reward", "Last reward of the whole session, else the sum over events."),
    Row("callspan.reward.*", DOUBLE, _REWARDS, "Mean of each other objective, by name."),
    Row("callspan.totals.timesteps", INT, "totals.timesteps", _COUNTS, if_true=True),
    Row("callspan.totals.calls", INT, "totals.calls", _COUNTS, if_true=True),
    Row("callspan.totals.errors", INT, "totals.errors", _COUNTS, if_true=True),
    Row("callspan.totals.tools", INT, "totals.tools", _COUNTS, if_true=True),
    Row("callspan.totals.input_tokens", INT, "totals.input_tokens", "Tokens of all calls."),
    Row("callspan.totals.output_tokens", INT, "totals.output_tokens", "Tokens of all calls."),
    Row("callspan.totals.model_s", DOUBLE, _SECONDS, _TIMES, if_true=True),
    Row("callspan.totals.tool_s", DOUBLE, _SECONDS, _TIMES, if_true=True),
)

SESSION_START: Final = Table(
    *SESSION,
    text_row("user.id", "user_id", "As given to `callspan.session(...)`."),
    text_row("callspan.group.id", "group_id", "As given to `callspan.session(...)`."),
    text_row("callspan.task.id", "task_id", "As given to `callspan.session(...)`."),
    text_row("callspan.experiment", "experiment", "As given to `callspan.session(...)`."),
    text_row("callspan.session.parent.id", "parent_session_id"),
)
TIMESTEP_START: Final = Table(
    *SESSION,
    text_row("callspan.step.id", "timestep_id"),
    Row(STEP_INDEX, INT, "index", "Index of the timestep in its session, from 0, as its process counts."),
    text_row("callspan.step.user_id", "user_step_id", "As given to `session.timestep(step_id=...)`."),
    text_row("callspan.step.name", "name"),
    Row("callspan.step.turn", INT, "turn", "The number the application gives it."),
    text_row("callspan.step.parent.id", "parent_timestep_id"),
)
OPERATION_START: Final = Table(*WITHIN)
"""Start attributes of tools, agents and environment steps."""
GUARDRAIL_START: Final = Table(text_row("callspan.guardrail.name", "name"), *WITHIN)
HANDOFF_START: Final = Table(
    text_row("callspan.handoff.from", "system"),
    text_row("callspan.handoff.to", "name"),
    *WITHIN,
)

SESSION_END: Final = Table(
    text_row("callspan.outcome", "outcome", "How it ended."),
    Row("callspan.success", BOOLEAN, "success", "As given by the application."),
    *_TOTALS,
    ERROR,
)
TIMESTEP_END: Final = Table(
    text_row("callspan.outcome", "outcome", "How it ended."),
    *TERMINATED,
    *_TOTALS,
    Row("callspan.totals.rest_s", DOUBLE, _rest_s, "Remaining seconds: outside its calls and tools."),
    ERROR,
)
ENVIRONMENT_END: Final = Table(REWARD_OF_ENVIRONMENT, *TERMINATED, ERROR)
GUARDRAIL_END: Final = Table(Row("callspan.guardrail.triggered", BOOLEAN, in_metadata("triggered")), ERROR)
OPERATION_END: Final = Table(ERROR)

SESSION_CONTENT: Final = Table(
    json_row("callspan.metadata", attrgetter("metadata"), "The metadata of the session or timestep.", when="metadata")
)
OPERATION_CONTENT: Final = Table(*data_rows({"input": ("callspan.input", ""), "output": ("callspan.output", "")}))
EXCEPTION: Final = Table(
    *EXCEPTION_TYPE.rows,
    Row("exception.message", STRING, "message", "The message.", content=True, if_empty=True),
    Row("exception.stacktrace", STRING, "frames", "File, line and function of the last frames."),
)


class _SpanTables(NamedTuple):
    """The attribute tables of one kind of span."""

    verb: str
    start: Table
    start_with_llm: Table
    """`start` with the `llm` vocabulary."""
    end: Table
    content: Table


def _tables(verb: str, start: Table, end: Table, content: Table) -> _SpanTables:
    return _SpanTables(verb, start, start + llm_tables.SCOPE_START, end, content)


_NAMED: Final = (SessionRecord, TimestepRecord, EventRecord)
_CONTENT_AND_MESSAGES: Final = OPERATION_CONTENT + OPERATION_MESSAGES
_SESSIONS: Final = _tables(
    "invoke_workflow",
    gen_ai.SESSION_START + SESSION_START + openinference.SESSION_START,
    SESSION_END,
    SESSION_CONTENT,
)
_TIMESTEPS: Final = _tables(
    "timestep",
    gen_ai.TIMESTEP_START + TIMESTEP_START + openinference.TIMESTEP_START,
    TIMESTEP_END,
    SESSION_CONTENT,
)
_TOOLS: Final = _tables(
    "execute_tool",
    gen_ai.TOOL_START + OPERATION_START + openinference.TOOL_START,
    gen_ai.TOOL_END + OPERATION_END,
    gen_ai.TOOL_CONTENT,
)
_AGENTS: Final = _tables(
    "invoke_agent",
    gen_ai.INVOKED_AGENT_START + OPERATION_START + openinference.INVOKED_AGENT_START,
    gen_ai.AGENT_END + OPERATION_END,
    OPERATION_CONTENT,
)
_EVENTS: Final = {
    ENVIRONMENT: _tables(
        "environment",
        OPERATION_START + openinference.ENVIRONMENT_START,
        ENVIRONMENT_END,
        ENVIRONMENT_CONTENT + OPERATION_MESSAGES,
    ),
    "agent": _AGENTS,
    AGENT_START: _AGENTS,
    "guardrail": _tables(
        "guardrail",
        gen_ai.GUARDRAIL_START + GUARDRAIL_START + openinference.GUARDRAIL_START,
        GUARDRAIL_END,
        _CONTENT_AND_MESSAGES,
    ),
    "handoff": _tables(
        "handoff",
        gen_ai.HANDOFF_START + HANDOFF_START + openinference.HANDOFF_START,
        OPERATION_END,
        _CONTENT_AND_MESSAGES,
    ),
}
_SCOPES: Final = {SessionRecord: _SESSIONS, TimestepRecord: _TIMESTEPS}


def _tables_of(record: Record) -> _SpanTables | None:
    if type(record) is EventRecord:
        return _EVENTS.get(record.event_type, _TOOLS)
    return _SCOPES.get(type(record))


def span_name(record: Record) -> str:
    """Return the name of the span of a session, timestep or operation: its kind, and its name if it has one."""
    tables = _tables_of(record)
    if tables is None:
        return "timestep"
    if isinstance(record, _NAMED) and record.name and tables.verb != ENVIRONMENT:
        return f"{tables.verb} {record.name}"
    return tables.verb


def start_attributes(record: Record, *, llm: bool = True, workflow: str | None = None) -> Attributes:
    """Return the start attributes of a session, timestep or operation, without content.

    `llm` includes that vocabulary. `workflow` is the name of a timestep's session.
    """
    tables = _tables_of(record)
    if tables is None:
        return {}
    attributes = (tables.start_with_llm if llm else tables.start).of(record)
    if workflow:
        attributes[gen_ai.WORKFLOW_NAME] = workflow
    return attributes


def end_attributes(record: Record) -> Attributes:
    """Return the end attributes of a session, timestep or operation, without content."""
    tables = _tables_of(record)
    return {} if tables is None else tables.end.of(record)


def span_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of a session, timestep or operation as JSON attributes.

    These are the metadata of sessions and timesteps, the arguments and result of a tool, the observations of an
    environment, and the input and output of an agent, guardrail or handoff.
    """
    tables = _tables_of(record)
    return {} if tables is None else tables.content.of(record, SpanContent(None, budget))


def exception_attributes(error: ErrorInfo, *, content: bool) -> Attributes:
    """Return the attributes of the `exception` event, without its message if there is no content."""
    return EXCEPTION.of(error, SpanContent(Conversation() if content else None, ByteBudget(0, 0)))
