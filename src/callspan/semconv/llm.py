"""The `llm.*` attributes of calls, sessions and operations: Chronicle's vocabulary, with corrected spelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.record.call import CallRecord
from callspan.record.events import ScopeRecord
from callspan.record.finish_reasons import normalised
from callspan.record.labels import EXTRA, requested_user
from callspan.record.messages import Part, Text, ToolResult
from callspan.record.vocabulary import METADATA_FIELDS
from callspan.semconv.body_messages import choices_json, messages_json
from callspan.semconv.content_attributes import (
    Attributes,
    SpanContent,
    put_body,
    put_json,
    put_text,
    request_bound,
    select_messages,
)
from callspan.semconv.gen_ai import status_rows
from callspan.semconv.table import (
    ANY,
    BOOLEAN,
    DOUBLE,
    INT,
    JSON,
    MAX_TOKENS,
    STRING,
    From,
    Parameter,
    Put,
    Row,
    Table,
    as_float,
    as_int,
    as_scalar,
)

_META: Final = "llm.meta."
_STOP_SEQUENCES: Final = "llm.chat.stop_sequences"
_OPTIONS: Final = "llm.options"
_META_EXTRA: Final = "llm.meta.extra"
_COMPLETIONS: Final = "llm.completions"
_RAW_COMPLETIONS: Final = "llm.completions.raw"
_PROMPTS: Final = "llm.prompts"
_RAW_PROMPTS: Final = "llm.prompts.raw"
_STOPS: Final = ("stop", "stop_sequences")
_NS_PER_MS: Final = 1_000_000


def rate_limit_rows(unit: str, path: str) -> tuple[Row, Row, Row]:
    """Return the rows for the rate limit of one unit (`requests`, ...) at `path`."""
    prefix = f"llm.rate_limiting.{unit}"
    return (
        Row(f"{prefix}.limit", INT, f"{path}.limit"),
        Row(f"{prefix}.remaining", INT, f"{path}.remaining"),
        Row(f"{prefix}.reset", DOUBLE, f"{path}.reset_s"),
    )


def _user(record: CallRecord) -> str | None:
    return requested_user(record.api, record.request.params)


def _put_latencies(attributes: Attributes, record: CallRecord, _: SpanContent) -> None:
    duration_ns, answer_ns = record.timing.duration_ns, record.timing.answer_ns
    if duration_ns is not None:
        attributes["llm.total_latency"] = round(duration_ns / _NS_PER_MS)
        if answer_ns is not None:
            attributes["llm.latency"] = round((duration_ns - answer_ns) / _NS_PER_MS)


def _put_stop_sequences(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    params = record.request.params
    for key in _STOPS:
        if params.get(key):
            put_json(attributes, _STOP_SEQUENCES, params[key], content.budget)


def _put_options(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    put_json(attributes, _OPTIONS, record.request.params, content.budget, request_bound(record))


def _put_metadata(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    _put_known_metadata(attributes, record, content)
    extra: dict[str, object] = {}
    for key, value in record.metadata.items():
        if key == EXTRA and isinstance(value, dict):
            extra |= value
        elif value is not None and _META + key not in attributes:
            extra[key] = value
    if extra:
        put_json(attributes, _META_EXTRA, extra, content.budget)


def _put_known_metadata(attributes: Attributes, record: CallRecord | ScopeRecord, _: SpanContent) -> None:
    for key, value in record.metadata.items():
        if key in METADATA_FIELDS and (scalar := as_scalar(value)) is not None:
            attributes[_META + key] = scalar


def _put_completions(attributes: Attributes, _: CallRecord, content: SpanContent) -> None:
    texts = [text for message in content.conversation.output if (text := joined_text(message.parts))]
    if texts:
        put_text(attributes, _COMPLETIONS, "\n\n".join(texts), content.budget)


def _put_raw_completions(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    put_body(attributes, _RAW_COMPLETIONS, choices_json, record, content.budget)


def _put_raw_prompts(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    put_body(attributes, _RAW_PROMPTS, messages_json, record, content.budget)


def _put_prompts(attributes: Attributes, record: CallRecord, content: SpanContent) -> None:
    messages = select_messages(content.conversation.input, record, content.budget)
    speeches = [
        ("system", content.conversation.system),
        *((message.name or message.role, message.parts) for message in messages),
    ]
    texts = [(speaker, text) for speaker, parts in speeches if (text := joined_text(parts))]
    if texts:
        prompt = texts[0][1] if len(texts) == 1 else "\n\n".join([f"{speaker}: {text}" for speaker, text in texts])
        put_text(attributes, _PROMPTS, prompt, content.budget)


_LATENCIES: Final = Put(_put_latencies)
_METADATA: Final = Put(_put_metadata)

START: Final = Table(
    Row("llm.vendor", STRING, "provider", "The provider under the conventions' name."),
    Row("llm.item_id", STRING, "call_id"),
    Row("llm.request.model", STRING, "request.model"),
)

END: Final = Table(
    Row("llm.response.model", STRING, "response.model"),
    Row(
        "llm.finish_reason", STRING, From("finish_reason", normalised),
        "Why the answer ended, normalised across providers; a choice cut by length decides.",
    ),
    *status_rows("llm.status_code"),
    Row("llm.total_latency", INT, _LATENCIES, "Milliseconds of the whole call: attempts, waits and stream."),
    Row("llm.latency", INT, _LATENCIES, "Milliseconds of the attempt that got the response."),
    Row("llm.retries", INT, "retries"),
    Row("llm.rate_limited", BOOLEAN, "rate_limited"),
    Row("llm.temperature", DOUBLE, Parameter("temperature", as_float)),
    Row("llm.top_p", DOUBLE, Parameter("top_p", as_float)),
    Row("llm.frequency_penalty", DOUBLE, Parameter("frequency_penalty", as_float)),
    Row("llm.presence_penalty", DOUBLE, Parameter("presence_penalty", as_float)),
    *(Row("llm.request.max_tokens", INT, Parameter(name, as_int)) for name in MAX_TOKENS),
    Row(
        "llm.user", STRING, _user,
        "The end user, as sent: `user`, `safety_identifier`, or Messages' `metadata.user_id`.",
        when="request.params",
    ),
    Row(
        _STOP_SEQUENCES, JSON, Put(_put_stop_sequences), when="request.params",
        content=True,
    ),
    Row(
        _OPTIONS, JSON, Put(_put_options), "The request without messages and tools.", when="request.params",
        content=True,
    ),
    Row("llm.usage.prompt_tokens", INT, "usage.input_tokens"),
    Row("llm.usage.completion_tokens", INT, "usage.output_tokens"),
    Row("llm.usage.total_tokens", INT, "usage.total_tokens"),
    Row(
        f"{_META}*", ANY, _METADATA, "One attribute per field of `callspan.metadata(...)`.", when="metadata"
    ),
    Row(_META_EXTRA, JSON, _METADATA, "Other fields of `callspan.metadata(...)`.", when="metadata"),
    *rate_limit_rows("requests", "rate_limits.requests"),
    *rate_limit_rows("tokens", "rate_limits.tokens"),
    Row(
        _COMPLETIONS, STRING, Put(_put_completions), "Texts of all choices, separated by blank lines.",
        content=True,
    ),
    Row(
        _RAW_COMPLETIONS, JSON, Put(_put_raw_completions),
        "One `{index, message, finish_reason}` for each choice; the message is that of a chat completion, contains the"
        " output items of Responses, or is the whole answer of Messages.", content=True,
        instead_of="conversation.output",
    ),
    Row(
        _RAW_PROMPTS, JSON, Put(_put_raw_prompts),
        "Messages as sent, preceded by separate instructions as a `system` message.",
        content=True, instead_of="conversation.input",
    ),
    Row(
        _PROMPTS, STRING, Put(_put_prompts), "Text of each message, after its role.", content=True,
        instead_of="conversation.input",
    ),
)  # fmt: skip

SCOPE_START: Final = Table(
    Row(
        f"{_META}*", ANY, Put(_put_known_metadata), "One attribute per known scalar field of its `metadata`.",
        when="metadata",
    )
)  # fmt: skip
"""Attributes of the span of a session, timestep or operation."""


def joined_text(parts: Sequence[Part]) -> str:
    """Return the texts of a message joined by line breaks: text and tool results, nothing else."""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    texts: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, ToolResult):
            texts += _result_texts(part.content)
    return "\n".join(texts)


def _result_texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts = [item.get("text") for item in content if isinstance(item, dict)]
    return [text for text in texts if isinstance(text, str)]
