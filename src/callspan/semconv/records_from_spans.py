"""Records from spans: makes call records from the spans of other GenAI instrumentations, as far as possible.

What they say, and under which names, is in `vocabularies`. No content is read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from callspan.providers.anthropic import messages
from callspan.providers.base import NOT_GENERATING
from callspan.providers.error_kinds import FIRST_ERROR, MAX_WORD_BYTES, RETRYABLE, capped, classify, error_info
from callspan.providers.finishing import Finish, finish_of
from callspan.providers.google import usage as google_usage
from callspan.providers.wire_json import LARGEST_COUNT, count, integer, mapping
from callspan.record.call import CallRecord, ErrorInfo, Place, Request, Response, Timing
from callspan.record.foreign_json import read_json
from callspan.record.labels import TENANT_KEYS, USER, Ownership, label, tenant_of
from callspan.record.plain_json import plain
from callspan.record.usage import Usage, checked_usage
from callspan.runtime.conversion import converter
from callspan.semconv.conversations import session_of_conversation
from callspan.semconv.vocabularies import (
    CALLS,
    COST,
    COUNTERS,
    DETAILS,
    ERROR_TYPE,
    FINISH_REASONS,
    METADATA,
    REQUEST_MODEL,
    RESPONSE_ID,
    RESPONSE_MODEL,
    SESSION,
    STATUS,
    STREAM,
    TOOL_CHOICE,
    TOOL_MESSAGE,
    UNKNOWN,
    VERCEL,
    VERCEL_INPUT_DETAILS,
    VERCEL_METADATA,
    WITH_CACHES,
    SpanKind,
    first_id,
    first_text,
    kind_of,
    provider_of,
)

EXCEPTION: Final = "exception"
"""Name of the event of a span that an exception has ended."""
READ_EVENTS: Final = frozenset({EXCEPTION, TOOL_MESSAGE[0], TOOL_CHOICE[0], DETAILS})
"""The events of spans that are read."""
_EXCEPTION_TYPE: Final = "exception.type"
_EXCEPTION_MESSAGE: Final = "exception.message"
_EXCLUSIVE: Final = frozenset({"anthropic", "aws.bedrock"})
"""Providers that leave out of their counter of input what was read from a cache or written to it."""
_MAX_DIGITS: Final = 40
_convert_usage: Final = converter(Usage)


class ForeignSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign instrumentation's span, made in this process or received by OTLP."""

    attributes: Mapping[str, object]
    trace_id: str
    span_id: str
    parent_span_id: str | None
    is_parent_remote: bool = False
    """Whether its parent is known to be another process's."""
    start_ns: int
    end_ns: int | None
    has_start: bool = True
    """Whether it states its start; else `start_ns` is its end, or the time of arrival."""
    failed: bool
    scope: str | None
    """Name of the instrumentation."""
    name: str = ""
    status_message: str | None = None
    events: Mapping[str, Mapping[str, object]] = {}
    """The attributes of the events of each name in `READ_EVENTS`, together; the last event counts most."""
    service: str | None = None
    """Name of the service, as the resource of the span states it."""
    adopted: Place | None = None
    """Where it is in what this process has adopted of agents, and recorded; None: that is not known, or is nothing."""

    @property
    def kind(self) -> SpanKind | None:
        """What it is; None if no vocabulary says so."""
        return kind_of(self.attributes, self.scope, self.name)


def call_of(span: ForeignSpan) -> CallRecord | None:
    """Return the record of an LLM call's span, with an id derived from the span's ids; None for other spans."""
    attributes, span_kind = span.attributes, span.kind
    if span_kind is None or span_kind.kind not in CALLS:
        return None
    provider = provider_of(attributes) or UNKNOWN
    response, finish = _response(attributes)
    error = error_of(span) or finish.error
    return CallRecord(
        call_id=id_of_span(span),
        provider=provider,
        api=span_kind.api,
        operation=span_kind.kind,
        sdk=span.scope,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        place=_place(span),
        service=span.service,
        request=Request(model=first_text(attributes, REQUEST_MODEL), stream=_stream(attributes)),
        response=response,
        usage=_usage(attributes, provider, span_kind.kind),
        timing=Timing(start_ns=span.start_ns, duration_ns=duration_of(span)),
        metadata=_metadata(attributes),
        outcome="error" if error is not None else "success",
        error=error,
    )


