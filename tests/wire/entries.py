"""The entry points of the SDKs: the same operation by each of them, with its result.

- `create`: the method of the resource; `beta`: the same of the beta resource, where there is one
- `raw`: `with_raw_response`, then `.parse()`
- `read`, `lines`: `with_streaming_response`, the body read whole or line by line
- `helper`: the stream helpers, `chat.completions.stream`, `responses.stream`, `messages.stream`, event by event
- `post`: `client.post(...)` with the path and the body, for values that no class describes
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from operator import attrgetter
from typing import Any

import anthropic
import openai

from tests.wire.corpus import Exchange

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


def pieces_of(entry: str, given: Any) -> Iterator[Any]:
    """Yield what a caller takes from a synchronous call: its value, or its chunks or lines one by one."""
    if entry == "raw":
        given = given.parse()
    if entry in {"read", "lines"}:
        with given as response:
            yield from response.iter_lines() if entry == "lines" else [response.read()]
    elif entry == "helper":
        with given as stream:
            yield from stream
    elif isinstance(given, openai.Stream | anthropic.Stream):
        yield from given
    else:
        yield given


async def async_pieces_of(entry: str, given: Any) -> AsyncIterator[Any]:
    """Yield what a caller takes from an asynchronous call."""
    if entry in {"read", "lines"}:
        async with given as response:
            if entry == "read":
                yield await response.read()
            else:
                async for line in response.iter_lines():
                    yield line
        return
    if entry == "helper":
        async with given as stream:
            async for event in stream:
                yield event
        return
    given = await given
    if entry == "raw":
        given = given.parse()
        given = await given if inspect.isawaitable(given) else given
    if isinstance(given, openai.AsyncStream | anthropic.AsyncStream):
        async for chunk in given:
            yield chunk
    else:
        yield given
