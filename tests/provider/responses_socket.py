"""The Responses API over a websocket: lanes that answer their creates in order, errors and cuts.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import msgspec

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import StreamEvent, encode, member
from callspan.testing.provider.script import Json

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

    from callspan.testing.provider.rendering import Rendering

_READ = 65536
_POLL_S = 0.02
_NORMAL = 1000
_TOLD = ("x-ratelimit-", "retry-after", "x-request-id")
"""Beginnings of the headers that an error repeats."""


@dataclass(frozen=True)
class SocketRequest(ReceivedRequest):
    """A `response.create` that came over a websocket."""

    @property
    def stream(self) -> bool:
        """Its answer is always events."""
        return True


class _CutError(ConnectionError):
    """The connection is to be hung up."""


class ResponsesSocket:
    """One accepted connection: reads what the client sends; each lane sends its events from a thread of its own."""

    def __init__(
        self, upgrade: ReceivedRequest, connection: socket.socket, file: BufferedIOBase,
        answer: Callable[[ReceivedRequest], Rendering], closing: threading.Event, failures: list[Exception],
    ) -> None:  # fmt: skip
        """`file` reads from `connection`; `failures` takes what a responder raises."""
        self.closing = closing
        self.ended = threading.Event()
        self.upgrade = upgrade
        self.answer = answer
        self.failures = failures
        self._connection = connection
        self._file = file
        self._lanes: dict[object, _Lane] = {}
        self.lock = threading.RLock()
        self._protocol = _protocol()

    def serve(self) -> None:
        """Accept, and serve until either side closes."""
        from websockets.http11 import Request

        headers = "".join(f"{name}: {value}\r\n" for name, value in self.upgrade.headers.items())
        with self.lock:
            self._protocol.receive_data(f"GET {self.upgrade.path} HTTP/1.1\r\n{headers}\r\n".encode())
            for request in self._protocol.events_received():
                if isinstance(request, Request):
                    self._protocol.send_response(self._protocol.accept(request))
            self._flush()
        try:
            with contextlib.suppress(OSError):
                self._read()
        finally:
            self.ended.set()
            for lane in self._lanes.values():
                lane.requests.put(None)

    def send(self, message: Json | bytes, *, cut: bool = False, malformed: bool = False) -> None:
        """Send an object as a text, bytes as they are; `cut`: hang up in the middle of it."""
        data = message if isinstance(message, bytes) else encode(message)
        data = data[: len(data) // 2] if malformed else data
        with self.lock:
            # The client may be closing it.
            if self.ended.is_set() or self._protocol.state.name != "OPEN":
                raise _CutError
            (self._protocol.send_binary if isinstance(message, bytes) else self._protocol.send_text)(data)
            if cut:
                whole = b"".join(self._protocol.data_to_send())
                self._connection.sendall(whole[: len(whole) // 2])
                raise _CutError
            self._flush()

    def close(self) -> None:
        """Close properly."""
        with self.lock, contextlib.suppress(Exception):
            self._protocol.send_close(_NORMAL)
            self._flush()

    def hang_up(self) -> None:
        """Close without saying so."""
        self.ended.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> None:
        """Wait, unless the provider is closed or the connection ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self.closing.is_set() or self.ended.wait(min(left, _POLL_S)):
                raise _CutError

    def _read(self) -> None:
        from websockets.frames import DATA_OPCODES, Frame

        parts: list[bytes] = []
        while data := self._file.read1(_READ):
            with self.lock:
                self._protocol.receive_data(data)
                events = self._protocol.events_received()
                self._flush()
            for event in events:
                if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                    parts.append(bytes(event.data))
                    if event.fin:
                        self._take(b"".join(parts))
                        parts.clear()
            if self._protocol.close_expected():
                return

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)
            else:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_WR)

    def _take(self, content: bytes) -> None:
        try:
            frame: Any = msgspec.json.decode(content)
        except msgspec.DecodeError:
            frame = None
        kind = frame.get("type") if isinstance(frame, dict) else None
        if kind == "response.create":
            lane = frame.get("stream_id")
            with self.lock:
                known = self._lanes.setdefault(lane, _Lane(self, lane))
            known.put(
                SocketRequest(
                    method="WEBSOCKET", path=self.upgrade.path, query=self.upgrade.query, headers=self.upgrade.headers,
                    content=content, json=frame, time_ns=time.monotonic_ns(),
                )
            )  # fmt: skip
        elif kind == "response.inject":  # of the beta; it changes nothing
            self.send(
                {"type": "response.inject.created", "response_id": frame.get("response_id"), "sequence_number": 0}
            )
        else:
            error = {"type": "invalid_request_error", "code": "invalid_event", "message": f"Unknown event {kind!r}."}
            self.send({"type": "error", "status": 400, "error": error})


class _Lane:
    """Answers the creates of one `stream_id`, one after the other."""

    def __init__(self, owner: ResponsesSocket, stream_id: object) -> None:
        self.named: dict[str, object] = {} if stream_id is None else {"stream_id": stream_id}
        self.requests: SimpleQueue[ReceivedRequest | None] = SimpleQueue()
        self._owner = owner
        self._thread: threading.Thread | None = None

    def put(self, request: ReceivedRequest) -> None:
        """Answer a create when those before it are complete."""
        self.requests.put(request)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="callspan-scripted-lane", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while (request := self.requests.get()) is not None:
                self._answer(request)
        except OSError:
            self._owner.hang_up()
        except Exception as failure:  # noqa: BLE001 - of a responder: raised on close
            self._owner.failures.append(failure)
            self._owner.hang_up()

    def _answer(self, request: ReceivedRequest) -> None:
        owner = self._owner
        rendering = owner.answer(request)
        reply = rendering.reply
        if reply.hang:
            owner.wait(float("inf"))
        owner.wait(reply.delay_s)
        if isinstance(reply.raw, bytes):
            owner.send(reply.raw)
        elif rendering.events is None:
            owner.send(self._error(rendering))
        else:
            self._send(rendering.events, reply)

    def _send(self, events: list[StreamEvent], reply: Reply) -> None:
        first = next((index for index, event in enumerate(events) if event.content), len(events))
        for index, event in enumerate(events[: reply.cut_after]):
            if index >= first:
                self._owner.wait(reply.first_token_delay_s if index == first else reply.chunk_delay_s)
            self._send_event(event, index, reply)
        if reply.cut_after is not None:
            raise _CutError
        if reply.end_after is not None:
            self._owner.close()

    def _send_event(self, event: StreamEvent, number: int, reply: Reply) -> None:
        data = event.data if isinstance(event.data, Mapping) else {"type": "unknown", "data": event.data}
        if "type" not in data and "error" in data:
            data = {"type": "error", **data}
        if "type" in data:
            data = {**data, "sequence_number": number, **self.named}
        second = number == 1
        self._owner.send(data, cut=second and reply.body_cut, malformed=second and reply.malformed)

    def _error(self, rendering: Rendering) -> Json:
        headers = {name: value for name, value in rendering.headers.items() if name.startswith(_TOLD)}
        error = member(rendering.json or msgspec.json.decode(rendering.body), "error")
        return {"type": "error", "status": int(rendering.status), "error": {**error, "headers": headers}, **self.named}


def _protocol() -> ServerProtocol:
    from websockets.server import ServerProtocol

    return ServerProtocol(max_size=None)