def _place(span: ForeignSpan) -> Place:
    """Return the session that a call's span names: of its user, tenant and service."""
    if span.adopted is not None and span.adopted.session_id is not None:
        return span.adopted
    conversation = conversation_of(span.attributes)
    if conversation is None:
        return Place()
    return Place(session_id=session_of_conversation(conversation, ownership_of(span)), session_name=conversation)


def conversation_of(attributes: Mapping[str, object]) -> str | None:
    """Return the conversation, thread or session that a span of an agent or of a model's call names, or None."""
    return first_id(attributes, SESSION)


def ownership_of(span: ForeignSpan) -> Ownership:
    """Return whom a span serves, as far as it says so."""
    stated = {key: value for key in TENANT_KEYS if (value := first_id(span.attributes, METADATA[key])) is not None}
    return Ownership(first_id(span.attributes, METADATA[USER]), tenant_of(stated), span.service)


def id_of_span(span: ForeignSpan) -> str:
    """Return the id of the record that a span becomes.

    Its start belongs to it: a program that seeds `random` gives the spans of each run the same ids.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{span.trace_id}/{span.span_id}/{span.start_ns}"))


def duration_of(span: ForeignSpan) -> int | None:
    """Return the duration in nanoseconds; None without a start, or an end after it."""
    if span.end_ns is None or not span.has_start or span.end_ns < span.start_ns:
        return None
    return span.end_ns - span.start_ns


def _metadata(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return user, agent, workflow, prompt and tags as `callspan.metadata(...)` has them."""
    values = {
        field: next((value for name in names if (value := attributes.get(name)) not in (None, "")), None)
        for field, names in METADATA.items()
    }
    if label(values[USER]) is None:  # a list names nobody
        values[USER] = None
    return {field: plain(value) for field, value in values.items() if value is not None}


def _stream(attributes: Mapping[str, object]) -> bool | None:
    if str(attributes.get(VERCEL)).endswith(".doStream"):
        return True
    return next((value for name in STREAM if isinstance(value := attributes.get(name), bool)), None)


def error_of(span: ForeignSpan) -> ErrorInfo | None:
    """Return what a failed span says of its error, in an attribute, an event or its status; None if it is a success."""
    attributes = span.attributes
    error_type = first_text(attributes, (ERROR_TYPE,))
    if not span.failed and error_type is None:
        return None
    raised = span.events.get(EXCEPTION, {})
    exception = first_text(raised, (_EXCEPTION_TYPE,))
    message = first_text(raised, (_EXCEPTION_MESSAGE,)) or span.status_message or None
    stated = (integer(dict(attributes), name) for name in (*STATUS, ERROR_TYPE))
    status = next((number for number in stated if number is not None and number >= FIRST_ERROR), None)
    error = error_info(status=status, body=None, exception=exception, message=message)
    if error_type is None:
        return error if exception or status else msgspec.structs.replace(error, type=UNKNOWN)
    word = None if error_type.isdigit() else error_type
    kind = classify(status, word, None, message, exception or word)  # by convention the name of its class
    return msgspec.structs.replace(
        error, kind=kind, type=capped(error_type, MAX_WORD_BYTES), retryable=kind in RETRYABLE
    )


def _response(attributes: Mapping[str, object]) -> tuple[Response, Finish]:
    reasons = next((reasons for name in FINISH_REASONS if (reasons := _listed(attributes.get(name)))), [])
    finish = finish_of(tuple(reasons))
    response = Response(
        id=first_text(attributes, RESPONSE_ID),
        model=first_text(attributes, RESPONSE_MODEL),
        finish_reasons=reasons,
        truncated=finish.truncated,
        refused=finish.refused,
        unknown_finish=finish.unknown_finish,
    )
    return response, finish


