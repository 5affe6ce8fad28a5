"""The Responses API over a websocket: creates that are answered in order, errors and cuts.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from callspan.testing import ReceivedRequest
from callspan.testing.provider.realtime_session import accept
from callspan.testing.provider.rendering import Rendering
from callspan.testing.provider.server import Connection

_REPEATED = ("x-ratelimit-", "retry-after", "x-request-id")
"""Beginnings of the headers that an error repeats."""


class ResponsesSocket:
    """One accepted connection."""

    def __init__(self, upgrade: ReceivedRequest, answer: Callable[[ReceivedRequest], Rendering]) -> None:
        self._upgrade = upgrade
        self._answer = answer
        self._socket: Any

    def serve(self, connection: Connection) -> None:
        """Serve until either side closes."""
        from websockets.exceptions import ConnectionClosed

        with accept(self._upgrade, connection.connection) as self._socket, suppress(ConnectionClosed):
            for message in self._socket:
                frame = json.loads(message)
                if frame["type"] == "response.inject":  # of the beta; it changes nothing
                    self._send(type="response.inject.created", response_id=frame["response_id"], sequence_number=0)
                else:
                    self._respond(connection, self._request(frame))

    def _request(self, frame: Any) -> ReceivedRequest:
        """A `response.create` as the request for a stream that it stands for."""
        headers = {**self._upgrade.headers, "accept": "text/event-stream"}
        return replace(
            self._upgrade, method="POST", headers=headers, content=json.dumps(frame).encode(), json=frame,
            time_ns=time.monotonic_ns(),
        )  # fmt: skip

    def _respond(self, connection: Connection, request: ReceivedRequest) -> None:
        rendering = self._answer(request)
        reply = rendering.reply
        if reply.hang:
            return
        connection.wait(reply.delay_s)
        if rendering.events is None:
            self._send(**_error(rendering))
            return
        for number, event in enumerate(connection.timed(reply, rendering.events)):
            data: Any = event.data
            self._send(**{"type": "error", **data, "sequence_number": number})
        if reply.cut_after is not None:
            connection.connection.shutdown(socket.SHUT_RDWR)
        elif reply.end_after is not None:
            self._socket.close()

    def _send(self, **frame: object) -> None:
        self._socket.send(json.dumps(frame, separators=(",", ":")))


def _error(rendering: Rendering) -> dict[str, Any]:
    headers = {name: value for name, value in rendering.headers.items() if name.startswith(_REPEATED)}
    error = json.loads(rendering.body)["error"]
    return {"type": "error", "status": int(rendering.status), "error": {**error, "headers": headers}}
