"""Records of the agent and its environment: sessions, timesteps, events, messages, rewards.

Each is written as it happens and may arrive in any order, even long after its session has ended.
A session or timestep is updated by a later `seen_ns`; a field that is absent there never erases a known one.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from callspan.record.call import CallRecord, ErrorInfo, Redaction, Trace, always_written, schema_field
from callspan.settings import Content

TOOL_START: Final = "tool_start"
"""Event type of what announces the run of a tool, so that a killed process leaves it behind."""


AGENT_START: Final = "agent_start"
"""Event type of what announces the run of an agent."""
RUN_TYPES: Final = {AGENT_START: "agent", TOOL_START: "tool"}
"""The event type of a run, by that of what announces it."""

Scope: TypeAlias = Literal["event", "session", "call"]
_EVENT: Final[Scope] = "event"
METADATA_FIELDS: Final = frozenset(
    {
        "application",
        "environment",
        "organization_id",
        "project_id",
        "user_id",
        "agent",
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


class Totals(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Sums over the calls and tools of a timestep or session that this process saw."""

    calls: int = 0
    """Number of calls."""
    errors: int = 0
    """Number of calls with outcome error or timeout."""
    tools: int = 0
    """Number of tool runs."""
    timesteps: int = 0
    """Those of a session, or the nested ones of a step."""
    input_tokens: int | None = None
    """None when no call has token counts; calls without are left out, not counted as 0."""
    output_tokens: int | None = None
    """As `input_tokens`."""
    reward: float | None = None
    """Of a session: the last reward it was given as a whole, else the sum over its events; of a timestep: that sum."""
    rewards: dict[str, float] = {}
    """Means of other objectives than `reward`, by objective; 64 of them at most."""
    model_ns: int = 0
    """Time inside calls."""
    tool_ns: int = 0
    """Time inside tools."""


class SessionRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="session"
):
    """One episode or conversation; written at its start, on updates, and at its end."""

    session_id: str
    """The session's id, the application's own or a new one."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    seen_ns: int
    """When this version was written, or read from the provider, Unix nanoseconds: newer wins, also across processes."""
    name: str | None = None
    """The session's name."""
    group_id: str | None = None
    """The application's id of a group of sessions."""
    task_id: str | None = None
    """The application's id of the task."""
    experiment: str | None = None
    """Name of the experiment."""
    user_id: str | None = None
    """The end user's id."""
    parent_session_id: str | None = None
    """Id of the session in which this one was started; None: none."""
    trace_id: str | None = None
    """32 hex digits; None without a trace."""
    span_id: str | None = None
    """16 hex digits; None without a span."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span was sampled; None without a span."""
    trace: Trace | None = None
    """What its span has of the trace beside these; None: nothing."""
    service: str | None = None
    """Name of the service."""
    host: str | None = None
    """Name of the host of the process."""
    pid: int | None = None
    """Id of the process."""
    start_ns: int | None = None
    """Unix time in nanoseconds."""
    end_ns: int | None = None
    """Unix time in nanoseconds; None while it runs."""
    outcome: str | None = None
    """success, error, cancelled, or a word of the user's own; None while it runs."""
    success: bool | None = None
    """Whether the task was achieved, as the application states it."""
    error: ErrorInfo | None = None
    """The exception or text it failed with; None if there was none."""
    metadata: dict[str, object] = {}
    """Fields given by the application."""
    totals: Totals | None = None
    """Sums over it; None while it runs."""
    content_level: Content = "full"
    """The content setting that it was begun with, for all that comes later: `full`, `metadata` or `off`."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""


class TimestepRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="timestep"
):
    """One agent-environment turn; keyed by its own id, since two processes may use the same index."""

    timestep_id: str
    """The timestep's id."""
    session_id: str
    """Id of its session."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    seen_ns: int
    """When this version was written, Unix nanoseconds: newer wins."""
    index: int
    """Counts from 0 within the session as its process knows it; readers compute its position among all."""
    user_step_id: str | None = None
    """The application's own id of this step, unique within its session."""
    name: str | None = None
    """The timestep's name."""
    turn: int | None = None
    """The application's number of the turn."""
    parent_timestep_id: str | None = None
    """Id of the timestep in which this one is nested; None: none."""
    trace_id: str | None = None
    """32 hex digits; None without a trace."""
    span_id: str | None = None
    """16 hex digits; None without a span."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span was sampled; None without a span."""
    trace: Trace | None = None
    """What its span has of the trace beside these; None: nothing."""
    start_ns: int | None = None
    """Unix time in nanoseconds."""
    end_ns: int | None = None
    """Unix time in nanoseconds; None while it runs."""
    outcome: str | None = None
    """success, error or cancelled; None while it runs."""
    error: ErrorInfo | None = None
    """The exception it ended with; None if there was none."""
    metadata: dict[str, object] = {}
    """Fields given by the application."""
    totals: Totals | None = None
    """Sums over it; None while it runs."""
    terminated: bool | None = None
    """Whether the episode reached a terminal state; None if not given."""
    truncated: bool | None = None
    """Whether the episode was cut short from outside, as by a limit of steps; None if not given."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""


class EventRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="event"
):
    """Something that happened inside one system: an action, an environment step, a tool run, anything."""

    event_id: str
    """The event's id."""
    session_id: str | None = None
    """Id of the session it belongs to; None: none."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    """Id of the timestep it belongs to; None: none."""
    timestep: int | None = None
    """Index of that timestep within its session, from 0."""
    call_id: str | None = None
    """Id of the call it belongs to; None: none."""
    event_type: str
    """`action`, `environment`, `tool`, `tool_start`, `agent`, `agent_start`, `guardrail`, `handoff`, or a word of
    the user's own."""
    name: str | None = None
    """Name of the tool, agent, guardrail or handoff."""
    time_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int | None = None
    """Duration of a run; None for what has none."""
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
    """The provider's id of the tool call that a tool answers."""
    reward: float | None = None
    """The reward that came with it, of the objective `reward`."""
    terminated: bool | None = None
    """Whether the episode reached a terminal state; None if not given."""
    truncated: bool | None = None
    """Whether the episode was cut short from outside; None if not given."""
    error: ErrorInfo | None = None
    """The exception or text it failed with; None if there was none."""
    metadata: dict[str, object] = {}
    """Fields given by the application."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""
    trace_id: str | None = None
    """32 hex digits; None without a span of its own. Stores have it with its timestep alone, if that has it too."""
    span_id: str | None = None
    """16 hex digits; None where it has no span of its own: it is an event of the span around it."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span was sampled; None without a span."""
    trace: Trace | None = None
    """What its span has of the trace beside these; None: nothing."""


class MessageRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="message"
):
    """A boundary message: information passed from one system to another."""

    message_id: str
    """The message's id."""
    session_id: str | None = None
    """Id of the session it belongs to; None: none."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    """Id of the timestep it belongs to; None: none."""
    timestep: int | None = None
    """Index of that timestep within its session, from 0."""
    call_id: str | None = None
    """Id of the call it belongs to; None: none."""
    message_type: str
    """observation, action, feedback, ... free text."""
    sender: str | None = None
    """The system it comes from."""
    receiver: str | None = None
    """The system it goes to."""
    time_ns: int
    """Unix time in nanoseconds."""
    sequence: int | None = None
    """Order within the session as this process wrote them."""
    external_sequence: int | None = None
    """The application's own number of it."""
    content: object = None
    """The message, as plain JSON."""
    causal_influence: list[str] = []
    """Ids of what this message came from."""
    metadata: dict[str, object] = {}
    """Fields given by the application."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""


class RewardRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="reward"
):
    """A value given to an event, a call or a whole trajectory; append-only."""

    reward_id: str
    """The reward's id."""
    session_id: str | None = None
    """Id of the session it belongs to; None: none."""
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    """Id of the timestep it belongs to; None: none."""
    timestep: int | None = None
    """Index of that timestep within its session, from 0."""
    event_id: str | None = None
    """Id of the event it is given to; None: none."""
    call_id: str | None = None
    """Id of the call it belongs to; None: none."""
    objective: str = always_written("reward")
    """What is rewarded; `reward` is the main objective."""
    value: float | None = None
    """The number; None for a reward that is only a label."""
    label: str | None = None
    """A verdict in words, such as `good`."""
    scope: Scope = always_written(_EVENT)
    """What it is given to."""
    source: str | None = None
    """environment, evaluator, human, ..."""
    annotation: str | None = None
    """An explanation in words."""
    time_ns: int
    """Unix time in nanoseconds."""
    metadata: dict[str, object] = {}
    """Fields given by the application."""
    redactions: list[Redaction] = []
    """What was removed from the record, and why."""
    trace_id: str | None = None
    """32 hex digits; None without a span of its own."""
    span_id: str | None = None
    """16 hex digits; None where it has no span of its own: it is an event of the span that it is given to."""
    parent_span_id: str | None = None
    """16 hex digits; None for the root of a trace."""
    sampled: bool | None = None
    """Whether the span was sampled; None without a span."""
    trace: Trace | None = None
    """What its span has of the trace beside these; None: nothing."""


Record: TypeAlias = CallRecord | SessionRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord
RECORD_TYPES: Final[dict[str, type[Record]]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Record)}
"""The type of each `kind` of record."""
_KEYS: Final = {kind: (tag, f"{tag}_id") for tag, kind in RECORD_TYPES.items()}
SCOPE_TYPES: Final = (SessionRecord, TimestepRecord)
"""The types of records with a start and an end. For `isinstance`: `A | B` there would make a new object each time."""


def start_id(event_id: str) -> str:
    """Return the id of the event that announced the run of a tool or agent."""
    return f"{event_id}-start"


def latest_ns(record: Record) -> int:
    """Return the latest Unix time, nanoseconds, that a record states of what it is of; 0 if it states none."""
    if isinstance(record, CallRecord):
        return record.timing.start_ns + (record.timing.duration_ns or 0)
    if isinstance(record, EventRecord):
        return record.time_ns + (record.duration_ns or 0)
    return record.end_ns or record.start_ns or 0 if isinstance(record, SCOPE_TYPES) else record.time_ns


def record_key(record: Record) -> tuple[str, str]:
    """Return (kind, id): what makes a record the same record in every store."""
    kind, name = _KEYS[type(record)]
    return kind, getattr(record, name)
