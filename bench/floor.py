"""The floor: the spans of callspan for a piece of work, created directly with the same attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind


@dataclass
class Recorded:
    """One span of callspan: its attributes at the start, and later ones."""

    name: str
    kind: SpanKind
    start: dict[str, Any]
    later: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


class Notes(SpanProcessor):
    """Records the spans of one run in the order of their start."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []
        self._open: dict[int, Recorded] = {}
        self._stopped = False

    def stop(self) -> None:
        """Record no further spans: a processor cannot be removed."""
        self._stopped = True

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Record the attributes at the start."""
        del parent_context
        if self._stopped:
            return
        noted = Recorded(span.name, span.kind, dict(span.attributes or {}), {}, [])
        self.spans.append(noted)
        self._open[span.get_span_context().span_id] = noted

    def on_end(self, span: ReadableSpan) -> None:
        """Record the rest."""
        context = span.get_span_context()
        noted = self._open.pop(context.span_id if context else 0, None)
        if noted is None:
            return
        noted.later = {name: value for name, value in (span.attributes or {}).items() if name not in noted.start}
        noted.events = [(event.name, dict(event.attributes or {})) for event in span.events]


def floor(spans: Sequence[Recorded], provider: TracerProvider, *, agent: bool, is_async: bool) -> Callable[..., Any]:
    """Return a wrapper that creates the spans around one run: the first around all others and around a call's work.

    A run of an agent only creates spans.
    """
    tracer = provider.get_tracer("floor")

    def wrap(work: Callable[[], Any]) -> Callable[[], Any]:
        def once() -> None:
            outer = _begin(tracer, spans[0])
            for noted in spans[1:]:
                _end(*_begin(tracer, noted), noted)
            if not agent:
                work()
            _end(*outer, spans[0])

        async def once_async() -> None:
            outer = _begin(tracer, spans[0])
            await work()
            _end(*outer, spans[0])

        return once_async if is_async else once

    return wrap


def _begin(tracer: trace.Tracer, noted: Recorded) -> tuple[trace.Span, Any]:
    span = tracer.start_span(noted.name, kind=noted.kind, attributes=noted.start)
    return span, otel_context.attach(trace.set_span_in_context(span))


def _end(span: trace.Span, token: Any, noted: Recorded) -> None:
    otel_context.detach(token)
    if span.is_recording():
        for name, attributes in noted.events:
            span.add_event(name, attributes)
        span.set_attributes(noted.later)
    span.end()
