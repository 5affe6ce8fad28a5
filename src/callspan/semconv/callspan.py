"""The names of the agent's hierarchy on spans: sessions, timesteps, tools, events, messages, rewards.

The conventions' names where they have one, `callspan.*` where they have none. Pure: records in, attributes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from callspan.record.call import ErrorInfo, Place
from callspan.record.events import (
    AGENT_START,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Totals,
)
from callspan.record.metadata import METADATA_FIELDS
from callspan.semconv.budgets import Attributes, AttributeValue, ByteBudget, put_json, put_text
from callspan.semconv.llm import META

SESSION_ID: Final = "session.id"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
STEP_INDEX: Final = "callspan.step.index"
STEP_ID: Final = "callspan.step.id"

_KIND: Final = "openinference.span.kind"
EVALUATOR: Final[Attributes] = {_KIND: "EVALUATOR"}
"""What OpenInference calls the span of a reward that stands for itself."""
_EVENT_PREFIX: Final = "callspan."
_TOTALS_PREFIX: Final = "callspan.totals."
_NO_TOTALS: Final = Totals()
_NS: Final = 1e9


def span_name(record: Record) -> str:
    """Return the name of a session's, timestep's or tool's span; low in cardinality."""
    match record:
        case SessionRecord():
            return f"invoke_workflow {record.name}" if record.name else "invoke_workflow"
        case EventRecord(event_type="environment"):
            return "environment"
        case EventRecord():
            verb = _PARTS.get(record.event_type, _TOOL_PART)[0]
            return f"{verb} {record.name}" if record.name else verb
    return "timestep"


def place_attributes(place: Place) -> Attributes:
    """Return the attributes that say where a call, tool or event belongs."""
    return _known(
        {
            SESSION_ID: place.session_id,
            CONVERSATION_ID: place.session_id,
            STEP_ID: place.timestep_id,
            STEP_INDEX: place.timestep,
        }
    )


def start_attributes(record: Record, *, compatibility: bool, llm: bool = True) -> Attributes:
    """Return what is known of a session, timestep or tool at its start, for samplers; no content.

    With `llm` also what `callspan.metadata` says around it, as `llm.meta.*`.
    """
    match record:
        case SessionRecord():
            found = _session(record)
            kind = "CHAIN"
        case TimestepRecord():
            found = _timestep(record)
            kind = "CHAIN"
        case EventRecord(event_type="environment"):
            found = _inside(record)
            kind = "CHAIN"
        case EventRecord():
            _, kind, build = _PARTS.get(record.event_type, _TOOL_PART)
            found = build(record)
        case _:
            return {}
    if compatibility:
        found[_KIND] = kind
    if llm and record.metadata:
        found |= {META + key: _scalar(value) for key, value in record.metadata.items() if key in METADATA_FIELDS}
    return _known(found)


def end_attributes(record: Record) -> Attributes:
    """Return what is known of a session, timestep or tool only at its end; no content."""
    match record:
        case SessionRecord():
            found = {
                "callspan.outcome": record.outcome,
                "callspan.success": record.success,
                **_totals(record.totals),
            }
        case TimestepRecord():
            found = {
                "callspan.outcome": record.outcome,
                "callspan.terminated": record.terminated,
                "callspan.truncated": record.truncated,
                **_totals(record.totals),
                _TOTALS_PREFIX + "rest_s": _rest_s(record),
            }
        case EventRecord(event_type="environment"):
            found = {
                "callspan.reward": record.reward,
                "callspan.terminated": record.terminated,
                "callspan.truncated": record.truncated,
            }
        case EventRecord(event_type="guardrail"):
            found = {"callspan.guardrail.triggered": _scalar(record.metadata.get("triggered"))}
        case _:
            found = {}
    error = _error_of(record)
    return _known(found if error is None else found | _error(error))


