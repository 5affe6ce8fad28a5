"""The scripted provider with the endpoints that only our own tests need."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from tests.support.provider.media import ANSWERS, form_fields

from callspan import testing
from callspan.testing import ReceivedRequest
from callspan.testing.provider.realtime_session import accept
from callspan.testing.provider.rendering import Rendering
from callspan.testing.provider.server import Connection

__all__ = ["FullProvider"]

_REPEATED: Final = ("x-ratelimit-", "retry-after", "x-request-id")
"""Beginnings of the headers that an error over a websocket repeats."""


class FullProvider(testing.ScriptedProvider):
    """Also answers for media and their forms, moderations, and over websockets of the Responses API."""

    def _answer(self, request: ReceivedRequest) -> Rendering:
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            request = replace(request, json=form_fields(kind, request.content))
        return super()._answer(request)

    def _rendering(self, request: ReceivedRequest) -> Rendering:
        answers = [answer for path, answer in ANSWERS.items() if request.path.endswith(path)]
        if not answers:
            return super()._rendering(request)
        reply = self._script.reply_to(request, inference=True)
        if reply.raw is None and reply.status < HTTPStatus.BAD_REQUEST:
            reply = answers[0](request, reply)
        return self._rendered(request, reply, None, {})

    def _socket(self, request: ReceivedRequest) -> Callable[[Connection], None] | None:
        if request.path.endswith("/responses"):
            return ResponsesSocket(request, self._answer).serve
        return super()._socket(request)


class ResponsesSocket:
    """An accepted websocket of the Responses API: creates that are answered in order, errors and cuts.

    Wire reference: https://platform.openai.com/docs/guides/websocket-mode
    """

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
