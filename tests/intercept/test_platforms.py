"""Platforms and other SDKs: Azure, Bedrock, Vertex, Foundry, and groq by a profile alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.sdk_profiles import SDKS
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, bedrock, client_class, text_of, the_call
from tests.intercept.mode import Mode

MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


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


PLATFORMS = {
    "aws.bedrock": (bedrock, "/model/claude-sonnet-5/invoke"),
    "gcp.vertex_ai": (vertex, "rawPredict"),
    "azure.ai.inference": (foundry, "/anthropic/v1/messages"),
    "aws.bedrock (mantle)": (mantle, "/v1/messages"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_claude_on_a_platform_is_one_call_of_that_platform(platform: str, mode: Mode, run: Run, seen: Captured) -> None:
    make, path = PLATFORMS[platform]
    mode.provider.reply(text="I am well.", input_tokens=20, cache_read_tokens=5, output_tokens=4)
    run(lambda: mode.wait(make(mode).messages.create(**MESSAGE)))
    record = the_call(seen)
    assert record.provider == platform.partition(" ")[0]
    assert (record.api, record.outcome) == ("messages", "success")
    assert record.request.model == "claude-sonnet-5", "read before the platform takes it out of the body"
    assert text_of(record) == "I am well."
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.cache_read_tokens) == (20, 5), "Anthropic's rule on any platform"
    assert path in mode.provider.requests[0].path
    assert record.attempts[0].status == 200


@pytest.mark.parametrize("platform", PLATFORMS)
def test_claude_streams_on_a_platform_in_its_own_framing(platform: str, mode: Mode, run: Run, seen: Captured) -> None:
    make, _ = PLATFORMS[platform]
    mode.provider.reply(text="I am quite well.", input_tokens=20, output_tokens=4)

    async def body() -> None:
        await mode.all(await mode.wait(make(mode).messages.create(**MESSAGE, stream=True)))

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)
    assert text_of(record) == "I am quite well."
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (20, 4)
    assert record.request.model == "claude-sonnet-5"


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


def azure(mode: Mode) -> Any:
    kind = client_class(openai, "AzureOpenAI", mode)
    return mode.keep(kind(api_key="k", api_version="2024-10-21", azure_endpoint=mode.provider.url, max_retries=0))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_azure_is_named_and_its_deployment_path_is_a_call(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well.")

    async def body() -> None:
        create = azure(mode).chat.completions.create
        result = await mode.wait(create(model="my-deployment", messages=QUESTION, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert record.provider == "azure.ai.openai"
    assert record.request.model == "my-deployment"
    assert "/deployments/my-deployment/" in mode.provider.requests[0].path
    assert text_of(record) == "I am well."
    assert record.outcome == "success"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_openai_on_bedrock_is_named(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    kind = client_class(openai, "BedrockOpenAI", mode)
    mode.provider.reply(text="I am well.")

    async def body() -> None:
        client = mode.keep(kind(api_key="k", aws_region="us-east-1", base_url=mode.provider.openai_url, max_retries=0))
        result = await mode.wait(client.chat.completions.create(model="gpt-oss", messages=QUESTION, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert record.provider == "aws.bedrock"
    assert text_of(record) == "I am well."


groq = pytest.importorskip("groq")
WHERE: Any = [{"role": "user", "content": "Where to?"}]


def client_of(mode: Mode, **options: Any) -> Any:
    kind = groq.AsyncGroq if mode.is_async else groq.Groq
    return mode.keep(kind(api_key="gsk-test", base_url=mode.provider.groq_url, **{"max_retries": 0, **options}))


async def plain(mode: Mode) -> None:
    mode.provider.reply(text="East", input_tokens=12, output_tokens=3)
    await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=WHERE))


async def retried(mode: Mode) -> None:
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(text="East")
    await mode.wait(client_of(mode, max_retries=1).chat.completions.create(model="llama", messages=WHERE))


async def failed(mode: Mode) -> None:
    mode.provider.reply(status=400, message="No such thing.")
    with pytest.raises(groq.BadRequestError, match="No such thing"):
        await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=WHERE))


async def streamed(mode: Mode) -> None:
    mode.provider.reply(text="East or west")
    stream = await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=WHERE, stream=True))
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in mode.items(stream)]) == "East or west"


async def closed(mode: Mode) -> None:
    mode.provider.reply(text="East or west")
    stream = await mode.wait(client_of(mode).chat.completions.create(model="llama", messages=WHERE, stream=True))
    await mode.next(stream)
    await mode.wait(stream.close())


async def raw(mode: Mode) -> None:
    mode.provider.reply(text="East")
    await mode.wait(client_of(mode).chat.completions.with_raw_response.create(model="llama", messages=WHERE))


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
