"""The anthropic SDK's own tracing (1.14 and later): with callspan there is one span per call, callspan's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, the_call
from tests.intercept.mode import Mode

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
