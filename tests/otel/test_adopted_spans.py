"""A framework's LLM span used by a call is exported once, even if its owner never ends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider

QUESTION: Any = [{"role": "user", "content": "Hi"}]


class Framework:
    """Opens an LLM span around a call, as an agent framework does, and leaves its end to the test."""

    def __init__(self, client: openai.OpenAI, records: list[CallRecord]) -> None:
        self._client = client
        self._records = records
        self._exporter = InMemorySpanExporter()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = self.tracing.get_tracer("framework")

    def call(self, *, leave: bool = True) -> Any:
        span: Any = self._tracer.start_span("their chat", attributes={"gen_ai.operation.name": "chat", "theirs": 1})
        with trace.use_span(span, end_on_exit=False):
            stream = self._client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
            next(iter(stream))
            if leave:
                stream.close()
            else:
                list(stream)
        return span

    @property
    def exported(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def clear(self) -> None:
        self._exporter.clear()

    @property
    def record(self) -> CallRecord:
        return self._records[-1]


@pytest.fixture
def framework() -> Iterator[Framework]:
    records: list[CallRecord] = []

    def redact(record: Any) -> Any:
        records.append(record)
        return record

    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        provider.reply(text="one two three four", repeat=True)
        made = Framework(client, records)
        handle = callspan.instrument(tracer_provider=made.tracing, redact=redact, stores=())
        try:
            yield made
        finally:
            handle.uninstrument()


def test_a_span_ended_by_its_owner_is_exported_with_the_calls_attributes(framework: Framework) -> None:
    span = framework.call(leave=False)
    span.set_attribute("late", "yes")
    span.end()
    (exported,) = framework.exported
    shown = dict(exported.attributes or {})
    assert (exported.name, shown["late"], shown["callspan.call_id"]) == ("their chat", "yes", framework.record.call_id)


def test_a_span_that_its_owner_never_ends_is_not_exported(framework: Framework) -> None:
    """The call has its record."""
    framework.call()
    assert framework.exported == []
    assert framework.record.outcome == "cancelled"
