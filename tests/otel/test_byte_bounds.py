"""Batches bounded by bytes: nothing of big prompts is lost at a receiver with a 4 MiB limit."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from callspan import ByteBoundedExporter, OpenAIInstrumentor
from callspan.otlp.byte_bounds import bound_exporters, export_parts, unbound_exporters
from callspan.otlp.providers import OtlpProviders
from tests.otel.launching import Stage
from tests.otel.receiver import OtlpReceiver

LIMIT = 4 << 20


@pytest.fixture
def picky() -> OtlpReceiver:
    return OtlpReceiver(max_bytes=LIMIT)


def own_provider(receiver: OtlpReceiver) -> TracerProvider:
    provider = OtlpProviders(receiver.url).tracer_provider()
    assert provider is not None
    return provider


def send(provider: TracerProvider, count: int, size: int) -> None:
    tracer = provider.get_tracer("test")
    for number in range(count):
        with tracer.start_as_current_span("chat") as span:
            span.set_attribute("gen_ai.input.messages", f"{number:06d}" + "ä" * (size // 2))
    provider.force_flush(20_000)
    provider.shutdown()


def test_callspans_provider_sends_big_prompts_in_accepted_batches(picky: OtlpReceiver) -> None:
    with picky:
        send(own_provider(picky), 300, 30_000)
        assert len(picky.spans) == 300
        assert not picky.refused
        assert max(picky.accepted) <= LIMIT


def test_an_applications_own_provider_can_be_bounded_by_the_wrapper(picky: OtlpReceiver) -> None:
    def through(exporter: SpanExporter) -> TracerProvider:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return provider

    with picky:
        exporter = OTLPSpanExporter(endpoint=f"{picky.url}/v1/traces")
        send(through(ByteBoundedExporter(exporter)), 200, 40_000)
        assert len(picky.spans) == 200
        assert not picky.refused


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


BIG = {"CALLSPAN_MAX_ATTRIBUTE_BYTES": str(1 << 20), "CALLSPAN_MAX_SPAN_BYTES": str(2 << 20), "CALLSPAN_STORES": ""}
"""Content on spans as large as it comes: 500 KB prompts, shown in two vocabularies."""


def big_prompts(stage: Stage, **environment: str) -> None:
    stage.environment.update(BIG, **environment)
    done = stage.run("opentelemetry-instrument", "python", str(stage.app("big_prompts.py")), "40", "500000")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 40
    for span in stage.spans:
        assert len(span.attributes["gen_ai.input.messages"]) >= 500_000
    assert max(stage.receiver.accepted) <= LIMIT


def test_under_auto_instrumentation_big_prompts_arrive_by_http(stage: Stage) -> None:
    stage.receiver.max_bytes = LIMIT
    big_prompts(stage)
    assert not stage.receiver.refused


def test_under_auto_instrumentation_big_prompts_arrive_by_grpc(stage: Stage) -> None:
    endpoint = f"http://{stage.receiver.serve_grpc()}"
    big_prompts(stage, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_log_events_with_big_prompts_arrive_too(stage: Stage, protocol: str) -> None:
    """They carry what spans carry, in batches of their own."""
    if protocol == "grpc":
        stage.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{stage.receiver.serve_grpc()}"
    else:
        stage.receiver.max_bytes = LIMIT
    big_prompts(stage, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_LOGS_EXPORTER="otlp", CALLSPAN_LOG_EVENTS="on")
    assert len([name for name, _, _ in stage.receiver.logs if name.startswith("gen_ai.")]) == 40
    assert not stage.receiver.refused


def test_the_exporters_class_is_bounded_by_the_instrumentor_and_restored(picky: OtlpReceiver) -> None:
    original = vars(OTLPSpanExporter)["export"]
    instrumentor = OpenAIInstrumentor()
    with picky:
        instrumentor.instrument()
        try:
            provider = TracerProvider()
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{picky.url}/v1/traces")))
            send(provider, 200, 40_000)
        finally:
            instrumentor.uninstrument()
        assert len(picky.spans) == 200
        assert not picky.refused
    assert vars(OTLPSpanExporter)["export"] is original


def test_a_class_wrapped_by_other_code_since_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OTLPSpanExporter, "export", vars(OTLPSpanExporter)["export"])
    bound_exporters()
    ours = vars(OTLPSpanExporter)["export"]
    bound_exporters()
    assert vars(OTLPSpanExporter)["export"] is ours, "bounded once"

    def theirs(self: OTLPSpanExporter, spans: Any) -> Any:
        return ours(self, spans)

    monkeypatch.setattr(OTLPSpanExporter, "export", theirs)
    unbound_exporters()
    assert vars(OTLPSpanExporter)["export"] is theirs


class Result(Enum):
    SUCCESS = 0
    FAILURE = 1


def item(size: int, **other: Any) -> Any:
    return SimpleNamespace(attributes={"text": "x" * size}, **other)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ([], [0]),
        ([item(10)] * 3, [3]),
        ([item(900)] * 3, [2, 1]),
        ([item(10), item(9000), item(10)], [1, 1, 1]),
        ([item(1, events=[item(900)])] * 3, [1, 1, 1]),
        ([SimpleNamespace(log_record=item(1, body={"said": ["x" * 900, b"y" * 900]}))] * 2, [1, 1]),
        ([SimpleNamespace(log_record=SimpleNamespace(attributes=None, body=None))] * 2, [2]),
    ],
)
def test_batches_are_cut_by_the_bytes_of_what_they_hold(batch: list[Any], sizes: list[int]) -> None:
    seen: list[int] = []

    def export(part: Any) -> Result:
        seen.append(len(part))
        return Result.SUCCESS

    assert export_parts(export, batch, 3000) is Result.SUCCESS
    assert seen == sizes


def test_one_part_that_fails_is_reported_and_the_others_are_sent() -> None:
    results = iter([Result.SUCCESS, Result.FAILURE, Result.SUCCESS])
    assert export_parts(lambda part: next(results), [item(900)] * 3, 1000) is Result.FAILURE
    assert next(results, None) is None


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), {"spans": [1, 2]}),
        (([1, 2], 3), {}),
        ((iter([1]),), {}),
        (([SimpleNamespace()],), {"timeout": 3}),
        ((), {}),
    ],
)
def test_an_exporter_is_given_what_its_caller_gave_whatever_that_is(
    args: tuple[Any, ...], named: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keywords, more arguments, a batch without a length, and items that cannot be measured."""
    given: list[Any] = []
    monkeypatch.setattr(OTLPSpanExporter, "export", lambda self, *args, **named: given.append((args, named)))
    bound_exporters()
    try:
        OTLPSpanExporter.export(object(), *args, **named)  # type: ignore[arg-type]
    finally:
        unbound_exporters()
    assert given == [(args, named)]
