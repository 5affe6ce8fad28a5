"""Unit tests of batches bounded by bytes, and of providers without an exporter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from callspan import ByteBoundedExporter
from callspan.otlp.providers import OtlpProviders


class Batches(SpanExporter):
    """An exporter that keeps the names of each batch."""

    def __init__(self, *results: SpanExportResult) -> None:
        self._results = list(results)
        self.batches: list[list[str]] = []
        self.calls: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append([span.name for span in spans])
        return self._results.pop(0) if self._results else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.calls.append(f"flush {timeout_millis}")
        return False


def span(name: str, size: int = 0, events: int = 0) -> ReadableSpan:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    made_one: Any = tracer.start_span(name, attributes={"text": "x" * size} if size else {})
    for _ in range(events):
        made_one.add_event("e", {"n": [1, 2, 3]})
    made_one.end()
    return made_one


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([], []),
        ([0], ["0"]),
        ([0, 0, 0], ["012"]),
        ([400, 400, 400], ["01", "2"]),
        ([5000], ["0"]),
        ([0, 5000, 0], ["0", "1", "2"]),
        ([5000, 5000], ["0", "1"]),
        ([1488, 0], ["0", "1"]),
    ],
)
def test_batches_are_bounded_and_keep_their_order(sizes: list[int], batches: list[str]) -> None:
    behind = Batches()
    bounded = ByteBoundedExporter(behind, 2000)
    assert bounded.export([span(str(at), size) for at, size in enumerate(sizes)]) is SpanExportResult.SUCCESS
    assert ["".join(batch) for batch in behind.batches] == batches


def test_span_events_count_in_the_size_of_a_batch() -> None:
    behind = Batches()
    ByteBoundedExporter(behind, 2000).export([span("a", events=3), span("b")])
    assert behind.batches == [["a"], ["b"]]


def test_text_counts_by_its_bytes_even_if_it_cannot_be_encoded() -> None:
    spans = [
        SimpleNamespace(name="a", attributes={"text": "é" * 900}, events=[]),
        SimpleNamespace(name="b", attributes={"text": "\ud83d"}, events=[]),
        SimpleNamespace(name="c", attributes=None, events=[]),
    ]
    behind = Batches()
    many: Any = spans
    ByteBoundedExporter(behind, 2400).export(many)
    assert behind.batches == [["a"], ["b", "c"]]


def test_one_failed_part_fails_the_whole_and_stops_no_other() -> None:
    behind = Batches(SpanExportResult.FAILURE, SpanExportResult.SUCCESS)
    bounded = ByteBoundedExporter(behind, 600)
    assert bounded.export([span("a"), span("b")]) is SpanExportResult.FAILURE
    assert behind.batches == [["a"], ["b"]]


def test_flush_and_shutdown_reach_the_wrapped_exporter() -> None:
    behind = Batches()
    bounded = ByteBoundedExporter(behind)
    assert bounded.force_flush(7) is False
    bounded.shutdown()
    assert behind.calls == ["flush 7", "shutdown"]


def test_without_the_exporter_it_is_reported_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ImportError, match=r"callspan\[otlp\]"):
        OtlpProviders(True).provider("traces")
