"""Foreign spans: what a span of another instrumentation in this process states."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan

from callspan.semconv.records_from_spans import READ_EVENTS, ForeignSpan


def foreign_span(span: ReadableSpan) -> ForeignSpan:
    """Return what a span states, also while it is open. Raises ValueError for one without ids or a start."""
    scope, context, start_ns = span.instrumentation_scope, span.get_span_context(), span.start_time
    if context is None or start_ns is None:
        raise ValueError("a span without ids or a start")
    return ForeignSpan(
        attributes=dict(span.attributes or {}),
        name=span.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{span.parent.span_id:016x}" if span.parent is not None else None,
        start_ns=start_ns,
        end_ns=span.end_time,
        failed=not span.status.is_ok and not span.status.is_unset,
        status_message=span.status.description,
        events=_events(span),
        scope=scope.name if scope is not None else None,
        service=service_in(span),
    )


def service_in(holder: object) -> str | None:
    """Return the service that the resource of a span or provider names; None for none, and OpenTelemetry's default."""
    attributes = getattr(getattr(holder, "resource", None), "attributes", {})
    name = attributes.get("service.name")
    return name if isinstance(name, str) and name and not name.startswith("unknown_service") else None


def _events(span: ReadableSpan) -> Mapping[str, Mapping[str, object]]:
    attributes: dict[str, Mapping[str, object]] = {}
    for event in span.events:
        if event.name in READ_EVENTS:
            attributes[event.name] = {**attributes.get(event.name, {}), **(event.attributes or {})}
    return attributes
