"""The objects that the application gets: their attributes are the SDK's, and they die as early as without callspan."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple

import aiohttp
import httpx
import pytest
import requests
from tests.calls.bedrock_clients import ASK, LLAMA
from tests.calls.bedrock_clients import client_of as bedrock_client
from tests.calls.google_clients import client_of as google_client
from tests.support.mode import Mode
from tests.support.waiting import until_async

from callspan.testing import Capture, capture

pytestmark = [
    pytest.mark.usefixtures("no_settings", "keys"),
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CHAT: Final[dict[str, Any]] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Way(NamedTuple):
    """One kind of object that the application gets."""

    opened: Callable[[Mode], Awaitable[Any]]
    parts: tuple[str, ...]
    """The paths of what is inside it; empty for itself."""
    items: Callable[[Any], Any]
    """Returns what is iterated."""


async def openai_stream(mode: Mode) -> Any:
    return await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))


async def openai_raw(mode: Mode) -> Any:
    raw = mode.openai().chat.completions.with_raw_response
    return await mode.wait(raw.create(**CHAT, stream=True))


async def anthropic_stream(mode: Mode) -> Any:
    return await mode.wait(mode.anthropic().messages.create(**CHAT, max_tokens=9, stream=True))


async def wire(mode: Mode) -> Any:
    client = mode.keep(Closed(httpx.AsyncClient() if mode.is_async else httpx.Client(), mode)).client
    request = client.build_request("POST", f"{mode.provider.openai_url}/chat/completions", json=CHAT | {"stream": True})
    return await mode.wait(client.send(request, stream=True))


async def other_wire(mode: Mode) -> Any:
    """By requests; async by aiohttp."""
    session = mode.keep(aiohttp.ClientSession() if mode.is_async else requests.Session())
    options = {} if mode.is_async else {"stream": True}
    url = f"{mode.provider.openai_url}/chat/completions"
    return await mode.wait(session.post(url, json=CHAT | {"stream": True}, **options))


class Closed:
    def __init__(self, client: Any, mode: Mode) -> None:
        self.client, self._mode = client, mode

    def close(self) -> Any:
        return self.client.aclose() if self._mode.is_async else self.client.close()


async def google(mode: Mode) -> Any:
    """What the client reads its streams from, before it yields their chunks."""
    client = google_client(mode)._api_client
    request = client._build_request(
        "post",
        "models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
        None,
    )
    send = client._async_request if mode.is_async else client._request
    return await mode.wait(send(request, None, stream=True))


async def converse(mode: Mode) -> Any:
    return (await mode.wait((await bedrock_client(mode)).converse_stream(**ASK)))["stream"]


async def invoked_stream(mode: Mode) -> Any:
    ask = {"modelId": LLAMA, "body": json.dumps({"prompt": "Hi"})}
    return (await mode.wait((await bedrock_client(mode)).invoke_model_with_response_stream(**ask)))["body"]


async def invoked(mode: Mode) -> Any:
    ask = {"modelId": LLAMA, "body": json.dumps({"prompt": "Hi"})}
    return (await mode.wait((await bedrock_client(mode)).invoke_model(**ask)))["body"]


def itself(got: Any) -> Any:
    return got


def bytes_of(response: Any) -> Any:
    return response.aiter_bytes() if isinstance(response.stream, httpx.AsyncByteStream) else response.iter_bytes()


def raw_bytes_of(response: Any) -> Any:
    return response.aiter_raw() if isinstance(response.stream, httpx.AsyncByteStream) else response.iter_raw()


def content_of(response: Any) -> Any:
    return response.iter_content(None) if hasattr(response, "iter_content") else response.content.iter_any()


def lines_of(response: Any) -> Any:
    return response.iter_lines() if hasattr(response, "iter_lines") else aiter(response.content)


def body_of(response: Any) -> Any:
    return response.raw.stream() if hasattr(response, "raw") else response.content.iter_chunks()


def segments_of(answer: Any) -> Any:
    is_sync = hasattr(answer.response_stream, "iter_bytes") and not hasattr(answer.response_stream.stream, "aclose")
    return answer.segments() if is_sync else answer.async_segments()


_HTTPX: Final = ("", "stream", "stream._stream")
_IN_RESPONSE: Final = ("response.stream", "response.stream._stream")
WAYS: Final = {
    "stream of openai": Way(openai_stream, ("", "_iterator", "response", *_IN_RESPONSE), itself),
    "raw stream of openai": Way(openai_raw, ("", "http_response", "http_response.stream"), lambda raw: raw.parse()),
    "stream of anthropic": Way(anthropic_stream, ("", "_iterator", "response", "response.stream"), itself),
    "bytes of httpx": Way(wire, _HTTPX, bytes_of),
    "raw bytes of httpx": Way(wire, _HTTPX, raw_bytes_of),
    "content of requests or aiohttp": Way(other_wire, ("",), content_of),
    "lines of requests or aiohttp": Way(other_wire, ("",), lines_of),
    "body of requests or aiohttp": Way(other_wire, ("",), body_of),
    "answer of google-genai": Way(google, ("", "response_stream"), segments_of),
    "stream of Bedrock": Way(converse, ("", "_raw_stream", "_event_generator"), itself),
    "invoked stream of Bedrock": Way(invoked_stream, ("", "_raw_stream", "_event_generator"), itself),
    "body of Bedrock": Way(invoked, ("", "_raw_stream"), lambda body: body.iter_chunks(7)),
}  # fmt: skip
ACTS: Final = ("read", "left", "raised", "closed", "dropped", "read after a pause")
"""What the application does with it."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, mode: Mode) -> Way:
    if mode.is_async and "Bedrock" in request.param:
        pytest.importorskip("aiobotocore", reason="aiobotocore is not installed")
    return WAYS[request.param]


