"""Native tracing: the anthropic SDK (1.14 and later) opens a span per call itself; ours takes its place.

Its span is made in `request` when `options.span_name` is set, so clearing that name keeps it from being
made, per call, for any client at any time. Other spans of the SDK (tool runner, count_tokens) stay.
"""

from __future__ import annotations

from typing import Any


def replace(options: Any) -> None:  # noqa: ANN401 - FinalRequestOptions of either SDK
    """Keep the SDK from opening its own span for this call. Does nothing where the SDK has none."""
    if _is_named(options):
        options.span_name = None


def injects(client: Any, options: Any) -> bool:  # noqa: ANN401
    """True where the SDK's own tracing would send `traceparent` for this call, so that we must instead."""
    if not _is_named(options) or getattr(client, "_tracer", None) is None:
        return False
    settings = getattr(client, "_open_telemetry", None)
    return bool(settings.get("propagation", False)) if isinstance(settings, dict) else False


def _is_named(options: object) -> bool:
    # A pydantic model that is asked for a field it lacks raises, with a message that costs more than a span.
    return getattr(options, "__dict__", {}).get("span_name") is not None
