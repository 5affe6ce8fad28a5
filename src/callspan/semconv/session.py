"""Attributes of the spans of sessions, timesteps, environment steps, tools, agents, guardrails and handoffs.

This module combines the attributes of the vocabularies with the `callspan.*` ones. Pure: records in, attributes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from callspan.record.events import AGENT_START, TOOL_START, EventRecord, ScopeRecord, SessionRecord, TimestepRecord
from callspan.semconv import gen_ai
from callspan.semconv import llm as llm_tables
from callspan.semconv.call import EXCEPTION_TYPE, STEP_INDEX
from callspan.semconv.content_attributes import Attributes, SpanContent
from callspan.semconv.events import (
    ERROR,
    OF_SESSION,
    REWARD_OF_ENVIRONMENT,
    STATES,
    TERMINATED,
    WITHIN,
)
from callspan.semconv.openinference import kind_row
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    Constant,
    Put,
    Row,
    Seconds,
    SetByCode,
    Table,
    data_rows,
    in_metadata,
    json_row,
    text_row,
)

_NS: Final = 1e9
_OPERATIONS: Final = frozenset({"invoke_workflow", "execute_tool", "invoke_agent"})
"""The spans that have an operation of the conventions."""
_Rows: TypeAlias = Sequence[Row]


def _rest_s(record: TimestepRecord) -> float | None:
    """Return the seconds of a timestep outside its calls and tools; None if it had neither."""
    totals, start_ns, end_ns = record.totals, record.start_ns, record.end_ns
    if totals is None or start_ns is None or end_ns is None or not totals.model_ns + totals.tool_ns:
        return None
    return max(0, end_ns - start_ns - totals.model_ns - totals.tool_ns) / _NS


def _put_rewards(attributes: Attributes, record: SessionRecord | TimestepRecord, _content: SpanContent) -> None:
    if record.totals is not None:
        for objective, value in record.totals.rewards.items():
            attributes[f"callspan.reward.{objective}"] = value


_REWARDS: Final = Put(_put_rewards)
_TOTALS: Final = (
    Row("callspan.reward", DOUBLE, "totals.reward"),
    Row("callspan.reward.*", DOUBLE, _REWARDS),
    Row("callspan.totals.timesteps", INT, "totals.timesteps", if_true=True),
    Row("callspan.totals.calls", INT, "totals.calls", if_true=True),
    Row("callspan.totals.errors", INT, "totals.errors", if_true=True),
    Row("callspan.totals.tools", INT, "totals.tools", if_true=True),
    Row("callspan.totals.input_tokens", INT, "totals.input_tokens"),
    Row("callspan.totals.output_tokens", INT, "totals.output_tokens"),
    Row("callspan.totals.model_s", DOUBLE, Seconds("totals.model_ns"), if_true=True),
    Row("callspan.totals.tool_s", DOUBLE, Seconds("totals.tool_ns"), if_true=True),
)

_METADATA: Final = json_row("callspan.metadata", attrgetter("metadata"), when="metadata")
_TOOL_CALL: Final = text_row("gen_ai.tool.call.id", "tool_call_id")
_IN_AND_OUT: Final = data_rows({"input": ("callspan.input", ""), "output": ("callspan.output", "")})


def _tool_type(record: EventRecord) -> str:
    kind = record.metadata.get("tool_type")
    return kind if isinstance(kind, str) else "function"


EXCEPTION: Final = Table(
    *EXCEPTION_TYPE.rows,
    Row("exception.message", STRING, "message", content=True, if_empty=True),
    Row("exception.stacktrace", STRING, "frames", "File, line and function of the last frames."),
)


class SpanTables(NamedTuple):
    """The attribute tables of one kind of span."""

    verb: str
    start: Table
    start_with_llm: Table
    """`start` with the `llm` vocabulary."""
    end: Table


def _tables(verb: str, kind: str, *, start: _Rows, end: _Rows, content: _Rows) -> SpanTables:
    """Return the tables of one kind of span; `kind` is OpenInference's kind."""
    operation = [Row(gen_ai.OPERATION_NAME, STRING, Constant(verb))] if verb in _OPERATIONS else []
    rows = Table(*operation, *start, kind_row(kind))
    return SpanTables(verb, rows, rows + llm_tables.SCOPE_START, Table(*end, ERROR, *content))


