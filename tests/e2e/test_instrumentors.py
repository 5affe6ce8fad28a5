"""The instrumentors, used directly: one SDK each, and uninstrumented again."""

from __future__ import annotations

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan import AnthropicInstrumentor, OpenAIInstrumentor
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
