"""Span events of a call: names and attributes of attempts, the first token, and the exception."""

from __future__ import annotations

from typing import Final

from callspan.record.call import Attempt, ErrorInfo, RateLimits
from callspan.vocabulary.values import Attributes

FIRST_CONTENT: Final = "llm.first_token"
ATTEMPT: Final = "llm.attempt"
EXCEPTION: Final = "exception"

_NUMBER: Final = "llm.attempt.number"
_STATUS: Final = "llm.status_code"
_ERROR_KIND: Final = "callspan.error.kind"
_ERROR_TYPE: Final = "error.type"
_REQUEST_ID: Final = "callspan.request_id"
_RETRY_AFTER: Final = "llm.attempt.retry_after_s"
_WAIT: Final = "llm.attempt.wait_s"
_EXCEPTION_TYPE: Final = "exception.type"
_EXCEPTION_MESSAGE: Final = "exception.message"


def attempt(record: Attempt) -> Attributes:
    """Return the attributes of an `llm.attempt` event. Waits are seconds."""
    attributes: Attributes = {_NUMBER: record.number}
    for name, value in (
        (_STATUS, record.status),
        (_ERROR_KIND, record.error_kind),
        (_ERROR_TYPE, record.error_type),
        (_REQUEST_ID, record.request_id),
        (_RETRY_AFTER, record.retry_after_s),
        (_WAIT, record.planned_wait_s),
    ):
        if value is not None:
            attributes[name] = value
    attributes.update(_limits(record.rate_limits))
    return attributes


def exception(error: ErrorInfo) -> Attributes:
    """Return the attributes of the conventions' `exception` event."""
    attributes: Attributes = {_EXCEPTION_TYPE: error.exception or error.type}
    if error.message:
        attributes[_EXCEPTION_MESSAGE] = error.message
    return attributes


def _limits(limits: RateLimits | None) -> Attributes:
    attributes: Attributes = {}
    for what, limit in (("requests", limits and limits.requests), ("tokens", limits and limits.tokens)):
        if limit:
            for field, value in (("limit", limit.limit), ("remaining", limit.remaining), ("reset", limit.reset_s)):
                if value is not None:
                    attributes[f"llm.rate_limiting.{what}.{field}"] = value
    return attributes