def span_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of a session, timestep, tool or step of the environment, as JSON.

    Metadata of the first two, arguments and result of a tool, observations of an environment, input and output of
    an agent, a guardrail or a handoff.
    """
    if isinstance(record, EventRecord) and record.event_type == "environment":
        return event_content(record, budget)
    attributes: Attributes = {}
    if isinstance(record, EventRecord) and isinstance(record.data, dict):
        prefix = "callspan." if record.event_type in _PARTS else "gen_ai.tool.call."
        for name, value in record.data.items():
            put_json(attributes, prefix + name, value, budget)
    if isinstance(record, SessionRecord | TimestepRecord) and record.metadata:
        put_json(attributes, "callspan.metadata", record.metadata, budget)
    return attributes


def event_name(record: Record) -> str:
    """Return the name of the span event of an event, message or reward."""
    match record:
        case EventRecord():
            return _EVENT_PREFIX + record.event_type
        case MessageRecord():
            return "callspan.message"
    return EVALUATION_EVENT


def event_attributes(record: Record) -> Attributes:
    """Return the attributes of the span event of an event, message or reward; no content."""
    build = _EVENTS.get(type(record))
    return _known(build(record)) if build is not None else {}


def event_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of an event or message, as JSON within the budget."""
    attributes: Attributes = {}
    match record:
        case MessageRecord():
            put_json(attributes, "callspan.message.content", record.content, budget)
        case EventRecord(event_type="environment", data=dict(states)):
            for name, value in states.items():
                put_json(attributes, _STATES.get(name, f"callspan.{name}"), value, budget)
        case EventRecord(event_type="action"):
            put_json(attributes, "callspan.action", record.data, budget)
        case EventRecord() if record.data is not None:
            put_json(attributes, "callspan.event.data", record.data, budget)
        case RewardRecord() if record.annotation is not None:
            put_text(attributes, "gen_ai.evaluation.explanation", record.annotation, budget)
    return attributes


def evaluation_attributes(record: Record) -> Attributes | None:
    """Return the conventions' evaluation event of an environment's reward; None where the event has none."""
    if not isinstance(record, EventRecord) or record.reward is None:
        return None
    if record.terminated or record.truncated:
        label = "terminated" if record.terminated else "truncated"
    else:
        label = "continue"
    return {
        "gen_ai.evaluation.name": "reward",
        "gen_ai.evaluation.score.value": record.reward,
        "gen_ai.evaluation.score.label": label,
    }


def evaluation_span_name(record: Record) -> str:
    """Return the name of the span of a reward that stands for itself."""
    return f"evaluation {record.objective}" if isinstance(record, RewardRecord) else "evaluation reward"


def late_evaluation(record: Record, response_id: str | None) -> Attributes | None:
    """Return what stands for itself of a reward: what it is for, and the evaluation; None for other records.

    `response_id` is the provider's id of the answer that was judged. No content.
    """
    if not isinstance(record, EventRecord | RewardRecord):
        return None
    said = event_attributes(record) if isinstance(record, RewardRecord) else evaluation_attributes(record)
    if said is None:
        return None
    return {**_known({**_inside(record), "gen_ai.response.id": response_id}), **said}


def exception_attributes(error: ErrorInfo, *, content: bool) -> Attributes:
    """Return the attributes of the `exception` event; the message only with content."""
    return _known(
        {"exception.type": error.exception or error.type, "exception.message": error.message if content else None}
    )


def _session(record: SessionRecord) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": record.name,
        SESSION_ID: record.session_id,
        CONVERSATION_ID: record.session_id,
        "user.id": record.user_id,
        "callspan.group.id": record.group_id,
        "callspan.task.id": record.task_id,
        "callspan.experiment": record.experiment,
        "callspan.session.parent.id": record.parent_session_id,
    }


def _timestep(record: TimestepRecord) -> dict[str, AttributeValue | None]:
    return {
        SESSION_ID: record.session_id,
        CONVERSATION_ID: record.session_id,
        STEP_ID: record.timestep_id,
        STEP_INDEX: record.index,
        "callspan.step.name": record.name,
        "callspan.step.turn": record.turn,
        "callspan.step.parent.id": record.parent_timestep_id,
    }


def _tool(record: EventRecord) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": record.name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": record.tool_call_id,
        "gen_ai.agent.name": record.system,
        **_inside(record),
    }


def _agent(record: EventRecord) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": record.name,
        "gen_ai.agent.description": _scalar(record.metadata.get("description")),
        **_inside(record),
    }


def _guardrail(record: EventRecord) -> dict[str, AttributeValue | None]:
    return {"callspan.guardrail.name": record.name, "gen_ai.agent.name": record.system, **_inside(record)}


def _handoff(record: EventRecord) -> dict[str, AttributeValue | None]:
    return {
        "callspan.handoff.from": record.system,
        "callspan.handoff.to": record.name,
        "gen_ai.tool.call.id": record.tool_call_id,
        **_inside(record),
    }


