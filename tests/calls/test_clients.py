"""Clients: platforms and other SDKs, HTTP clients, their requests that are no attempts, middleware of anthropic."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import anthropic
import openai
import pytest
from tests.support import sdks
from tests.support.calls import (
    CHAT,
    MESSAGE,
    QUESTION,
    ask,
    bedrock,
    caught,
    client_class,
    client_of,
    text_of,
    the_call,
    usage_of,
)
from tests.support.mode import Mode

import callspan
from callspan.testing import Capture

PLATFORMS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # class of the client: what it needs, path of its URL, name of the provider, what is in the paths of its requests
    "AnthropicBedrock": ({}, "", "aws.bedrock", "/model/claude-sonnet-5/invoke"),
    "AnthropicVertex": (
        {"region": "us-east5", "project_id": "p", "access_token": "t"}, "/v1", "gcp.vertex_ai", "awPredict",
    ),
    "AnthropicFoundry": ({"api_key": "k"}, "/anthropic", "azure.ai.inference", "/anthropic/v1/messages"),
    "AnthropicBedrockMantle": ({"api_key": "k", "aws_region": "us-east-1"}, "", "aws.bedrock", "/v1/messages"),
    "AzureOpenAI": ({"api_key": "k", "api_version": "2024-10-21"}, "", "azure.ai.openai", "/deployments/gpt-5/"),
    "BedrockOpenAI": ({"api_key": "k", "aws_region": "us-east-1"}, "/v1", "aws.bedrock", "/chat/completions"),
}  # fmt: skip


def client_on(platform: str, mode: Mode) -> Any:
    if platform == "AnthropicBedrock":
        return bedrock(mode)
    if platform == "AnthropicVertex":
        pytest.importorskip("google.auth", reason="google-auth is not installed")
    options, path, _, _ = PLATFORMS[platform]
    url = {"azure_endpoint" if platform == "AzureOpenAI" else "base_url": f"{mode.provider.url}{path}"}
    kind = client_class(anthropic if platform.startswith("Anthropic") else openai, platform, mode)
    return mode.keep(kind(**options, **url, max_retries=0))


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_platform_calls_use_platform_framing(platform: str, stream: bool, mode: Mode, seen: Capture) -> None:
    _, _, name, path = PLATFORMS[platform]
    mode.provider.reply(text="I am quite well.", input_tokens=20, cache_read_tokens=5, output_tokens=4)
    client = client_on(platform, mode)
    await mode.whole(ask(client, stream=stream))
    model = "gpt-5" if hasattr(client, "chat") else "claude-sonnet-5"
    record = the_call(seen)
    assert (record.provider, record.outcome, text_of(record)) == (name, "success", "I am quite well.")
    assert record.request.model == model, "read before the platform takes it out of the body"
    assert record.stream is None or (record.stream.end, record.stream.complete) == ("complete", True)
    assert path in mode.provider.requests[0].path
    assert [attempt.status for attempt in record.attempts] == [200]
    if record.api == "messages":
        counts = usage_of(record).input_tokens, usage_of(record).cache_read_tokens, usage_of(record).output_tokens
        assert counts == (20, 5, 4), "Anthropic's rule on any platform"


async def test_application_subclass_keeps_platform_name(mode: Mode, seen: Capture) -> None:
    ours = type("Ours", (client_class(openai, "AzureOpenAI", mode),), {})
    client = mode.keep(ours(api_key="k", api_version="2024-10-21", azure_endpoint=mode.provider.url))
    await mode.wait(ask(client))
    assert the_call(seen).provider == "azure.ai.openai"


async def test_call_records_platform_and_server(mode: Mode, seen: Capture) -> None:
    """By the SDK's `provider`, by a whole URL, and by a class that learns its own only later."""
    providers = pytest.importorskip("openai.providers", reason="needs an SDK with providers")
    proxied = providers.bedrock(region="us-west-2", api_key="k", base_url=f"{mode.provider.url}/v1")
    await mode.wait(ask(mode.keep(client_class(openai, "OpenAI", mode)(provider=proxied))))
    url = f"{mode.provider.url}/v1/chat/completions"
    await mode.wait(mode.openai(base_url="https://api.openai.com/v1").post(url, body=CHAT, cast_to=object))
    later = type("AnthropicGoogleCloud", (client_class(anthropic, "Anthropic", mode),), {})
    with pytest.raises(anthropic.APIConnectionError):
        await mode.wait(ask(mode.keep(later(api_key="k", base_url="", max_retries=0))))
    assert seen.records[0].provider == "aws.bedrock"
    assert [call.server_address for call in seen.records[1:]] == ["127.0.0.1", "claude.googleapis.com"]


