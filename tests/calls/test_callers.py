"""Callers: SDKs without a hook of their own, and reverse proxies, whose requests are calls by their path and body.

Each way of each caller has one span and one record, and the caller the same answer with and without callspan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import metadata
from typing import Any, Final, NamedTuple

import httpx
import pytest
from tests.support.calls import QUESTION, caught, the_call, usage_of
from tests.support.mode import Mode
from tests.support.telemetry import kept_spans

from callspan.testing import Capture, capture

pytestmark = [
    pytest.mark.usefixtures("no_settings", "keys"),
    pytest.mark.filterwarnings("default"),  # of the SDKs
]
TEXT: Final = "I am quite well."
COUNTS: Final[dict[str, Any]] = {"text": TEXT, "input_tokens": 20, "output_tokens": 9}
CHAT: Final = "chat_completions"
NOVA: Final = "amazon.nova-micro-v1:0"
HAIKU: Final = "anthropic.claude-3-haiku-20240307-v1:0"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_REGION_NAME": "us-east-1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


class Caller(NamedTuple):
    """One caller: how it asks for an answer or a stream, whose text it returns; what is recorded."""

    package: str
    ask: Callable[[Mode], Awaitable[str]]
    stream: Callable[[Mode, int | None], Awaitable[str]]
    """Reads so many items, or all of them."""
    api: str
    provider: str
    distribution: str = ""


def litellm(model: str, **options: Any) -> tuple[Any, Any]:
    """LiteLLM with a provider, whose URL is below that of the scripted one."""

    def arguments(mode: Mode) -> dict[str, Any]:
        placed = {name: value.format(url=mode.provider.url) for name, value in options.items()}
        return {"model": model, "messages": QUESTION, "api_key": "key-of-a-test", "num_retries": 0, **placed}

    async def ask(mode: Mode) -> str:
        package = pytest.importorskip("litellm", reason="litellm is not installed")
        answer = await mode.wait((package.acompletion if mode.is_async else package.completion)(**arguments(mode)))
        return str(answer.choices[0].message.content)

    async def stream(mode: Mode, number: int | None) -> str:
        package = pytest.importorskip("litellm", reason="litellm is not installed")
        method = package.acompletion if mode.is_async else package.completion
        chunks = await mode.wait(method(**arguments(mode), stream=True, stream_options={"include_usage": True}))
        return await text_of(mode, chunks, word_of_chat, number)

    return ask, stream


async def text_of(mode: Mode, chunks: Any, read: Callable[[Any], str | None], number: int | None) -> str:
    """The text of the first chunks of a stream, or of all."""
    words: list[str] = []
    async for chunk in mode.items(chunks):
        words.append(read(chunk) or "")
        if len(words) == number:
            break
    return "".join(words)


def word_of_chat(chunk: Any) -> str | None:
    return chunk.choices[0].delta.content if chunk.choices else None


def mistral_client(mode: Mode) -> Any:
    package = pytest.importorskip("mistralai.client", reason="mistralai is not installed")
    return package.Mistral(api_key="key-of-a-test", server_url=mode.provider.url)


async def ask_mistral(mode: Mode) -> str:
    chat = mistral_client(mode).chat
    method = chat.complete_async if mode.is_async else chat.complete
    answer = await mode.wait(method(model="m-1", messages=QUESTION))
    return str(answer.choices[0].message.content)


async def stream_mistral(mode: Mode, number: int | None) -> str:
    chat = mistral_client(mode).chat
    method = chat.stream_async if mode.is_async else chat.stream
    async with mode.entered(await mode.wait(method(model="m-1", messages=QUESTION))) as events:
        return await text_of(mode, events, lambda event: word_of_chat(event.data), number)


def hugging_client(mode: Mode) -> Any:
    package = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    kind = package.AsyncInferenceClient if mode.is_async else package.InferenceClient
    return kind(base_url=f"{mode.provider.url}/v1", api_key="key-of-a-test")


async def ask_hugging(mode: Mode) -> str:
    answer = await mode.wait(hugging_client(mode).chat.completions.create(model="m-1", messages=QUESTION))
    return str(answer.choices[0].message.content)


async def stream_hugging(mode: Mode, number: int | None) -> str:
    client, options = hugging_client(mode), {"stream": True, "stream_options": {"include_usage": True}}
    chunks = await mode.wait(client.chat.completions.create(model="m-1", messages=QUESTION, **options))
    return await text_of(mode, chunks, word_of_chat, number)


def cohere_client(mode: Mode) -> Any:
    package = pytest.importorskip("cohere", reason="cohere is not installed")
    kind = package.AsyncClientV2 if mode.is_async else package.ClientV2
    return kind(api_key="key-of-a-test", base_url=mode.provider.url)


async def ask_cohere(mode: Mode) -> str:
    answer = await mode.wait(cohere_client(mode).chat(model="m-1", messages=QUESTION))
    return str(answer.message.content[0].text)


async def stream_cohere(mode: Mode, number: int | None) -> str:
    def read(event: Any) -> str | None:
        return event.delta.message.content.text if event.type == "content-delta" else None

    return await text_of(mode, cohere_client(mode).chat_stream(model="m-1", messages=QUESTION), read, number)


def perplexity_client(mode: Mode) -> Any:
    """An SDK that is generated as openai's is, without hooks of its own."""
    package = pytest.importorskip("perplexity", reason="perplexityai is not installed")
    kind = package.AsyncPerplexity if mode.is_async else package.Perplexity
    return mode.keep(kind(api_key="key-of-a-test", base_url=f"{mode.provider.url}/v1", max_retries=0))