def _inside(record: EventRecord | RewardRecord) -> dict[str, AttributeValue | None]:
    return {
        SESSION_ID: record.session_id,
        CONVERSATION_ID: record.session_id,
        STEP_ID: record.timestep_id,
        STEP_INDEX: record.timestep,
    }


def _totals(totals: Totals | None) -> dict[str, AttributeValue | None]:
    # Each attribute costs time on every step: what was counted zero times is left out.
    if totals is None or totals == _NO_TOTALS:
        return {}
    return {
        "callspan.reward": totals.reward,
        _TOTALS_PREFIX + "timesteps": totals.timesteps or None,
        _TOTALS_PREFIX + "calls": totals.calls or None,
        _TOTALS_PREFIX + "errors": totals.errors or None,
        _TOTALS_PREFIX + "tools": totals.tools or None,
        _TOTALS_PREFIX + "input_tokens": totals.input_tokens,
        _TOTALS_PREFIX + "output_tokens": totals.output_tokens,
        _TOTALS_PREFIX + "model_s": totals.model_ns / _NS or None,
        _TOTALS_PREFIX + "tool_s": totals.tool_ns / _NS or None,
    }


def _rest_s(record: TimestepRecord) -> float | None:
    """What a step took besides its calls and tools; None where it had none. Work side by side leaves no rest."""
    totals, start_ns, end_ns = record.totals, record.start_ns, record.end_ns
    if totals is None or start_ns is None or end_ns is None or not totals.model_ns + totals.tool_ns:
        return None
    return max(0, end_ns - start_ns - totals.model_ns - totals.tool_ns) / _NS


def _event(record: EventRecord) -> dict[str, AttributeValue | None]:
    return {
        "callspan.event.id": record.event_id,
        "callspan.event.name": record.name,
        "callspan.event.sequence": record.sequence,
        "callspan.system": record.system,
        "callspan.call_id": record.call_id,
        "callspan.reward": record.reward,
        "callspan.terminated": record.terminated,
        "callspan.truncated": record.truncated,
        "callspan.flags": tuple(record.flags) or None,
        **_error(record.error),
    }


def _message(record: MessageRecord) -> dict[str, AttributeValue | None]:
    return {
        "callspan.message.id": record.message_id,
        "callspan.message.type": record.message_type,
        "callspan.message.sender": record.sender,
        "callspan.message.receiver": record.receiver,
        "callspan.message.sequence": record.sequence,
        "callspan.message.causal_influence": tuple(record.causal_influence) or None,
        "callspan.call_id": record.call_id,
        "callspan.flags": tuple(record.flags) or None,
    }


def _reward(record: RewardRecord) -> dict[str, AttributeValue | None]:
    return {
        "gen_ai.evaluation.name": record.objective,
        "gen_ai.evaluation.score.value": record.value,
        "gen_ai.evaluation.score.label": record.label,
        "callspan.reward.id": record.reward_id,
        "callspan.reward.scope": record.scope,
        "callspan.reward.source": record.source,
        "callspan.event.id": record.event_id,
        "callspan.call_id": record.call_id,
    }


def _error(error: ErrorInfo | None) -> dict[str, AttributeValue | None]:
    return {} if error is None else {"error.type": error.type}


def _error_of(record: Record) -> ErrorInfo | None:
    return record.error if isinstance(record, SessionRecord | TimestepRecord | EventRecord) else None


def _scalar(value: object) -> AttributeValue | None:
    return value if isinstance(value, str | bool | int | float) else None


def _known(found: dict[str, AttributeValue | None]) -> Attributes:
    return {name: value for name, value in found.items() if value is not None}


_Build: TypeAlias = Callable[[EventRecord], dict[str, AttributeValue | None]]
_TOOL_PART: Final[tuple[str, str, _Build]] = ("execute_tool", "TOOL", _tool)
_PARTS: Final[dict[str, tuple[str, str, _Build]]] = {
    "agent": ("invoke_agent", "AGENT", _agent),
    AGENT_START: ("invoke_agent", "AGENT", _agent),
    "guardrail": ("guardrail", "GUARDRAIL", _guardrail),
    "handoff": ("handoff", "CHAIN", _handoff),
}
"""Spans of events that are no tools, by type: first word of the name, OpenInference's kind, attributes at the start."""
_STATES: Final = {"after": "callspan.observation", "before": "callspan.observation.before"}
_EVENTS: Final[dict[type, Callable[..., dict[str, AttributeValue | None]]]] = {
    EventRecord: _event,
    MessageRecord: _message,
    RewardRecord: _reward,
}
