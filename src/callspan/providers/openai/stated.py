"""What an answer states about its own failure or refusal, in any of OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.providers.errors import error_info
from callspan.providers.wire import integer, items
from callspan.record.call import ErrorInfo
from callspan.record.finish import normalised

_HTTP_ERRORS: Final = range(400, 600)
_TIMES: Final = range(1, 2**63)


def finish_reason(value: object) -> str | None:
    """Return a finish reason in the provider's word; None for an empty or missing one."""
    return value if isinstance(value, str) and value else None


def moment(body: object, *keys: str) -> int | None:
    """Return the Unix time in whole seconds that stands under the first of `keys`; gateways put 0 for none."""
    for key in keys:
        if found := integer(body, key):
            return found if found in _TIMES else None
    return None


def meanings(reasons: Sequence[str | None]) -> set[str]:
    """Return what these finish reasons mean, in our words."""
    return {normalised(reason) for reason in reasons if reason is not None}


def stated_error(body: object) -> ErrorInfo | None:
    """Return the error an answer states: at its top, as itself (`"object": "error"`), or in a choice."""
    # Google's compatible endpoint wraps its errors in a list.
    if isinstance(body, list):
        body = next(iter(body), body)
    if not isinstance(body, dict):
        return None
    found = body.get("error") or (body if body.get("object") == "error" else None)
    if not found:
        for choice in items(body, "choices"):
            if isinstance(choice, dict) and (found := choice.get("error")):
                break
    return error_of(found) if found else None


def error_of(error: object) -> ErrorInfo:
    """Return the description of one error object or text."""
    return error_info(status=_status(error), body=error, exception=None, message=None, request_id=None)


def _status(error: object) -> int | None:
    """Gateways put the HTTP status they would have sent into the error they stream."""
    for key in ("status_code", "status", "code"):
        found = integer(error, key)
        if found in _HTTP_ERRORS:
            return found
    return None