async def ask_perplexity(mode: Mode) -> str:
    answer = await mode.wait(perplexity_client(mode).chat.completions.create(model="m-1", messages=QUESTION))
    return str(answer.choices[0].message.content)


async def stream_perplexity(mode: Mode, number: int | None) -> str:
    client = perplexity_client(mode)
    chunks = await mode.wait(client.chat.completions.create(model="m-1", messages=QUESTION, stream=True))
    return await text_of(mode, chunks, word_of_chat, number)


def ollama_client(mode: Mode) -> Any:
    package = pytest.importorskip("ollama", reason="ollama is not installed")
    return (package.AsyncClient if mode.is_async else package.Client)(host=mode.provider.url)


async def ask_ollama(mode: Mode) -> str:
    return str((await mode.wait(ollama_client(mode).chat(model="m-1", messages=QUESTION))).message.content)


async def stream_ollama(mode: Mode, number: int | None) -> str:
    chunks = await mode.wait(ollama_client(mode).chat(model="m-1", messages=QUESTION, stream=True))
    return await text_of(mode, chunks, lambda chunk: chunk.message.content, number)


CALLERS: dict[str, Caller] = {
    "litellm anthropic": Caller("litellm", *litellm("anthropic/m-1", api_base="{url}"), "messages", "anthropic"),
    "litellm gemini": Caller(
        "litellm", *litellm("gemini/m-1", api_base="{url}/v1beta/models/m-1"), "generate_content", "gcp.gemini"
    ),
    "litellm converse": Caller(
        "litellm", *litellm(f"bedrock/converse/{NOVA}", aws_bedrock_runtime_endpoint="{url}"), "converse", "aws.bedrock"
    ),
    "litellm invoke": Caller(
        "litellm", *litellm(f"bedrock/invoke/{HAIKU}", aws_bedrock_runtime_endpoint="{url}"), "messages", "aws.bedrock"
    ),
    "litellm mistral": Caller("litellm", *litellm("mistral/m-1", api_base="{url}/v1"), CHAT, "unknown"),
    "litellm deepseek": Caller("litellm", *litellm("deepseek/m-1", api_base="{url}/v1"), CHAT, "unknown"),
    "litellm groq": Caller("litellm", *litellm("groq/m-1", api_base="{url}/v1"), CHAT, "unknown"),
    "litellm ollama": Caller("litellm", *litellm("ollama_chat/m-1", api_base="{url}"), "ollama_chat", "ollama"),
    "litellm openai": Caller("litellm", *litellm("openai/m-1", api_base="{url}/v1"), CHAT, "openai", "openai"),
    "mistralai": Caller("mistralai", ask_mistral, stream_mistral, CHAT, "mistral_ai"),
    "huggingface_hub": Caller("huggingface_hub", ask_hugging, stream_hugging, CHAT, "huggingface"),
    "perplexityai": Caller("perplexity", ask_perplexity, stream_perplexity, CHAT, "perplexity", "perplexityai"),
    "cohere": Caller("cohere", ask_cohere, stream_cohere, "cohere_chat", "cohere"),
    "ollama": Caller("ollama", ask_ollama, stream_ollama, "ollama_chat", "ollama"),
}


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest) -> Caller:
    caller = CALLERS[request.param]
    pytest.importorskip(caller.package, reason=f"{caller.package} is not installed")
    return caller


async def answered(caller: Caller, mode: Mode, *, stream: bool) -> str:
    mode.provider.reply(**COUNTS)
    return await (caller.stream(mode, None) if stream else caller.ask(mode))


async def test_one_span_and_one_record(caller: Caller, stream: bool, mode: Mode) -> None:
    bare = await answered(caller, mode, stream=stream)
    with capture() as seen:
        assert await answered(caller, mode, stream=stream) == bare == TEXT
        await mode.collect()
        record = the_call(seen)
    assert (record.text, record.outcome, record.request.stream or False) == (TEXT, "success", stream)
    assert (record.api, record.provider) == (caller.api, caller.provider)
    distribution = caller.distribution or caller.package
    assert record.sdk == f"{distribution}/{metadata.version(distribution)}"
    assert [one.status for one in record.attempts] == [200]
    if record.usage is not None or record.api != CHAT:  # not all ask chat streams for it
        assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (20, 9)


