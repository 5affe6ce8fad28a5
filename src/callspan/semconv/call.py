"""The span of a call as a function of its record: attributes, times, events and status.

`Projection` combines the attributes of the configured vocabularies with the `callspan.*` ones defined here, which cover
the session, timestep and attempts, and everything that no convention names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from callspan.record.call import FAILED, NO_BODY, Attempt, CallRecord, Timing
from callspan.record.content_level import without_content
from callspan.record.interrupted import INTERRUPTED
from callspan.record.messages import Conversation
from callspan.runtime.amounts import as_number
from callspan.semconv import gen_ai, llm, openinference
from callspan.semconv.content_attributes import MAX_SPAN_BYTES, NO_CONTENT, Attributes, ByteBudget, SpanContent
from callspan.semconv.conversations import SESSION_ID, exported_id, session_rows
from callspan.semconv.llm import rate_limit_rows
from callspan.semconv.table import (
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    STRINGS,
    Constant,
    From,
    Row,
    Seconds,
    SetByCode,
    Table,
    text_row,
)
from callspan.settings import Content, Settings, strictest

CALL_ID: Final = "callspan.call_id"
STEP_INDEX: Final = "callspan.step.index"
REQUEST_ID: Final = "callspan.request_id"
ERROR_KIND: Final = "callspan.error.kind"
ERROR_RETRYABLE: Final = "callspan.error.retryable"
OUTCOME: Final = "callspan.outcome"
STREAM_END: Final = "callspan.stream.end"
FIRST_CONTENT_EVENT: Final = "llm.first_token"
ATTEMPT_EVENT: Final = "llm.attempt"
EXCEPTION_EVENT: Final = "exception"
EARLY_ENDS: Final = frozenset({"cut_off", "closed", "cancelled"})
"""Ends of a stream without its terminal event and without an error; each has a span event `callspan.stream.{end}`."""
ATTEMPT_SPAN_NAME: Final = "POST"
"""Name of an attempt's span, as HTTP client instrumentations set it: every endpoint uses POST."""
TRUNCATED_BYTES: Final = "callspan.truncated_bytes"
MIN_DURATION_NS: Final = 1_000
"""Minimum duration of a span: backends count microseconds and warn of spans without a duration."""
_NS: Final = 1e9
_VOCABULARIES: Final = {
    "llm": (llm.START, llm.END),
    "gen_ai": (gen_ai.START, gen_ai.END),
    "openinference": (openinference.START, openinference.END),
}


def output_tokens_per_second(record: CallRecord) -> float | None:
    """Return output tokens per second, from the start of the successful attempt to its last chunk.

    Without chunks, to the end of the call. None if tokens or times are unknown.
    """
    usage, timing = record.usage, record.timing
    tokens = None if usage is None else usage.output_tokens
    until_ns = timing.duration_ns if timing.last_chunk_ns is None else timing.last_chunk_ns
    if not tokens or timing.answer_ns is None or until_ns is None or until_ns <= timing.answer_ns:
        return None
    return tokens * _NS / (until_ns - timing.answer_ns)


def _answer_first_token_s(timing: Timing) -> float | None:
    first_ns, answer_ns = timing.first_token_ns, timing.answer_ns
    return None if first_ns is None or answer_ns is None else (first_ns - answer_ns) / _NS


START: Final = Table(
    Row(CALL_ID, STRING, "call_id"),
    *session_rows("place.session_id"),
    Row(STEP_INDEX, INT, "place.timestep"),
)

