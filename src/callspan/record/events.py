"""Records of the agent and its environment: sessions, timesteps, events, messages, rewards."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, TypeGuard, get_args

import msgspec

from callspan.record.call import CallRecord, ErrorInfo, Outcome, Redaction, Trace, always_written, schema_field
from callspan.record.vocabulary import EventType, MessageType, MetadataField, Objective, RewardSource, System, own_words
from callspan.settings import Content

TOOL_START: Final = "tool_start"
"""Type of the event written when a tool starts, so that its run is known if the process is killed."""
AGENT_START: Final = "agent_start"
"""Type of the event written when an agent starts."""
RUN_TYPES: Final = {AGENT_START: "agent", TOOL_START: "tool"}
"""The type of a run's event, by the type of its start event."""

Scope: TypeAlias = Literal["event", "session", "call"]
_EVENT: Final[Scope] = "event"
AnyOutcome: TypeAlias = Annotated[str, own_words({*get_args(Outcome), "failure"})]
"""How a session or timestep ended, perhaps in a word of the application."""


class Totals(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Sums over the calls and tools of a timestep or session in the process that wrote it."""

    calls: int = 0
    errors: int = 0
    tools: int = 0
    timesteps: int = 0
    """For a timestep, those nested in it."""
    input_tokens: int | None = None
    """Sum over the calls with known tokens."""
    output_tokens: int | None = None
    """Sum over the calls with known tokens."""
    reward: float | None = None
    rewards: dict[Annotated[str, own_words(Objective)], float] = {}
    """Mean of each objective other than `reward`; at most 64."""
    model_ns: int = 0
    tool_ns: int = 0


class SessionRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="session"
):
    """One episode or conversation; written at its start, on updates, and at its end."""

    session_id: str
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    seen_ns: int
    """When this version was written; the newest wins."""
    name: str | None = None
    group_id: str | None = None
    task_id: str | None = None
    experiment: str | None = None
    user_id: str | None = None
    parent_session_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    """Of its own span, if it has one; without a trace an id of callspan's own."""
    parent_span_id: str | None = None
    sampled: bool | None = None
    trace: Trace | None = None
    service: str | None = None
    host: str | None = None
    pid: int | None = None
    process: str | None = None
    """Boot, pid namespace, pid and start time of its process, as stated by the kernel; then a digest of the machine."""
    start_ns: int | None = None
    resumed_ns: int | None = None
    """When it was last begun, by this process or another one: only a later end ends it."""
    end_ns: int | None = None
    """None while it runs."""
    outcome: AnyOutcome | None = None
    """success, failure, error, cancelled, or the application's own word; None while it runs."""
    success: bool | None = None
    error: ErrorInfo | None = None
    metadata: dict[MetadataField, object] = {}
    totals: Totals | None = None
    content_level: Content = "full"
    """The content level in force when the session began; it applies to its later records."""
    redactions: list[Redaction] = []


class TimestepRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="timestep"
):
    """One agent-environment turn; keyed by its own id, since two processes may use the same index."""

    timestep_id: str
    session_id: str
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    seen_ns: int
    """When this version was written; the newest wins."""
    index: int
    """Index in the session, from 0, as counted by its process; readers compute the position across processes."""
    user_step_id: str | None = None
    """The application's own id, unique in its session."""
    name: str | None = None
    turn: int | None = None
    parent_timestep_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    """Of its own span, if it has one; without a trace an id of callspan's own."""
    parent_span_id: str | None = None
    sampled: bool | None = None
    trace: Trace | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    """None while it runs."""
    outcome: AnyOutcome | None = None
    """success, error, cancelled, or the application's own word; None while it runs."""
    error: ErrorInfo | None = None
    metadata: dict[MetadataField, object] = {}
    totals: Totals | None = None
    terminated: bool | None = None
    """Whether the episode reached a terminal state."""
    truncated: bool | None = None
    """Whether the episode was ended from outside, for example by a step limit."""
    redactions: list[Redaction] = []


class EventRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="event"
):
    """Something that happened inside one system: an action, an environment step, a tool run, or any other event."""

    event_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    timestep: int | None = None
    call_id: str | None = None
    """The model's call that it belongs to; of a tool or handoff the call that requested it, if known."""
    event_type: Annotated[str, own_words(EventType)]
    """`action`, `environment`, `tool`, `tool_start`, `agent`, `agent_start`, `guardrail`, `handoff`, or the
    application's own type."""
    name: str | None = None
    time_ns: int
    duration_ns: int | None = None
    inferred: bool = False
    """Whether it is a tool of a run, which a reader infers from the calls around it: `duration_ns` is the time between
    them, at most which it took."""
    sequence: int | None = None
    """Position among the session's events and messages of this process."""
    external_sequence: int | None = None
    """The application's own number."""
    system: str | None = None
    """The component that produced it; the agent that runs a tool, or hands over."""
    data: object = None
    """The content. Action: the action; environment: before, after; tool: arguments, result; agent, guardrail, handoff:
    input, output; others: as given."""
    tool_call_id: str | None = None
    """The id of the model's tool call that requested it, as in the answer."""
    reward: float | None = None
    terminated: bool | None = None
    """Whether the episode reached a terminal state."""
    truncated: bool | None = None
    """Whether the episode was ended from outside, for example by a step limit."""
    error: ErrorInfo | None = None
    metadata: dict[MetadataField, object] = {}
    redactions: list[Redaction] = []
    trace_id: str | None = None
    span_id: str | None = None
    """Of its own span, if it has one; without a trace an id of callspan's own."""
    parent_span_id: str | None = None
    sampled: bool | None = None
    trace: Trace | None = None


class MessageRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="message"
):
    """Information passed from one system to another."""

    message_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    timestep: int | None = None
    call_id: str | None = None
    message_type: Annotated[str, own_words(MessageType)]
    """`observation`, `action`, `feedback`, or the application's own."""
    sender: Annotated[str, own_words(System)] | None = None
    receiver: Annotated[str, own_words(System)] | None = None
    time_ns: int
    sequence: int | None = None
    """Position among the session's events and messages of this process."""
    external_sequence: int | None = None
    """The application's own number."""
    content: object = None
    causal_influence: list[str] = []
    metadata: dict[MetadataField, object] = {}
    redactions: list[Redaction] = []


class RewardRecord(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="kind", tag="reward"
):
    """A value given to an event, a call or a whole session; append-only."""

    reward_id: str
    session_id: str | None = None
    schema_version: int = schema_field()
    """Version of the schema of records; readers reject other versions."""
    timestep_id: str | None = None
    timestep: int | None = None
    event_id: str | None = None
    call_id: str | None = None
    objective: Annotated[str, own_words(Objective)] = always_written("reward")
    value: float | None = None
    label: str | None = None
    scope: Scope = always_written(_EVENT)
    source: Annotated[str, own_words(RewardSource)] | None = None
    """`environment`, `evaluator`, `human`, or the application's own."""
    annotation: str | None = None
    time_ns: int
    metadata: dict[MetadataField, object] = {}
    redactions: list[Redaction] = []
    trace_id: str | None = None
    span_id: str | None = None
    """Of its own span, if it has one; without a trace an id of callspan's own."""
    parent_span_id: str | None = None
    sampled: bool | None = None
    trace: Trace | None = None


Record: TypeAlias = CallRecord | SessionRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord
RECORD_TYPES: Final[dict[str, type[Record]]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Record)}
"""The type of each `kind` of record."""
_KEYS: Final = {kind: (tag, f"{tag}_id") for tag, kind in RECORD_TYPES.items()}
ScopeRecord: TypeAlias = SessionRecord | TimestepRecord | EventRecord
"""The record of a session, timestep or operation. All of them have a span."""
SCOPE_TYPES: Final = (SessionRecord, TimestepRecord)
"""Records with a start and an end."""


def start_id(event_id: str) -> str:
    """Return the id of the start event of a tool or agent run."""
    return f"{event_id}-start"


def first_ns(record: Record) -> int:
    """Return the Unix time (ns) of the start, or of the event, of a record; 0 if it states none."""
    if isinstance(record, CallRecord):
        return record.timing.start_ns
    return record.start_ns or 0 if isinstance(record, SCOPE_TYPES) else record.time_ns


def end_of(record: Record) -> int:
    """Return the end of a record, or the latest time that it states, Unix nanoseconds; 0 if it states none."""
    if isinstance(record, CallRecord):
        return record.timing.start_ns + (record.timing.duration_ns or 0)
    if isinstance(record, EventRecord):
        return record.time_ns + (record.duration_ns or 0)
    return record.end_ns or record.start_ns or 0 if isinstance(record, SCOPE_TYPES) else record.time_ns


def record_key(record: Record) -> tuple[str, str]:
    """Return (kind, id), the identity of a record in every store."""
    kind, name = _KEYS[type(record)]
    return kind, getattr(record, name)


def is_agent(record: object) -> TypeGuard[EventRecord]:
    """Return whether a record is the event of an agent's end or, while it runs, of its start."""
    return isinstance(record, EventRecord) and RUN_TYPES.get(record.event_type, record.event_type) == "agent"


def joined_events(event: EventRecord, other: EventRecord) -> EventRecord:
    """Return the first of two records of one run of a tool, with what only the other one says."""
    return msgspec.structs.replace(
        event,
        tool_call_id=event.tool_call_id or other.tool_call_id,
        data={**_data_of(other), **_data_of(event)} or None,
        error=event.error or other.error,
    )


def _data_of(event: EventRecord) -> dict[str, object]:
    return event.data if isinstance(event.data, dict) else {}
