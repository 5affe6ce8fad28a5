"""The full provider: the public one with the endpoints that only our own tests need."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from callspan import testing
from callspan.testing import ReceivedRequest
from callspan.testing.provider.answer import Answer
from callspan.testing.provider.openai_responses import RESPONSES
from callspan.testing.provider.rendering import ROUTES, Rendering, Route, find_route
from callspan.testing.provider.server import Connection
from tests.support.provider import bedrock
from tests.support.provider.batches import BATCHES, MESSAGE_BATCHES, Batches
from tests.support.provider.forms import form_fields
from tests.support.provider.media import FILES, IMAGES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from tests.support.provider.messages import MESSAGE
from tests.support.provider.moderations import MODERATIONS
from tests.support.provider.responses_socket import ResponsesSocket

_ROUTES = (
    MESSAGE,
    *ROUTES,
    bedrock.INVOKE,
    Route("WEBSOCKET", re.compile(r"/responses$"), RESPONSES),
    Route("POST", re.compile(r"/moderations$"), MODERATIONS),
    Route("POST", re.compile(r"/images/(?:generations|edits|variations)$"), IMAGES),
    Route("POST", re.compile(r"/audio/transcriptions$"), TRANSCRIPTIONS),
    Route("POST", re.compile(r"/audio/translations$"), TRANSLATIONS),
    Route("POST", re.compile(r"/audio/speech$"), SPEECH),
    Route("POST", re.compile(r"/messages/batches$"), MESSAGE_BATCHES, inference=False),
    Route("GET", re.compile(r"/messages/batches/[^/]+(?:/results)?$"), MESSAGE_BATCHES, inference=False),
    Route("POST", re.compile(r"/batches$"), BATCHES, inference=False),
    Route("GET", re.compile(r"/batches/[^/]+$"), BATCHES, inference=False),
    Route("POST", re.compile(r"/v1/files$"), BATCHES, inference=False),
    Route("GET", re.compile(r"/files/[^/]+/content$"), BATCHES, inference=False),
)


class FullProvider(testing.ScriptedProvider):
    """Also answers for batches, forms of media, moderations, Bedrock, and over websockets of the Responses API.

    Each request of a batch uses up one reply.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches = Batches(lambda: self.url, self._script, _ROUTES)

    def _answer(self, request: ReceivedRequest) -> Rendering:
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            request = replace(request, json=form_fields(kind, request.content))
        return super()._answer(request)

    def _rendering(self, request: ReceivedRequest) -> Rendering:
        found, named = find_route(request, _ROUTES) or (None, {})
        inference = found is not None and found.inference
        reply = self._script.reply_to(request, inference=inference)
        if found is not None:
            reply = self._batches.reply_to(request, reply, found.wire)
            reply = _as_file(Answer(request, reply, "", named), found)
        rendering = self._rendered(request, reply, found, named)
        return bedrock.framed(rendering) if found is bedrock.INVOKE and rendering.events is not None else rendering

    def _socket(self, request: ReceivedRequest) -> Callable[[Connection], None] | None:
        return partial(self._serve_socket, request) if request.path.endswith("/responses") else super()._socket(request)

    def _serve_socket(self, upgrade: ReceivedRequest, connection: Connection) -> None:
        ResponsesSocket(upgrade, connection, self._answer).serve()


def _as_file(answer: Answer, route: Route) -> testing.Reply:
    """The reply with the bytes of an answer that is not JSON."""
    reply, make = answer.reply, FILES.get(route.wire)
    if make is None or reply.raw is not None or reply.status >= HTTPStatus.BAD_REQUEST or answer.request.stream:
        return reply
    file = make(answer)
    return (
        reply
        if file is None
        else replace(reply, raw=file.content, headers={"content-type": file.type, **reply.headers})
    )