def _listed(value: object) -> list[str | None]:
    """Return finish reasons that are a list, JSON text of a list, or one word."""
    if isinstance(value, str) and value.startswith(("[", '"')) and (reading := read_json(value)) is not None:
        value = reading.value
    if isinstance(value, str):
        return [value] if value else []
    return [str(reason) if reason else None for reason in value] if isinstance(value, list | tuple) else []


def _usage(attributes: Mapping[str, object], provider: str, operation: str) -> Usage | None:
    of_provider = _of_provider(attributes)
    usage = of_provider or _counted(attributes, provider)
    cost = next((usd for name in COST if (usd := _usd(attributes.get(name))) is not None), None)
    if cost is not None:
        return msgspec.structs.replace(usage or Usage(), cost_usd=cost)
    if usage is None or usage is of_provider:
        return usage
    return msgspec.structs.replace(usage, cost_estimated=has_unknown_cache(usage, provider, operation))


def has_unknown_cache(usage: Usage, provider: str, operation: str) -> bool:
    """Return whether some of the input may have had the price of cached input, as no counter says how much."""
    return (
        usage.cost_usd is None
        and usage.input_tokens is not None
        and usage.cache_read_tokens is None
        and operation not in NOT_GENERATING
        and provider in WITH_CACHES
    )


def _of_provider(attributes: Mapping[str, object]) -> Usage | None:
    """Return the usage of the provider's own object, which Vercel's SDK 5 hands on; None without one."""
    metadata = attributes.get(VERCEL_METADATA)
    reading = read_json(metadata) if isinstance(metadata, str) else None
    if reading is None:
        return None
    of_anthropic = mapping(reading.value, "anthropic", "usage")
    of_google = mapping(reading.value, "google", "usageMetadata") or mapping(reading.value, "vertex", "usageMetadata")
    return messages.usage(of_anthropic) if of_anthropic else google_usage.usage(of_google) if of_google else None


def _counted(attributes: Mapping[str, object], provider: str) -> Usage | None:
    stated = {field: _first_count(attributes, names) for field, names in COUNTERS.items()}
    counts = {field: number for field, number in stated.items() if number is not None}
    if not counts:
        return None
    is_exclusive = VERCEL in attributes and VERCEL_INPUT_DETAILS not in attributes and provider in _EXCLUSIVE
    return checked_usage(_convert_usage(_inclusive(counts, is_exclusive=is_exclusive)))


def _inclusive(counts: dict[str, int], *, is_exclusive: bool) -> dict[str, int]:
    """Return counters whose input and output include their parts; a total shows whether they were left out.

    Without a total, so do parts that are larger than the whole. `is_exclusive`: the input is known to leave them out.
    """
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    reasoning, total = counts.get("reasoning_tokens", 0), counts.get("total_tokens")
    sent, answered = counts.get("input_tokens"), counts.get("output_tokens")
    rest = None if total is None or sent is None or answered is None else total - sent - answered
    whole = dict(counts)
    if sent is not None and cached and (is_exclusive or cached > sent or rest in (cached, cached + reasoning)):
        whole["input_tokens"] = sent + cached
    if answered is not None and reasoning and (reasoning > answered or rest in (reasoning, cached + reasoning)):
        whole["output_tokens"] = answered + reasoning
    if rest is not None and rest >= 0 and whole != counts:
        whole["total_tokens"] = (
            whole["input_tokens"] + whole["output_tokens"]
        )  # of some it is the sum of what they state
    return whole


def _first_count(attributes: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    return next((number for name in names if (number := _count(attributes.get(name))) is not None), None)


def _count(value: object) -> int | None:
    """Return a counter that is an integer, a double or a text; None for anything else."""
    if isinstance(value, str):
        number = _decimal(value)
        is_whole = number is not None and number <= LARGEST_COUNT and number == number.to_integral_value()
        return int(number) if number is not None and is_whole else None
    return None if value is None else count({"": value}, "")


def _usd(value: object) -> Decimal | None:
    """Return an amount that is a number or a text, exactly as it is written; None for anything else."""
    return _decimal(repr(value)) if type(value) in (int, float) else _decimal(value) if isinstance(value, str) else None


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text) if len(text) <= _MAX_DIGITS else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and number >= 0 else None
