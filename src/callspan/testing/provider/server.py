"""The scripted provider: an HTTP server on loopback with the APIs of several providers."""

from __future__ import annotations

import contextlib
import gzip
import socket
import socketserver
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from callspan.testing.provider.answer import Answer, StreamEvent
from callspan.testing.provider.realtime_session import RealtimeSession
from callspan.testing.provider.rendering import Rendering, Route, event_bytes, family_of, find_route, render
from callspan.testing.provider.script import (
    DEFAULT_REPLY,
    Line,
    Match,
    ReceivedRequest,
    Reply,
    ReplyFields,
    Script,
)
from callspan.testing.provider.stored_responses import StoredResponses

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


_JOIN_S = 5.0
_GZIP = 31
_FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\nx-should-retry: false\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b"
)


class Server(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1 from its construction, with one thread per connection."""

    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, answer: Callable[[ReceivedRequest], Rendering]) -> None:
        self.answer = answer
        self.closing = threading.Event()
        self.failures: list[Exception] = []
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Connection)
        self._thread = threading.Thread(target=self._serve, name="callspan-scripted-provider", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and end all threads. Idempotent."""
        if self.closing.is_set():
            return
        self.closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self.socket.getsockname(), _JOIN_S).close()  # `_serve` waits for one
        self._thread.join(_JOIN_S)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_JOIN_S)

    def _serve(self) -> None:
        while not self.closing.is_set():
            self.handle_request()

    def verify_request(self, request: object, client_address: object) -> bool:
        """Refuse the connection that `stop` makes to wake the server."""
        del request, client_address
        return not self.closing.is_set()

    def process_request(self, request: Any, client_address: object) -> None:
        """Serve one connection in a new thread, which `stop` joins."""
        thread = threading.Thread(target=self._serve_connection, args=(request, client_address), daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def _serve_connection(self, connection: socket.socket, client_address: object) -> None:
        self.process_request_thread(connection, client_address)
        with self._lock:
            del self._connections[connection]

    def handle_error(self, request: Any, client_address: object) -> None:  # noqa: ARG002 (socketserver's signature)
        """Store an exception of a responder for `ScriptedProvider.close`, and prevent retries of the client."""
        failure = sys.exc_info()[1]
        if isinstance(failure, Exception) and not isinstance(failure, ConnectionError):
            self.failures.append(failure)
        body = msgspec.json.encode(
            {"error": {"message": f"The responder of the scripted provider raised {failure!r}."}}
        )
        with contextlib.suppress(OSError):
            request.sendall(_FAILED % (len(body), body))


class Connection(BaseHTTPRequestHandler):
    """One connection of a client, with its requests in sequence."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    _packer: zlib._Compress | None = None

    def handle(self) -> None:
        """Serve until the connection is closed."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _serve(self) -> None:
        request = self._read()
        rendering = self.server.answer(request)
        if rendering.reply.hang:
            self._wait_for_hang_up()
            return
        self.wait(rendering.reply.delay_s)
        if rendering.serve is not None:
            self.close_connection = True
            rendering.serve(self)
        elif rendering.events is None:
            self._send_body(rendering)
        else:
            self.send_events(rendering, self.timed(rendering.reply, rendering.events))

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve  # noqa: N815 (http.server's names)

    def _read(self) -> ReceivedRequest:
        content = self._read_content()
        address = urlsplit(self.path)
        try:
            json = _json(content)
        except msgspec.DecodeError:
            json = None
        return ReceivedRequest(
            method=self.command,
            path=address.path,
            query=dict(parse_qsl(address.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            content=content,
            json=json,
            time_ns=time.monotonic_ns(),
        )

    def _read_content(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send_head(self, rendering: Rendering, **framing: str) -> None:
        self.send_response(rendering.status)
        framed = {name.replace("_", "-"): value for name, value in framing.items()}
        for name, value in {**framed, **rendering.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_body(self, rendering: Rendering) -> None:
        body = gzip.compress(rendering.body) if rendering.reply.gzip else rendering.body
        self._send_head(rendering, content_length=str(len(body)), **_coding(rendering))
        if rendering.reply.body_cut:
            self._write(body[: len(body) // 2])
            self._hang_up()
            return
        self._write(body)

    def timed(self, reply: Reply, events: list[StreamEvent]) -> Iterator[StreamEvent]:
        """Yield the events up to `cut_after`, each at its time."""
        first = next((index for index, event in enumerate(events) if event.content), len(events))
        for index, event in enumerate(events[: reply.cut_after]):
            if index >= first:
                self.wait(reply.first_token_delay_s if index == first else reply.chunk_delay_s)
            yield event

    def send_events(self, rendering: Rendering, events: Iterable[StreamEvent]) -> None:
        """Send events until they end, the client disconnects, or the provider is closed."""
        reply = rendering.reply
        self._send_head(rendering, transfer_encoding="chunked", **_coding(rendering))
        self._packer = zlib.compressobj(wbits=_GZIP) if reply.gzip else None
        for index, event in enumerate(events):
            if not self._send_event(index, event, rendering):
                return
        if reply.cut_after is not None:
            self._hang_up()
            return
        if self._packer is not None:
            self._write(_chunk(self._packer.flush()))
        self._write(b"0\r\n\r\n")

    def _send_event(self, index: int, event: StreamEvent, rendering: Rendering) -> bool:
        """Return False if the connection was closed in the middle of the event."""
        content = (rendering.frame or event_bytes)(event, malformed=index == 1 and rendering.reply.malformed)
        if self._packer is not None:
            content = self._packer.compress(content) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        if index == 1 and rendering.reply.body_cut:
            self._write(b"%x\r\n%s" % (len(content), content[: len(content) // 2]))
            self._hang_up()
            return False
        self._write(_chunk(content))
        return True

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)

    def wait(self, seconds: float) -> None:
        """Wait; ConnectionAbortedError if the provider is closed meanwhile."""
        if seconds > 0 and self.server.closing.wait(seconds):
            raise ConnectionAbortedError("the scripted provider was closed")

    def _wait_for_hang_up(self) -> None:
        """Wait until the client disconnects or `Server.stop` closes the connection."""
        while self.rfile.read(1):
            continue

    def _hang_up(self) -> None:
        self.close_connection = True


def _json(content: bytes) -> object:
    return msgspec.json.decode(content) if content else None


def _coding(rendering: Rendering) -> dict[str, str]:
    return {"content_encoding": "gzip"} if rendering.reply.gzip else {}


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


class ScriptedProvider:
    """An HTTP server on 127.0.0.1 that answers as providers of models do, with scripted replies.

    It listens from its construction until `close`. Each reply is used once, in order; without replies it answers with a
    short default text. Thread-safe, for any number of clients, also from async code, because it runs in its own
    threads. It renders replies for chat, Responses, Messages, Gemini, Bedrock, Cohere, Ollama, completions, embeddings
    and realtime sessions; other endpoints need a `raw` reply `on` their path. Responses can be fetched by id;
    background ones end after a number of polls. These requests, `GET /models` and token counting do not use up replies.

    Example:
        >>> with callspan.testing.ScriptedProvider() as provider:
        ...     provider.reply(text="The capital of France is Paris.")
        ...     client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        ...     answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> answer.choices[0].message.content
        'The capital of France is Paris.'
    """

    def __init__(self) -> None:
        self._script = Script()
        self._requests: list[ReceivedRequest] = []
        self._responses = StoredResponses()
        self._lock = threading.Lock()
        self._server = Server(self._answer)

    @property
    def url(self) -> str:
        """The base address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """`base_url` for the openai SDK."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """`base_url` for the anthropic SDK."""
        return self.url

    @property
    def groq_url(self) -> str:
        """`base_url` for the groq SDK."""
        return self.url

    @property
    def google_url(self) -> str:
        """`base_url` of `http_options` for google-genai."""
        return self.url

    @property
    def bedrock_url(self) -> str:
        """`endpoint_url` for boto3's and aiobotocore's client of `bedrock-runtime`."""
        return self.url

    @property
    def cohere_url(self) -> str:
        """`base_url` for the clients of cohere."""
        return self.url

    @property
    def ollama_url(self) -> str:
        """`host` for the clients of ollama."""
        return self.url

    @property
    def mistral_url(self) -> str:
        """`server_url` for mistralai."""
        return self.url

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests received so far, in order; a copy."""
        with self._lock:
            return list(self._requests)

    @property
    def pending(self) -> int:
        """The number of unused replies, without repeated ones."""
        return self._script.pending()

    def reply(
        self,
        reply: Reply | str | None = None,
        /,
        *,
        on: Match | None = None,
        repeat: bool = False,
        **fields: Unpack[ReplyFields],
    ) -> None:
        """Script the next reply: a `Reply`, a text, or the fields of a `Reply`.

        `on` restricts it to paths that end with a string, or to requests that satisfy a predicate; by default it
        answers the next inference request. With `repeat` it answers all requests without a single reply of their own;
        the newest repeated one wins.

        Raises:
            TypeError: Both a reply and fields were given, or a field is unknown.
        """
        if reply is not None and fields:
            raise TypeError("pass either a Reply or text, or the fields of a Reply")
        if isinstance(reply, str):
            reply = Reply(text=reply)
        self._script.add(Line(reply or Reply(**fields), on, repeat))

    def webhook(self, response_id: str, secret: str) -> tuple[str, Mapping[str, str]]:
        """End a background response; return the payload and headers of the webhook that reports its end.

        `secret` is the client's `webhook_secret`. Raises KeyError for an unknown id.

        Example:
            >>> job = client.responses.create(model="m", input="Hi", background=True)
            >>> payload, headers = provider.webhook(job.id, "whsec_c2VjcmV0")
            >>> client.webhooks.unwrap(payload, headers, secret="whsec_c2VjcmV0").type
            'response.completed'
        """
        return self._responses.webhook(response_id, secret)

    def close(self) -> None:
        """Close all connections, end all threads, and free the port. Idempotent.

        Raises the first exception of a `responder` or predicate.
        """
        self._server.stop()
        if failures := self._server.failures:
            failure = failures[0]
            failures.clear()
            raise failure

    def __enter__(self) -> Self:
        """Return the provider, which is already listening."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the provider; an exception of the block takes precedence over exceptions of responders."""
        if error is not None:
            self._server.failures.clear()
        self.close()

    def _answer(self, request: ReceivedRequest) -> Rendering:
        self._record(request)
        return self._upgraded(request) if request.is_upgrade else self._rendering(request)

    def _record(self, request: ReceivedRequest) -> None:
        with self._lock:
            self._requests.append(request)

    def _upgraded(self, request: ReceivedRequest) -> Rendering:
        """Accept a websocket, unless an error is scripted by a predicate, or the path has none."""
        reply = self._script.take(request, inference=False) or Reply(status=HTTPStatus.SWITCHING_PROTOCOLS)
        serve = self._socket(request) if reply.status < HTTPStatus.BAD_REQUEST else None
        if serve is not None:
            return Rendering(reply, HTTPStatus.SWITCHING_PROTOCOLS, {}, b"", None, None, serve=serve)
        return render(Answer(request, reply, family_of(request, None).request_id(), {}), None)

    def _socket(self, request: ReceivedRequest) -> Callable[[Connection], None] | None:
        """Return what serves a websocket, None for an unknown path; subclasses with more paths override it."""
        if not request.path.endswith("/realtime"):
            return None
        return RealtimeSession(request, self._script, self._record).serve

    def _rendering(self, request: ReceivedRequest) -> Rendering:
        """The answer to a request; subclasses with more endpoints override it."""
        route, path_params = find_route(request) or (None, {})
        reply = self._script.reply_to(request, inference=route is not None and route.inference)
        return self._rendered(request, reply, route, path_params)

    def _rendered(
        self, request: ReceivedRequest, reply: Reply, route: Route | None, path_params: Mapping[str, str]
    ) -> Rendering:
        answer = Answer(request, reply, family_of(request, route).request_id(), path_params)
        fetched_body = self._responses.fetched(answer) if reply is DEFAULT_REPLY else None
        rendering = render(answer, route, fetched_body)
        return rendering if fetched_body is not None else self._responses.add(answer, route, rendering)
