"""The attributes of a call that no convention has, and where in an agent's work the call was made."""

from __future__ import annotations

from typing import Final

from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.vocabulary.values import Attributes, ByteBudget

CALL_ID: Final = "callspan.call_id"
STEP_INDEX: Final = "callspan.step.index"
OUTCOME: Final = "callspan.outcome"
STREAM_END: Final = "callspan.stream.end"
COST_USD: Final = "callspan.cost.usd"
USAGE_ESTIMATED: Final = "callspan.usage.estimated"
TRUNCATED_BYTES: Final = "callspan.truncated_bytes"
REQUEST_MESSAGES: Final = "callspan.request.messages"
REQUEST_ROLES: Final = "callspan.request.roles"
REQUEST_TOOLS: Final = "callspan.request.tools"
REQUEST_BYTES: Final = "callspan.request.bytes"
RESPONSE_BYTES: Final = "callspan.response.bytes"
SESSION_ID: Final = "session.id"
CONVERSATION_ID: Final = "gen_ai.conversation.id"


def start(record: CallRecord) -> Attributes:
    """Return our call id and the session and step the call belongs to, as far as there are any."""
    attributes: Attributes = {CALL_ID: record.call_id}
    place = record.place
    if place.session_id:
        attributes[SESSION_ID] = place.session_id
        attributes[CONVERSATION_ID] = place.session_id
    if place.timestep is not None:
        attributes[STEP_INDEX] = place.timestep
    return attributes


def end(record: CallRecord, conversation: Conversation | None, budget: ByteBudget) -> Attributes:
    """Return how the call ended and what it cost; without a conversation also the sizes of what is not shown.

    `callspan.cost.usd` is money as decimal text, never a float. `callspan.truncated_bytes` is what the
    attributes of the span had no room for: call this after the vocabularies that share the budget.
    """
    attributes: Attributes = {OUTCOME: record.outcome}
    if record.stream is not None:
        attributes[STREAM_END] = record.stream.end
    if record.cost is not None:
        attributes[COST_USD] = format(record.cost.usd, "f")
    if record.usage is not None and record.usage.estimated:
        attributes[USAGE_ESTIMATED] = True
    if budget.cut:
        attributes[TRUNCATED_BYTES] = budget.cut
    if conversation is None:
        _put_sizes(attributes, record)
    return attributes


def _put_sizes(attributes: Attributes, record: CallRecord) -> None:
    request, response = record.request, record.response
    if request.message_count is not None:
        attributes[REQUEST_MESSAGES] = request.message_count
    if request.roles:
        attributes[REQUEST_ROLES] = request.roles
    if request.tool_names:
        attributes[REQUEST_TOOLS] = request.tool_names
    if request.body_bytes is not None:
        attributes[REQUEST_BYTES] = request.body_bytes
    if response is not None and response.body_bytes is not None:
        attributes[RESPONSE_BYTES] = response.body_bytes
