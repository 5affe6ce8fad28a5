"""The `llm.*` attributes of a call: Chronicle's vocabulary, spelled right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from callspan.record.bounded import fitted_texts
from callspan.record.call import CallRecord, RateLimit
from callspan.record.finish import normalised
from callspan.record.messages import Conversation, Message
from callspan.record.metadata import METADATA_FIELDS
from callspan.record.usage import Usage
from callspan.semconv.history import chosen, omission, spoken
from callspan.semconv.values import (
    Attributes,
    AttributeValue,
    ByteBudget,
    number,
    put_encoded,
    put_json,
    put_text,
    spread,
    whole,
    word,
)
from callspan.semconv.wire_json import body_sizes, choices_json, messages_json

VENDOR: Final = "llm.vendor"
ITEM_ID: Final = "llm.item_id"
REQUEST_MODEL: Final = "llm.request.model"
RESPONSE_MODEL: Final = "llm.response.model"
PROMPTS: Final = "llm.prompts"
PROMPTS_RAW: Final = "llm.prompts.raw"
COMPLETIONS: Final = "llm.completions"
COMPLETIONS_RAW: Final = "llm.completions.raw"
FINISH_REASON: Final = "llm.finish_reason"
PROMPT_TOKENS: Final = "llm.usage.prompt_tokens"
COMPLETION_TOKENS: Final = "llm.usage.completion_tokens"
TOTAL_TOKENS: Final = "llm.usage.total_tokens"
LATENCY: Final = "llm.latency"
TOTAL_LATENCY: Final = "llm.total_latency"
RETRIES: Final = "llm.retries"
RATE_LIMITED: Final = "llm.rate_limited"
STATUS_CODE: Final = "llm.status_code"
TEMPERATURE: Final = "llm.temperature"
TOP_P: Final = "llm.top_p"
FREQUENCY_PENALTY: Final = "llm.frequency_penalty"
PRESENCE_PENALTY: Final = "llm.presence_penalty"
MAX_TOKENS: Final = "llm.request.max_tokens"
STOP_SEQUENCES: Final = "llm.chat.stop_sequences"
USER: Final = "llm.user"
OPTIONS: Final = "llm.options"
META: Final = "llm.meta."
META_EXTRA: Final = "llm.meta.extra"
RATE_LIMITING: Final = "llm.rate_limiting."

_PARAMS: Final[dict[str, tuple[str, Callable[[object], AttributeValue | None]]]] = {
    "temperature": (TEMPERATURE, number),
    "top_p": (TOP_P, number),
    "frequency_penalty": (FREQUENCY_PENALTY, number),
    "presence_penalty": (PRESENCE_PENALTY, number),
    "max_tokens": (MAX_TOKENS, whole),
    "max_completion_tokens": (MAX_TOKENS, whole),
    "max_output_tokens": (MAX_TOKENS, whole),
    "user": (USER, word),
}
_REQUEST_LIMITS: Final = (
    RATE_LIMITING + "requests.limit",
    RATE_LIMITING + "requests.remaining",
    RATE_LIMITING + "requests.reset",
)
_TOKEN_LIMITS: Final = (
    RATE_LIMITING + "tokens.limit",
    RATE_LIMITING + "tokens.remaining",
    RATE_LIMITING + "tokens.reset",
)
_BETWEEN: Final = 4
"""Bytes between a role and its text, and after that."""
_STOPS: Final = ("stop", "stop_sequences")


def start(record: CallRecord) -> Attributes:
    """Return what is known before the call is sent: vendor and requested model."""
    attributes: Attributes = {VENDOR: record.provider, ITEM_ID: record.call_id}
    if record.request.model:
        attributes[REQUEST_MODEL] = record.request.model
    return attributes


def end(
    record: CallRecord, conversation: Conversation | None, budget: ByteBudget, *, prompts: bool = True
) -> Attributes:
    """Return everything else. Without a conversation no content is shown: neither texts nor stop sequences.

    Without `prompts` the prompt is left to another vocabulary, unless it has no messages to show there.
    Unknown values are absent. `llm.latency` and `llm.total_latency` are whole milliseconds.
    """
    attributes: Attributes = {}
    _put_answer(attributes, record)
    _put_timing(attributes, record)
    _put_request(attributes, record, conversation is not None, budget)
    if record.usage is not None:
        _put_usage(attributes, record.usage)
    if record.metadata:
        _put_metadata(attributes, record.metadata, budget)
    limits = record.rate_limits
    if limits is not None:
        for names, limit in ((_REQUEST_LIMITS, limits.requests), (_TOKEN_LIMITS, limits.tokens)):
            if limit is not None:
                _put_rate_limit(attributes, names, limit)
    if conversation is not None:
        _put_content(attributes, record, conversation, budget, prompts or not conversation.input)
    return attributes


def _put_answer(attributes: Attributes, record: CallRecord) -> None:
    response = record.response
    if response is not None:
        if response.model:
            attributes[RESPONSE_MODEL] = response.model
        if response.finish_reasons and response.finish_reasons[0]:
            attributes[FINISH_REASON] = normalised(response.finish_reasons[0])
    status = record.attempts[-1].status if record.attempts else None
    if status is None and record.error is not None:
        status = record.error.status
    if status is not None:
        attributes[STATUS_CODE] = status


def _put_timing(attributes: Attributes, record: CallRecord) -> None:
    timing = record.timing
    if timing.duration_ns is not None:
        attributes[TOTAL_LATENCY] = round(timing.duration_ns / 1_000_000)
        if timing.answer_ns is not None:
            attributes[LATENCY] = round((timing.duration_ns - timing.answer_ns) / 1_000_000)
    if record.retries is not None:
        attributes[RETRIES] = record.retries
    attributes[RATE_LIMITED] = record.rate_limited


def _put_request(attributes: Attributes, record: CallRecord, content: bool, budget: ByteBudget) -> None:
    params = record.request.params
    if not params:
        return
    for key, value in params.items():
        row = _PARAMS.get(key)
        if row is not None and (read := row[1](value)) is not None:
            attributes[row[0]] = read
    if not content:
        return
    for key in _STOPS:
        if params.get(key):
            put_json(attributes, STOP_SEQUENCES, params[key], budget)
    put_json(attributes, OPTIONS, params, budget, record.request.body_bytes)


def _put_usage(attributes: Attributes, usage: Usage) -> None:
    prompt, completion, total = usage.input_tokens, usage.output_tokens, usage.total_tokens
    if prompt is not None:
        attributes[PROMPT_TOKENS] = prompt
    if completion is not None:
        attributes[COMPLETION_TOKENS] = completion
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    if total is not None:
        attributes[TOTAL_TOKENS] = total


def _put_metadata(attributes: Attributes, metadata: dict[str, object], budget: ByteBudget) -> None:
    extra: dict[str, object] = {}
    for key, value in metadata.items():
        if key in METADATA_FIELDS and isinstance(value, str | bool | int | float):
            attributes[META + key] = value
        elif key == "extra" and isinstance(value, dict):
            extra |= value
        elif value is not None:
            extra[key] = value
    if extra:
        put_json(attributes, META_EXTRA, extra, budget)


def _put_rate_limit(attributes: Attributes, names: tuple[str, str, str], limit: RateLimit) -> None:
    if limit.limit is not None:
        attributes[names[0]] = limit.limit
    if limit.remaining is not None:
        attributes[names[1]] = limit.remaining
    if limit.reset_s is not None:
        attributes[names[2]] = limit.reset_s


def _put_content(
    attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget, prompts: bool
) -> None:
    said, asked = (0, 0) if budget.plenty else body_sizes(record)
    parts: list[tuple[int, Callable[[ByteBudget], None]]] = [
        (said, partial(_put_completions, attributes, conversation)),
        (said, partial(_put_raw_completions, attributes, record, conversation)),
    ]
    if prompts:
        parts += [
            (asked, partial(_put_raw_prompts, attributes, record, conversation)),
            (asked, partial(_put_prompts, attributes, record, conversation)),
        ]
    if sum(size for size, _ in parts) > budget.left:
        spread(budget, parts)
        return
    for _, put in parts:
        put(budget)


def _put_completions(attributes: Attributes, conversation: Conversation, budget: ByteBudget) -> None:
    texts = [text for message in conversation.output if (text := spoken(message.parts))]
    if texts:
        put_text(attributes, COMPLETIONS, "\n\n".join(texts), budget)


def _put_raw_completions(
    attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget
) -> None:
    room = budget.room
    raw = choices_json(record, room, conversation) if room > 1 else None
    if raw is not None:
        put_encoded(attributes, COMPLETIONS_RAW, raw[0], budget, raw[1])


def _put_raw_prompts(
    attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget
) -> None:
    room = budget.room
    raw = messages_json(record, room, conversation) if room > 1 else None
    if raw is not None:
        put_encoded(attributes, PROMPTS_RAW, raw[0], budget, raw[1])


def _put_prompts(attributes: Attributes, record: CallRecord, conversation: Conversation, budget: ByteBudget) -> None:
    text = _prompt_text(record, conversation, budget)
    if text:
        put_text(attributes, PROMPTS, text, budget)


def _prompt_text(record: CallRecord, conversation: Conversation, budget: ByteBudget) -> str:
    if len(conversation.input) == 1 and not conversation.system:
        return spoken(conversation.input[0].parts)
    picked = chosen(conversation.input, record, budget)
    said: list[tuple[str, str]] = []
    if conversation.system and (text := spoken(conversation.system)):
        said.append(("system", text))
    _add_texts(said, picked.first)
    if picked.omitted:
        said.append(("callspan", omission(picked.omitted, record)))
    _add_texts(said, picked.rest)
    if len(said) == 1:
        return said[0][1]
    room = budget.room - sum(len(who) + _BETWEEN for who, _ in said)
    texts = fitted_texts([text for _, text in said], room)
    return "\n\n".join([f"{who}: {text}" for (who, _), text in zip(said, texts, strict=True)])


def _add_texts(said: list[tuple[str, str]], messages: Sequence[Message]) -> None:
    for message in messages:
        text = spoken(message.parts)
        if text:
            said.append((message.name or message.role, text))
