"""Replays recorded exchanges through the real SDKs: a mock transport answers.

The same request goes through the SDK (fields that a method does not know go into `extra_body`), never retried; a
stream is cut into pieces of any size. What the caller got is an `Outcome`, comparable between an instrumented and a
bare run. Nothing here knows the code under test. The entry points, each with the same operation:

- `create`: the method of the resource; `beta`: the same of the beta resource, where there is one
- `raw`: `with_raw_response`, then `.parse()`
- `read`, `lines`: `with_streaming_response`, the body read whole or line by line
- `helper`: the stream helpers, `chat.completions.stream`, `responses.stream`, `messages.stream`, event by event
- `post`: `client.post(...)` with the path and the body, for values that no class describes
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import anthropic
import httpx2
import openai
from tests.support.mode import Colour
from tests.support.waiting import HANG_S
from tests.wire.corpus import Exchange
from typing_extensions import Self

ENTRIES = ("create", "beta", "raw", "read", "lines", "post")

HELPED = ("chat_completions", "responses", "messages")
"""Endpoints whose streams have a helper (entry `helper`, which is for streams only)."""

_METHODS = {
    "chat_completions": ("chat.completions", "create", "/chat/completions"),
    "completions": ("completions", "create", "/completions"),
    "embeddings": ("embeddings", "create", "/embeddings"),
    "responses": ("responses", "create", "/responses"),
    "compact": ("responses", "compact", "/responses/compact"),
    "input_tokens": ("responses.input_tokens", "count", "/responses/input_tokens"),
    "retrieve": ("responses", "retrieve", "/responses/"),
    "messages": ("messages", "create", "/v1/messages"),
    "count_tokens": ("messages", "count_tokens", "/v1/messages/count_tokens"),
}
"""Resource, method and logical path of each operation."""
_BELOW_RESPONSES = ("compact", "input_tokens")
_WRAPPERS = {"raw": "with_raw_response", "read": "with_streaming_response", "lines": "with_streaming_response"}
"""Any explicit value: the anthropic SDK refuses long plain calls that have none."""
HAVE_BETA = ("messages", "count_tokens")
SEEN = (openai.OpenAIError, anthropic.AnthropicError, ValueError, TypeError, RuntimeError)
"""What callers of the SDKs see of recorded answers; anything else is a failure of the test."""
STREAMS = (openai.Stream, openai.AsyncStream, anthropic.Stream, anthropic.AsyncStream)
LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller got: a value or the pieces of one, an exception, or pieces and then an exception."""

    taken: list[Any]
    """The value, or the chunks or lines one by one, as plain data."""
    error: str | None = None
    """Class of the exception."""
    message: str | None = None