async def test_stream_that_is_left_ends_once(caller: Caller, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS, chunk_delay_s=0.02)
    await caller.stream(mode, 2)
    for _ in range(100):  # LiteLLM's threads refer to a stream for a while
        await mode.collect()
        if seen.records:
            break
        await asyncio.sleep(0.05)
    record = the_call(seen)
    assert record.stream is not None
    assert record.outcome in ("cancelled", "success")  # some read ahead
    assert record.stream.complete == (record.outcome == "success")


async def test_error_is_that_of_the_call(caller: Caller, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=400, message="This is wrong")
    error = await caught(caller.ask(mode))
    assert isinstance(error, Exception)
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.status) == ("error", "bad_input", 400)
    assert record.error.message == "This is wrong"


async def test_mistralai_omits_its_span_of_a_call(stream: bool, mode: Mode, seen: Capture) -> None:
    """The answer of a traced request would be read by a copy of the response. Other requests keep their span."""
    client = mistral_client(mode)
    provider, exporter = kept_spans()
    pytest.importorskip("mistralai.extra.observability").set_tracer_provider(client, provider)
    mode.provider.reply(**COUNTS)
    if stream:
        method = client.chat.stream_async if mode.is_async else client.chat.stream
        async with mode.entered(await mode.wait(method(model="m-1", messages=QUESTION))) as events:
            assert await text_of(mode, events, lambda event: word_of_chat(event.data), None) == TEXT
    else:
        method = client.chat.complete_async if mode.is_async else client.chat.complete
        await mode.wait(method(model="m-1", messages=QUESTION))
    assert (the_call(seen).outcome, the_call(seen).text) == ("success", TEXT)
    assert exporter.get_finished_spans() == ()
    with suppress(Exception):
        await mode.wait((client.files.list_async if mode.is_async else client.files.list)())
    assert [span.name for span in exporter.get_finished_spans()] != []


OF_LITELLM: Final = {"openai/m-1": "{}/v1", "anthropic/m-1": "{}", "gemini/m-1": "{}/v1beta/models/m-1"}


@pytest.mark.parametrize("model", OF_LITELLM)
async def test_request_of_litellm_that_timed_out_may_be_billed(model: str, mode: Mode) -> None:
    package = pytest.importorskip("litellm", reason="litellm is not installed")
    mode.provider.reply(hang=True, repeat=True)
    given = {"api_base": OF_LITELLM[model].format(mode.provider.url), "api_key": "k", "timeout": 0.5, "num_retries": 0}
    with capture() as seen:
        with pytest.raises(package.exceptions.Timeout):
            ask = package.acompletion if mode.is_async else package.completion
            await mode.wait(ask(model=model, messages=QUESTION, max_retries=0, **given))
        record = the_call(seen)
    assert (record.outcome, record.may_be_billed, record.cost) == ("timeout", 1, None)


@pytest.mark.parametrize("how", ["bytes", "lines", "raw"])
async def test_reverse_proxy_passes_the_same_bytes_on(how: str, stream: bool, mode: Mode) -> None:
    """An application that sends what it is asked to the provider and passes the answer on as it comes."""
    applications, responses = pytest.importorskip("starlette.applications"), pytest.importorskip("starlette.responses")
    routing = pytest.importorskip("starlette.routing")
    body = {"model": "m-1", "messages": QUESTION, "stream": stream, "stream_options": {"include_usage": True}}

    async def passed_on(request: Any) -> Any:
        sent = upstream.build_request("POST", "/v1/chat/completions", content=await request.body())
        answer = await upstream.send(sent, stream=True)
        pieces = {"bytes": answer.aiter_bytes, "lines": answer.aiter_lines, "raw": answer.aiter_raw}[how]()

        async def lines() -> Any:
            async for piece in pieces:
                yield piece if how != "lines" else f"{piece}\n"
            await answer.aclose()

        return responses.StreamingResponse(lines(), media_type=answer.headers["content-type"])

    async def through_proxy() -> str:
        mode.provider.reply(**COUNTS)
        asking = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://proxy")
        async with asking:
            response = await asking.post("/", json=body)
        return response.text.strip()

    application = applications.Starlette(routes=[routing.Route("/", passed_on, methods=["POST"])])
    async with httpx.AsyncClient(base_url=mode.provider.url) as upstream:
        bare = await through_proxy()
        with capture() as seen:
            assert len(await through_proxy()) == len(bare)
            record = the_call(seen)
    assert record.response is not None
    assert (record.outcome, record.response.unread) == ("success", how == "raw")
    assert record.text == (None if how == "raw" else TEXT)
