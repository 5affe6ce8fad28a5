"""OTLP: a tracer provider for applications that have none, with batches bounded by bytes.

The SDK bounds batches by their number of spans; with prompts on them a batch can pass what a receiver
takes, which then refuses all of it. Where OpenTelemetry's auto-instrumentation has made the exporter, nobody can
put a bound around it; there its class gets one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Final, TypeAlias

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from callspan.fail_open import fail_open

_MAX_BATCH_BYTES: Final = 3 << 20
_SPAN_OVERHEAD_BYTES: Final = 512
_EXPORTERS: Final = tuple(
    f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter" for protocol in ("http", "grpc")
)
_BOUND: Final = fail_open("bound the batches of the OTLP exporter")
_Export: TypeAlias = Callable[..., SpanExportResult]
_bounded: Final[dict[type, tuple[_Export, _Export]]] = {}
"""What each class exported by before, and exports by now."""


class ByteBoundedExporter(SpanExporter):
    """Hands spans on in batches of at most `max_bytes` (estimated), a larger single span alone."""

    def __init__(self, exporter: SpanExporter, max_bytes: int = _MAX_BATCH_BYTES) -> None:
        self._exporter = exporter
        self._max_bytes = max_bytes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export all parts; FAILURE if any of them failed."""
        return _export_parts(self._exporter.export, spans, self._max_bytes)

    def shutdown(self) -> None:
        """Shut the exporter behind down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter behind."""
        return self._exporter.force_flush(timeout_millis)


def otlp_provider(otlp: str | bool) -> TracerProvider:
    """Return a tracer provider that sends to an OTLP/HTTP endpoint.

    `otlp` is the receiver's base URL, or True for the `OTEL_EXPORTER_OTLP_*` variables. Raises ImportError,
    saying what to install, where the exporter is missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ImportError('otlp= needs the OTLP exporter: pip install "callspan[otlp]"') from error
    endpoint = None if otlp is True else f"{str(otlp).rstrip('/')}/v1/traces"
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ByteBoundedExporter(OTLPSpanExporter(endpoint=endpoint))))
    return provider


def bound_exporters() -> None:
    """Bound the batches of every OTLP exporter whose class is imported, until `unbound_exporters`. Never raises."""
    with _BOUND:
        for module in _EXPORTERS:
            exporter = getattr(sys.modules.get(module), "OTLPSpanExporter", None)
            original = None if exporter is None else vars(exporter).get("export")
            if exporter is not None and original is not None and exporter not in _bounded:
                replacement = _in_parts(original)
                exporter.export = replacement
                _bounded[exporter] = original, replacement


def unbound_exporters() -> None:
    """Restore what `bound_exporters` has replaced; what somebody else has wrapped since stays as it is."""
    while _bounded:
        exporter, (original, replacement) = _bounded.popitem()
        if vars(exporter).get("export") is replacement:
            exporter.export = original  # type: ignore[attr-defined] # a class of theirs


def _in_parts(original: _Export) -> _Export:
    @wraps(original)
    def export(self: Any, spans: Sequence[ReadableSpan], *rest: Any, **named: Any) -> SpanExportResult:  # noqa: ANN401
        def one(part: Sequence[ReadableSpan]) -> SpanExportResult:
            return original(self, part, *rest, **named)

        return _export_parts(one, spans, _MAX_BATCH_BYTES)

    return export


def _export_parts(export: _Export, spans: Sequence[ReadableSpan], max_bytes: int) -> SpanExportResult:
    results = [export(part) for part in _parts(spans, max_bytes)]
    return SpanExportResult.FAILURE if SpanExportResult.FAILURE in results else SpanExportResult.SUCCESS


def _parts(spans: Sequence[ReadableSpan], max_bytes: int) -> Iterator[list[ReadableSpan]]:
    part: list[ReadableSpan] = []
    size = 0
    for span in spans:
        weight = _weight(span)
        if part and size + weight > max_bytes:
            yield part
            part, size = [], 0
        part.append(span)
        size += weight
    if part:
        yield part


def _weight(span: ReadableSpan) -> int:
    values = list((span.attributes or {}).values())
    for event in span.events:
        values.extend((event.attributes or {}).values())
    return _SPAN_OVERHEAD_BYTES * (1 + len(span.events)) + sum(
        len(value.encode("utf-8", "replace")) if isinstance(value, str) else 16 * (1 + len(str(value)))
        for value in values
    )
