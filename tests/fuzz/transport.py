"""The transports of a case: its responses from memory or over a loopback socket, with each read in the caller's log."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from tests.fuzz.case import Answer, Case, Chunk

Log = Callable[..., None]
_VARIES = {"traceparent", "tracestate", "idempotency-key"}
RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PATIENCE_S = 20.0
PORT = re.compile(r"127\.0\.0\.1:\d+")
_FRAMING = ("content-length", "transfer-encoding")
_WITHOUT_BODY = (204, 304)
_INFORMATIONAL = 200


class Script:
    """The answers of the case that runs, shared by the cached clients of one SDK."""

    def __init__(self, library: ModuleType) -> None:
        self.library = library
        self.log: Log = lambda *_: None
        self.answers: list[Answer] = []
        self.stalled: asyncio.Event | None = None

    def begin(self, case: Case, log: Log) -> None:
        """Answer the requests of this case from here on."""
        self.log, self.answers, self.stalled = log, list(case.answers), None

    def answer(self, request: Any) -> Any:
        """Return the response of the next answer. Raises what the answer says."""
        self.log("sent", request.method, str(request.url), headers_of(request), comparable_body(request.content))
        answer = self.answers.pop(0) if self.answers else Answer(500, [("content-type", "text/plain")])
        if answer.error is not None:
            raise self.error(answer.error, request)
        body = _body(self, answer, request)
        return self.library.Response(answer.status, headers=answer.headers, stream=body)

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
        kind = getattr(self.library, name, None)
        if kind is not None:
            failed: BaseException = kind(f"scripted {name}", request=request)
            return failed
        builtin: BaseException = {"OSError": OSError, "RuntimeError": RuntimeError, "ValueError": ValueError}[name](
            f"scripted {name}"
        )
        return builtin


def headers_of(request: Any) -> list[tuple[str, str]]:
    """Return the headers as sent, in order, with what varies made equal; where tracing puts its own is not compared."""
    return comparable_headers(request.headers.raw)


def comparable_headers(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return headers as they came, what varies made equal."""
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    kept = [(name, RANDOM_ID.sub("<id>", value)) for name, value in headers if name.lower() not in _VARIES]
    return [*kept, *sorted((name.lower(), "<varies>") for name, _ in headers if name.lower() in _VARIES)]


def comparable_body(content: bytes) -> str:
    """Return the bytes of a body, one character each, random ids made equal."""
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


def transport_of(script: Script) -> Any:
    """Return a transport of the SDK's HTTP library, sync and async."""
    library = script.library

    class Scripted(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[name-defined,misc]
        def handle_request(self, request: Any) -> Any:
            request.read()
            return script.answer(request)

        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            return script.answer(request)

    return Scripted()


class Server:
    """Takes connections until the process ends. What it receives it notes in the log of the case."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._log: Log = lambda *_: None
        self._answers: list[Answer] = []
        threading.Thread(target=self._accept, name="fuzz-server", daemon=True).start()

    def begin(self, case: Case, log: Log) -> None:
        """Answer the requests of this case from here on."""
        self._log, self._answers = log, list(case.answers)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), name="fuzz-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while self._one(connection, reader):
                pass

    def _one(self, connection: socket.socket, reader: Any) -> bool:
        """Answer one request; return whether the connection goes on."""
        first = reader.readline()
        if not first:
            return False
        headers: list[tuple[bytes, bytes]] = []
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.rstrip(b"\r\n").partition(b": ")
            headers.append((name, PORT.sub("127.0.0.1:0", value.decode("latin-1")).encode("latin-1")))
        size = next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
        self._log("sent", first.decode("latin-1"), comparable_headers(headers), comparable_body(reader.read(size)))
        answer = self._answers.pop(0) if self._answers else Answer(500, [("content-type", "text/plain")])
        return answer.error is None and _respond(connection, answer)


def _respond(connection: socket.socket, answer: Answer) -> bool:
    framed = any(name in _FRAMING for name, _ in answer.headers)
    chunked = not framed and len(answer.chunks) != 1 and answer.status not in _WITHOUT_BODY
    lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in answer.headers)]
    if chunked:
        lines.append("transfer-encoding: chunked")
    elif not framed and answer.chunks:
        lines.append(f"content-length: {len(answer.chunks[0].data)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if answer.status < _INFORMATIONAL:
        return False
    for chunk in answer.chunks:
        if chunk.error is not None:
            return False
        data = chunk.data.encode("latin-1")
        if data:
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
    if chunked:
        connection.sendall(b"0\r\n\r\n")
    return not framed and answer.status not in _WITHOUT_BODY


def connections_of(client: Any) -> list[str]:
    """Return the connections of an SDK's client that are in use, without addresses.

    Whether one that the server closes is still known is a matter of time.
    """
    transport = getattr(client._client, "_transport", None)
    pool = getattr(transport, "_pool", None)
    shown = (PORT.sub("", repr(one)) for one in getattr(pool, "connections", ()))
    return sorted(one for one in shown if "ACTIVE" in one)
