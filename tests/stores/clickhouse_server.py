"""A ClickHouse server on loopback: the HTTP protocol in front of the embedded engine, with injected failures."""

from __future__ import annotations

import ast
import email
import gzip
import re
import threading
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from callspan.stores.clickhouse.connection import connect

_UNPACK: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}


class ClickHouseServer:
    """Answers each request with the embedded engine's result, unless set to fail."""

    def __init__(self, directory: Path) -> None:
        self.engine: Client = connect(f"clickhouse+chdb://{directory}")
        self.refusals: list[tuple[int, str]] = []
        """Status and text for the next inserts, which are not done."""
        self.lost_answers = 0
        """How many of the next inserts are done and never answered."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"clickhouse://ann:secret@127.0.0.1:{self._server.server_address[1]}/default"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.engine.close()

    def answer(self, parameters: dict[str, str], body: bytes) -> tuple[int, bytes, str] | None:
        """Return status, body and format; None: hang up without an answer."""
        with self._lock:
            self.engine.command(f"USE `{parameters.get('database', 'default')}`")
            query = parameters.pop("query", "") or body.decode()
            if query.lstrip().upper().startswith("INSERT INTO") and "FORMAT" in query:
                return self._insert(query, body)
            try:
                return 200, self._ask(query, parameters), "Native"
            except ClickHouseError as error:
                return 500, str(error).encode(), ""

    def _ask(self, query: str, parameters: dict[str, str]) -> bytes:
        bound = {name[6:]: _value(text) for name, text in parameters.items() if name.startswith("param_")}
        settings = {name: parameters[name] for name in ("final", "cast_keep_nullable") if name in parameters}
        query, _, wanted = query.partition("\n FORMAT ")
        if not wanted and not query.startswith(("SELECT", "EXISTS")):
            self.engine.command(query)
            return b""
        return self.engine.raw_query(query, bound or None, settings=settings, fmt=wanted.strip() or "TabSeparated")

    def _insert(self, query: str, body: bytes) -> tuple[int, bytes, str] | None:
        if self.refusals:
            status, text = self.refusals.pop(0)
            return status, text.encode(), ""
        table = query.split()[2].strip("`")
        _, _, after = body.partition(b"\n") if body.lstrip().upper().startswith(b"INSERT") else (b"", b"", body)
        try:
            self.engine.raw_insert(table, insert_block=after, fmt="JSONEachRow")
        except ClickHouseError as error:
            return 500, str(error).encode(), ""
        if self.lost_answers:
            self.lost_answers -= 1
            return None
        return 200, b"", ""


def _value(text: str) -> object:
    """A query parameter as it was before the driver wrote it down."""
    plain = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text)
    return ast.literal_eval(plain) if plain.startswith("[") else plain


def _handler(server: ClickHouseServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            parameters = dict(parse_qsl(urlsplit(self.path).query))
            kind = self.headers.get("Content-Type") or ""
            if kind.startswith("multipart/"):
                # What is too long for an address comes as a form.
                form = email.message_from_bytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
                for part in form.walk():
                    name = part.get_param("name", header="content-disposition")
                    if isinstance(name, str):
                        parameters[name] = bytes(part.get_payload(decode=True)).decode()
                body = b""
            answer = server.answer(parameters, body)
            if answer is None:
                self.close_connection = True
                return
            status, data, _ = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-ClickHouse-Summary", "{}")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 - the name the base class looks for

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return _UNPACK[self.headers.get("Content-Encoding")](data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
