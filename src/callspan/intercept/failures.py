"""Failures: what an exception of the SDKs, the HTTP library or the event loop says, by its attributes."""

from __future__ import annotations

from functools import partial
from typing import Final

from callspan.fail_open import value_of
from callspan.providers.errors import error_info
from callspan.record.call import ErrorInfo, Outcome

_FIRST_ERROR_STATUS: Final = 400
_SAID: Final = ("status_code", "request_id", "body")


def error_of(error: BaseException) -> ErrorInfo:
    """Return what the exception says. Never raises, whatever its `__str__` and its properties do."""
    status, request_id, body = (value_of(partial(getattr, error, name, None)) for name in _SAID)
    # A mid-stream error of the anthropic SDK carries the status of the stream's start: 200.
    status = status if isinstance(status, int) and status >= _FIRST_ERROR_STATUS else None
    return error_info(
        status=status,
        body=body,
        exception=_qualified(type(error)),
        message=value_of(error.__str__),
        request_id=request_id if isinstance(request_id, str) else None,
    )


def outcome_of(error: BaseException, info: ErrorInfo) -> Outcome:
    """Return how a call ends that ends with this exception."""
    if not isinstance(error, Exception):
        return "cancelled"
    return "timeout" if info.kind == "timeout" else "error"


def _qualified(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
