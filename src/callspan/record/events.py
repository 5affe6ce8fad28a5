"""Records of the agent and its environment: sessions, timesteps, events, messages, rewards.

Each is written as it happens and may arrive in any order, even long after its session has ended.
A later `record_version` updates a row; a field that is absent there never erases a known one.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from callspan.record.call import CallRecord, ErrorInfo, Redaction, always_written, schema_field

TOOL_START: Final = "tool_start"
"""Event type of what announces the run of a tool, so that a killed process leaves it behind."""


AGENT_START: Final = "agent_start"
"""Event type of what announces the run of an agent."""


Scope: TypeAlias = Literal["event", "session", "call"]
_EVENT: Final[Scope] = "event"


class Totals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sums over the calls and tools below a timestep or session, as far as this process saw them."""

    calls: int = 0
    errors: int = 0
    tools: int = 0
    timesteps: int = 0
    """Those of a session, or the nested ones of a step."""
    input_tokens: int | None = None
    """None when no call has token counts; calls without are left out, not counted as 0."""
    output_tokens: int | None = None
    reward: float | None = None
    """Of a session: the last reward it was given as a whole, else the sum over its events; of a timestep: that sum."""
    rewards: dict[str, float] = {}
    """Sums of other objectives than `reward`, by objective; 64 of them at most."""
    model_ns: int = 0
    """Time inside calls."""
    tool_ns: int = 0
    """Time inside tools."""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="session"):
    """One episode or conversation; written at its start, on updates, and at its end."""

    session_id: str
    schema_version: int = schema_field()
    record_version: int
    """Unix nanoseconds of this writing: newer wins, also across processes."""
    name: str | None = None
    group_id: str | None = None
    task_id: str | None = None
    experiment: str | None = None
    user_id: str | None = None
    parent_session_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    outcome: str | None = None
    """success, error, cancelled, or a word of the user's own; None while it runs."""
    success: bool | None = None
    error: ErrorInfo | None = None
    metadata: dict[str, object] = {}
    totals: Totals | None = None
    redactions: list[Redaction] = []


class TimestepRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="timestep"):
    """One agent-environment turn; keyed by its own id, since two processes may use the same index."""

    timestep_id: str
    session_id: str
    schema_version: int = schema_field()
    record_version: int
    index: int
    """Counts from 0 within the session as this process knows it."""
    user_step_id: str | None = None
    """The application's own id of this step, unique within its session."""
    name: str | None = None
    turn: int | None = None
    parent_timestep_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    outcome: str | None = None
    error: ErrorInfo | None = None
    metadata: dict[str, object] = {}
    totals: Totals | None = None
    terminated: bool | None = None
    truncated: bool | None = None
    redactions: list[Redaction] = []


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="event"):
    """Something that happened inside one system: an action, an environment step, a tool run, anything."""

    event_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    timestep_id: str | None = None
    timestep: int | None = None
    call_id: str | None = None
    event_type: str
    """`action`, `environment`, `tool`, `tool_start`, `agent`, `agent_start`, `guardrail`, `handoff`, or a word of
    the user's own."""
    name: str | None = None
    time_ns: int
    duration_ns: int | None = None
    sequence: int | None = None
    """Order within the session as this process wrote them."""
    external_sequence: int | None = None
    """The application's own number of it, such as the environment's count of frames."""
    system: str | None = None
    """Which component produced it; of a tool: the agent that runs it, of a handoff: who passes the work on."""
    data: object = None
    """Action: the action. Environment: before, after. Tool: arguments, result. Agent, guardrail, handoff: input,
    output. Else as given."""
    tool_call_id: str | None = None
    reward: float | None = None
    terminated: bool | None = None
    truncated: bool | None = None
    error: ErrorInfo | None = None
    flags: list[str] = []
    """Flags of wrong API use, such as `outside_session` or `after_end`."""
    metadata: dict[str, object] = {}
    redactions: list[Redaction] = []


class MessageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="message"):
    """A boundary message: information passed from one system to another."""

    message_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    timestep_id: str | None = None
    timestep: int | None = None
    call_id: str | None = None
    message_type: str
    """observation, action, feedback, ... free text."""
    sender: str | None = None
    receiver: str | None = None
    time_ns: int
    sequence: int | None = None
    external_sequence: int | None = None
    """The application's own number of it."""
    content: object = None
    causal_influence: list[str] = []
    """Ids of what this message came from."""
    flags: list[str] = []
    metadata: dict[str, object] = {}
    redactions: list[Redaction] = []


class RewardRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="reward"):
    """A value given to an event, a call or a whole trajectory; append-only."""

    reward_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    timestep_id: str | None = None
    timestep: int | None = None
    event_id: str | None = None
    call_id: str | None = None
    objective: str = always_written("reward")
    value: float | None = None
    label: str | None = None
    scope: Scope = always_written(_EVENT)
    source: str | None = None
    """environment, evaluator, human, ..."""
    annotation: str | None = None
    time_ns: int
    metadata: dict[str, object] = {}
    redactions: list[Redaction] = []


Record: TypeAlias = CallRecord | SessionRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord
RECORD_TYPES: Final[dict[str, type[Record]]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Record)}
"""The type of each `kind` of record."""


def start_id(event_id: str) -> str:
    """Return the id of the event that announced the run of a tool or agent."""
    return f"{event_id}-start"


def record_key(record: Record) -> tuple[str, str]:
    """Return (kind, id): what makes a record the same record in every store."""
    match record:
        case CallRecord():
            return "call", record.call_id
        case SessionRecord():
            return "session", record.session_id
        case TimestepRecord():
            return "timestep", record.timestep_id
        case EventRecord():
            return "event", record.event_id
        case MessageRecord():
            return "message", record.message_id
        case RewardRecord():
            return "reward", record.reward_id


METADATA_FIELDS: Final = frozenset(
    {
        "application",
        "environment",
        "organization_id",
        "project_id",
        "user_id",
        "agent_id",
        "tags",
        "workflow_id",
        "workflow_name",
        "run_id",
        "step",
        "step_index",
        "prompt_id",
        "prompt_version",
        "purpose",
        "internal_organization_id",
        "internal_project_id",
        "internal_user_id",
    }
)
"""`internal_*` fields identify the platform's operator, the others its customers."""
