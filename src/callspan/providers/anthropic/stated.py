"""What a message states besides its content: identity, why it ended, usage, errors."""

from __future__ import annotations

from typing import Final

from callspan.providers.base import ResponseFacts
from callspan.providers.copies import detached_object
from callspan.providers.errors import error_info
from callspan.providers.wire import integer, mapping, text
from callspan.record.call import ErrorInfo, Response
from callspan.record.usage import Usage

_TRUNCATED: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
_MESSAGE_FIELDS: Final = ("content", "stop_reason")


def facts(body: object) -> ResponseFacts:
    """Return what a whole or folded answer states. Any JSON is read; what is no message states nothing."""
    reason = text(body, "stop_reason") or None
    return ResponseFacts(
        response=Response(
            id=text(body, "id") or None,
            model=text(body, "model") or None,
            finish_reasons=[reason] if _is_message(body) else [],
            service_tier=text(body, "usage", "service_tier"),
        ),
        usage=usage(mapping(body, "usage")),
        error=_error(body),
        truncated=reason in _TRUNCATED,
        refused=reason == "refusal",
    )


def usage(counted: dict[str, object] | None) -> Usage | None:
    """Return a `usage` object in our terms, or None if there is none.

    `input_tokens` there leaves out what was read from and written to the cache; ours includes it.
    """
    if not counted:
        return None
    read, write = integer(counted, "cache_read_input_tokens"), _cache_write(counted)
    fresh, output = integer(counted, "input_tokens"), integer(counted, "output_tokens")
    total_input = None if fresh is None else fresh + (read or 0) + (write or 0)
    return Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None or output is None else total_input + output,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_5m_tokens=integer(counted, "cache_creation", "ephemeral_5m_input_tokens"),
        cache_write_1h_tokens=integer(counted, "cache_creation", "ephemeral_1h_input_tokens"),
        reasoning_tokens=integer(counted, "output_tokens_details", "thinking_tokens"),
        web_search_requests=integer(counted, "server_tool_use", "web_search_requests"),
        web_fetch_requests=integer(counted, "server_tool_use", "web_fetch_requests"),
        raw=detached_object(counted),
    )


def _cache_write(counted: dict[str, object]) -> int | None:
    """Written to the cache: the total, else the sum of its parts by lifetime as far as stated."""
    total = integer(counted, "cache_creation_input_tokens")
    if total is not None:
        return total
    parts = [integer(counted, "cache_creation", f"ephemeral_{life}_input_tokens") for life in ("5m", "1h")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _is_message(body: object) -> bool:
    return isinstance(body, dict) and any(field in body for field in _MESSAGE_FIELDS)


def _error(body: object) -> ErrorInfo | None:
    """The error a body is, or holds beside the part of a message that came before it. `null` is none."""
    stated = body.get("error") if isinstance(body, dict) else None
    if not stated and text(body, "type") != "error":
        return None
    whole = {"type": "error", "error": stated, "request_id": text(body, "request_id")}
    return error_info(status=None, body=whole if stated else body, exception=None, message=None, request_id=None)
