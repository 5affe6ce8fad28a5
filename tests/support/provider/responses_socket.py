"""The Responses API over a websocket: lanes that answer their creates in order, errors and cuts.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from callspan.testing import ReceivedRequest
from callspan.testing.provider.answer import encode, member
from callspan.testing.provider.realtime_session import accept
from callspan.testing.provider.script import Json

if TYPE_CHECKING:
    from websockets.sync.connection import Connection as WebSocket

    from callspan.testing.provider.rendering import Rendering
    from callspan.testing.provider.server import Connection

_REPEATED = ("x-ratelimit-", "retry-after", "x-request-id")
"""Beginnings of the headers that an error repeats."""


@dataclass(frozen=True)
class SocketRequest(ReceivedRequest):
    """A `response.create` that came over a websocket."""

    @property
    def stream(self) -> bool:
        """Its answer is always events."""
        return True


class ResponsesSocket:
    """One accepted connection. Each create is answered in a thread, after the one before it in its lane."""

    def __init__(
        self, upgrade: ReceivedRequest, connection: Connection, answer: Callable[[ReceivedRequest], Rendering]
    ) -> None:
        self._upgrade = upgrade
        self._connection = connection
        self._answer = answer
        self._lanes: dict[object, threading.Thread] = {}
        self._socket: WebSocket

    def serve(self) -> None:
        """Serve until either side closes."""
        from websockets.exceptions import ConnectionClosed

        with accept(self._upgrade, self._connection.connection) as self._socket, suppress(ConnectionClosed):
            for message in self._socket:
                self._take(message.encode() if isinstance(message, str) else message)

    def _take(self, content: bytes) -> None:
        frame: Any = msgspec.json.decode(content)
        if frame["type"] == "response.inject":  # of the beta; it changes nothing
            self._send({"type": "response.inject.created", "response_id": frame["response_id"], "sequence_number": 0})
            return
        upgrade, lane = self._upgrade, frame.get("stream_id")
        request = SocketRequest(
            method="WEBSOCKET", path=upgrade.path, query=upgrade.query, headers=upgrade.headers, content=content,
            json=frame, time_ns=time.monotonic_ns(),
        )  # fmt: skip
        turn = threading.Thread(target=self._turn, args=(request, self._lanes.get(lane)), daemon=True)
        self._lanes[lane] = turn
        turn.start()

    def _turn(self, request: ReceivedRequest, before: threading.Thread | None) -> None:
        from websockets.exceptions import ConnectionClosed

        if before is not None:
            before.join()
        try:
            self._send_answer(request, self._answer(request))
        except (ConnectionClosed, OSError):
            return
        except Exception as failure:  # noqa: BLE001 - of a responder: raised on close
            self._connection.server.failures.append(failure)
            self._hang_up()

    def _send_answer(self, request: ReceivedRequest, rendering: Rendering) -> None:
        reply, stream_id = rendering.reply, request.body.get("stream_id")
        named = {} if stream_id is None else {"stream_id": stream_id}
        self._connection.wait(threading.TIMEOUT_MAX if reply.hang else reply.delay_s)
        if rendering.events is None:
            self._send({**_error(rendering), **named})
            return
        for number, event in enumerate(self._connection.timed(reply, rendering.events)):
            data: Any = event.data
            self._send({"type": "error", **data, "sequence_number": number, **named})
        if reply.cut_after is not None:
            self._hang_up()
        elif reply.end_after is not None:
            self._socket.close()

    def _send(self, frame: Json) -> None:
        self._socket.send(encode(frame).decode())

    def _hang_up(self) -> None:
        self._connection.connection.shutdown(socket.SHUT_RDWR)


def _error(rendering: Rendering) -> Json:
    headers = {name: value for name, value in rendering.headers.items() if name.startswith(_REPEATED)}
    error = member(rendering.json or msgspec.json.decode(rendering.body), "error")
    return {"type": "error", "status": int(rendering.status), "error": {**error, "headers": headers}}
