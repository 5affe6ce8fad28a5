"""Rendering: the status, headers, and body or events of an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from callspan.testing.provider.answer import (
    EMBEDDINGS,
    OPENAI,
    Answer,
    EventEncoder,
    Family,
    Framing,
    StreamEvent,
    Wire,
    encode,
    models,
)
from callspan.testing.provider.anthropic_messages import ANTHROPIC, COUNT_TOKENS, MESSAGES
from callspan.testing.provider.bedrock import CONVERSE, INVOKE
from callspan.testing.provider.cohere_chat import COHERE_CHAT, COHERE_CHAT_V1, COHERE_EMBEDDINGS, COHERE_RANKING
from callspan.testing.provider.google_contents import CONTENT_EMBEDDINGS, CONTENTS
from callspan.testing.provider.ollama_chat import OLLAMA_CHAT, OLLAMA_EMBEDDINGS, OLLAMA_GENERATE
from callspan.testing.provider.openai_chat import CHAT, COMPLETIONS
from callspan.testing.provider.openai_responses import RESPONSES
from callspan.testing.provider.script import Json, ReceivedRequest, Reply

if TYPE_CHECKING:
    from callspan.testing.provider.server import Connection

_MODELS = Wire(OPENAI, models)


class Route(NamedTuple):
    """One endpoint: its requests, and whether they are inference, which uses up replies."""

    method: str
    path: re.Pattern[str]
    wire: Wire
    inference: bool = True


ROUTES = (
    Route("POST", re.compile(r"/(?:chat|agents|fim)/completions$"), CHAT),
    Route("POST", re.compile(r"/completions$"), COMPLETIONS),
    Route("POST", re.compile(r"/responses$"), RESPONSES),
    Route("POST", re.compile(r"/api/embed(?:dings)?$"), OLLAMA_EMBEDDINGS),
    Route("POST", re.compile(r"/embeddings$"), EMBEDDINGS),
    Route("POST", re.compile(r"/messages/count_tokens$"), COUNT_TOKENS, inference=False),
    Route("POST", re.compile(r"/messages$"), MESSAGES),
    Route("POST", re.compile(r"/models/(?P<model>[^/:]+):(?:streamR|r)awPredict$"), MESSAGES),
    Route("POST", re.compile(r"/models/(?P<model>[^/:]+):(?:streamG|g)enerateContent$"), CONTENTS),
    Route("POST", re.compile(r"/models/(?P<model>[^/:]+):(?:e|batchE)mbedContents?$"), CONTENT_EMBEDDINGS),
    Route("POST", re.compile(r"/model/(?P<model>[^/]+)/converse(?:-stream)?$"), CONVERSE),
    Route("POST", re.compile(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?$"), INVOKE),
    Route("POST", re.compile(r"/v2/chat$"), COHERE_CHAT),
    Route("POST", re.compile(r"/v1/chat$"), COHERE_CHAT_V1),
    Route("POST", re.compile(r"/v[12]/embed$"), COHERE_EMBEDDINGS),
    Route("POST", re.compile(r"/rerank$"), COHERE_RANKING),
    Route("POST", re.compile(r"/api/chat$"), OLLAMA_CHAT),
    Route("POST", re.compile(r"/api/generate$"), OLLAMA_GENERATE),
    Route("GET", re.compile(r"/responses/(?P<id>[^/]+)$"), RESPONSES, inference=False),
    Route("POST", re.compile(r"/responses/(?P<id>[^/]+)/cancel$"), RESPONSES, inference=False),
    Route("GET", re.compile(r"/models$"), _MODELS, inference=False),
)


def find_route(request: ReceivedRequest) -> tuple[Route, dict[str, str]] | None:
    """The endpoint of a request and the parameters of its path (`id`, `model`), or None."""
    for candidate in ROUTES:
        match = candidate.path.search(request.path)
        if candidate.method == request.method and match:
            return candidate, {name: unquote(text) for name, text in match.groupdict().items()}
    return None


def family_of(request: ReceivedRequest, route: Route | None) -> Family:
    """The provider of the endpoint, or for an unknown endpoint the client's."""
    if route is not None and route.wire is not _MODELS:
        return route.wire.family
    return ANTHROPIC if "anthropic-version" in request.headers else OPENAI


