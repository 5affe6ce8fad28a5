"""Each part of callspan raises during a call: the call is not affected, and the rest is recorded.

The doubles are small real objects put where the part belongs; nothing of ours is patched over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec
import openai
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler

import callspan
from callspan import fail_open
from callspan.providers import registry
from callspan.records import Record
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import WIRING

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        running.reply(text="I am well.", repeat=True)
        yield running


@pytest.fixture(autouse=True)
def _fresh_counts() -> Iterator[None]:
    fail_open.forget_failures()
    yield
    fail_open.forget_failures()


def use(provider: ScriptedProvider, colour: str) -> list[str]:
    """The texts of a plain and a streamed call, in that colour of the SDK."""

    def text(chunks: list[Any]) -> str:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    async def coloured() -> list[str]:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            plain = await client.chat.completions.create(**CHAT)
            stream = await client.chat.completions.create(**CHAT, stream=True)
            return [plain.choices[0].message.content or "", text([chunk async for chunk in stream])]

    if colour == "async":
        return asyncio.run(coloured())
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        plain = client.chat.completions.create(**CHAT)
        return [plain.choices[0].message.content or "", text(list(client.chat.completions.create(**CHAT, stream=True)))]


WELL = ["I am well.", "I am well."]


def boom(*args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError("a bug of ours")


class BrokenEndpoint:
    """An adapter in which one step fails."""

    def __init__(self, broken: str) -> None:
        self._whole: Any = registry.by_api("chat_completions")
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        return boom if name == self._broken else getattr(self._whole, name)


class BrokenAccumulator:
    """Folds nothing."""

    complete = False
    add = body = staticmethod(boom)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("broken", ["request", "accumulator", "response_info", "conversation"])
def test_an_endpoint_adapter_that_raises(
    broken: str, colour: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = BrokenEndpoint(broken)
    monkeypatch.setattr(registry, "endpoint_for", lambda method, path: endpoint)
    with capture() as seen:
        assert use(provider, colour) == WELL
        kept(seen)
    assert fail_open.failures()


def test_an_accumulator_that_raises(colour: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = BrokenEndpoint("none")
    endpoint.accumulator = BrokenAccumulator  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "endpoint_for", lambda method, path: endpoint)
    with capture() as seen:
        assert use(provider, colour) == WELL
        kept(seen)


def test_the_table_of_endpoints_raises(
    colour: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "endpoint_for", boom)
    with capture() as seen:
        assert use(provider, colour) == WELL
        assert seen.records == []


def kept(seen: Captured) -> None:
    """Both calls are there by identity, each with its span."""
    calls = [record for record in seen.everything if isinstance(record, callspan.CallRecord)]
    ended = [record for record in calls if record.outcome != "started"]
    assert [record.outcome for record in ended] == ["success", "success"]
    assert {record.span_id for record in ended} == {
        f"{span.context.span_id:016x}" for span in seen.spans if span.context is not None
    }


class Broken:
    """Raises whatever it is asked to do."""

    def __getattr__(self, name: str) -> object:
        return boom


@pytest.mark.parametrize(
    "part", ["spans", "processors", "recorder", "metrics", "workers", "ends", "seen", "ambient", "keep", "estimates"]
)
def test_a_part_of_the_factory_that_raises(part: str, colour: str, provider: ScriptedProvider) -> None:
    """Some of these must not raise; if one does, no call fails."""
    broken = boom if part in ("ambient", "keep", "estimates") else Broken()
    with capture(estimate_usage=True):
        hook_context = WIRING.hook_context
        hook_context.factories = {
            level: msgspec.structs.replace(factory, **{part: broken})
            for level, factory in hook_context.factories.items()
        }
        with callspan.metadata(purpose="test"):
            assert use(provider, colour) == WELL


def test_a_redactor_that_raises_loses_the_content_and_keeps_none(colour: str, provider: ScriptedProvider) -> None:
    def redact(record: Record) -> Record:
        raise RuntimeError("a bug of the user's")

    with capture(redact=redact) as seen:
        assert use(provider, colour) == WELL
        for record in seen.records:
            assert bytes(record.request.body) == b""
            assert record.response is None or bytes(record.response.body) == b""
        assert len(seen.records) == 2
        assert not any("well" in str(value) for span in seen.spans for value in (span.attributes or {}).values())


class BrokenProcessor(SpanProcessor):
    """Raises whenever a span starts or ends."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("a bug of the processor")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("a bug of the processor")


class BrokenExporter(SpanExporter):
    """Raises with every batch."""

    def export(self, spans: Any) -> SpanExportResult:
        raise RuntimeError("a bug of the exporter")


def _with_processor(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(processor)
    return provider


def _sampler() -> TracerProvider:
    class Broken(Sampler):
        should_sample = boom

        def get_description(self) -> str:
            return "broken"

    return TracerProvider(sampler=Broken())


@pytest.mark.parametrize(
    "make",
    [
        lambda: _with_processor(BrokenProcessor()),
        lambda: _with_processor(SimpleSpanProcessor(BrokenExporter())),
        _sampler,
    ],
    ids=["processor", "exporter", "sampler"],
)
def test_a_part_of_opentelemetry_that_raises(
    make: Callable[[], TracerProvider], colour: str, provider: ScriptedProvider, tmp_path: Any
) -> None:
    """The record never depends on the span."""
    handle = callspan.instrument(tracer_provider=make(), stores=f"jsonl:///{tmp_path}/calls.jsonl")
    try:
        assert use(provider, colour) == WELL
        handle.force_flush(60_000)
        lines = (tmp_path / "calls.jsonl").read_text().splitlines()
        assert sum('"I am well."' in line for line in lines) == 2
    finally:
        handle.uninstrument()


def test_a_store_that_cannot_be_written(
    colour: str, provider: ScriptedProvider, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where the records wait then
    (tmp_path / "file").write_text("in the way")
    handle = callspan.instrument(stores=f"sqlite:///{tmp_path}/file/calls.db")
    try:
        assert use(provider, colour) == WELL
    finally:
        handle.uninstrument()


def test_a_vocabulary_that_raises(colour: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    from callspan.semconv.call import Projection

    monkeypatch.setattr(Projection, "end", boom)
    with capture() as seen:
        assert use(provider, colour) == WELL
        kept(seen)


def test_a_vocabulary_that_raises_at_the_start(
    colour: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callspan.semconv.call import Projection

    monkeypatch.setattr(Projection, "start", boom)
    with capture() as seen:
        assert use(provider, colour) == WELL
        assert len(seen.records) == 2
