"""The groq SDK: a profile alone makes its calls recorded, with the adapters of OpenAI's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.sdk_profiles import SDKS
from callspan.testing import Captured
from tests.intercept.calls import Run
from tests.intercept.mode import Mode

groq = pytest.importorskip("groq")
QUESTION: Any = [{"role": "user", "content": "Where to?"}]


def client_of(mode: Mode, **options: Any) -> Any:
    kind = groq.AsyncGroq if mode.is_async else groq.Groq
    return mode.keep(kind(api_key="gsk-test", base_url=mode.provider.groq_url, **{"max_retries": 0, **options}))


async def plain(mode: Mode) -> None:
    mode.provider.reply(text="East", input_tokens=12, output_tokens=3)
    await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=QUESTION))


async def retried(mode: Mode) -> None:
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(text="East")
    await mode.wait(client_of(mode, max_retries=1).chat.completions.create(model="llama", messages=QUESTION))


async def failed(mode: Mode) -> None:
    mode.provider.reply(status=400, message="No such thing.")
    with pytest.raises(groq.BadRequestError, match="No such thing"):
        await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=QUESTION))


async def streamed(mode: Mode) -> None:
    mode.provider.reply(text="East or west")
    stream = await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=QUESTION, stream=True))
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in mode.items(stream)]) == "East or west"


async def closed(mode: Mode) -> None:
    mode.provider.reply(text="East or west")
    stream = await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=QUESTION, stream=True))
    await mode.next(stream)
    await mode.wait(stream.close())


async def raw(mode: Mode) -> None:
    mode.provider.reply(text="East")
    await mode.wait(client_of(mode).chat.completions.with_raw_response.create(model="llama", messages=QUESTION))


async def embedded(mode: Mode) -> None:
    await mode.wait(client_of(mode).embeddings.create(model="llama", input="Where to?"))


async def heard(mode: Mode) -> None:
    await mode.wait(client_of(mode).audio.transcriptions.create(model="llama", file=("a.wav", b"sound")))


@pytest.mark.parametrize(
    ("call", "api", "outcome", "end", "retries"),
    [
        (plain, "chat_completions", "success", None, 0),
        (retried, "chat_completions", "success", None, 1),
        (failed, "chat_completions", "error", None, 0),
        (streamed, "chat_completions", "success", "complete", 0),
        (closed, "chat_completions", "cancelled", "closed", 0),
        (raw, "chat_completions", "success", None, 0),
        (embedded, "embeddings", "success", None, 0),
        (heard, "transcriptions", "success", None, 0),
    ],
)
def test_every_way_and_ending_is_one_span_and_one_record(
    call: Callable[[Mode], Awaitable[None]], api: str, outcome: str, end: str | None, retries: int,
    mode: Mode, run: Run, seen: Captured,
) -> None:  # fmt: skip
    run(lambda: call(mode))
    (record,), (span,) = seen.records, seen.spans
    assert (record.api, record.outcome, record.stream and record.stream.end) == (api, outcome, end)
    assert (record.provider, record.retries, record.request.model) == ("groq", retries, "llama")
    assert record.sdk is not None
    assert record.sdk.startswith("groq/1.")
    assert span.attributes["gen_ai.provider.name"] == "groq"
    if call is plain:
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.output_tokens) == (12, 3)


def test_its_instrumentor_patches_it_alone_and_restores_it(mode: Mode, run: Run) -> None:
    exporter, original = InMemorySpanExporter(), vars(groq._base_client.SyncAPIClient)["request"]
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = callspan.GroqInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        assert {status.sdk for status in callspan.patch_status()} == {"groq"}
        assert {status.state for status in callspan.patch_status()} == {"on"}
        run(lambda: plain(mode))
    finally:
        instrumentor.uninstrument()
    assert len(exporter.get_finished_spans()) == 1
    assert vars(groq._base_client.SyncAPIClient)["request"] is original


def test_every_profile_has_its_instrumentor_entry_point_and_extra() -> None:
    points = {point.name: point.value for point in metadata.entry_points(group="opentelemetry_instrumentor")}
    for sdk in SDKS:
        name = points[f"callspan-{sdk}"].partition(":")[2]
        (requirement,) = getattr(callspan, name)().instrumentation_dependencies()
        assert requirement.startswith(f"{sdk} >=")
        assert sdk in (metadata.metadata("callspan").get_all("Provides-Extra") or [])
