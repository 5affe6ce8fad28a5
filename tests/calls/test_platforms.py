"""Platforms and other SDKs: Azure, Bedrock, Vertex, Foundry, and groq by a profile alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.testing import Captured
from tests.support import sdks
from tests.support.calls import MESSAGE, QUESTION, Run, ask, bedrock, caught, client_class, text_of, the_call
from tests.support.mode import Mode


def vertex(mode: Mode) -> Any:
    pytest.importorskip("google.auth", reason="google-auth is not installed")
    kind = client_class(anthropic, "AnthropicVertex", mode)
    url = f"{mode.provider.url}/v1"
    return mode.keep(kind(region="us-east5", project_id="p", access_token="t", base_url=url, max_retries=0))


def foundry(mode: Mode) -> Any:
    kind = client_class(anthropic, "AnthropicFoundry", mode)
    return mode.keep(kind(api_key="k", base_url=f"{mode.provider.url}/anthropic", max_retries=0))


def mantle(mode: Mode) -> Any:
    kind = client_class(anthropic, "AnthropicBedrockMantle", mode)
    return mode.keep(kind(api_key="k", aws_region="us-east-1", base_url=mode.provider.url, max_retries=0))


def azure(mode: Mode) -> Any:
    kind = client_class(openai, "AzureOpenAI", mode)
    return mode.keep(kind(api_key="k", api_version="2024-10-21", azure_endpoint=mode.provider.url, max_retries=0))


def openai_on_bedrock(mode: Mode) -> Any:
    kind = client_class(openai, "BedrockOpenAI", mode)
    return mode.keep(kind(api_key="k", aws_region="us-east-1", base_url=mode.provider.openai_url, max_retries=0))


PLATFORMS: dict[Callable[[Mode], Any], tuple[str, str]] = {
    bedrock: ("aws.bedrock", "/model/claude-sonnet-5/invoke"),
    vertex: ("gcp.vertex_ai", "awPredict"),
    foundry: ("azure.ai.inference", "/anthropic/v1/messages"),
    mantle: ("aws.bedrock", "/v1/messages"),
    azure: ("azure.ai.openai", "/deployments/gpt-5/"),
    openai_on_bedrock: ("aws.bedrock", "/chat/completions"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_call_on_a_platform_is_one_of_that_platform_in_its_own_framing(
    platform: Callable[[Mode], Any], stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    name, path = PLATFORMS[platform]
    mode.provider.reply(text="I am quite well.", input_tokens=20, cache_read_tokens=5, output_tokens=4)

    async def body() -> str:
        client = platform(mode)
        result = await mode.wait(ask(client, stream=stream))
        if stream:
            await mode.all(result)
        return "gpt-5" if hasattr(client, "chat") else "claude-sonnet-5"

    model = run(body)
    record = the_call(seen)
    assert (record.provider, record.outcome, text_of(record)) == (name, "success", "I am quite well.")
    assert record.request.model == model, "read before the platform takes it out of the body"
    assert record.stream is None or (record.stream.end, record.stream.complete) == ("complete", True)
    assert path in mode.provider.requests[0].path
    assert [attempt.status for attempt in record.attempts] == [200]
    if record.api == "messages":
        assert record.usage is not None
        counts = record.usage.input_tokens, record.usage.cache_read_tokens, record.usage.output_tokens
        assert counts == (20, 5, 4), "Anthropic's rule on any platform"


def test_an_exception_frame_of_bedrock_is_an_error_and_keeps_the_text(mode: Mode, run: Run, seen: Captured) -> None:
    sdks.needs("anthropic", "2.0", "errors out of Bedrock's exception frames")
    mode.provider.reply(text="one two three four", error_after=5, error_type="throttlingException", message="slow")

    async def body() -> None:
        await mode.all(await mode.wait(bedrock(mode).messages.create(**MESSAGE, stream=True)))

    with pytest.raises(anthropic.APIError):
        run(body)
    record = the_call(seen)
    assert record.outcome == "error"
    assert text_of(record)


groq = pytest.importorskip("groq")
LLAMA: dict[str, Any] = {"model": "llama", "messages": QUESTION}


def groq_client(mode: Mode, **options: Any) -> Any:
    kind = groq.AsyncGroq if mode.is_async else groq.Groq
    return mode.keep(kind(api_key="gsk-test", base_url=mode.provider.groq_url, **{"max_retries": 0, **options}))


GROQ: dict[str, tuple[str, str, str | None, int]] = {
    # API, outcome, end of the stream, retries
    "plain": ("chat_completions", "success", None, 0),
    "retried": ("chat_completions", "success", None, 1),
    "failed": ("chat_completions", "error", None, 0),
    "streamed": ("chat_completions", "success", "complete", 0),
    "closed": ("chat_completions", "cancelled", "closed", 0),
    "raw": ("chat_completions", "success", None, 0),
    "embedded": ("embeddings", "success", None, 0),
    "heard": ("transcriptions", "success", None, 0),
}


async def ask_groq(mode: Mode, way: str) -> None:
    client = groq_client(mode, max_retries=1)
    if way == "embedded":
        await mode.wait(client.embeddings.create(model="llama", input="Where to?"))
    elif way == "heard":
        await mode.wait(client.audio.transcriptions.create(model="llama", file=("a.wav", b"sound")))
    elif way == "raw":
        await mode.wait(client.chat.completions.with_raw_response.create(**LLAMA))
    elif way in ("streamed", "closed"):
        stream = await mode.wait(client.chat.completions.create(**LLAMA, stream=True))
        await (mode.all(stream) if way == "streamed" else mode.next(stream))
        await mode.wait(stream.close())
    else:
        await mode.wait(client.chat.completions.create(**LLAMA))


@pytest.mark.parametrize("way", GROQ)
def test_every_way_and_ending_of_groq_is_one_span_and_one_record(
    way: str, mode: Mode, run: Run, seen: Captured
) -> None:
    if way in ("retried", "failed"):
        mode.provider.reply(status=429 if way == "retried" else 400, retry_after_s=0.001)
    mode.provider.reply(text="East", input_tokens=12, output_tokens=3)
    raised = caught(run, lambda: ask_groq(mode, way))
    assert isinstance(raised, groq.BadRequestError if way == "failed" else type(None))
    record = the_call(seen)
    assert (record.api, record.outcome, record.stream and record.stream.end, record.retries) == GROQ[way]
    assert (record.provider, record.request.model) == ("groq", "llama")
    assert (record.sdk or "").startswith("groq/1.")
    assert (seen.spans[0].attributes or {})["gen_ai.provider.name"] == "groq"
    if way == "plain":
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
        run(lambda: ask_groq(mode, "plain"))
    finally:
        instrumentor.uninstrument()
    assert len(exporter.get_finished_spans()) == 1
    assert vars(groq._base_client.SyncAPIClient)["request"] is original


def test_every_profile_has_its_instrumentor_entry_point_and_extra() -> None:
    points = {point.name: point.value for point in metadata.entry_points(group="opentelemetry_instrumentor")}
    for sdk in ("openai", "anthropic", "groq"):
        name = points[f"callspan-{sdk}"].partition(":")[2]
        (requirement,) = getattr(callspan, name)().instrumentation_dependencies()
        assert requirement.startswith(f"{sdk} >=")
        assert sdk in (metadata.metadata("callspan").get_all("Provides-Extra") or [])
