"""Providers and context: the destination and parents of spans."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.otel.launching import Stage

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as made:
        yield made


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


def recording() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter, tracer_provider = InMemorySpanExporter(), TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    return tracer_provider, exporter


def test_spans_go_to_the_provider_that_was_given_and_to_no_other(client: openai.OpenAI) -> None:
    mine, exporter = recording()
    handle = callspan.instrument(tracer_provider=mine)
    try:
        client.chat.completions.create(model="gpt-5", messages=HI)
    finally:
        handle.uninstrument()
    assert [span.name for span in exporter.get_finished_spans()] == ["chat gpt-5"]


def test_an_isolated_provider_still_uses_the_applications_parent_spans(client: openai.OpenAI) -> None:
    """LLM spans kept apart share the trace id of the request they belong to."""
    mine, exporter = recording()
    application, _ = recording()
    handle = callspan.instrument(tracer_provider=mine)
    try:
        with application.get_tracer("app").start_as_current_span("request") as request:
            client.chat.completions.create(model="gpt-5", messages=HI)
    finally:
        handle.uninstrument()
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_global_provider_may_be_set_before_or_after_instrument(stage: Stage, order: str) -> None:
    program = f"""
import callspan
from calling import ask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
steps = [lambda: trace.set_tracer_provider(provider), callspan.instrument]
for step in steps if "{order}" == "before" else reversed(steps):
    step()
ask("Hi")
print([span.name for span in exporter.get_finished_spans()])
"""
    done = stage.run("python", "-c", program)
    assert done.stdout.strip() == "['chat gpt-5']", done.stderr


def test_otlp_sets_up_a_provider_where_there_is_none(stage: Stage) -> None:
    program = f"""
import callspan
from calling import ask
callspan.instrument(otlp="{stage.receiver.url}")
ask("Hi")
"""
    done = stage.run("python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 1


def test_a_thread_pool_uses_the_parent_captured_by_copy_context(client: openai.OpenAI, seen: Captured) -> None:
    def work(_: int) -> None:
        client.chat.completions.create(model="gpt-5", messages=HI)

    with callspan.session("pool"), callspan.timestep() as step, ThreadPoolExecutor(3) as pool:
        list(pool.map(callspan.copy_context(work), range(6)))
        above = step.span_id if hasattr(step, "span_id") else None
    assert len(seen.records) == 6
    parents = {record.parent_span_id for record in seen.records}
    assert len(parents) == 1
    assert above in (None, *parents)
    assert {record.place.session_id for record in seen.records} != {None}


def test_a_thread_without_the_context_starts_a_trace_of_its_own(client: openai.OpenAI, seen: Captured) -> None:
    with callspan.session("main"):
        thread = threading.Thread(target=lambda: client.chat.completions.create(model="gpt-5", messages=HI))
        thread.start()
        thread.join()
    assert seen.records[0].parent_span_id is None


def test_an_async_generator_closed_from_another_task_logs_no_error(
    provider: ScriptedProvider, seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """As web frameworks do with a stream whose client has gone."""
    provider.reply(text="one two three four five six", chunk_delay_s=0.02)

    async def pieces(client: openai.AsyncOpenAI) -> AsyncIterator[str]:
        with callspan.metadata(purpose="web"), callspan.content("metadata"):
            chunks = await client.chat.completions.create(model="gpt-5", messages=HI, stream=True)
            async for chunk in chunks:
                yield chunk.choices[0].delta.content or ""

    async def body() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as client:
            stream = pieces(client)
            await asyncio.create_task(_first(stream))
            await asyncio.create_task(_close(stream))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(body())
    assert "detach" not in caplog.text
    (record,) = seen.records
    assert record.outcome == "cancelled"
    assert record.metadata["purpose"] == "web"
    assert trace.get_current_span() is trace.INVALID_SPAN


async def _first(stream: AsyncIterator[str]) -> str:
    return await stream.__anext__()


async def _close(stream: Any) -> None:
    await stream.aclose()


def test_streams_read_in_another_task_have_the_parent_of_their_creation(
    provider: ScriptedProvider, seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url, max_retries=0) as client:
            with callspan.session("made here"):
                chunks = await client.chat.completions.create(model="gpt-5", messages=HI, stream=True)

            async def read() -> int:
                return len([chunk async for chunk in chunks])

            assert await asyncio.create_task(read()) > 1

    with caplog.at_level(logging.DEBUG):
        asyncio.run(body())
    assert "detach" not in caplog.text
    (record,) = seen.records
    assert record.outcome == "success"
    assert record.parent_span_id is not None


@pytest.mark.parametrize("otlp", ["nonsense", "localhost:4318", "http://", 4318, "grpc://localhost:4317", ["http://a"]])
def test_an_invalid_url_is_an_error_that_says_what_to_give(otlp: Any) -> None:
    with pytest.raises(callspan.SettingError, match=r"otlp.*http://localhost:4318"):
        callspan.instrument(otlp=otlp)


def test_the_error_of_an_invalid_url_does_not_show_its_password() -> None:
    with pytest.raises(callspan.SettingError) as raised:
        callspan.instrument(otlp="htp://me:hunter2@here")
    assert "hunter2" not in str(raised.value)
