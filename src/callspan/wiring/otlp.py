"""OTLP: a tracer provider for applications that have none, with batches bounded by bytes.

The SDK bounds batches by their number of spans; with prompts on them a batch can pass what a receiver
takes, which then refuses all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_MAX_BATCH_BYTES: Final = 3 << 20
_SPAN_OVERHEAD_BYTES: Final = 512


class ByteBoundedExporter(SpanExporter):
    """Hands spans on in batches of at most `max_bytes` (estimated), a larger single span alone."""

    def __init__(self, exporter: SpanExporter, max_bytes: int = _MAX_BATCH_BYTES) -> None:
        self._exporter = exporter
        self._max_bytes = max_bytes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export all parts; FAILURE if any of them failed."""
        results = [self._exporter.export(part) for part in _parts(spans, self._max_bytes)]
        failed = SpanExportResult.FAILURE in results
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

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