def parts_of(got: Any, way: Way) -> dict[str, Any]:
    """Its parts by path, but for responses of aiohttp, which change as their bytes arrive."""
    parts = {path: part(got, path) for path in way.parts}
    return {path: value for path, value in parts.items() if not type(value).__module__.startswith("aiohttp")}


def part(got: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        got = getattr(got, name)
    return got


def attributes(value: Any) -> dict[str, str]:
    """The attributes of an object, with the name of what each is an instance of."""
    own = getattr(value, "__dict__", {})
    return {
        name: f"{attribute.__class__.__module__}.{attribute.__class__.__qualname__}" for name, attribute in own.items()
    }


def unbound(value: Any) -> list[str]:
    """The methods of its class that are not bound to an object when they are read from it."""
    names = {name for kind in type(value).__mro__ for name, own in vars(kind).items() if isinstance(own, FunctionType)}
    methods = {name: getattr(value, name) for name in names if not name.startswith("__")}
    return [
        name for name, method in methods.items() if not isinstance(method, MethodType) or method.__self__ is not value
    ]


async def shape(mode: Mode, way: Way) -> list[object]:
    """Attributes and types of an object and what is inside it: as it comes, and once it was read."""
    mode.provider.reply(text="I am quite well.")
    got = await way.opened(mode)
    shapes: list[object] = []
    for _ in range(2):
        parts = parts_of(got, way)
        shapes += [{path: (value.__class__.__name__, attributes(value)) for path, value in parts.items()}]
        shapes += [{path: unbound(value) for path, value in parts.items()}]
        if not shapes[2:]:
            items = way.items(got)
            shapes += [(items.__class__.__name__, getattr(items, "__qualname__", None))]
            await mode.all(items)
    return shapes


async def test_attributes_are_those_of_the_sdk(way: Way, mode: Mode) -> None:
    bare = await shape(mode, way)
    with capture() as seen:
        ours = await shape(mode, way)
        assert len(seen.records) == 1
    assert ours == bare


async def used(act: str, mode: Mode, way: Way, got: Any) -> None:
    if act == "dropped":
        return
    if act == "closed":
        close = getattr(got, "aclose" if mode.is_async and hasattr(got, "aclose") else "close", None)
        if close is not None:
            await mode.wait(close())
        return
    items = way.items(got)
    if act == "read after a pause":
        async for _ in mode.items(items):
            break
        with suppress(Exception):
            await mode.all(items if way.items is not itself else got)
        return
    with suppress(ValueError):
        async for _ in mode.items(items):
            if act == "left":
                break
            if act == "raised":
                raise ValueError


async def live_parts(act: str, mode: Mode, way: Way) -> dict[str, bool]:
    """Which parts still live once the application has dropped the object, without the collector."""
    mode.provider.reply(text="I am quite well.")
    born: dict[str, weakref.ref[Any]] = {}

    async def use() -> None:
        got = await way.opened(mode)
        for path, value in parts_of(got, way).items():
            with suppress(TypeError):  # a slotted object
                born[path] = weakref.ref(value)
        await used(act, mode, way, got)

    gc.collect()
    gc.disable()
    try:
        await use()
        for _ in range(4):
            await asyncio.sleep(0)
        return {path: reference() is not None for path, reference in born.items()}
    finally:
        gc.enable()


@pytest.mark.parametrize("act", ACTS)
async def test_object_dies_as_early_as_without_callspan(act: str, way: Way, mode: Mode) -> None:
    bare = await live_parts(act, mode, way)
    with capture() as seen:
        ours = await live_parts(act, mode, way)
        await mode.close()  # aiohttp keeps an open response until its connection ends
        await until_async(lambda: gc.collect() >= 0 and seen.records)
        assert len(seen.records) == 1
    assert {path for path, lives in ours.items() if lives} <= {path for path, lives in bare.items() if lives}


KEPT: Final[dict[str, tuple[str, str]]] = {
    "read of a body": ("body of Bedrock", "read"),
    "read of the stream in a body": ("body of Bedrock", "_raw_stream.read"),
    "close of a stream": ("stream of Bedrock", "close"),
    "segments": ("answer of google-genai", "segments"),
    "iterated bytes": ("bytes of httpx", "iter_bytes"),
    "next of a stream": ("stream of openai", "__next__"),
}


@pytest.mark.parametrize("name", KEPT)
async def test_method_may_outlive_its_object(name: str, provider: Any) -> None:
    row, path = KEPT[name]
    mode = Mode("sync", provider)

    async def result() -> object:
        provider.reply(text="I am quite well.")
        method = part(await WAYS[row].opened(mode), path)
        await mode.collect()
        returned = method()
        return len(list(returned)) if hasattr(returned, "__next__") else type(returned)

    bare = await result()
    with capture() as seen:
        assert await result() == bare
        await mode.collect()
        assert len(seen.records) == 1
    await mode.close()


async def test_error_of_a_second_task_is_not_that_of_the_stream(way: Way, mode: Mode, seen: Capture) -> None:
    """The SDK refuses a task while another one waits for an item; the first one reads on."""
    if not mode.is_async:
        pytest.skip("one thread reads")
    mode.provider.reply(text="I am quite well.", first_token_delay_s=0.2, chunk_delay_s=0.02)
    items = aiter(way.items(await way.opened(mode)))
    first = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0.05)
    with suppress(RuntimeError, StopAsyncIteration):
        await anext(items)
    await first
    await mode.all(items)
    await mode.collect()
    assert [record.outcome for record in seen.records] == ["success"]
