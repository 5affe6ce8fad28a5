"""Server: receives OTLP by HTTP on loopback, in protobuf or JSON.

Any web page may post to loopback, and a forged record is training data. So a request needs the Host of this server and
no Origin: browsers send one with every post, exporters never. Where callspan sets the address of a sender, the path
has a token; only an address that a user chose, as for `callspan receive`, works without.

A sender is bounded in bytes and time, and there may be only a few at once. Each request is acknowledged once its
records are written, by the thread of the inbox.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Final, cast

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from callspan.fail_open import fail_open
from callspan.forks import in_child
from callspan.lock_free import LRUCache
from callspan.receive.decoding import SIGNALS, Signal, UndecodableError
from callspan.receive.inbox import Inbox
from callspan.receive.senders import Sender

ADDRESS: Final = "127.0.0.1"
MISSING_PROTOBUF: Final = 'http/protobuf needs opentelemetry-proto: pip install "callspan[otlp]"'
_MAX_BODY_BYTES: Final = 32 << 20
_MAX_UNPACKED_BYTES: Final = 64 << 20
_MAX_BODY_S: Final = 10.0
_MAX_AT_ONCE: Final = 8
_MAX_CONNECTIONS: Final = 64
_MAX_SENDERS: Final = 256
_PATH: Final = re.compile(r"(/(?P<token>[\w-]{16,64}))?/v1/(?P<signal>\w{1,16})")
_UNDECODABLE: Final = "that are no OTLP"
_GZIP: Final = 16 + zlib.MAX_WBITS
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_RETRYABLE: Final = 503
_EMPTY: Final = {_PROTOBUF: b"", _JSON: b"{}"}
"""The answer to an acknowledged request, by its type."""
_TAKE: Final = fail_open("read a request of OTLP")


class OtlpServer:
    """The receiver at one port. Its senders may be added from any thread."""

    def __init__(
        self, inbox: Inbox, port: int, *, anybody: Sender | None = None, unrecorded: Callable[[str], object] = bool
    ) -> None:
        """`port` 0: one that the kernel picks. `anybody`: who sends without a token; None: nobody may.

        `unrecorded` takes what is refused for good. Raises OSError if the port is in use.
        """
        self._unrecorded = unrecorded
        self._inbox = inbox
        self._listener = socket.create_server((ADDRESS, port), backlog=_MAX_CONNECTIONS)
        self.port: int = self._listener.getsockname()[1]
        self._hosts = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        self._anybody = anybody
        self._senders: LRUCache[str, Sender] = LRUCache(_MAX_SENDERS)
        self._slots: asyncio.Semaphore | None = None
        self.heard: LRUCache[str, object] = LRUCache(_MAX_SENDERS)
        """The tokens of senders that have sent something."""
        self.refused: Counter[str] = Counter()
        """Numbers of requests that were not acknowledged, by reason."""
        config = uvicorn.Config(
            self, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", loop="asyncio",
            limit_concurrency=_MAX_CONNECTIONS, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        in_child(self, OtlpServer.close)

    def admit(self, sender: Sender) -> str:
        """Return the token of a new sender."""
        token = secrets.token_urlsafe(24)
        self._senders.put(token, sender)
        return token

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
        answer = Response("", 500)
        with _TAKE:
            answer = await self._answer(Request(scope, receive))
        with _TAKE:
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        is_browser = "origin" in request.headers or "sec-fetch-site" in request.headers
        if is_browser or request.headers.get("host") not in self._hosts:
            return self._refuse(403, "of browsers, and for other hosts")
        path = _PATH.fullmatch(request.url.path)
        token, signal = ("", "") if path is None else (path["token"] or "", path["signal"])
        sender = self._senders.get(token) if token else self._anybody
        if sender is None or signal not in SIGNALS:
            return self._refuse(404, "for other paths")
        if request.method != "POST":
            return self._refuse(405, "of other methods")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in _EMPTY:
            return self._refuse(415, "of other types")
        self._slots = self._slots or asyncio.Semaphore(_MAX_AT_ONCE)
        async with self._slots:
            try:
                body = await asyncio.wait_for(_body(request), _MAX_BODY_S)
            except (asyncio.TimeoutError, ClientDisconnect):
                return self._refuse(408, "that take too long")
            except _TooLargeError:
                return self._refuse(413, "that are too large")
            except zlib.error:
                return self._refuse(400, _UNDECODABLE)
            self.heard.put(token, sender)
            return await self._take(cast("Signal", signal), body, sender, content_type)

    async def _take(self, signal: Signal, body: bytes, sender: Sender, content_type: str) -> Response:
        try:
            is_written = await asyncio.wrap_future(
                self._inbox.take(signal, body, sender, is_protobuf=content_type == _PROTOBUF)
            )
        except UndecodableError:
            return self._refuse(400, _UNDECODABLE)
        except ImportError:
            return self._refuse(501, MISSING_PROTOBUF)
        if not is_written:
            answer = self._refuse(_RETRYABLE, "while no disk takes records")
            answer.headers["retry-after"] = "1"
            return answer
        return Response(_EMPTY[content_type], media_type=content_type)

    def _refuse(self, status: int, reason: str) -> Response:
        self.refused[reason] += 1
        if status != _RETRYABLE:
            self._unrecorded(f"OTLP requests {reason}")
        # Closed, since the rest of a body may follow.
        return PlainTextResponse(f"callspan refuses requests {reason}.\n", status, {"connection": "close"})


class _TooLargeError(Exception):
    pass


async def _body(request: Request) -> bytes:
    """Return the body, unpacked. Raises _TooLargeError, zlib.error, ClientDisconnect.

    Nothing large is left to the frames of an exception, which wait for the garbage collector in a task.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            body.clear()
            raise _TooLargeError
    if request.headers.get("content-encoding", "").strip().lower() != "gzip":
        return bytes(body)
    unpacking = zlib.decompressobj(_GZIP)
    unpacked = unpacking.decompress(body, _MAX_UNPACKED_BYTES)
    if not unpacking.eof:
        unpacked = b""
        if unpacking.unconsumed_tail:
            raise _TooLargeError
        raise zlib.error("incomplete")
    return unpacked
