"""OTLP: a tracer provider for applications that have none, and an exporter whose batches are bounded by bytes."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from callspan.config import SettingError
from callspan.stores.opening import safe_name
from callspan.wiring.byte_bounds import MAX_BATCH_BYTES, export_parts


class ByteBoundedExporter(SpanExporter):
    """Hands spans on in batches of at most `max_bytes` (estimated), a larger single span alone."""

    def __init__(self, exporter: SpanExporter, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self._exporter = exporter
        self._max_bytes = max_bytes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export all parts; FAILURE if any of them failed."""
        if not spans:
            return SpanExportResult.SUCCESS
        result: SpanExportResult = export_parts(self._exporter.export, spans, self._max_bytes)
        return result

    def shutdown(self) -> None:
        """Shut the exporter behind down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter behind."""
        return self._exporter.force_flush(timeout_millis)


def check_otlp(otlp: object) -> None:
    """Raise SettingError unless `otlp` is True, False, None or the address of a receiver."""
    if otlp is None or isinstance(otlp, bool):
        return
    address = urlsplit(otlp) if isinstance(otlp, str) else None
    if address is None or address.scheme not in ("http", "https") or not address.netloc:
        given = safe_name(otlp) if isinstance(otlp, str) else type(otlp).__name__
        raise SettingError(
            f"otlp: {given!r} is no address; give that of an OTLP/HTTP receiver, such as http://localhost:4318, "
            "or True for the OTEL_EXPORTER_OTLP_* variables"
        )


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
