"""A receiver of spans that refuses, hangs, loses its answers and restarts; it remembers what it took."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import Self

FAULTS = ("refuses", "asks to wait", "hangs", "loses its answer", "breaks off", "is away")


class UnreliableReceiver:
    """Listens on one port of loopback until it is closed. Safe from any thread."""

    def __init__(self, seed: int, *, hang_s: float) -> None:
        self.faulty = 0.0
        """How many of the requests meet a fault: 0 none, 1 all."""
        self.refuses_all = False
        self.spans: dict[str, bytes] = {}
        """What it took, by the id of the span."""
        self.parents: dict[str, str] = {}
        self.changed: list[str] = []
        """Spans that came again and were not the same."""
        self.met: Counter[str] = Counter()
        """Faults that requests have met."""
        self._chance, self._faults = random.Random(seed), cycle(FAULTS)
        self._hang_s = hang_s
        self._lock = threading.Lock()
        self._handled = 0
        """Requests whose fate is decided and whose spans may still have to be taken."""
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._listen()

    @property
    def url(self) -> str:
        return f"otlp+http://127.0.0.1:{self.port}"

    def refuse_all(self) -> None:
        """Take nothing more; return when what had come before is taken."""
        self.refuses_all = True
        while self._handled:
            time.sleep(0.005)

    @contextmanager
    def fault(self) -> Iterator[str]:
        """Give what happens to a request, empty: nothing. It is taken within the block or not at all."""
        with self._lock:
            self._handled += 1
            if self.refuses_all:
                found = "refuses"
            else:
                found = next(self._faults) if self._chance.random() < self.faulty else ""
                self.met[found] += 1
        try:
            yield found
        finally:
            with self._lock:
                self._handled -= 1

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._take(span)

    def _take(self, span: Any) -> None:
        ident, encoded = span.span_id.hex(), span.SerializeToString()
        if self.spans.setdefault(ident, encoded) != encoded:
            self.changed.append(span.name)
        if span.parent_span_id:
            self.parents[ident] = span.parent_span_id.hex()

    def restart(self, away_s: float) -> None:
        """Stop listening for some time."""
        threading.Thread(target=self._restart, args=(away_s,), daemon=True).start()

    def _restart(self, away_s: float) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            time.sleep(away_s)
            self._listen()

    def _listen(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self, self._hang_s))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._server = server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._server is None:
            time.sleep(0.01)
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: UnreliableReceiver, hang_s: float) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with receiver.fault() as fault:
                if fault == "breaks off":
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers["content-length"]))
                if fault == "is away":
                    receiver.restart(0.2)
                if fault in ("", "hangs", "loses its answer", "is away"):
                    receiver.take(body)
            if fault == "hangs":
                time.sleep(hang_s)
            if fault in ("hangs", "loses its answer"):
                self.close_connection = True
                return
            self.send_response({"refuses": 503, "asks to wait": 429}.get(fault, 200))
            if fault == "asks to wait":
                self.send_header("retry-after", "0.05")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return Handler
