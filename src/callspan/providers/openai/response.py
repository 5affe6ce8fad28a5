"""Response bodies of OpenAI's endpoints: finish reasons, times, errors, and bodies that come in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.providers.copies import detached
from callspan.providers.errors import error_info
from callspan.providers.json_readers import integer, items
from callspan.record.call import ErrorInfo
from callspan.record.finish import normalised

_HTTP_ERRORS: Final = range(400, 600)
_TIMES: Final = range(1, 2**63)


class SingleBody:
    """The accumulator of endpoints that have no streams: keeps the one body there is."""

    __slots__ = ("_body", "_holds", "complete")

    def __init__(self, holds: str) -> None:
        """`holds` is the key without which a body is no response."""
        self.complete = False
        self._holds = holds
        self._body: dict[str, object] | None = None

    def add(self, chunk: object) -> bool:
        """Take a body; the last one wins. True if it is a response."""
        if not isinstance(chunk, dict):
            return False
        self._body = detached(chunk)
        self.complete = self._holds in chunk
        return self.complete

    def body(self) -> dict[str, object] | None:
        """Return the body; None if none came."""
        return self._body


def finish_reason(value: object) -> str | None:
    """Return a finish reason as the provider names it; None for an empty or missing one."""
    return value if isinstance(value, str) and value else None


def unix_time(body: object, *keys: str) -> int | None:
    """Return the Unix time in whole seconds that stands under the first of `keys`; gateways put 0 for none."""
    for key in keys:
        if found := integer(body, key):
            return found if found in _TIMES else None
    return None


def finish_meanings(reasons: Sequence[str | None]) -> set[str]:
    """Return what these finish reasons mean, by our names."""
    return {normalised(reason) for reason in reasons if reason is not None}


def response_error(body: object) -> ErrorInfo | None:
    """Return the error in a response: at its top, as itself (`"object": "error"`), or in a choice."""
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
