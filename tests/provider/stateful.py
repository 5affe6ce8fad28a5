"""Answers made from the state of a provider, without the wire of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Protocol

from callspan.testing import ReceivedRequest, Reply
from callspan.testing.provider.answer import Answer
from callspan.testing.provider.rendering import Rendering, family_of, render
from callspan.testing.provider.script import Json
from callspan.testing.provider.server import Connection
from tests.provider.session_log import SessionLog, is_gone


class Scripted(Protocol):
    """Takes the next reply that is scripted for a request."""

    def __call__(self, request: ReceivedRequest, *, inference: bool) -> Reply:
        """Return the reply; the usual one if there is none."""


def render_stateful(request: ReceivedRequest, reply: Reply, make: Callable[[], Json | SessionLog | None]) -> Rendering:
    """What is scripted, else the body or the live events that `make` returns; None: there is no such object."""
    answer = Answer(request, reply, family_of(request, None).request_id(), {})
    if reply.status >= HTTPStatus.BAD_REQUEST or reply.raw is not None:
        return render(answer, None)
    made = make()
    if made is None:
        return render(answer, None)
    if not isinstance(made, SessionLog):
        return render(replace(answer, reply=replace(reply, raw=made, json_where_sse_due=True)), None)
    rendering = render(replace(answer, reply=replace(reply, raw=b"data:")), None)
    return replace(rendering, serve=partial(_stream, rendering, made))


def _stream(rendering: Rendering, log: SessionLog, connection: Connection) -> None:
    reply = rendering.reply
    most = reply.cut_after if reply.cut_after is not None else reply.end_after
    events = log.stream(partial(is_gone, connection.connection, connection.server.closing))
    connection.send_events(rendering, islice(events, most))