async def test_bedrock_exception_frame_is_an_error_and_keeps_text(mode: Mode, seen: Capture) -> None:
    sdks.needs("anthropic", "2.0", "errors out of Bedrock's exception frames")
    mode.provider.reply(text="one two three four", error_after=5, error_type="throttlingException", message="slow")
    with pytest.raises(anthropic.APIError):
        await mode.whole(bedrock(mode).messages.create(**MESSAGE, stream=True))
    record = the_call(seen)
    assert record.outcome == "error"
    assert text_of(record)


LLAMA: dict[str, Any] = {"model": "llama", "messages": QUESTION}
ALIKE: dict[str, tuple[str, str, str | None, int]] = {
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
OTHER_SDKS = {
    # how it is imported, its client, its name in package indexes
    "groq": ("groq", "Groq", "groq"),
    "together": ("together", "Together", "together"),
    "fireworks": ("fireworks", "Fireworks", "fireworks-ai"),
    "cerebras": ("cerebras.cloud.sdk", "Cerebras", "cerebras-cloud-sdk"),
}
"""SDKs with the same methods for chats as openai's, by the names of their providers."""


def client_alike(mode: Mode, sdk: str) -> Any:
    package, title, _ = OTHER_SDKS[sdk]
    kind = getattr(pytest.importorskip(package), f"Async{title}" if mode.is_async else title)
    return mode.keep(kind(api_key="key-of-a-test", base_url=mode.provider.url, max_retries=1))


async def ask_alike(mode: Mode, sdk: str, way: str) -> None:
    client = client_alike(mode, sdk)
    if way == "embedded":
        sdks.needs_name(client, "embeddings.create")
        await mode.wait(client.embeddings.create(model="llama", input="Where to?"))
    elif way == "heard":
        sdks.needs_name(client, "audio.transcriptions.create")
        await mode.wait(client.audio.transcriptions.create(model="llama", file=("a.wav", b"sound")))
    elif way == "raw":
        await mode.wait(client.chat.completions.with_raw_response.create(**LLAMA))
    elif way in ("streamed", "closed"):
        stream = await mode.wait(client.chat.completions.create(**LLAMA, stream=True))
        await (mode.all(stream) if way == "streamed" else mode.next(stream))
        await mode.wait(stream.close())
    else:
        await mode.wait(client.chat.completions.create(**LLAMA))


@pytest.mark.parametrize("way", ALIKE)
@pytest.mark.parametrize("sdk", OTHER_SDKS)
async def test_sdk_calls_record_one_span_and_one_record(sdk: str, way: str, mode: Mode, seen: Capture) -> None:
    if way in ("retried", "failed"):
        mode.provider.reply(status=429 if way == "retried" else 400, retry_after_s=0.001)
    mode.provider.reply(text="East", input_tokens=12, output_tokens=3)
    error = await caught(ask_alike(mode, sdk, way))
    assert type(error).__name__ == ("BadRequestError" if way == "failed" else "NoneType")
    record, distribution = the_call(seen), OTHER_SDKS[sdk][2]
    assert (record.api, record.outcome, record.stream and record.stream.end, record.retries) == ALIKE[way]
    assert (record.provider, record.request.model) == (sdk, "llama")
    assert record.sdk == f"{distribution}/{metadata.version(distribution)}"
    assert (seen.spans[0].attributes or {})["gen_ai.provider.name"] == sdk
    if way == "plain":
        assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (12, 3)
        assert text_of(record) == "East"


def test_sdk_has_instrumentor_entry_point_and_extra() -> None:
    points = {point.name: point.value for point in metadata.entry_points(group="opentelemetry_instrumentor")}
    distributions = {sdk: distribution for sdk, (_, _, distribution) in OTHER_SDKS.items()}
    distributions |= {"openai": "openai", "anthropic": "anthropic", "google": "google-genai"}
    for sdk, distribution in distributions.items():
        name = points[f"callspan-{sdk}"].partition(":")[2]
        (requirement,) = getattr(callspan, name)().instrumentation_dependencies()
        assert requirement.startswith(f"{distribution} >=")
        assert sdk in (metadata.metadata("callspan").get_all("Provides-Extra") or [])


def aiohttp(mode: Mode, sdk: str) -> Any:
    module: Any = openai if sdk == "openai" else anthropic
    if not mode.is_async or not hasattr(module, "DefaultAioHttpClient"):
        pytest.skip(f"{mode.name} clients of {sdk} {module.__version__} have no aiohttp transport")
    try:
        return module.DefaultAioHttpClient()
    except (ImportError, RuntimeError) as missing:
        pytest.skip(f"the aiohttp transport of this version needs another package: {missing}")


def older(mode: Mode, sdk: str) -> Any:
    if sdk != "openai":
        pytest.skip("anthropic takes no client of another library")
    sdks.needs("openai", "3.0", "a newer HTTP library beside which the older one is accepted")
    httpx = pytest.importorskip("httpx", reason="the older HTTP library is not installed")
    return httpx.AsyncClient() if mode.is_async else httpx.Client()


def overriding(mode: Mode, sdk: str) -> Any:
    """One that overrides `send` and calls the library's."""
    library = sdks.http_of(sdk)

    class Own(library.Client):  # type: ignore[name-defined,misc]
        def send(self, request: Any, **kwargs: Any) -> Any:
            return super().send(request, **kwargs)

    class OwnAsync(library.AsyncClient):  # type: ignore[name-defined,misc]
        async def send(self, request: Any, **kwargs: Any) -> Any:
            return await super().send(request, **kwargs)

    return OwnAsync() if mode.is_async else Own()


@pytest.mark.parametrize("http_client", [aiohttp, older, overriding])
async def test_any_http_client_records_attempts(
    http_client: Callable[[Mode, str], Any], stream: bool, sdk: str, mode: Mode, seen: Capture
) -> None:
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(text="I am well.")
    client = client_of(mode, sdk, max_retries=1, http_client=http_client(mode, sdk))
    await mode.whole(ask(client, stream=stream))
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
    assert [attempt.status for attempt in record.attempts] == [429, 200]


async def test_transport_request_is_not_an_attempt(mode: Mode, seen: Capture) -> None:
    """As an exchange of tokens does it: another request over the same library, while the call is running."""
    library = sdks.http_of("openai")
    url = f"{mode.provider.openai_url}/models"

    class Exchange(library.Auth):  # type: ignore[name-defined,misc]
        def sync_auth_flow(self, request: Any) -> Any:
            with library.Client() as other:
                other.get(url)
            yield request

        async def async_auth_flow(self, request: Any) -> Any:
            async with library.AsyncClient() as other:
                await other.get(url)
            yield request

    kind = library.AsyncClient if mode.is_async else library.Client
    await mode.wait(mode.openai(http_client=kind(auth=Exchange())).chat.completions.create(**CHAT))
    record = the_call(seen)
    assert len(mode.provider.requests) == 2
    assert len(record.attempts) == 1


async def test_response_replaced_by_middleware_is_observed(stream: bool, mode: Mode, seen: Capture) -> None:
    """A new HTTP response in place of the one that came: a copy of its bytes under another object."""
    sdks.needs("anthropic", "0.125", "middleware")
    kind = sdks.http_of("anthropic").Response

    def replaced(came: Any, content: bytes) -> Any:
        old = came.http_response
        headers = {"content-type": old.headers["content-type"]}
        came.http_response = kind(200, headers=headers, content=content, request=old.request)
        return came

    def handle(request: Any, call_next: Any) -> Any:
        came = call_next(request)
        return replaced(came, came.http_response.read())

    async def handle_async(request: Any, call_next: Any) -> Any:
        came = await call_next(request)
        return replaced(came, await came.http_response.aread())

    mode.provider.reply(text="I am well.")
    client = mode.anthropic(middleware=[handle_async if mode.is_async else handle])
    await mode.whole(ask(client, stream=stream))
    record = the_call(seen)
    assert (record.outcome, text_of(record), len(record.attempts)) == ("success", "I am well.", 1)


async def test_middleware_answer_has_no_attempts(mode: Mode, seen: Capture) -> None:
    sdks.needs("anthropic", "0.125", "middleware")
    kept = anthropic.types.Message(
        id="msg_kept", type="message", role="assistant", model="claude-sonnet-5", stop_reason="end_turn",
        content=[anthropic.types.TextBlock(type="text", text="From the cache.")],
        usage=anthropic.types.Usage(input_tokens=3, output_tokens=4),
    )  # fmt: skip

    async def answers(request: Any, call_next: Any) -> Any:
        return kept

    client = mode.anthropic(middleware=[answers if mode.is_async else lambda request, call_next: kept])
    assert await mode.wait(ask(client)) is kept
    assert mode.provider.requests == []
    record = the_call(seen)
    assert (record.outcome, text_of(record), record.attempts) == ("success", "From the cache.", [])
    assert usage_of(record).input_tokens == 3
