"""The attributes of events, messages and rewards, and those they share with the enclosing spans.

They have the conventions' names, or `callspan.*` without a convention. Pure: records in, attributes out.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from callspan.record.events import EventRecord, MessageRecord, RewardRecord
from callspan.semconv.call import STEP_INDEX
from callspan.semconv.content_attributes import Attributes, SpanContent, put_text
from callspan.semconv.conversations import session_rows
from callspan.semconv.gen_ai import EVALUATION_EVENT
from callspan.semconv.openinference import kind_row
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    STRINGS,
    Constant,
    From,
    Put,
    Row,
    Table,
    data_rows,
    json_row,
    text_row,
)

OF_SESSION: Final = session_rows("session_id")
WITHIN: Final = (
    *OF_SESSION,
    text_row("callspan.step.id", "timestep_id"),
    Row(STEP_INDEX, INT, "timestep"),
)
ERROR: Final = text_row("error.type", "error.type")
TERMINATED: Final = (
    Row("callspan.terminated", BOOLEAN, "terminated"),
    Row("callspan.truncated", BOOLEAN, "truncated"),
)
REWARD_OF_ENVIRONMENT: Final = Row("callspan.reward", DOUBLE, "reward")

STATES: Final = data_rows(
    {
        "after": ("callspan.observation", "Observation after the action."),
        "before": ("callspan.observation.before", ""),
        "info": ("callspan.info", ""),
    }
)
_EVENT: Final = Table(
    text_row("callspan.event.id", "event_id"),
    text_row("callspan.event.name", "name"),
    Row("callspan.event.sequence", INT, "sequence"),
    text_row("callspan.system", "system"),
    text_row("callspan.call_id", "call_id"),
    REWARD_OF_ENVIRONMENT,
    *TERMINATED,
    ERROR,
)
ENVIRONMENT: Final = _EVENT + Table(*STATES)
ACTION: Final = _EVENT + Table(json_row("callspan.action", attrgetter("data")))
EVENT: Final = _EVENT + Table(json_row("callspan.event.data", attrgetter("data")))
MESSAGE: Final = Table(
    text_row("callspan.message.id", "message_id"),
    text_row("callspan.message.type", "message_type"),
    text_row("callspan.message.sender", "sender"),
    text_row("callspan.message.receiver", "receiver"),
    Row("callspan.message.sequence", INT, "sequence"),
    Row("callspan.message.causal_influence", STRINGS, From("causal_influence", tuple)),
    text_row("callspan.call_id", "call_id"),
    json_row("callspan.message.content", attrgetter("content")),
)  # fmt: skip


def _put_annotation(attributes: Attributes, record: RewardRecord, content: SpanContent) -> None:
    if record.annotation is not None:
        put_text(attributes, "gen_ai.evaluation.explanation", record.annotation, content.budget)


def _end_of_episode(record: EventRecord) -> str:
    if record.terminated or record.truncated:
        return "terminated" if record.terminated else "truncated"
    return "continue"


REWARD: Final = Table(
    text_row("gen_ai.evaluation.name", "objective", "The objective."),
    Row("gen_ai.evaluation.score.value", DOUBLE, "value"),
    text_row("gen_ai.evaluation.score.label", "label"),
    text_row("callspan.reward.id", "reward_id"),
    text_row("callspan.reward.scope", "scope"),
    text_row("callspan.reward.source", "source"),
    text_row("callspan.event.id", "event_id"),
    text_row("callspan.call_id", "call_id"),
    Row("gen_ai.evaluation.explanation", STRING, Put(_put_annotation), content=True),
)
EVALUATION: Final = Table(
    Row("gen_ai.evaluation.name", STRING, Constant("reward"), "`reward`."),
    Row("gen_ai.evaluation.score.value", DOUBLE, "reward"),
    Row("gen_ai.evaluation.score.label", STRING, _end_of_episode, "`terminated`, `truncated` or `continue`."),
)
"""Attributes of the conventions' evaluation event for an environment's reward."""
EVALUATION_PLACE: Final = Table(*WITHIN)
"""The session and timestep of a reward, on its own span and event."""
EVALUATOR: Final = Table(kind_row("EVALUATOR"))

_EVENTS: Final = {"environment": ENVIRONMENT, "action": ACTION}


def event_name(record: EventRecord | MessageRecord | RewardRecord) -> str:
    """Return the name of the span event of a record."""
    match record:
        case EventRecord():
            return f"callspan.{record.event_type}"
        case MessageRecord():
            return "callspan.message"
    return EVALUATION_EVENT


def event_attributes(record: EventRecord | MessageRecord | RewardRecord, content: SpanContent) -> Attributes:
    """Return the attributes of the span event of a record."""
    match record:
        case EventRecord():
            return _EVENTS.get(record.event_type, EVENT).of(record, content)
        case MessageRecord():
            return MESSAGE.of(record, content)
    return REWARD.of(record, content)
