"""Sockets: a loopback server that returns a case's responses over HTTP/1.1, with its delays."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from typing import Any

from tests.fuzz.case import Answer, Case
from tests.fuzz.transport import Log, comparable_body, comparable_headers

_PATIENCE_S = 20.0
_PORT = re.compile(rb"127\.0\.0\.1:\d+")
_FRAMING = ("content-length", "transfer-encoding")
_WITHOUT_BODY = (204, 304)
_INFORMATIONAL = 200


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
            headers.append((name, _PORT.sub(b"127.0.0.1:0", value)))
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
    shown = (re.sub(r"127\.0\.0\.1:\d+", "", repr(one)) for one in getattr(pool, "connections", ()))
    return sorted(one for one in shown if "ACTIVE" in one)
