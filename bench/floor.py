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
    """One span of callspan's: its attributes as known at the start, and what came later."""

    name: str
    kind: SpanKind
    start: dict[str, Any]
    later: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]


class Notes(SpanProcessor):
    """Writes down the spans of one run in the order they started."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []
        self._open: dict[int, Recorded] = {}

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Note what was there at the start."""
        del parent_context
        noted = Recorded(span.name, span.kind, dict(span.attributes or {}), {}, [])
        self.spans.append(noted)
        self._open[span.get_span_context().span_id] = noted

    def on_end(self, span: ReadableSpan) -> None:
        """Note the rest."""
        context = span.get_span_context()
        noted = self._open.pop(context.span_id if context else 0)
        noted.later = {name: value for name, value in (span.attributes or {}).items() if name not in noted.start}
        noted.events = [(event.name, dict(event.attributes or {})) for event in span.events]


def call_floor(spans: Sequence[Recorded], provider: TracerProvider, is_async: bool) -> Callable[..., Any]:
    """Return a wrapper that puts one raw span around one call (of the growing conversation: around each run)."""
    tracer = provider.get_tracer("floor")

    def wrap(work: Callable[[], Any]) -> Callable[[], Any]:
        def once() -> None:
            opened = [_begin(tracer, span) for span in spans[1:]]
            span, token = _begin(tracer, spans[0])
            work()
            _end(span, token, spans[0])
            for noted, (other, other_token) in zip(spans[1:][::-1], opened[::-1], strict=True):
                _end(other, other_token, noted)

        async def once_async() -> None:
            span, token = _begin(tracer, spans[0])
            await work()
            _end(span, token, spans[0])

        return once_async if is_async else once

    return wrap


def agent_floor(spans: Sequence[Recorded], provider: TracerProvider) -> Callable[..., Any]:
    """Return a wrapper that replaces an agent's run by raw spans: the session's around one for each timestep."""
    tracer = provider.get_tracer("floor")

    def wrap(work: Callable[[], Any]) -> Callable[[], Any]:
        del work

        def once() -> None:
            session, outer = _begin(tracer, spans[0])
            for noted in spans[1:]:
                step, token = _begin(tracer, noted)
                for name, attributes in noted.events:
                    step.add_event(name, attributes)
                _end(step, token, noted, events=False)
            _end(session, outer, spans[0])

        return once

    return wrap


def _begin(tracer: trace.Tracer, noted: Recorded) -> tuple[trace.Span, Any]:
    span = tracer.start_span(noted.name, kind=noted.kind, attributes=noted.start)
    return span, otel_context.attach(trace.set_span_in_context(span))


def _end(span: trace.Span, token: Any, noted: Recorded, *, events: bool = True) -> None:
    otel_context.detach(token)
    if span.is_recording():
        if events:
            for name, attributes in noted.events:
                span.add_event(name, attributes)
        span.set_attributes(noted.later)
    span.end()
