"""Streams in progress: what is notified before their end, and the cost if nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import add_callback
from callspan.records import CallRecord
from callspan.testing import ScriptedProvider
from tests.intercept.calls import QUESTION


@pytest.fixture
def stream() -> Iterator[Any]:
    """A stream of which nothing has been read yet; made when it is called."""
    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        yield lambda messages=QUESTION: client.chat.completions.create(model="gpt-5", messages=messages, stream=True)


def instrumented(messages: list[str], **settings: Any) -> Any:
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))

    def redact(record: Any) -> Any:
        messages.append(record.outcome)
        return record

    return callspan.instrument(tracer_provider=tracing, redact=redact, **settings)


def test_a_callback_gets_the_started_record_of_a_stream_without_any_store(stream: Any) -> None:
    outcomes: list[str] = []

    def hear(record: Any) -> None:
        if isinstance(record, CallRecord):
            outcomes.append(record.outcome)

    remove = add_callback("after_record", hear)
    handle = instrumented([], stores=())
    try:
        reading = stream()
        assert outcomes == ["started"]
        list(reading)
        assert outcomes == ["started", "success"]
    finally:
        remove()
        handle.uninstrument()


@pytest.mark.parametrize(("characters", "kept"), [(10, True), (65_536, False)])
def test_the_record_of_a_stream_that_begins_has_its_question_unless_that_is_long(
    stream: Any, characters: int, kept: bool
) -> None:
    bodies: list[bytes] = []

    def hear(record: Any) -> None:
        if isinstance(record, CallRecord):
            bodies.append(bytes(record.request.body))

    remove = add_callback("after_record", hear)
    handle = instrumented([], stores=())
    try:
        with stream([{"role": "user", "content": "x" * characters}]):
            assert (b"xxx" in bodies[0]) is kept
    finally:
        remove()
        handle.uninstrument()
