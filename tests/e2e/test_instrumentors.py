"""The instrumentors, used directly: one SDK each, and uninstrumented again."""

from __future__ import annotations

from collections.abc import Sequence

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan import AnthropicInstrumentor, ByteBoundedExporter, OpenAIInstrumentor
from callspan.testing import ScriptedProvider
from tests.e2e.ask import QUESTION

KINDS = {"openai": OpenAIInstrumentor, "anthropic": AnthropicInstrumentor}


@pytest.mark.parametrize("sdk", KINDS)
def test_an_instrumentor_sees_its_own_sdk_and_no_other(sdk: str, provider: ScriptedProvider) -> None:
    """Instrumented twice it is instrumented once; uninstrumented it sees nothing."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = KINDS[sdk]()

    def calls() -> None:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
            claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)

    instrumentor.instrument(tracer_provider=own)
    instrumentor.instrument(tracer_provider=own)
    try:
        calls()
    finally:
        instrumentor.uninstrument()
    calls()
    assert [(span.attributes or {})["llm.vendor"] for span in exporter.get_finished_spans()] == [sdk]
    assert any(sdk in requirement for requirement in instrumentor.instrumentation_dependencies())


class Sized(InMemorySpanExporter):
    """Counts the spans of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(len(spans))
        return super().export(spans)


def test_large_spans_are_sent_in_several_batches_and_none_is_lost() -> None:
    """A receiver refuses a batch that is too large as a whole: no batch is, but for one span that is so alone."""
    sized = Sized()
    source = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(source))
    for number in range(10):
        with own.get_tracer("t").start_as_current_span(f"s{number}") as span:
            span.set_attribute("text", "x" * (50_000 if number == 4 else 3_000))
    exporter = ByteBoundedExporter(sized, max_bytes=10_000)
    assert exporter.export(source.get_finished_spans()) is SpanExportResult.SUCCESS
    assert [span.name for span in sized.get_finished_spans()] == [f"s{number}" for number in range(10)]
    assert sized.batches == [2, 2, 1, 2, 2, 1]
    assert exporter.force_flush(100)
    exporter.shutdown()
