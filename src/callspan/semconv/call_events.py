"""What hangs on the span of a call: the names and attributes of its events and of the spans of its attempts."""

from __future__ import annotations

from typing import Final

from callspan.record.call import Attempt, CallRecord, ErrorInfo, RateLimits
from callspan.semconv.budgets import Attributes
from callspan.semconv.call import ERROR_KIND, REQUEST_ID, SESSION_ID

FIRST_CONTENT: Final = "llm.first_token"
ATTEMPT: Final = "llm.attempt"
EXCEPTION: Final = "exception"
ATTEMPT_SPAN: Final = "POST"
"""Name of an attempt's span, as HTTP clients name theirs: every endpoint is posted to."""

_NUMBER: Final = "llm.attempt.number"
_START: Final = "llm.attempt.start_s"
_HEADERS: Final = "llm.attempt.time_to_headers_s"
_STATUS: Final = "llm.status_code"
_ERROR_TYPE: Final = "error.type"
_RETRY_AFTER: Final = "llm.attempt.retry_after_s"
_PLANNED_WAIT: Final = "llm.attempt.planned_wait_s"
_WAIT: Final = "llm.attempt.wait_s"
_EXCEPTION_TYPE: Final = "exception.type"
_EXCEPTION_MESSAGE: Final = "exception.message"
_METHOD: Final = "http.request.method"
_HTTP_STATUS: Final = "http.response.status_code"
_RESEND_COUNT: Final = "http.request.resend_count"
_ADDRESS: Final = "server.address"
_PORT: Final = "server.port"
_NS: Final = 1e9


def attempt(record: Attempt) -> Attributes:
    """Return the attributes of an `llm.attempt` event.

    Times are seconds: the start counts from the start of the call, the time to headers from that of the attempt.
    """
    headers_ns = record.headers_ns
    attributes = _about(record)
    attributes[_START] = record.start_ns / _NS
    for name, value in (
        (_STATUS, record.status),
        (_HEADERS, None if headers_ns is None else (headers_ns - record.start_ns) / _NS),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def attempt_span(record: CallRecord, of: Attempt) -> Attributes:
    """Return the attributes of an attempt's own span: those of an HTTP client's, and what its event would say."""
    attributes = _about(of)
    attributes[_METHOD] = "POST"
    for name, value in (
        (_HTTP_STATUS, of.status),
        (_RESEND_COUNT, (of.number - 1) or None),
        (_ADDRESS, record.server_address),
        (_PORT, record.server_port),
        (SESSION_ID, record.place.session_id),
    ):
        if value is not None:
            attributes[name] = value
    return attributes


def exception(error: ErrorInfo) -> Attributes:
    """Return the attributes of the conventions' `exception` event."""
    attributes: Attributes = {_EXCEPTION_TYPE: error.exception or error.type}
    if error.message:
        attributes[_EXCEPTION_MESSAGE] = error.message
    return attributes


def _about(record: Attempt) -> Attributes:
    attributes: Attributes = {_NUMBER: record.number}
    for name, value in (
        (ERROR_KIND, record.error_kind),
        (_ERROR_TYPE, record.error_type),
        (REQUEST_ID, record.request_id),
        (_RETRY_AFTER, record.retry_after_s),
        (_PLANNED_WAIT, record.planned_wait_s),
        (_WAIT, record.wait_s),
    ):
        if value is not None:
            attributes[name] = value
    attributes.update(_limits(record.rate_limits))
    return attributes


def _limits(limits: RateLimits | None) -> Attributes:
    attributes: Attributes = {}
    if limits is None:
        return attributes
    for what in ("requests", "tokens", "input_tokens", "output_tokens"):
        limit = getattr(limits, what)
        if limit is not None:
            for field, value in (("limit", limit.limit), ("remaining", limit.remaining), ("reset", limit.reset_s)):
                if value is not None:
                    attributes[f"llm.rate_limiting.{what}.{field}"] = value
    return attributes
