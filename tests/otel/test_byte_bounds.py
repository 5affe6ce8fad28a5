"""Batches bounded by bytes: nothing of big prompts is lost at a receiver with a 4 MiB limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from callspan import ByteBoundedExporter
from callspan.otlp.providers import OtlpProviders
from tests.otel.receiver import OtlpReceiver

LIMIT = 4 << 20


@pytest.fixture
def picky() -> OtlpReceiver:
    return OtlpReceiver(max_bytes=LIMIT)


def own_provider(receiver: OtlpReceiver) -> TracerProvider:
    provider = OtlpProviders(receiver.url).provider("traces")
    assert provider is not None
    return provider


def send(provider: TracerProvider, count: int, size: int) -> None:
    tracer = provider.get_tracer("test")
    for number in range(count):
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.input.messages", f"{number:06d}" + "ä" * (size // 2))
    provider.force_flush(20_000)
    provider.shutdown()


def test_without_the_wrapper_the_whole_batch_is_refused(picky: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    with picky:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{picky.url}/v1/traces")))
        send(provider, 200, 40_000)
        assert picky.refused
        assert not picky.spans


def test_a_span_larger_than_the_limit_is_lost_alone(picky: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    with picky:
        provider = own_provider(picky)
        tracer = provider.get_tracer("test")
        for size in (10, LIMIT + 1, 10):
            tracer.start_span("chat", attributes={"gen_ai.input.messages": "x" * size}).end()
        provider.shutdown()
        assert len(picky.spans) == 2
        assert len(picky.refused) == 1


def test_grpc_has_the_same_limit_and_is_kept_within(receiver: OtlpReceiver) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    endpoint = receiver.serve_grpc()
    provider = TracerProvider()
    exporter = GrpcExporter(endpoint=endpoint, insecure=True)
    provider.add_span_processor(BatchSpanProcessor(ByteBoundedExporter(exporter)))
    send(provider, 300, 30_000)
    assert len(receiver.spans) == 300


class Sizes(SpanExporter):
    """An exporter that keeps the number of items of each batch, and refuses the first `refused`."""

    def __init__(self, refused: int = 0) -> None:
        self.seen: list[int] = []
        self.ended: list[str] = []
        self._refused = refused

    def export(self, spans: Any) -> SpanExportResult:
        self.seen.append(len(spans))
        return SpanExportResult.FAILURE if len(self.seen) <= self._refused else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.ended.append(f"flush {timeout_millis}")
        return False

    def shutdown(self) -> None:
        self.ended.append("shutdown")


def item(size: int, **other: Any) -> Any:
    return SimpleNamespace(attributes={"text": "x" * size}, **other)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ([item(10)] * 3, [3]),
        ([item(900)] * 3, [2, 1]),
        ([item(10), item(9000), item(10)], [1, 1, 1]),
        ([SimpleNamespace(attributes={"text": "é" * 900})] * 2, [1, 1]),
        ([SimpleNamespace(attributes={"text": "\ud83d"}), SimpleNamespace(attributes={"text": "b"})], [2]),
        ([SimpleNamespace(log_record=SimpleNamespace(attributes={}, body="\ud83d" + "x" * 1200))] * 2, [1, 1]),
        ([item(1, events=[item(900)])] * 3, [1, 1, 1]),
        ([SimpleNamespace(log_record=item(1, body={"said": ["x" * 900, b"y" * 900]}))] * 2, [1, 1]),
        ([SimpleNamespace(log_record=SimpleNamespace(attributes=None, body=None))] * 2, [2]),
    ],
)
def test_batches_are_cut_by_the_bytes_of_what_they_hold(batch: list[Any], sizes: list[int]) -> None:
    behind = Sizes()
    assert ByteBoundedExporter(behind, 3000).export(batch) is SpanExportResult.SUCCESS
    assert behind.seen == sizes


def test_one_failed_part_fails_the_whole_and_stops_no_other() -> None:
    behind = Sizes(refused=1)
    bounded = ByteBoundedExporter(behind, 3000)
    assert bounded.export([item(2000), item(2000)]) is SpanExportResult.FAILURE
    assert behind.seen == [1, 1]


def test_flush_and_shutdown_reach_the_wrapped_exporter() -> None:
    behind = Sizes()
    bounded = ByteBoundedExporter(behind)
    assert bounded.force_flush(7) is False
    bounded.shutdown()
    assert behind.ended == ["flush 7", "shutdown"]
