"""The scripted provider with the endpoints that only our own tests need."""

from __future__ import annotations

import base64
import re
import secrets
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from tests.support.provider.media import FILES, IMAGES, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, form_fields
from tests.support.provider.responses_socket import ResponsesSocket

from callspan import testing
from callspan.testing import ReceivedRequest
from callspan.testing.provider.answer import OPENAI, Answer, StreamEvent, Wire, encode, input_count, member
from callspan.testing.provider.anthropic_messages import MESSAGES
from callspan.testing.provider.openai_responses import RESPONSES
from callspan.testing.provider.rendering import ROUTES, Rendering, Route, find_route
from callspan.testing.provider.script import Json
from callspan.testing.provider.server import Connection

__all__ = ["FullProvider"]

_CREDIT: Json = {
    "type": "refusal",
    "category": None,
    "explanation": None,
    "fallback_credit_token": "scripted",
    "fallback_has_prefill_claim": False,
    "recommended_model": None,
}


def _message(answer: Answer) -> Json:
    body = MESSAGES.body(answer)
    has_credit = body["stop_reason"] == "refusal" and "fallback" in answer.request.headers.get("anthropic-beta", "")
    return {**body, "stop_details": _CREDIT} if has_credit else body


CREDITED = replace(MESSAGES, body=_message)
"""Messages, whose refusals give credit for another model where the client asks for it."""


def _moderations(answer: Answer) -> Json:
    given = answer.request.body.get("input")
    parts = isinstance(given, list) and any(isinstance(part, dict) for part in given)
    count = 1 if parts else input_count(given)
    flagged = answer.reply.refusal is not None
    result = {
        "flagged": flagged,
        "categories": {"harassment": flagged},
        "category_scores": {"harassment": 0.9 if flagged else 0.001},
        "category_applied_input_types": {"harassment": ["text"]},
    }
    return {"id": f"modr-{secrets.token_hex(12)}", "model": answer.model, "results": [result] * count}


MODERATIONS = Wire(OPENAI, _moderations)
"""`POST /v1/moderations`; a reply with a refusal flags the input."""


INVOKE = Route("POST", re.compile(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?$"), MESSAGES)
_MEDIA_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7
"""The type number of a header that is a string."""


def framed(rendering: Rendering) -> Rendering:
    """A stream of Messages in Bedrock's format."""
    return replace(rendering, headers={**rendering.headers, "content-type": _MEDIA_TYPE}, frame=_event_frame)


def _event_frame(event: StreamEvent, *, malformed: bool = False) -> bytes:
    """An event in Bedrock's format: base64 in JSON in a frame; `malformed` sends only half of its data."""
    data = event.data.encode() if isinstance(event.data, str) else encode(event.data)
    error = member(event.data, "error") if not isinstance(event.data, str) and event.name == "error" else {}
    if error:
        kind = str(error.get("type"))
        headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
        return _frame(headers, encode({"message": error.get("message")}))
    if malformed:
        data = data[: len(data) // 2]
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return _frame(headers, encode({"bytes": base64.b64encode(data).decode()}))


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _TEXT, len(text)) + text


_ROUTES = (
    Route("POST", re.compile(r"/messages$"), CREDITED),
    *ROUTES,
    INVOKE,
    Route("WEBSOCKET", re.compile(r"/responses$"), RESPONSES),
    Route("POST", re.compile(r"/moderations$"), MODERATIONS),
    Route("POST", re.compile(r"/images/(?:generations|edits|variations)$"), IMAGES),
    Route("POST", re.compile(r"/audio/transcriptions$"), TRANSCRIPTIONS),
    Route("POST", re.compile(r"/audio/translations$"), TRANSLATIONS),
    Route("POST", re.compile(r"/audio/speech$"), SPEECH),
)


class FullProvider(testing.ScriptedProvider):
    """Also answers for forms of media, moderations, Bedrock, and over websockets of the Responses API."""

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
            reply = _as_file(Answer(request, reply, "", named), found)
        rendering = self._rendered(request, reply, found, named)
        return framed(rendering) if found is INVOKE and rendering.events is not None else rendering

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
