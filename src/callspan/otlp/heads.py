"""Heads: what this process does for stores that take spans: the head of its segments, and the tracers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from callspan.otlp.encoding import encode_resource, encode_scope, encode_span
from callspan.otlp.limits import limits_of
from callspan.otlp.providers import resource_of
from callspan.record.span_frames import SegmentHead, SpanFrame, settings_of_spans
from callspan.semconv import gen_ai
from callspan.semconv.call import SESSION_ID
from callspan.semconv.spans import Span
from callspan.settings import Settings
from callspan.spans.call import Tracers
from callspan.spans.contexts import ContextTracer

_SCOPE: Final = "callspan"


class Head:
    """Makes the head of segments, once: when the first record is written, the application has its providers."""

    def __init__(self, settings: Settings, provider: trace.TracerProvider | None, version: str) -> None:
        """`provider` is the one whose resource the spans have; None: the global one then."""
        self._settings, self._provider, self._version = settings, provider, version
        self._made: SegmentHead | None = None

    def __call__(self) -> SegmentHead:
        """Return the head. Safe from any thread."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> SegmentHead:
        provider = self._provider or trace.get_tracer_provider()
        given = getattr(provider, "resource", None)
        resource = given if isinstance(given, Resource) else resource_of(self._settings.service)
        return SegmentHead(
            resource=encode_resource(dict(resource.attributes)),  # type: ignore[arg-type] # the same values
            resource_schema=resource.schema_url,
            scope=encode_scope(_SCOPE, self._version),
            scope_schema=gen_ai.SCHEMA_URL,
            limits=limits_of(provider),
            settings=settings_of_spans(self._settings),
        )


def tracers_of(provider: trace.TracerProvider | None, write: Callable[[SpanFrame], object]) -> Tracers:
    """Return the tracers of spans that a store takes; `write` keeps those that are finished here."""

    def ended(span: Span) -> None:
        session = span.attributes.get(SESSION_ID)
        session_id = None if session is None else str(session)
        limits = limits_of(provider or trace.get_tracer_provider())
        write(SpanFrame(trace_id=span.trace_id, session_id=session_id, span=encode_span(span, limits)))

    calls = ContextTracer(provider)
    return Tracers(calls, ContextTracer(provider, ended), lambda: calls.reads_attributes)
