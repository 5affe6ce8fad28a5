"""In-memory transports that return exactly the given bytes, for both SDKs, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.support import sdks
from tests.support.mode import Mode

from callspan.testing import ScriptedProvider

EVENT_STREAM = {"content-type": "text/event-stream"}


def answer(sdk: str, *pieces: bytes | BaseException, headers: dict[str, str] | None = None) -> Callable[[Any], Any]:
    """A handler of requests: a response of these pieces; an exception among them is raised where it stands."""
    library = sdks.http_of(sdk)

    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            for piece in pieces:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece

    return lambda request: library.Response(200, headers=headers or EVENT_STREAM, stream=Pieces())


def client(mode: Mode, sdk: str, handler: Callable[[Any], Any], **options: Any) -> Any:
    """A client of that SDK and colour whose requests the handler answers."""
    library = sdks.http_of(sdk)
    kind = library.AsyncClient if mode.is_async else library.Client
    made = mode.openai if sdk == "openai" else mode.anthropic
    return made(http_client=kind(transport=library.MockTransport(handler)), **options)


def wire_of(sdk: str, text: str, **fields: Any) -> bytes:
    """The events of a streamed answer as the scripted provider sends them."""
    import urllib.request

    with ScriptedProvider() as provider:
        provider.reply(text=text, **fields)
        path = "/v1/chat/completions" if sdk == "openai" else "/v1/messages"
        request = urllib.request.Request(
            provider.url + path, data=b'{"model":"m","stream":true,"messages":[]}', method="POST"
        )
        with urllib.request.urlopen(request) as response:
            content: bytes = response.read()
    return content
