"""The attributes of a call that no convention has, and where in an agent's work the call was made."""

from __future__ import annotations

from typing import Final

from callspan.record.call import CallRecord, ErrorInfo, Stream
from callspan.record.messages import Conversation
from callspan.semconv.values import Attributes, ByteBudget

_NS: Final = 1e9

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
STREAM_CHUNKS: Final = "callspan.stream.chunks"
STREAM_LARGEST_GAP: Final = "callspan.stream.largest_gap_s"
FIRST_CONTENT: Final = "callspan.time_to_first_token_s"
"""From the start of the call, waits and failed attempts included."""
FIRST_CONTENT_OF_ANSWER: Final = "callspan.answer.time_to_first_token_s"
"""From the start of the attempt that answered."""
OUTPUT_RATE: Final = "callspan.output_tokens_per_second"
RESPONSE_TRUNCATED: Final = "callspan.response.truncated"
RESPONSE_REFUSED: Final = "callspan.response.refused"
REQUEST_ID: Final = "callspan.request_id"
ERROR_KIND: Final = "callspan.error.kind"
ERROR_RETRYABLE: Final = "callspan.error.retryable"
ERROR_CODE: Final = "callspan.error.code"
ERROR_PARAM: Final = "callspan.error.param"
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
        _put_stream(attributes, record, record.stream)
    _put_answer(attributes, record)
    if record.error is not None:
        _put_error(attributes, record.error)
    if record.cost is not None:
        attributes[COST_USD] = format(record.cost.usd, "f")
    if record.usage is not None and record.usage.estimated:
        attributes[USAGE_ESTIMATED] = True
    if budget.cut:
        attributes[TRUNCATED_BYTES] = budget.cut
    if conversation is None:
        _put_sizes(attributes, record)
    return attributes


def output_tokens_per_second(record: CallRecord) -> float | None:
    """Return output tokens over the time from the start of the answering attempt to its last chunk.

    A plain answer has no chunks: to the end of the call. None where tokens or times are unknown.
    """
    usage, timing = record.usage, record.timing
    tokens = None if usage is None else usage.output_tokens
    until_ns = timing.duration_ns if timing.last_chunk_ns is None else timing.last_chunk_ns
    if not tokens or timing.answer_ns is None or until_ns is None or until_ns <= timing.answer_ns:
        return None
    return tokens * _NS / (until_ns - timing.answer_ns)


def _put_answer(attributes: Attributes, record: CallRecord) -> None:
    response = record.response
    if response is not None:
        if response.truncated:
            attributes[RESPONSE_TRUNCATED] = True
        if response.refused:
            attributes[RESPONSE_REFUSED] = True
    if record.attempts and (request_id := record.attempts[-1].request_id):
        attributes[REQUEST_ID] = request_id
    if (rate := output_tokens_per_second(record)) is not None:
        attributes[OUTPUT_RATE] = rate


def _put_stream(attributes: Attributes, record: CallRecord, stream: Stream) -> None:
    timing = record.timing
    attributes[STREAM_END] = stream.end
    attributes[STREAM_CHUNKS] = stream.chunks
    if timing.largest_gap_ns is not None:
        attributes[STREAM_LARGEST_GAP] = timing.largest_gap_ns / _NS
    if timing.first_token_ns is not None:
        attributes[FIRST_CONTENT] = timing.first_token_ns / _NS
        if timing.answer_ns is not None:
            attributes[FIRST_CONTENT_OF_ANSWER] = (timing.first_token_ns - timing.answer_ns) / _NS


def _put_error(attributes: Attributes, error: ErrorInfo) -> None:
    attributes[ERROR_KIND] = error.kind
    attributes[ERROR_RETRYABLE] = error.retryable
    if error.code:
        attributes[ERROR_CODE] = error.code
    if error.param:
        attributes[ERROR_PARAM] = error.param


def _put_sizes(attributes: Attributes, record: CallRecord) -> None:
    request, response = record.request, record.response
    if request.message_count is not None:
        attributes[REQUEST_MESSAGES] = request.message_count
    if request.roles:
        attributes[REQUEST_ROLES] = tuple(request.roles)
    if request.tool_names:
        attributes[REQUEST_TOOLS] = tuple(request.tool_names)
    if request.body_bytes is not None:
        attributes[REQUEST_BYTES] = request.body_bytes
    if response is not None and response.body_bytes is not None:
        attributes[RESPONSE_BYTES] = response.body_bytes
