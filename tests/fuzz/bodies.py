"""Well-formed responses of every endpoint, plain and streamed.

Most are those of the scripted provider, whose shapes are the recorded ones.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple
from urllib.request import ProxyHandler, Request, build_opener

from tests.fuzz.frames import messages
from tests.support import loops
from tests.support.provider import FullProvider
from tests.wire import corpus

from callspan.testing import Choice, Reply

Events = list[tuple[str | None, Any]]
"""Name and payload of each event."""

TEXT = "I am well. \u00e4\u20ac\U0001f600\u2028"
_REPLIES = {
    "text": Reply(text=TEXT, cache_read_tokens=4, reasoning_tokens=2),
    "json": Reply(text='{"x": 1, "y": 2}'),
    "tool": Reply(tool_calls=[loops.request()]),
    "reasoning": Reply(text=TEXT, reasoning="Let me see."),
    "refusal": Reply(refusal="No."),
    "many": Reply(choices=[Choice(text=TEXT), Choice(text=TEXT, finish_reason="length")]),
}
FLAVOURS = tuple(_REPLIES)
_REQUEST = {
    "model": "gpt-5", "messages": [], "input": ["a", "b"], "prompt": "a", "partial_images": 1, "quality": "high",
    "stream_options": {"include_usage": True},
}  # fmt: skip


class Endpoint(NamedTuple):
    """Where the scripted provider answers a kind of calls."""

    path: str
    streamed: str = ""
    """The path of the stream; empty if the body asks for it."""
    asked: dict[str, Any] = {}  # noqa: RUF012
    """The body of the request, if another."""


_GEMINI, _MODEL = "models/gemini-2.5-flash:", "../model/scripted/"
_INVOKED, _INVOKED_STREAM = f"{_MODEL}invoke", f"{_MODEL}invoke-with-response-stream"
_ENDPOINTS = {
    "chat": Endpoint("chat/completions"),
    "completions": Endpoint("completions"),
    "embeddings": Endpoint("embeddings"),
    "responses": Endpoint("responses"),
    "messages": Endpoint("messages"),
    "moderations": Endpoint("moderations"),
    "images": Endpoint("images/generations"),
    "transcriptions": Endpoint("audio/transcriptions"),
    "contents": Endpoint(f"{_GEMINI}generateContent", f"{_GEMINI}streamGenerateContent", {"contents": []}),
    "content_embeddings": Endpoint(f"{_GEMINI}batchEmbedContents", "", {"requests": [{}, {}]}),
    "converse": Endpoint(f"{_MODEL}converse", f"{_MODEL}converse-stream", {"messages": []}),
    "claude": Endpoint(_INVOKED, _INVOKED_STREAM, {"anthropic_version": "x", "messages": []}),
    "nova": Endpoint(_INVOKED, _INVOKED_STREAM, {"messages": []}),
    "llama": Endpoint(_INVOKED, _INVOKED_STREAM, {"prompt": "a"}),
}
_SAME = {"beta": "messages", "translations": "transcriptions", "speech": "transcriptions"}
"""Kinds of calls that are answered as others are."""


@functools.cache
def _answers() -> dict[tuple[str, str, bool], bytes]:
    """The body of every endpoint for every flavour, in one piece and, where there is one, as a stream."""
    bodies, opener = {}, build_opener(ProxyHandler({}))
    with FullProvider() as provider:
        for (kind, endpoint), flavour, stream in product(_ENDPOINTS.items(), FLAVOURS, (False, True)):
            provider.reply(_REPLIES[flavour])
            packed = {"encoding_format": "float" if flavour in ("text", "json") else "base64"}
            asked = json.dumps(endpoint.asked or {**_REQUEST, **packed, "stream": stream}).encode()
            path = (endpoint.streamed if stream else "") or endpoint.path
            request = Request(f"{provider.openai_url}/{path}", asked, {"content-type": "application/json"})
            with opener.open(request) as answer:
                bodies[kind, flavour, stream] = answer.read()
    return bodies


def listing(_flavour: str) -> Any:
    """A list of models, of moderations or of anything else that is no call."""
    model = {"id": "gpt-5", "object": "model", "created": 1, "owned_by": "x", "type": "model", "name": "models/x"}
    named = {"object": "list", "data": [model], "models": [model], "id": "1", "results": [], "has_more": False}
    return {**named, "input_tokens": 3, "totalTokens": 3, "inputTokens": 3}


def decision(flavour: str) -> Any:
    """A decision: to go on, or for other flavours that it is done."""
    choice = "north" if flavour in ("text", "tool") else "done"
    return {**loops.DECISION, "answers": [{**loops.ANSWER, "choice": choice}]}


def documents(_: str) -> Any:
    """What the search of a vector store answers."""
    found = {"file_id": "file-1", "filename": "a.md", "score": 0.5, "content": [{"type": "text", "text": "A."}]}
    return {"object": "vector_store.search_results.page", "search_query": ["a"], "data": [found], "has_more": False}


_ERROR = {"message": "Not now.", "type": "rate_limit_error", "param": None, "code": "slow_down"}
_RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30.5s"}
_FAILURES: dict[str, Any] = {
    "anthropic": {"type": "error", "error": _ERROR, "request_id": "req_1"},
    "google": {"error": {"code": 429, "message": "Not now.", "status": "RESOURCE_EXHAUSTED", "details": [_RETRY_INFO]}},
    "bedrock": {"message": "Not now.", "__type": "ThrottlingException"},
}


def failure(sdk: str) -> Any:
    """The body of a refusal."""
    return _FAILURES.get(sdk, {"error": _ERROR})


_FAILED_EVENTS = {"anthropic": "error", "bedrock": "throttlingException"}


def failed_event(sdk: str) -> tuple[str | None, Any]:
    """The event that states an error."""
    return _FAILED_EVENTS.get(sdk), failure(sdk)


def whole_of(way: str, flavour: str) -> Any:
    """The body that answers a way of calling in one piece."""
    kind = _kind(way)
    if kind in _ENDPOINTS:
        return json.loads(_answers()[kind, flavour, False])
    return {"decisions": decision, "vector_stores": documents}.get(kind, listing)(flavour)


def events_of(way: str, flavour: str) -> Events:
    """The events that answer a way of calling as a stream; a refusal of the Responses API fails."""
    kind = _kind(way)
    body = _answers()[kind, flavour, True]
    if kind in _BINARY:
        return list(_unpacked(body))
    made: Events = [
        (one.event, one.data if one.data == "[DONE]" else one.json()) for one in corpus.events(body.decode())
    ]
    if (kind, flavour) == ("responses", "refusal"):
        _, last = made.pop()
        failed = {**last["response"], "status": "failed"}
        made.append(("response.failed", {**last, "type": "response.failed", "response": failed}))
    return made


def _kind(way: str) -> str:
    first, _, rest = way.partition(".")
    kind = rest.partition(".")[0] if first == "post" else first
    return _SAME.get(kind, kind)


_BINARY = ("converse", "claude", "nova", "llama")


def is_binary(way: str) -> bool:
    """Whether the events of a way of calling are binary messages."""
    return _kind(way) in _BINARY


def _unpacked(body: bytes) -> Iterator[tuple[str | None, Any]]:
    """The events of binary messages; those of a model that was invoked as itself sent them."""
    for name, content in messages(body):
        payload = json.loads(content)
        yield name, json.loads(base64.b64decode(payload["bytes"])) if name == "chunk" else payload
