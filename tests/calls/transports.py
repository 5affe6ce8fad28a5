"""In-memory transports that return exactly the given bytes, for both SDKs, sync and async."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

from tests.support import sdks
from tests.support.calls import Wire
from tests.support.mode import Mode

from callspan.testing import ScriptedProvider

EVENT_STREAM = {"content-type": "text/event-stream"}
NOWHERE: Any = SimpleNamespace(openai_url="http://localhost/v1", anthropic_url="http://localhost")
"""The addresses of a provider whose requests a handler answers."""


class Stall:
    """In place of bytes: nothing comes until the reader is cancelled (async only)."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


Piece = bytes | BaseException | Stall


def answer(sdk: str, *pieces: Piece, headers: dict[str, str] | None = None) -> Callable[[Any], Any]:
    """A handler of requests: a response of these pieces; an exception among them is raised where it stands."""
    library = sdks.http_of(sdk)

    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[Any]:
            for piece in pieces:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                if isinstance(piece, Stall):
                    await piece.wait()
                yield piece

    return lambda request: library.Response(200, headers=headers or EVENT_STREAM, stream=Pieces())


def wire(mode: Mode, sdk: str, handler: Callable[[Any], Any]) -> Wire:
    """An operation of that SDK and colour whose requests the handler answers."""
    library = sdks.http_of(sdk)
    kind = library.AsyncClient if mode.is_async else library.Client
    made = Wire("chat_completions" if sdk == "openai" else "messages", mode)
    made.one = made.client(http_client=kind(transport=library.MockTransport(handler)))
    return made


def wire_of(sdk: str, text: str, *, stream: bool = True) -> bytes:
    """An answer as the scripted provider sends it: its events, or its body."""
    path = "/v1/chat/completions" if sdk == "openai" else "/v1/messages"
    asked = json.dumps({"model": "m", "stream": stream, "messages": []}).encode()
    with ScriptedProvider() as provider:
        provider.reply(text=text)
        with urllib.request.urlopen(urllib.request.Request(provider.url + path, asked, method="POST")) as response:
            content: bytes = response.read()
    return content


def cache(mode: Mode, sdk: str, **extensions: object) -> Any:
    """An HTTP client that keeps each answer, and gives it again to an equal request with these extensions."""
    library, kept = sdks.http_of(sdk), {}

    def known(request: Any) -> Any:
        found = kept.get(request.content)
        return found and library.Response(200, headers=found[0], content=found[1], extensions=extensions)

    def keep(request: Any, answer: Any) -> Any:
        kept[request.content] = {"content-type": answer.headers["content-type"]}, answer.content
        return library.Response(200, headers=kept[request.content][0], content=answer.content)

    class Cache(library.HTTPTransport):  # type: ignore[name-defined,misc]
        def handle_request(self, request: Any) -> Any:
            request.read()
            if (found := known(request)) is None:
                answer = super().handle_request(request)
                answer.read()
                found = keep(request, answer)
            return found

    class AsyncCache(library.AsyncHTTPTransport):  # type: ignore[name-defined,misc]
        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            if (found := known(request)) is None:
                answer = await super().handle_async_request(request)
                await answer.aread()
                found = keep(request, answer)
            return found

    return library.AsyncClient(transport=AsyncCache()) if mode.is_async else library.Client(transport=Cache())


def answering(mode: Mode, sdk: str, body: object) -> Any:
    """An HTTP client that answers each request with this body, without a connection."""
    library = sdks.http_of(sdk)
    transport = library.MockTransport(lambda request: library.Response(200, json=body))
    return library.AsyncClient(transport=transport) if mode.is_async else library.Client(transport=transport)