_LABELS: Final = (
    text_row("user.id", "user_id"),
    text_row("callspan.group.id", "group_id"),
    text_row("callspan.task.id", "task_id"),
    text_row("callspan.experiment", "experiment"),
)
"""Labels of a session, which an update may set after its start."""
SESSION: Final = _tables(
    "invoke_workflow",
    "CHAIN",
    start=(
        text_row(gen_ai.AGENT_NAME, "name"),
        text_row(gen_ai.WORKFLOW_NAME, "name", "Name of the session."),
        *OF_SESSION,
        *_LABELS,
        text_row("callspan.session.parent.id", "parent_session_id"),
    ),
    end=(
        *_LABELS,
        text_row("callspan.outcome", "outcome"),
        Row("callspan.success", BOOLEAN, "success"),
        *_TOTALS,
    ),
    content=(_METADATA,),
)
TIMESTEP: Final = _tables(
    "timestep",
    "CHAIN",
    start=(
        Row(gen_ai.WORKFLOW_NAME, STRING, SetByCode("its session"), "Name of the session."),
        *OF_SESSION,
        text_row("callspan.step.id", "timestep_id"),
        Row(STEP_INDEX, INT, "index"),
        text_row("callspan.step.user_id", "user_step_id", "Given to `session.timestep(step_id=...)`."),
        text_row("callspan.step.name", "name"),
        Row("callspan.step.turn", INT, "turn"),
        text_row("callspan.step.parent.id", "parent_timestep_id"),
    ),
    end=(
        text_row("callspan.outcome", "outcome"),
        *TERMINATED,
        *_TOTALS,
        Row("callspan.totals.rest_s", DOUBLE, _rest_s, "Seconds outside of calls and tools."),
    ),
    content=(_METADATA,),
)
ENVIRONMENT: Final = _tables(
    "environment",
    "CHAIN",
    start=WITHIN,
    end=(REWARD_OF_ENVIRONMENT, *TERMINATED),
    content=STATES,
)
TOOL: Final = _tables(
    "execute_tool",
    "TOOL",
    start=(
        text_row("gen_ai.tool.name", "name"),
        Row("gen_ai.tool.type", STRING, _tool_type, "`function`, or `extension` if a server runs it."),
        _TOOL_CALL,
        text_row(gen_ai.AGENT_NAME, "system"),
        *WITHIN,
    ),
    end=(
        Row(gen_ai.PROVIDER_NAME, STRING, in_metadata("provider"), "The provider whose answer requested it."),
        Row("gen_ai.tool.description", STRING, in_metadata("description")),
        Row("anthropic.toolset.name", STRING, in_metadata("toolset")),
        Row("mcp.server.name", STRING, in_metadata("server")),
    ),
    content=data_rows(
        {"arguments": ("gen_ai.tool.call.arguments", ""), "result": ("gen_ai.tool.call.result", "")},
        "gen_ai.tool.call.",
    ),
)
AGENT: Final = _tables(
    "invoke_agent",
    "AGENT",
    start=(
        text_row(gen_ai.AGENT_NAME, "name"),
        Row("gen_ai.agent.description", STRING, in_metadata("description"), if_empty=True),
        *WITHIN,
    ),
    end=(),
    content=_IN_AND_OUT,
)
GUARDRAIL: Final = _tables(
    "guardrail",
    "GUARDRAIL",
    start=(
        text_row(gen_ai.AGENT_NAME, "system"),
        text_row("callspan.guardrail.name", "name"),
        *WITHIN,
    ),
    end=(Row("callspan.guardrail.triggered", BOOLEAN, in_metadata("triggered")),),
    content=_IN_AND_OUT,
)
HANDOFF: Final = _tables(
    "handoff",
    "CHAIN",
    start=(
        text_row("gen_ai.tool.call.id", "tool_call_id"),
        text_row("callspan.handoff.from", "system"),
        text_row("callspan.handoff.to", "name"),
        *WITHIN,
    ),
    end=(),
    content=_IN_AND_OUT,
)
OPERATIONS: Final = {
    "tool": TOOL,
    TOOL_START: TOOL,
    "environment": ENVIRONMENT,
    "agent": AGENT,
    AGENT_START: AGENT,
    "guardrail": GUARDRAIL,
    "handoff": HANDOFF,
}
"""The span of each type of event that has one."""
_SCOPES: Final = {SessionRecord: SESSION, TimestepRecord: TIMESTEP}


def _tables_of(record: ScopeRecord) -> SpanTables:
    return OPERATIONS[record.event_type] if isinstance(record, EventRecord) else _SCOPES[type(record)]


def span_name(record: ScopeRecord) -> str:
    """Return the name of the span of a session, timestep or operation: its kind, and its name if it has one."""
    tables = _tables_of(record)
    return f"{tables.verb} {record.name}" if record.name and tables is not ENVIRONMENT else tables.verb


def start_attributes(record: ScopeRecord, *, llm: bool = True, workflow: str | None = None) -> Attributes:
    """Return the start attributes of a session, timestep or operation.

    `llm` includes that vocabulary. `workflow` is the name of a timestep's session.
    """
    tables = _tables_of(record)
    attributes = (tables.start_with_llm if llm else tables.start).of(record)
    if workflow:
        attributes[gen_ai.WORKFLOW_NAME] = workflow
    return attributes


def end_attributes(record: ScopeRecord, content: SpanContent) -> Attributes:
    """Return the end attributes of a session, timestep or operation.

    Their content is the metadata of sessions and timesteps, the arguments and result of a tool, the observations of an
    environment, and the input and output of an agent, guardrail or handoff.
    """
    return _tables_of(record).end.of(record, content)
