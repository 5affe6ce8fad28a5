"""The attributes of events, messages and rewards, and those they share with the enclosing spans.

They have the conventions' names, or `callspan.*` if there is none. Pure: records in, attributes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Final

from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord
from callspan.semconv import gen_ai
from callspan.semconv.call import CONVERSATION_ID, SESSION_ID, STEP_INDEX
from callspan.semconv.content_attributes import Attributes, ByteBudget, SpanContent
from callspan.semconv.table import BOOLEAN, DOUBLE, INT, STRINGS, From, Row, Table, data_rows, json_row, text_row

ENVIRONMENT: Final = "environment"
_STATES: Final = {
    "after": ("callspan.observation", "Observation after the action."),
    "before": ("callspan.observation.before", "Observation before it."),
    "info": ("callspan.info", ""),
}


SESSION: Final = (
    text_row(SESSION_ID, "session_id", "Id of the session."),
    text_row(CONVERSATION_ID, "session_id", "The same under the conventions' name."),
)
WITHIN: Final = (
    *SESSION,
    text_row("callspan.step.id", "timestep_id", "Id of the timestep."),
    Row(STEP_INDEX, INT, "timestep", "Index of the timestep in its session, from 0, as its process counts."),
)
ERROR: Final = text_row("error.type", "error.type", "Exception class, or what the application gave.")
TERMINATED: Final = (
    Row("callspan.terminated", BOOLEAN, "terminated", "How the episode ended, as in Gymnasium."),
    Row("callspan.truncated", BOOLEAN, "truncated", "How the episode ended, as in Gymnasium."),
)
REWARD_OF_ENVIRONMENT: Final = Row("callspan.reward", DOUBLE, "reward")

ENVIRONMENT_CONTENT: Final = Table(*data_rows(_STATES))
EVENT: Final = Table(
    text_row("callspan.event.id", "event_id"),
    text_row("callspan.event.name", "name"),
    Row("callspan.event.sequence", INT, "sequence"),
    text_row("callspan.system", "system"),
    text_row("callspan.call_id", "call_id", "The call it belongs to."),
    REWARD_OF_ENVIRONMENT,
    *TERMINATED,
    ERROR,
)
MESSAGE: Final = Table(
    text_row("callspan.message.id", "message_id"),
    text_row("callspan.message.type", "message_type"),
    text_row("callspan.message.sender", "sender"),
    text_row("callspan.message.receiver", "receiver"),
    Row("callspan.message.sequence", INT, "sequence"),
    Row(
        "callspan.message.causal_influence", STRINGS, From("causal_influence", tuple),
        "Ids of the messages that led to it.",
    ),
    text_row("callspan.call_id", "call_id", "Id of its call."),
)  # fmt: skip
REWARD: Final = Table(
    *gen_ai.REWARD.rows,
    text_row("callspan.reward.id", "reward_id"),
    text_row("callspan.reward.scope", "scope", "`event`, `session` or `call`: what is evaluated."),
    text_row("callspan.reward.source", "source", "Who evaluates."),
    text_row("callspan.event.id", "event_id", "The evaluated event."),
    text_row("callspan.call_id", "call_id", "The evaluated call."),
)
EVALUATION_SPAN: Final = Table(*WITHIN)
"""The session and timestep of a reward, on its own span."""

MESSAGE_CONTENT: Final = Table(json_row("callspan.message.content", attrgetter("content")))
ACTION_CONTENT: Final = Table(json_row("callspan.action", attrgetter("data")))
EVENT_CONTENT: Final = Table(json_row("callspan.event.data", attrgetter("data")))
_EVENT_CONTENTS: Final = {ENVIRONMENT: ENVIRONMENT_CONTENT, "action": ACTION_CONTENT}
_TABLES: Final[Mapping[type[Record], tuple[Table, Table]]] = {
    EventRecord: (EVENT, EVENT_CONTENT),
    MessageRecord: (MESSAGE, MESSAGE_CONTENT),
    RewardRecord: (REWARD, gen_ai.REWARD_CONTENT),
}


def event_name(record: Record) -> str:
    """Return the name of the span event of an event, message or reward."""
    match record:
        case EventRecord():
            return f"callspan.{record.event_type}"
        case MessageRecord():
            return "callspan.message"
    return gen_ai.EVALUATION_EVENT


def event_attributes(record: Record) -> Attributes:
    """Return the attributes of the span event of an event, message or reward, without content."""
    return _TABLES[type(record)][0].of(record) if type(record) in _TABLES else {}


def event_content(record: Record, budget: ByteBudget) -> Attributes:
    """Return the content of an event, message or reward within the budget."""
    if type(record) not in _TABLES:
        return {}
    content = _TABLES[type(record)][1]
    if isinstance(record, EventRecord):
        content = _EVENT_CONTENTS.get(record.event_type, content)
    return content.of(record, SpanContent(None, budget))


def evaluation_attributes(record: Record) -> Attributes | None:
    """Return the attributes of the evaluation event for an environment's reward; None without a reward."""
    if not isinstance(record, EventRecord) or record.reward is None:
        return None
    return gen_ai.EVALUATION.of(record)


def evaluation_span_name(record: Record) -> str:
    """Return the name of the span of a reward."""
    return f"evaluation {record.objective}" if isinstance(record, RewardRecord) else "evaluation reward"


def late_evaluation(record: Record, response_id: str | None) -> Attributes | None:
    """Return the attributes of the span of a reward, without content; None for other records.

    `response_id` is the provider's id of the evaluated response.
    """
    if not isinstance(record, EventRecord | RewardRecord):
        return None
    evaluation = REWARD.of(record) if isinstance(record, RewardRecord) else evaluation_attributes(record)
    if evaluation is None:
        return None
    attributes = EVALUATION_SPAN.of(record)
    if response_id is not None:
        attributes["gen_ai.response.id"] = response_id
    return attributes | evaluation