@dataclass(frozen=True)
class Rendering:
    """The rendered answer to one request."""

    reply: Reply
    status: int
    headers: dict[str, str]
    body: bytes
    """The plain body, if nothing is streamed."""
    events: list[StreamEvent] | None
    """The events of a stream; None for a plain body."""
    json: Json | None
    """The body as JSON, also for a stream; None for errors and raw bytes."""
    frame: EventEncoder | None = None
    """The encoder of events that are not server-sent events."""
    serve: Callable[[Connection], None] | None = None
    """Serves the rest of the connection, in place of `body` and `events`."""


def render(answer: Answer, route: Route | None, earlier_body: Json | None = None) -> Rendering:
    """The answer of an endpoint; `earlier_body` is one to be repeated."""
    reply, family = answer.reply, family_of(answer.request, route)
    framing = None if route is None else route.wire.framing
    if reply.status >= HTTPStatus.BAD_REQUEST and reply.raw is None:
        return _plain(answer, family, family.error(answer.error))
    if isinstance(reply.raw, bytes):
        return Rendering(reply, reply.status, _headers(answer, family, _raw_type(reply.raw)), reply.raw, None, None)
    if isinstance(reply.raw, list) and answer.request.stream:
        return _stream(answer, family, framing, [_as_event(event) for event in reply.raw], None)
    if reply.raw is not None:
        body = reply.raw
    elif route is None:
        return _no_endpoint(answer, family)
    else:
        body = earlier_body or route.wire.body(answer)
    events = route.wire.events if route else None
    plain = not answer.request.stream or reply.json_where_sse_due or reply.status >= HTTPStatus.BAD_REQUEST
    if events is None or plain or not isinstance(body, Mapping):
        return _with_headers(_plain(answer, family, body), answer, route)
    return _stream(answer, family, framing, events(body, answer), body)


def _with_headers(rendering: Rendering, answer: Answer, route: Route | None) -> Rendering:
    """The answer with those headers of its wire that were not scripted."""
    if route is None or route.wire.headers is None or rendering.status >= HTTPStatus.BAD_REQUEST:
        return rendering
    own = {name: text for name, text in route.wire.headers(answer).items() if name not in answer.reply.headers}
    return replace(rendering, headers={**own, **rendering.headers})


def _no_endpoint(answer: Answer, family: Family) -> Rendering:
    message = f"The scripted provider has no endpoint {answer.request.method} {answer.request.path}"
    return _plain(replace(answer, reply=Reply(status=404, message=message)), family, None)


def _as_event(event: object) -> StreamEvent:
    if not isinstance(event, Mapping):
        return StreamEvent(str(event))
    name = event.get("type")
    return StreamEvent(event, name if isinstance(name, str) else None, content=True)


def _plain(answer: Answer, family: Family, body: object) -> Rendering:
    reply = answer.reply
    content = encode(family.error(answer.error) if body is None else body)
    if reply.malformed:
        content = content[: len(content) // 2]
    headers = _headers(answer, family, "application/json")
    return Rendering(reply, reply.status, headers, content, None, body if isinstance(body, Mapping) else None)


def _stream(
    answer: Answer, family: Family, framing: Framing | None, events: list[StreamEvent], body: Json | None
) -> Rendering:
    reply = answer.reply
    if reply.error_after is not None:
        events = [*events[: reply.error_after], family.error_event(answer.error)]
    if reply.end_after is not None:
        events = events[: reply.end_after]
    headers = _headers(answer, family, "text/event-stream; charset=utf-8" if framing is None else framing.content_type)
    return Rendering(
        reply, reply.status, headers, b"", events, body, frame=None if framing is None else framing.encode
    )  # fmt: skip


def _raw_type(raw: bytes) -> str:
    return "text/event-stream" if raw.startswith((b"data:", b"event:")) else "application/json"


def _headers(answer: Answer, family: Family, content_type: str) -> dict[str, str]:
    headers: dict[str, object] = {
        "content-type": content_type,
        **family.headers(answer.error),
    }
    if answer.reply.retry_after_s is not None:
        headers["retry-after"] = f"{answer.reply.retry_after_s:g}"
    headers |= {name.lower(): value for name, value in answer.reply.headers.items()}
    return {name: str(value) for name, value in headers.items() if value is not None}


def event_bytes(event: StreamEvent, *, malformed: bool = False) -> bytes:
    """A server-sent event as bytes; `malformed` sends only half of its data."""
    data = event.data.encode() if isinstance(event.data, str) else encode(event.data)
    if malformed:
        data = data[: len(data) // 2]
    name = b"" if event.name is None else b"event: " + event.name.encode() + b"\n"
    return name + b"data: " + data + b"\n\n"