END: Final = Table(
    Row(OUTCOME, STRING, "outcome"),
    Row(STREAM_END, STRING, "stream.end"),
    Row("callspan.stream.chunks", INT, "stream.chunks"),
    Row("callspan.stream.largest_gap_s", DOUBLE, Seconds("timing.largest_gap_ns"), when="stream"),
    Row(
        "callspan.time_to_first_token_s", DOUBLE, Seconds("timing.first_token_ns"),
        "Seconds from the start of the call, retries included, to the first content.", when="stream",
    ),
    Row(
        "callspan.answer.time_to_first_token_s", DOUBLE, From("timing", _answer_first_token_s),
        "Seconds from the start of the attempt that got the response to the first content.", when="stream",
    ),
    Row("callspan.response.truncated", BOOLEAN, "response.truncated", if_true=True),
    Row(
        "callspan.response.refused", BOOLEAN, "response.refused", if_true=True,
    ),
    Row(
        "callspan.response.unrecognized", BOOLEAN, "response.unrecognized", if_true=True,
    ),
    Row(
        "callspan.response.unread", BOOLEAN, "response.unread", if_true=True,
    ),
    Row(
        "callspan.response.cached", STRING, "response.cached",
        "The cache that served the answer, which nobody bought: tokens and cost are absent.",
    ),
    Row(
        "callspan.response.prompt_cache.miss", STRING, "response.prompt_cache_miss",
        "Why the prompt cache did not cover the compared request, as the provider states.",
    ),
    Row("callspan.response.prompt_cache.missed_tokens", INT, "response.prompt_cache_missed_tokens"),
    Row("callspan.response.prompt_cache.reusable_tokens", INT, "response.prompt_cache_reusable_tokens"),
    Row(
        "callspan.response.unknown_finish", BOOLEAN, "response.unknown_finish", if_true=True,
    ),
    Row(
        "callspan.response.tools_unlisted", BOOLEAN, "response.tools_unlisted", if_true=True,
    ),
    Row(
        REQUEST_ID, STRING, "attempts[-1].request_id",
        "Provider's request id, of the last attempt.",
    ),
    Row(
        "callspan.answer.server_s", DOUBLE, Seconds("timing.server_ns"),
    ),
    Row(
        "callspan.output_tokens_per_second", DOUBLE, output_tokens_per_second,
        "In the attempt that got the response.",
    ),
    Row(
        ERROR_KIND, STRING, "error.kind",
        "The same for all SDKs: [the kinds](fields.md#errorinfo).",
    ),
    Row(ERROR_RETRYABLE, BOOLEAN, "error.retryable"),
    Row("callspan.error.code", STRING, "error.code"),
    Row("callspan.error.param", STRING, "error.param"),
    Row(
        "callspan.cost.usd", STRING, From("cost", lambda cost: as_number(cost.usd)),
        "The provider's own, as decimal text; computed costs are in records.",
    ),
    Row("callspan.usage.estimated", BOOLEAN, "usage.estimated", if_true=True),
    Row("callspan.usage.output_images", INT, "usage.output_images"),
    Row(
        "callspan.usage.input_audio_seconds", DOUBLE, "usage.input_audio_seconds",
    ),
    Row(
        TRUNCATED_BYTES, INT, SetByCode("computed"), "Bytes of content cut by the size limits."
    ),
    Row("callspan.request.messages", INT, "request.message_count", content=False),
    Row("callspan.request.roles", STRINGS, From("request.roles", tuple), content=False),
    Row("callspan.request.tools", STRINGS, From("request.tool_names", tuple), content=False),
    Row("callspan.request.bytes", INT, "request.body_bytes", content=False),
    Row("callspan.response.bytes", INT, "response.body_bytes", content=False),
)  # fmt: skip


_ATTEMPT: Final = (
    Row("llm.attempt.number", INT, "number"),
    text_row(ERROR_KIND, "error_kind"),
    text_row("error.type", "error_type"),
    text_row(REQUEST_ID, "request_id"),
    Row("llm.attempt.retry_after_s", DOUBLE, "retry_after_s"),
    Row("llm.attempt.wait_s", DOUBLE, "wait_s"),
    *rate_limit_rows("requests", "rate_limits.requests"),
    *rate_limit_rows("tokens", "rate_limits.tokens"),
    *rate_limit_rows("input_tokens", "rate_limits.input_tokens"),
    *rate_limit_rows("output_tokens", "rate_limits.output_tokens"),
)


def _headers_s(attempt: Attempt) -> float | None:
    return None if attempt.headers_ns is None else (attempt.headers_ns - attempt.start_ns) / _NS


ATTEMPT: Final = Table(
    *_ATTEMPT,
    Row("llm.attempt.start_s", DOUBLE, Seconds("start_ns")),
    Row("llm.status_code", INT, "status"),
    Row("llm.attempt.time_to_headers_s", DOUBLE, _headers_s),
)
"""Attributes of the span event of an attempt."""
ATTEMPT_SPAN: Final = Table(
    *_ATTEMPT,
    Row("http.request.method", STRING, Constant("POST")),
    Row("http.response.status_code", INT, "status"),
    Row("http.request.resend_count", INT, lambda attempt: attempt.number - 1, if_true=True),
)
ATTEMPT_SPAN_OF_CALL: Final = Table(
    text_row("server.address", "server_address"),
    Row("server.port", INT, "server_port"),
    Row(SESSION_ID, STRING, From("place.session_id", exported_id)),
)
"""The call's attributes on the span of an attempt."""
EXCEPTION_TYPE: Final = Table(Row("exception.type", STRING, lambda error: error.exception or error.type))
EXCEPTION: Final = Table(*EXCEPTION_TYPE.rows, Row("exception.message", STRING, "message"))


def attempt_span_attributes(record: CallRecord, attempt: Attempt) -> Attributes:
    """Return the attributes of an attempt's span."""
    return ATTEMPT_SPAN.of(attempt) | ATTEMPT_SPAN_OF_CALL.of(record)


class SpanEvent(msgspec.Struct, frozen=True):
    """One event of a span. A struct, because creating a named tuple runs Python code."""

    name: str
    attributes: Attributes | None
    time_ns: int
    """Unix time in nanoseconds."""


def call_end_ns(record: CallRecord) -> int:
    """Return the end of a call's span, Unix nanoseconds."""
    timing = record.timing
    return timing.start_ns + max(timing.duration_ns or 0, MIN_DURATION_NS)


def call_failure(record: CallRecord) -> str | None:
    """Return the description of the status `ERROR` of a call's span; None if the status is unset."""
    error = record.error
    return None if error is None or record.outcome not in (*FAILED, INTERRUPTED) else error.message or error.type


