"""The anthropic SDK's own tracing (1.14 and later): with callspan there is one span per call, callspan's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.testing import Captured, capture
from tests.intercept import loops, sdks
from tests.intercept.mode import Mode
from tests.intercept.test_endings import QUESTION, the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """The spans that go to the global provider, where the SDK's own go; ours have a provider of their own here."""
    sdks.needs("anthropic", "1.14", "tracing of its own")
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield lambda: list(exporter.get_finished_spans())
    provider.shutdown()


def test_without_callspan_the_sdk_creates_its_own_span(
    mode: Mode, run: Run, native: Callable[[], list[ReadableSpan]]
) -> None:
    """The ground the other tests stand on."""
    run(lambda: mode.wait(mode.anthropic().messages.create(**MESSAGE)))
    assert [span.name for span in native()] == ["anthropic.messages.create"]


@pytest.mark.parametrize("how", ["plain", "stream", "helper"])
def test_there_is_one_span_per_call_and_it_is_callspans(
    how: str, mode: Mode, run: Run, seen: Captured, native: Callable[[], list[ReadableSpan]]
) -> None:
    async def body() -> None:
        messages = mode.anthropic().messages
        if how == "helper":
            async with mode.entered(messages.stream(**MESSAGE)) as stream:
                await mode.wait(stream.until_done())
        elif how == "stream":
            await mode.all(await mode.wait(messages.create(**MESSAGE, stream=True)))
        else:
            await mode.wait(messages.create(**MESSAGE))

    run(body)
    the_call(seen)
    assert native() == []


def test_the_traceparent_sent_is_that_of_callspans_span(
    mode: Mode, run: Run, seen: Captured, native: Callable[[], list[ReadableSpan]]
) -> None:
    mode.provider.reply(status=529, retry_after_s=0.001)
    run(lambda: mode.wait(mode.anthropic(max_retries=1).messages.create(**MESSAGE)))
    record = the_call(seen)
    sent = [request.headers.get("traceparent", "").rpartition("-")[0] for request in mode.provider.requests]
    assert sent == [f"00-{record.trace_id}-{record.span_id}"] * 2, "every attempt, as the SDK does"
    assert native() == []


def test_spans_of_a_tool_runner_are_callspans(mode: Mode, run: Run, native: Callable[[], list[ReadableSpan]]) -> None:
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="It is sunny.")
    with capture() as seen:
        run(lambda: mode.wait(loops.of_anthropic(mode, lambda city: f"Sunny in {city}").until_done()))
        assert len(loops.rows(seen, "tool")) == len(loops.rows(seen, "agent")) == 1
    assert native() == []
