"""Uses of a model: by each SDK and HTTP library, as an application has them, with what it gets of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Final, TypeAlias

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests
from tests.support.calls import CHAT, MESSAGE

import callspan
from callspan.testing import ReceivedRequest, ScriptedProvider

PATH: Final = "/v1/chat/completions"
STREAMED: Final[dict[str, Any]] = {**CHAT, "stream": True}
REFUSED: Final = "refused-model"
SLOW: Final = "Slow down."
ASK: Final[dict[str, Any]] = {"model": "gemini-2.5-flash", "contents": "How are you?"}
CONVERSE: Final[dict[str, Any]] = {
    "modelId": "amazon.nova-micro-v1:0", "messages": [{"role": "user", "content": [{"text": "How are you?"}]}],
}  # fmt: skip
INVOKE: Final[dict[str, Any]] = {"modelId": "meta.llama3-8b-instruct-v1:0", "body": '{"prompt": "How are you?"}'}


NO_LIMITS: Final = httpx.Limits(max_connections=None)
"""For a connection whose response an interrupt has kept from its reader stays open."""


class Clients:
    """The clients of all SDKs for one provider, each made when it is first used, and an event loop."""

    def __init__(self, provider: ScriptedProvider) -> None:
        provider.reply(text="I am well.", repeat=True)
        provider.reply(status=429, message=SLOW, on=_is_refused, repeat=True)
        self.provider = provider
        self.loop = asyncio.new_event_loop()
        self._open = ExitStack()
        self._open.callback(self.loop.close)

    @cached_property
    def openai(self) -> openai.OpenAI:
        return self._open.enter_context(openai.OpenAI(api_key="k", base_url=self.provider.openai_url, max_retries=0))

    @cached_property
    def async_openai(self) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(api_key="k", base_url=self.provider.openai_url, max_retries=0)
        self._open.callback(lambda: self.loop.run_until_complete(client.close()))
        return client

    @cached_property
    def anthropic(self) -> anthropic.Anthropic:
        url = self.provider.anthropic_url
        return self._open.enter_context(anthropic.Anthropic(api_key="k", base_url=url, max_retries=0))

    @cached_property
    def http(self) -> httpx.Client:
        return self._open.enter_context(httpx.Client(base_url=self.provider.url, limits=NO_LIMITS))

    @cached_property
    def async_http(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=self.provider.url, limits=NO_LIMITS)
        self._open.callback(lambda: self.loop.run_until_complete(client.aclose()))
        return client

    @cached_property
    def requests(self) -> requests.Session:
        return self._open.enter_context(requests.Session())

    @cached_property
    def aiohttp(self) -> aiohttp.ClientSession:
        async def session() -> aiohttp.ClientSession:
            # A connection that is kept open keeps the stream of its last response.
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))

        made = self.loop.run_until_complete(session())
        self._open.callback(lambda: self.loop.run_until_complete(made.close()))
        return made

    @cached_property
    def google(self) -> Any:
        genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
        client = genai.Client(api_key="k", http_options={"base_url": self.provider.url})
        for owner, name in ((client.aio, "aclose"), (client, "close")):
            if hasattr(owner, name):  # older versions have none
                self._open.callback(self._close, getattr(owner, name))
        return client

    def _close(self, close: Callable[[], Any]) -> None:
        if (closing := close()) is not None:
            self.loop.run_until_complete(closing)

    @cached_property
    def bedrock(self) -> Any:
        boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}
        once = pytest.importorskip("botocore.config").Config(retries={"total_max_attempts": 1})
        url = self.provider.bedrock_url
        client = boto3.Session().client("bedrock-runtime", endpoint_url=url, config=once, **keys)
        self._open.callback(client.close)
        return client

    def settle(self) -> None:
        """Let the event loop close the async generators that an interrupt has left suspended."""
        for _ in range(3):
            gc.collect()
            for _ in range(4):
                self.loop.run_until_complete(asyncio.sleep(0))

    def close(self) -> None:
        self._open.close()


def _is_refused(request: ReceivedRequest) -> bool:
    return REFUSED in request.path or REFUSED.encode() in request.content


Use: TypeAlias = Callable[[Clients], Any]
"""Returns what the application gets, without what differs from one answer to another."""


def plain(clients: Clients) -> Any:
    return clients.openai.chat.completions.create(**CHAT).choices


def plain_async(clients: Clients) -> Any:
    return clients.loop.run_until_complete(clients.async_openai.chat.completions.create(**CHAT)).choices


def stream(clients: Clients) -> Any:
    return [type(event) for event in clients.anthropic.messages.create(**MESSAGE, stream=True)]


def left_stream(clients: Clients) -> Any:
    with clients.openai.chat.completions.create(**STREAMED) as chunks:
        return next(iter(chunks)).choices


@callspan.tool
def look_up(word: str) -> str:
    return word


def agent_step(clients: Clients) -> Any:
    with callspan.session("chat") as session, session.timestep():
        return plain(clients), look_up("weather")


def scopes(clients: Clients) -> Any:
    del clients
    with callspan.session("chat") as session, session.timestep():
        return look_up("weather")


def recorded(clients: Clients) -> None:
    with callspan.record_call(provider="vllm", model="m") as call:
        call.request(CHAT)
        call.response({"choices": [{"message": {"role": "assistant", "content": "Hello!"}}]})


def http(clients: Clients) -> Any:
    return clients.http.post(PATH, json=CHAT).json()["choices"]


def http_refused(clients: Clients) -> Any:
    response = clients.http.post(PATH, json={**CHAT, "model": REFUSED})
    return response.status_code, response.json()["error"]["message"]


def http_unsent(clients: Clients) -> Any:
    try:
        clients.http.post("http://127.0.0.1:1" + PATH, json=CHAT)
    except httpx.ConnectError as error:
        return type(error)
    raise AssertionError


def http_stream(clients: Clients) -> Any:
    with clients.http.stream("POST", PATH, json=STREAMED) as response:
        return len([*response.iter_lines()])


def http_raw(clients: Clients) -> Any:
    with clients.http.stream("POST", PATH, json=STREAMED) as response:
        return b"[DONE]" in b"".join(response.iter_raw())


def http_left(clients: Clients) -> Any:
    with clients.http.stream("POST", PATH, json=STREAMED) as response:
        return bool(next(response.iter_lines()))


def http_async(clients: Clients) -> Any:
    async def read() -> Any:
        async with clients.async_http.stream("POST", PATH, json=STREAMED) as response:
            return len([line async for line in response.aiter_lines()])

    return clients.loop.run_until_complete(read())


def by_requests(clients: Clients) -> Any:
    return clients.requests.post(clients.provider.url + PATH, json=CHAT).json()["choices"]


def requests_stream(clients: Clients) -> Any:
    with clients.requests.post(clients.provider.url + PATH, json=STREAMED, stream=True) as response:
        return len([*response.iter_lines()])


def requests_left(clients: Clients) -> Any:
    with clients.requests.post(clients.provider.url + PATH, json=STREAMED, stream=True) as response:
        return bool(next(response.iter_lines()))


def requests_raw(clients: Clients) -> Any:
    with clients.requests.post(clients.provider.url + PATH, json=STREAMED, stream=True) as response:
        return b"[DONE]" in response.raw.read()


def aiohttp_async(clients: Clients) -> Any:
    async def read() -> Any:
        async with session.post(clients.provider.url + PATH, json=CHAT) as response:
            return (await response.json())["choices"]

    session = clients.aiohttp
    return clients.loop.run_until_complete(read())


def aiohttp_async_stream(clients: Clients) -> Any:
    async def read() -> Any:
        async with session.post(clients.provider.url + PATH, json=STREAMED) as response:
            return len([line async for line in response.content])

    session = clients.aiohttp
    return clients.loop.run_until_complete(read())


def aiohttp_async_left(clients: Clients) -> Any:
    async def read() -> Any:
        async with session.post(clients.provider.url + PATH, json=STREAMED) as response:
            return bool(await response.content.readline())

    session = clients.aiohttp
    return clients.loop.run_until_complete(read())


def refusal_of(ask: Callable[[], object]) -> type[Exception]:
    """Return the class of the exception that the SDK raises; any other exception goes on."""
    try:
        ask()
    except Exception as error:
        if SLOW not in str(error):
            raise
        return type(error)
    raise AssertionError


def google(clients: Clients) -> Any:
    return clients.google.models.generate_content(**ASK).text


def google_refused(clients: Clients) -> Any:
    return refusal_of(lambda: clients.google.models.generate_content(**{**ASK, "model": REFUSED}))


def google_stream(clients: Clients) -> Any:
    return [chunk.text for chunk in clients.google.models.generate_content_stream(**ASK)]


def google_left(clients: Clients) -> Any:
    return next(clients.google.models.generate_content_stream(**ASK)).text


def google_async(clients: Clients) -> Any:
    async def read() -> Any:
        return [chunk.text async for chunk in await clients.google.aio.models.generate_content_stream(**ASK)]

    return clients.loop.run_until_complete(read())


def google_tools(clients: Clients) -> Any:
    return clients.google.models.generate_content(**ASK, config={"tools": [look_up]}).text


def converse(clients: Clients) -> Any:
    return clients.bedrock.converse(**CONVERSE)["output"]


def converse_refused(clients: Clients) -> Any:
    return refusal_of(lambda: clients.bedrock.converse(**{**CONVERSE, "modelId": REFUSED}))


def converse_stream(clients: Clients) -> Any:
    return [list(event) for event in clients.bedrock.converse_stream(**CONVERSE)["stream"]]


def converse_left(clients: Clients) -> Any:
    events = clients.bedrock.converse_stream(**CONVERSE)["stream"]
    first = next(iter(events))
    events.close()
    return first


def invoke_model(clients: Clients) -> Any:
    return clients.bedrock.invoke_model(**INVOKE)["body"].read()


def invoke_stream(clients: Clients) -> Any:
    return len([*clients.bedrock.invoke_model_with_response_stream(**INVOKE)["body"]])


GENERATED: Final = (plain, plain_async, stream, left_stream)
HTTP: Final = (
    http, http_refused, http_unsent, http_stream, http_raw, http_left, http_async,
    by_requests, requests_stream, requests_left, requests_raw, aiohttp_async,
    aiohttp_async_stream, aiohttp_async_left,
)  # fmt: skip
HOOKED: Final = (
    google, google_refused, google_stream, google_left, google_async, google_tools,
    converse, converse_refused, converse_stream, converse_left, invoke_model, invoke_stream,
)  # fmt: skip
BY_HAND: Final = (agent_step, scopes, recorded)
