"""The anthropic SDK's own tracing (1.14 and later): with callspan there is one span per call, callspan's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.testing import Captured
from tests.intercept import sdks
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


def test_spans_of_a_tool_runner_are_parents_of_callspans(
    mode: Mode, run: Run, seen: Captured, native: Callable[[], list[ReadableSpan]]
) -> None:
    def weather(city: str) -> str:
        """Say the weather.

        Args:
            city: Where.
        """
        return f"Sunny in {city}"

    async def weather_async(city: str) -> str:
        return weather(city)

    tool = anthropic.beta_tool(weather)
    if mode.is_async:
        weather_async.__doc__ = weather.__doc__
        tool = anthropic.beta_async_tool(weather_async, name="weather")
    mode.provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}}])
    mode.provider.reply(text="It is sunny.")

    async def body() -> None:
        runner = mode.anthropic().beta.messages.tool_runner(**MESSAGE, tools=[tool])
        await mode.wait(runner.until_done())

    run(body)
    names = {span.name: span for span in native()}
    assert "anthropic.messages.tool_runner" in names
    above = names["anthropic.messages.tool_runner"].context
    assert above is not None
    assert [span.parent and span.parent.span_id for span in seen.spans] == [above.span_id] * 2
    assert not [name for name in names if name.endswith("messages.create")]


@pytest.mark.parametrize("status", [200, 500])
def test_the_creation_of_a_batch_has_one_span_and_its_traceparent(
    status: int, mode: Mode, run: Run, seen: Captured, native: Callable[[], list[ReadableSpan]]
) -> None:
    """However it ends: the SDK's own span would have been sent with the request."""
    if status != 200:
        mode.provider.reply(status=status, on="/batches")

    async def body() -> None:
        batches = mode.anthropic().messages.batches
        with nullcontext() if status == 200 else pytest.raises(anthropic.InternalServerError):
            await mode.wait(batches.create(requests=[{"custom_id": "a", "params": MESSAGE}]))

    run(body)
    (span,) = seen.spans
    assert span.context is not None
    assert span.context.is_valid
    (sent,) = [request.headers.get("traceparent") for request in mode.provider.requests]
    assert sent is not None
    assert sent.startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    shown = dict(span.attributes or {})
    assert (span.name, span.status.is_ok, shown.get("error.type")) == (
        "create_batch", status == 200, None if status == 200 else "api_error"
    )  # fmt: skip
    assert ("callspan.batch.id" in shown, len(seen.records)) == (status == 200, int(status == 200))
    assert native() == []
