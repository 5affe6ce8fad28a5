"""The transports of a case: its responses from memory or over a loopback socket, with each read in the caller's log."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

from tests.fuzz.case import Answer, Case, Chunk
from tests.support.waiting import HANG_S

Log = Callable[..., None]
_VARIES = {"traceparent", "tracestate", "idempotency-key", "x-amz-date", "amz-sdk-request"}
_SIGNED = "AWS4-HMAC-SHA256 "
"""How a signature begins, which is another one every second."""
RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PORT = re.compile(r"127\.0\.0\.1(?::|', )\d+")
_FRAMING = ("content-length", "transfer-encoding")
_WITHOUT_BODY = (204, 304)
_INFORMATIONAL = 200
_ERRORS = {"OSError": OSError, "RuntimeError": RuntimeError, "ValueError": ValueError}


class Script:
    """The answers of the case that runs, from memory or a server."""

    def __init__(self, library: ModuleType) -> None:
        self.library = library
        self.log: Log = lambda *_: None
        self.answers: list[Answer] = []
        self.stalled: asyncio.Event | None = None

    def begin(self, case: Case, log: Log) -> None:
        """Answer the requests of this case from here on."""
        self.log, self.answers, self.stalled = log, list(case.answers), None

    def next(self) -> Answer:
        return self.answers.pop(0) if self.answers else Answer(500, [("content-type", "text/plain")])

    def answer(self, request: Any) -> Any:
        """Return the response of the next answer. Raises what the answer says."""
        # In their order; where tracing puts its own is not compared.
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        self.log("sent", request.method, str(request.url), comparable(headers), _text(request.content))
        answer = self.next()
        if answer.error is not None:
            raise self.error(answer.error, request)
        return self.library.Response(answer.status, headers=answer.headers, stream=_body(self, answer, request))

    async def delay(self, chunk: Chunk) -> None:
        """Wait before a piece, or until the caller is cancelled."""
        for _ in range(chunk.wait):
            await asyncio.sleep(0)
        if chunk.stall and self.stalled is not None:
            self.log("stalled")
            self.stalled.set()
            await asyncio.Event().wait()

    def error(self, name: str, request: Any) -> BaseException:
        """Return the exception of this name: of the HTTP library, else a built-in one."""
        if name in _ERRORS:
            return _ERRORS[name](f"scripted {name}")
        return getattr(self.library, name)(f"scripted {name}", request=request)


def comparable(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers as they came, with what varies made equal."""
    headers = list(headers)
    kept = [(name, PORT.sub("127.0.0.1:0", RANDOM_ID.sub("<id>", value))) for name, value in headers]
    varying = sorted((name.lower(), "<varies>") for name, value in headers if _varies(name, value))
    return [one for one in kept if not _varies(*one)] + varying


def _varies(name: str, value: str) -> bool:
    return name.lower() in _VARIES or value.startswith(_SIGNED)


def _text(content: bytes) -> str:
    return RANDOM_ID.sub("<id>", content.decode("latin-1"))


def _body(script: Script, answer: Answer, request: Any) -> Any:
    log, library = script.log, script.library

    def piece(number: int, chunk: Chunk) -> bytes:
        log("pulled", number)
        if chunk.error is not None:
            raise script.error(chunk.error, request)
        return chunk.data.encode("latin-1")

    class Body(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            for number, chunk in enumerate(answer.chunks):
                yield piece(number, chunk)
            log("pulled", "end")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number, chunk in enumerate(answer.chunks):
                await script.delay(chunk)
                yield piece(number, chunk)
            log("pulled", "end")

        def close(self) -> None:
            log("closed")

        async def aclose(self) -> None:
            log("closed")

    return Body()


class Server(ThreadingHTTPServer):
    """Answers from a script until the process ends."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.script = script
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, name="fuzz-server", daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Do nothing: callers close connections as they like."""


class _Connection(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = HANG_S

    def do_POST(self) -> None:
        script, size = self.server.script, int(self.headers.get("content-length", 0))
        script.log("sent", self.requestline, comparable(self.headers.items()), _text(self.rfile.read(size)))
        answer = script.next()
        self.close_connection = answer.error is not None or not self._respond(answer)

    do_GET = do_POST  # noqa: N815 - its name for the base class

    def _respond(self, answer: Answer) -> bool:
        """Send a response; return whether the connection goes on."""
        framed = any(name in _FRAMING for name, _ in answer.headers)
        chunked = not framed and len(answer.chunks) != 1 and answer.status not in _WITHOUT_BODY
        lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in answer.headers)]
        if chunked:
            lines.append("transfer-encoding: chunked")
        elif not framed and answer.chunks:
            lines.append(f"content-length: {len(answer.chunks[0].data)}")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if answer.status < _INFORMATIONAL:
            return False
        left = next((int(value) for name, value in answer.headers if name == "content-length"), sys.maxsize)
        for chunk in answer.chunks:
            if chunk.error is not None:
                return False
            # When more than was said comes is chance, and so is what aiohttp makes of it.
            data = chunk.data.encode("latin-1")[:left]
            left -= len(data)
            if data:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        return not framed and answer.status not in _WITHOUT_BODY

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def connections_of(client: Any) -> list[str]:
    """Return the connections of an HTTP client that are in use, without addresses.

    Whether one that the server closes is still known is a matter of time.
    """
    pool = getattr(client._transport, "_pool", None)
    shown = (PORT.sub("", repr(one)) for one in getattr(pool, "connections", ()))
    return sorted(one for one in shown if "ACTIVE" in one)
