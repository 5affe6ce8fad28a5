"""Server: receives OTLP by HTTP on loopback, in protobuf or JSON.

Any web page may post to loopback, and a forged record would become training data. So a request needs this server's Host
and no Origin: browsers send an Origin with every post, exporters never. If callspan sets a sender's address, the path
has a token; only an address that a user chose, as for `callspan receive`, works without one.

Each sender is bounded in bytes and time, and all together in bytes. A request is acknowledged once the inbox's thread
has written its records. If it may be taken later, the answer is 503, and exporters send it again.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, cast

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from callspan.receive.connections import Connections, UvicornServer
from callspan.receive.decoding import ENCODINGS, SIGNALS, Signal, TooLargeError, UndecodableError
from callspan.receive.inbox import Inbox
from callspan.receive.otlp_answers import JSON, PROTOBUF, RETRYABLE, acknowledged, refused
from callspan.receive.senders import Sender
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import in_child
from callspan.runtime.lock_free import LRUCache
from callspan.runtime.nothing import nothing

ADDRESS: Final = "127.0.0.1"
_MAX_BODY_BYTES: Final = 32 << 20
_MAX_BODIES_BYTES: Final = 256 << 20
"""Maximum size of all requests that are not answered yet."""
_MAX_BODY_S: Final = 10.0
_MAX_REQUESTS: Final = 64
_BACKLOG: Final = 64
_MAX_IDLE_S: Final = 3600
"""Longer than any exporter waits between two requests."""
_MAX_DISMISSED: Final = 256
_PATH: Final = re.compile(r"(/(?P<token>[\w-]{16,64}))?/v1/(?P<signal>\w{1,16})")
_TYPES: Final = (PROTOBUF, JSON)


class _BusyError(Exception):
    """There are too many requests."""


_REFUSED: Final[Mapping[type[Exception], tuple[int, str]]] = {
    _BusyError: (RETRYABLE, "while there are too many"),
    asyncio.TimeoutError: (RETRYABLE, "that take too long"),
    ClientDisconnect: (RETRYABLE, "that end too early"),
    TooLargeError: (413, "that are too large"),
    UndecodableError: (400, "that are no OTLP"),
}
"""Status and reason by exception."""
_TAKE: Final = fail_open("read a request of OTLP")


class OtlpServer:
    """The receiver at one port. Its senders may be added from any thread."""

    def __init__(
        self, inbox: Inbox, port: int, *, anybody: Sender | None = None, unrecorded: Callable[[str], object] = nothing
    ) -> None:
        """`port` 0: one that the kernel picks. `anybody`: who sends without a token; None: nobody may.

        `unrecorded` takes what is refused for good. Raises OSError if the port is in use.
        """
        self._unrecorded = unrecorded
        self._inbox = inbox
        self._listener = socket.create_server((ADDRESS, port), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        self._anybody = anybody
        self._senders: dict[str, Sender] = {}
        self._dismissed: LRUCache[str, Sender] = LRUCache(_MAX_DISMISSED)
        """Senders that have ended; what they started may still send."""
        self._connections = Connections()
        self._requests = 0
        self._bodies: dict[asyncio.Future[bytes], None] = {}
        """Bodies that are being received, oldest first."""
        self._bytes: dict[object, int] = {}
        """Bytes received of the body of each request that is not answered, by the address of its client."""
        self.heard = set[str]()
        """The tokens of senders that have sent something and not ended."""
        self.refused: Counter[str] = Counter()
        """Numbers of requests that were not acknowledged, by reason."""
        config = uvicorn.Config(
            self, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", loop="asyncio",
            http=self._connections.make,  # type: ignore[arg-type] # called as the class that it expects
            timeout_keep_alive=_MAX_IDLE_S, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = UvicornServer(config)
        in_child(self, OtlpServer.close)

    def admit(self, sender: Sender) -> str:
        """Return the token of a new sender, which is known until it is dismissed."""
        token = secrets.token_urlsafe(24)
        self._senders[token] = sender
        return token

    def sender_of(self, token: str) -> Sender | None:
        """Return the sender with this token, or without one."""
        return self._senders.get(token) or self._dismissed.get(token) if token else self._anybody

    def dismiss(self, token: str) -> None:
        """Forget a sender that has ended, once many others have ended since."""
        self.heard.discard(token)
        if (sender := self._senders.pop(token, None)) is not None:
            self._dismissed.put(token, sender)

    def url(self, token: str = "") -> str:
        """Return the base URL for OTLP of a sender."""
        return f"http://{ADDRESS}:{self.port}{token and f'/{token}'}"

    def serve(self) -> None:
        """Receive until `stop`, or an interrupt on the main thread."""
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Have `serve` return soon. Safe from any thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close the socket of a server that was not started; also in a forked child, which has no thread for it."""
        self._listener.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        request, address = Request(scope, receive), scope["client"]
        answer = Response("", 500)
        self._connections.begin_request(address)
        self._requests += 1
        try:
            with _TAKE:
                answer = await self._answer(request)
        except asyncio.CancelledError:  # the server stops
            answer = self._refuse(request, RETRYABLE, "while it ends")
        finally:
            self._requests -= 1
        with _TAKE:
            await answer(scope, receive, send)
        self._connections.end_request(address)

    async def _answer(self, request: Request) -> Response:
        is_browser = "origin" in request.headers or "sec-fetch-site" in request.headers
        if is_browser or request.headers.get("host") not in self._hosts:
            return self._refuse(request, 403, "of browsers, and for other hosts")
        path = _PATH.fullmatch(request.url.path)
        token, signal = ("", "") if path is None else (path["token"] or "", path["signal"])
        sender = self.sender_of(token)
        if sender is None or signal not in SIGNALS:
            return self._refuse(request, 404, "for other paths")
        if request.method != "POST":
            return self._refuse(request, 405, "of other methods")
        if _type_of(request) not in _TYPES:
            return self._refuse(request, 415, "of other types")
        if _encoding_of(request) not in ENCODINGS:
            return self._refuse(request, 415, "in other encodings")
        try:
            body = await self._whole_body(request)
            if token in self._senders:
                self.heard.add(token)
            return await self._take(cast("Signal", signal), body, sender, request)
        except tuple(_REFUSED) as error:
            return self._refuse(request, *_REFUSED[type(error)])
        finally:
            self._bytes.pop(request.client, None)

    async def _whole_body(self, request: Request) -> bytes:
        """Return the body, which comes within the limit, unless too many others begin meanwhile.

        Raises TooLargeError, _BusyError, asyncio.TimeoutError, ClientDisconnect.
        """
        if self._requests > _MAX_REQUESTS:
            if not self._bodies:
                raise _BusyError
            next(iter(self._bodies)).cancel()  # it has taken longest
        body = asyncio.ensure_future(self._body(request))
        self._bodies[body] = None
        try:
            return await asyncio.wait_for(body, _MAX_BODY_S)
        except asyncio.CancelledError:
            if self._server.should_exit or not body.cancelled():
                raise
            raise _BusyError from None
        finally:
            del self._bodies[body]

    async def _body(self, request: Request) -> bytes:
        """Return the body. Raises TooLargeError, _BusyError, ClientDisconnect."""
        pieces: list[bytes] = []
        try:
            async for piece in request.stream():
                pieces.append(piece)
                size = self._bytes[request.client] = self._bytes.get(request.client, 0) + len(piece)
                if size > _MAX_BODY_BYTES:
                    raise TooLargeError
                if sum(self._bytes.values()) > _MAX_BODIES_BYTES:
                    raise _BusyError
            return b"".join(pieces)
        finally:
            pieces.clear()  # the frames of an exception wait for the garbage collector

    async def _take(self, signal: Signal, body: bytes, sender: Sender, request: Request) -> Response:
        """Raises UndecodableError, TooLargeError."""
        content_type, encoding = _type_of(request), _encoding_of(request)
        receipt = await asyncio.wrap_future(
            self._inbox.take(signal, body, sender, is_protobuf=content_type == PROTOBUF, encoding=encoding)
        )
        if receipt is None:
            return self._refuse(request, RETRYABLE, "while no disk takes records")
        return Response(acknowledged(content_type, signal, *receipt), media_type=content_type)

    def _refuse(self, request: Request, status: int, reason: str) -> Response:
        self.refused[reason] += 1
        if status != RETRYABLE:
            self._unrecorded(f"OTLP requests {reason}")
        # Closed, since the rest of a body may follow.
        headers = {"connection": "close", **({"retry-after": "1"} if status == RETRYABLE else {})}
        content_type = PROTOBUF if _type_of(request) == PROTOBUF else JSON
        body = refused(content_type, status, f"callspan refuses requests {reason}.")
        return Response(body, status, headers, content_type)


def _type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _encoding_of(request: Request) -> str:
    return request.headers.get("content-encoding", "").strip().lower()
