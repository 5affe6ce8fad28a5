"""Byte bounds: limits the size of batches of spans and log records in bytes.

OpenTelemetry limits batches by number of items. With prompts a batch can exceed the size limit of a receiver, which
then rejects all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MAX_BATCH_BYTES: Final = 3 << 20
"""Less than the 4 MiB limit of gRPC receivers, because sizes are estimated."""

_OVERHEAD_BYTES: Final = 512
_T = TypeVar("_T")


class ByteBoundedExporter(SpanExporter):
    """Span exporter that passes spans on in batches of at most `max_bytes` (estimated); a larger span is sent alone.

    For receivers that reject large requests.

    Example:
        >>> from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        >>> processor = BatchSpanProcessor(callspan.ByteBoundedExporter(ConsoleSpanExporter(), max_bytes=1_000_000))
        >>> processor.shutdown()
    """

    def __init__(self, exporter: SpanExporter, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self._exporter = exporter
        self._max_bytes = max_bytes
        self._is_accepted = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export all parts; FAILURE if any of them failed."""
        self._is_accepted = False  # the exporter may raise
        results = [self._exporter.export(part) for part in parts_of(spans, self._max_bytes)]
        failures = (part_result for part_result in results if part_result.name != SpanExportResult.SUCCESS.name)
        result = next(failures, SpanExportResult.SUCCESS)
        self._is_accepted = result is SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        """Shut down the wrapped exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the wrapped exporter; return False also if it did not accept all of the last batch."""
        return self._exporter.force_flush(timeout_millis) and self._is_accepted


def parts_of(batch: Iterable[_T], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[list[_T]]:
    """Yield parts of a batch in order, each of at most `max_bytes` (estimated). A larger item is a separate part."""
    part: list[_T] = []
    size = 0
    for item in batch:
        item_bytes = _bytes_of(item)
        if part and size + item_bytes > max_bytes:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_bytes
    if part:
        yield part


def _bytes_of(item: Any) -> int:
    record = getattr(item, "log_record", item)
    parts = [f"{record.attributes}{getattr(record, 'body', '')}"]
    parts += (str(event.attributes) for event in getattr(record, "events", ()))
    return sum(_OVERHEAD_BYTES + len(part.encode("utf-8", "replace")) for part in parts)
