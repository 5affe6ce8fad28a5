"""Attributes of the spans of an agent: those of the vocabularies, put together here, and their own `callspan.*` ones.

Spans of sessions, timesteps, steps of the environment, tools, agents, guardrails and handoffs. Pure: records in,
attributes out.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, NamedTuple

from callspan.record.call import ErrorInfo
from callspan.record.events import AGENT_START, EventRecord, Record, SessionRecord, TimestepRecord, Totals
from callspan.record.messages import Conversation
from callspan.semconv import gen_ai, openinference
from callspan.semconv import llm as of_llm
from callspan.semconv.call import EXCEPTION_TYPE, STEP_INDEX
from callspan.semconv.content_attributes import Attributes, ByteBudget, Shown
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
    """Return the seconds of a step outside its calls and tools, at least 0; None if it had none."""
    totals, start_ns, end_ns = record.totals, record.start_ns, record.end_ns
    if totals is None or start_ns is None or end_ns is None or not totals.model_ns + totals.tool_ns:
        return None
    return max(0, end_ns - start_ns - totals.model_ns - totals.tool_ns) / _NS


def _put_rewards(attributes: Attributes, record: SessionRecord | TimestepRecord, _shown: Shown) -> None:
    if record.totals is not None:
        for objective, value in record.totals.rewards.items():
            attributes[f"callspan.reward.{objective}"] = value


_OF_REWARDS: Final = Put(_put_rewards)
_SECONDS: Final = Each("totals", _seconds)
_COUNTS: Final = "Failed calls are errors, runs of tools are tools."
_TIMES: Final = "Seconds in calls and in tools, added up."

_TOTALS: Final = (
    Row("callspan.reward", DOUBLE, "totals.reward", "Last reward of the whole session, else the sum over events."),
    Row("callspan.reward.*", DOUBLE, _OF_REWARDS, "Mean of each other objective, by name."),
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
"""Of tools, agents and steps of the environment."""
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
    json_row("callspan.metadata", attrgetter("metadata"), "`metadata` of the session or timestep.", when="metadata")
)
OPERATION_CONTENT: Final = Table(*data_rows({"input": ("callspan.input", ""), "output": ("callspan.output", "")}))
EXCEPTION: Final = Table(
    *EXCEPTION_TYPE.rows,
    Row("exception.message", STRING, "message", "Its message.", content=True, if_empty=True),
    Row("exception.stacktrace", STRING, "frames", "File, line and function of the last frames."),
)


class _Spans(NamedTuple):
    """The attribute tables of one kind of span."""

    verb: str
    start: Table
    start_with_llm: Table
    """With the `llm` vocabulary."""
    end: Table
    content: Table


def _spans(verb: str, start: Table, end: Table, content: Table) -> _Spans:
    return _Spans(verb, start, start + of_llm.SCOPE_START, end, content)


_NAMED: Final = (SessionRecord, TimestepRecord, EventRecord)
_CONTENT_AND_MESSAGES: Final = OPERATION_CONTENT + OPERATION_MESSAGES
_OF_SESSIONS: Final = _spans(
    "invoke_workflow",
    gen_ai.SESSION_START + SESSION_START + openinference.SESSION_START,
    SESSION_END,
    SESSION_CONTENT,
)
_OF_TIMESTEPS: Final = _spans(
    "timestep",
    gen_ai.TIMESTEP_START + TIMESTEP_START + openinference.TIMESTEP_START,
    TIMESTEP_END,
    SESSION_CONTENT,
)
_OF_TOOLS: Final = _spans(
    "execute_tool",
    gen_ai.TOOL_START + OPERATION_START + openinference.TOOL_START,
    gen_ai.TOOL_END + OPERATION_END,
    gen_ai.TOOL_CONTENT,
)
_OF_AGENTS: Final = _spans(
    "invoke_agent",
    gen_ai.INVOKED_AGENT_START + OPERATION_START + openinference.INVOKED_AGENT_START,
    gen_ai.AGENT_END + OPERATION_END,
    OPERATION_CONTENT,
)
_OF_EVENTS: Final = {
    ENVIRONMENT: _spans(
        "environment",
        OPERATION_START + openinference.ENVIRONMENT_START,
        ENVIRONMENT_END,
        ENVIRONMENT_CONTENT + OPERATION_MESSAGES,
    ),
    "agent": _OF_AGENTS,
    AGENT_START: _OF_AGENTS,
    "guardrail": _spans(
        "guardrail",
        gen_ai.GUARDRAIL_START + GUARDRAIL_START + openinference.GUARDRAIL_START,
        GUARDRAIL_END,
        _CONTENT_AND_MESSAGES,
    ),
    "handoff": _spans(
        "handoff",
        gen_ai.HANDOFF_START + HANDOFF_START + openinference.HANDOFF_START,
        OPERATION_END,
        _CONTENT_AND_MESSAGES,
    ),
}


_OF_OTHERS: Final = {SessionRecord: _OF_SESSIONS, TimestepRecord: _OF_TIMESTEPS}


def _spans_of(record: Record) -> _Spans | None:
    if type(record) is EventRecord:
        return _OF_EVENTS.get(record.event_type, _OF_TOOLS)
    return _OF_OTHERS.get(type(record))


def span_name(record: Record) -> str:
    """Return the name of a session's, timestep's or tool's span: what it is, and its name if it has one."""
    of = _spans_of(record)
    if of is None:
        return "timestep"
    if isinstance(record, _NAMED) and record.name and of.verb != ENVIRONMENT:
        return f"{of.verb} {record.name}"
    return of.verb


def start_attributes(record: Record, *, llm: bool = True, workflow: str | None = None) -> Attributes:
    """Return the attributes of a session, timestep or tool known at its start, for samplers; no content.

    `llm`: with that vocabulary. `workflow` is the name of a step's session.
    """
    of = _spans_of(record)
    if of is None:
        return {}
    attributes = (of.start_with_llm if llm else of.start).of(record)
    if workflow:
        attributes[gen_ai.WORKFLOW_NAME] = workflow
    return attributes


def end_attributes(record: Record) -> Attributes:
    """Return the attributes of a session, timestep or tool known only at its end; no content."""
    of = _spans_of(record)
    return {} if of is None else of.end.of(record)


def span_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of a session, timestep, tool or step of the environment, as JSON.

    These are the metadata of sessions and timesteps, arguments and result of a tool, observations of an environment,
    and input and output of an agent, guardrail or handoff.
    """
    of = _spans_of(record)
    return {} if of is None else of.content.of(record, Shown(None, budget))


def exception_attributes(error: ErrorInfo, *, content: bool) -> Attributes:
    """Return the attributes of the `exception` event; the message only with content."""
    return EXCEPTION.of(error, Shown(Conversation() if content else None, ByteBudget(0, 0)))