@dataclass
class Wire:
    """Stands for the network: answers every request with the exchange that is on."""

    pieces: int | None = None
    """Bytes per piece of a stream; None sends the body whole."""
    on: Exchange = field(init=False)
    """The exchange that is being replayed."""
    sent: list[httpx2.Request] = field(default_factory=list)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of a client of either colour."""
        self.sent.append(request)
        if self.on.status is None:
            raise httpx2.ConnectError("no answer was recorded", request=request)
        headers, whole = {**self.on.headers, "content-type": self.on.mime}, self.on.body.encode()
        if self.pieces is None or not self.on.stream:
            return httpx2.Response(self.on.status, headers=headers, content=whole)
        return httpx2.Response(self.on.status, headers=headers, stream=Pieces(whole, self.pieces))


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body in pieces of a size."""

    def __init__(self, whole: bytes, size: int) -> None:
        self._pieces = [whole[start : start + size] for start in range(0, len(whole), size)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Replayer:
    """Plays exchanges one after the other through one set of clients, all sync or all async."""

    def __init__(self, *, asynchronous: bool, pieces: int | None = None, entry: str = "create") -> None:
        """Clients are made when first needed; `entry` is one of ENTRIES."""
        self.wire = Wire(pieces)
        self._asynchronous = asynchronous
        self._entry = entry
        self._clients: dict[str, Any] = {}
        self._colour = Colour("async" if asynchronous else "sync")
        self._loop = asyncio.new_event_loop()
        kind: Any = httpx2.AsyncClient if asynchronous else httpx2.Client
        self._http = kind(transport=httpx2.MockTransport(self.wire.answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        close = self._http.aclose if self._asynchronous else self._http.close
        self._loop.run_until_complete(self._colour.wait(close()))
        self._loop.close()

    def play(self, exchange: Exchange) -> Outcome:
        """Return what the caller of this exchange gets."""
        self.wire.on = exchange
        self.wire.sent.clear()
        entry = "create" if self._entry == "beta" and exchange.endpoint not in HAVE_BETA else self._entry
        return self._loop.run_until_complete(self._played(entry, call_of(entry, self._client(exchange), exchange)))

    async def _played(self, entry: str, call: Callable[[], Any]) -> Outcome:
        taken: list[Any] = []
        try:
            async for piece in pieces_of(self._colour, entry, call()):
                taken.append(plain(piece))
        except SEEN as error:
            return Outcome(taken, f"{type(error).__module__}.{type(error).__qualname__}", str(error))
        return Outcome(taken)

    def sent_body(self) -> object:
        """Return the JSON body of the last request, as it left the SDK; None where it had none."""
        content = self.wire.sent[-1].content if self.wire.sent else b""
        return json.loads(content) if content else None

    def _client(self, exchange: Exchange) -> Any:
        key = exchange.host + exchange.path
        if key not in self._clients:
            self._clients[key] = self._new_client(exchange)
        return self._clients[key]

    def _new_client(self, exchange: Exchange) -> Any:
        scheme = "http" if exchange.host.startswith(LOCAL) else "https"
        origin = f"{scheme}://{exchange.host}"
        common: dict[str, Any] = {"api_key": "test", "max_retries": 0, "http_client": self._http, "timeout": HANG_S}
        if exchange.endpoint in {"messages", "count_tokens"}:
            return _class(anthropic, "Anthropic", self._asynchronous)(base_url=origin, **common)
        if "/deployments/" in exchange.path:
            deployment = exchange.path.split("/deployments/")[1].split("/")[0]
            azure = _class(openai, "AzureOpenAI", self._asynchronous)
            return azure(azure_endpoint=origin, azure_deployment=deployment, api_version="2024-06-01", **common)
        return _class(openai, "OpenAI", self._asynchronous)(base_url=origin + base_path(exchange.path), **common)


def base_path(path: str) -> str:
    """Return what a client's base URL has of the recorded path: all before the operation."""
    for operation in ("/chat/completions", "/completions", "/responses", "/embeddings"):
        before, found, _ = path.partition(operation)
        if found:
            return before
    return path


def _class(module: Any, name: str, asynchronous: bool) -> Any:
    return getattr(module, f"Async{name}" if asynchronous else name)


def plain(result: Any) -> Any:
    """Return what the caller got with its class, as plain data, unknown fields and the request's id included."""
    if hasattr(result, "model_dump"):
        dumped = result.model_dump(warnings=False)
        return type(result).__qualname__, dumped, getattr(result, "_request_id", None)
    return result


def call_of(entry: str, client: Any, exchange: Exchange) -> Callable[[], Any]:
    """Return what makes the call: called, it gives what the SDK gives (for an async client, to be awaited)."""
    resource_name, name, path = _METHODS[operation(exchange)]
    if entry == "post":
        return _post(client, path, exchange)
    resource = attrgetter(resource_name)(client.beta if entry == "beta" else client)
    if entry == "helper":
        request = {key: value for key, value in (exchange.request or {}).items() if key != "stream"}
        return lambda: resource.stream(**_arguments(resource.stream, request))
    arguments = _arguments(getattr(resource, name), exchange.request or {"response_id": exchange.last})
    wrapped = getattr(resource, _WRAPPERS[entry]) if entry in _WRAPPERS else resource
    return lambda: getattr(wrapped, name)(**arguments)


def operation(exchange: Exchange) -> str:
    """Return which operation of the SDK makes this exchange: its endpoint, or one below `/responses`."""
    if exchange.method == "GET":
        return "retrieve"
    return exchange.last if exchange.last in _BELOW_RESPONSES else exchange.endpoint


def _post(client: Any, path: str, exchange: Exchange) -> Callable[[], Any]:
    sdk = anthropic if isinstance(client, anthropic.Anthropic | anthropic.AsyncAnthropic) else openai
    if exchange.method == "GET":
        return lambda: client.get(path + exchange.last, cast_to=object)
    asynchronous = isinstance(client, anthropic.AsyncAnthropic | openai.AsyncOpenAI)
    stream: Any = sdk.AsyncStream if asynchronous else sdk.Stream
    more: dict[str, Any] = {"stream": True, "stream_cls": stream[object]} if exchange.stream else {}
    return lambda: client.post(path, body=exchange.request, cast_to=object, **more)


def _arguments(method: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    """Split a recorded body into the arguments the method knows and an `extra_body` of the others."""
    parameters = inspect.signature(method).parameters
    known = {name: value for name, value in request.items() if name in parameters}
    unknown = {name: value for name, value in request.items() if name not in parameters}
    for name, parameter in parameters.items():
        if name not in known and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            known[name] = openai.omit
    return {**known, **({"extra_body": unknown} if unknown else {})}


async def pieces_of(colour: Colour, entry: str, given: Any) -> AsyncIterator[Any]:
    """Yield what a caller takes from a call of either colour: its value, or its chunks or lines one by one."""
    if entry in {"read", "lines", "helper"}:
        async with colour.entered(given) as entered:
            if entry == "read":
                yield await colour.wait(entered.read())
                return
            async for piece in colour.items(entered.iter_lines() if entry == "lines" else entered):
                yield piece
        return
    given = await colour.wait(given)
    if entry == "raw":
        given = await colour.wait(given.parse())
    if isinstance(given, STREAMS):
        async for chunk in colour.items(given):
            yield chunk
    else:
        yield given