def call_events(record: CallRecord, end_ns: int, *, exception: bool = True) -> list[SpanEvent]:
    """Return the events of a call's span in order; `exception` adds the exception of a failed call.

    Events: each failed attempt, or every attempt if there were several, at the time of its response headers or failure;
    the first content of a stream; the early end of a stream; the exception.
    """
    events: list[SpanEvent] = []
    attempts, timing, stream = record.attempts, record.timing, record.stream
    if len(attempts) > 1 or (attempts and attempts[0].error_type is not None):
        events += [
            SpanEvent(ATTEMPT_EVENT, ATTEMPT.of(attempt), timing.start_ns + _known_ns(attempt)) for attempt in attempts
        ]
    if timing.first_token_ns is not None:
        events.append(SpanEvent(FIRST_CONTENT_EVENT, None, timing.start_ns + timing.first_token_ns))
    if stream is not None and stream.end in EARLY_ENDS:
        events.append(SpanEvent(f"callspan.stream.{stream.end}", None, end_ns))
    if exception and record.error is not None and record.outcome in FAILED:
        events.append(SpanEvent(EXCEPTION_EVENT, EXCEPTION.of(record.error), end_ns))
    return events


def attempt_end_ns(attempt: Attempt) -> int:
    """Return the end of an attempt's span, in nanoseconds from the start of its call."""
    offsets = (attempt.end_ns, attempt.headers_ns, attempt.start_ns)
    return max(*(offset for offset in offsets if offset is not None), attempt.start_ns + MIN_DURATION_NS)


def _known_ns(attempt: Attempt) -> int:
    """Return the offset at which the attempt's outcome was known."""
    if attempt.headers_ns is not None:
        return attempt.headers_ns
    return attempt.start_ns if attempt.end_ns is None else max(attempt.end_ns, attempt.start_ns)


def _is_named_late(record: CallRecord) -> bool:
    """Return whether the id that the call had at its start was provisional."""
    return record.api == "realtime" or (record.api == "responses" and record.is_merged)


class Projection:
    """Converts call records to attributes of the configured vocabularies. Safe from any thread."""

    __slots__ = ("_attribute_bytes", "_ends", "_is_only", "_later", "_level", "_starts")

    def __init__(self, settings: Settings) -> None:
        self._attribute_bytes = settings.max_attribute_bytes
        is_apart = settings.content == "full" and not settings.content_on_spans
        self._level: Content = "metadata" if is_apart else settings.content
        self._is_only = settings.vocabularies == ("llm",)
        tables = [_VOCABULARIES[name] for name in settings.vocabularies]
        starts, ends = tuple(start for start, _ in tables), tuple(end for _, end in tables)
        # Start attributes cost several times as much as end attributes.
        first = (gen_ai.START,) if gen_ai.START in starts else starts
        self._starts: Sequence[Table] = (START, *first)
        self._later: Sequence[Table] = [start for start in starts if start not in first]
        self._ends: Sequence[Table] = ends

    @property
    def end_tables(self) -> Sequence[Table]:
        """The tables that the first end of a call compiles, unless that was done before."""
        return (*self._later, *self._ends, END)

    def shown(self, record: CallRecord) -> CallRecord:
        """Return what spans may show of a record, which may have more content: its errors and parameters are some."""
        level = self._level
        if level == "full" or strictest(level, record.content_level) == record.content_level:
            return record
        request, response = msgspec.structs.replace(record.request, body=NO_BODY), record.response
        if response is not None:
            response = msgspec.structs.replace(response, body=NO_BODY)
        bare = msgspec.structs.replace(record, request=request, response=response)
        bare = cast("CallRecord", without_content(bare, keep_outline=level == "metadata"))
        return msgspec.structs.replace(bare, redactions=record.redactions)

    def start(self, record: CallRecord, *, is_read: bool = False) -> Attributes:
        """Return the attributes that are known before the call is sent, for samplers.

        `is_read`: whether a sampler reads them, and so needs the attributes of every vocabulary; else one vocabulary
        suffices, and `end` returns the others.
        """
        attributes: Attributes = {}
        for table in (*self._starts, *self._later) if is_read else self._starts:
            table.put(attributes, record, NO_CONTENT)
        return attributes

    def end(self, record: CallRecord, conversation: Conversation | None) -> Attributes:
        """Return all other attributes; content only if `conversation` is given.

        The span's byte limit applies to all content together; earlier attributes are served first.
        """
        budget = ByteBudget(min(self._attribute_bytes, MAX_SPAN_BYTES), MAX_SPAN_BYTES)
        content = SpanContent(budget, is_only=self._is_only)
        if conversation is not None:
            content.conversation, content.has_content = conversation, True
        attributes: Attributes = {}
        # First, because end attributes may replace these.
        for table in (*self._starts, *self._later) if _is_named_late(record) else self._later:
            table.put(attributes, record, NO_CONTENT)
        for table in self._ends:
            table.put(attributes, record, content)
        END.put(attributes, record, content)
        if budget.cut:
            attributes[TRUNCATED_BYTES] = budget.cut
        return attributes
