"""What an answer states about its own failure or refusal, in any of OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.providers.errors import error_info
from callspan.providers.wire import dig, integer, mapping, objects, text
from callspan.record.call import ErrorInfo
from callspan.record.finish import normalised

_HTTP_ERRORS: Final = range(400, 600)
_TIMES: Final = range(1, 2**63)


def finish_reason(value: object) -> str | None:
    """Return a finish reason in the provider's word; None for an empty or missing one."""
    return value if isinstance(value, str) and value else None


def moment(body: object, *keys: str) -> int | None:
    """Return the Unix time in whole seconds that stands under the first of `keys`; gateways put 0 for none."""
    found = next((seconds for key in keys if (seconds := integer(body, key))), None)
    return found if found is not None and found in _TIMES else None


def means(reasons: Sequence[str | None], meaning: str) -> bool:
    """Tell whether any of these finish reasons has this normalised meaning."""
    return any(reason is not None and normalised(reason) == meaning for reason in reasons)


def stated_error(body: object) -> ErrorInfo | None:
    """Return the error an answer states: at its top, as itself (`"object": "error"`), or in a choice."""
    # Google's compatible endpoint wraps its errors in a list.
    if isinstance(body, list):
        body = next(iter(body), body)
    found = dig(body, "error")
    if not found and text(body, "object") == "error":
        found = mapping(body)
    if not found:
        found = next((choice["error"] for choice in objects(body, "choices") if choice.get("error")), None)
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
