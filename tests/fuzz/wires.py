"""Wires: well-formed responses of every endpoint, plain and streamed, to be damaged afterwards.

Most are those of the scripted provider, whose shapes are the recorded ones.
"""

from __future__ import annotations

import functools
import json
from itertools import product
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from tests.support import loops
from tests.support.provider import FullProvider
from tests.wire.corpus import events

from callspan.testing import Choice, Reply

Events = list[tuple[str | None, Any]]
"""Name and payload of each server-sent event."""

_TEXT = "I am well. \u00e4\u20ac\U0001f600\u2028"
_REPLIES = {
    "text": Reply(text=_TEXT, cache_read_tokens=4, reasoning_tokens=2),
    "json": Reply(text='{"x": 1, "y": 2}'),
    "tool": Reply(tool_calls=[loops.request()]),
    "reasoning": Reply(text=_TEXT, reasoning="Let me see."),
    "refusal": Reply(refusal="No."),
    "many": Reply(choices=[Choice(text=_TEXT), Choice(text=_TEXT, finish_reason="length")]),
}
FLAVOURS = tuple(_REPLIES)
_PATHS = {
    "chat": "chat/completions", "completions": "completions", "embeddings": "embeddings", "responses": "responses",
    "messages": "messages", "moderations": "moderations", "images": "images/generations",
    "transcriptions": "audio/transcriptions",
}  # fmt: skip
_SAME = {"beta": "messages", "translations": "transcriptions", "speech": "transcriptions"}
"""Kinds of calls that are answered as others are."""
_REQUEST = {
    "model": "gpt-5", "messages": [], "input": ["a", "b"], "prompt": "a", "partial_images": 1, "quality": "high",
    "stream_options": {"include_usage": True},
}  # fmt: skip


@functools.cache
def _answers() -> dict[tuple[str, str, bool], str]:
    """The body of every endpoint for every flavour, in one piece and, where there is one, as a stream."""
    found, opener = {}, build_opener(ProxyHandler({}))
    with FullProvider() as provider:
        for kind, flavour, stream in product(_PATHS, FLAVOURS, (False, True)):
            provider.reply(_REPLIES[flavour])
            packed = {"encoding_format": "float" if flavour in ("text", "json") else "base64"}
            asked = json.dumps({**_REQUEST, **packed, "stream": stream}).encode()
            request = Request(f"{provider.openai_url}/{_PATHS[kind]}", asked, {"content-type": "application/json"})
            with opener.open(request) as answer:
                found[kind, flavour, stream] = answer.read().decode()
    return found


def listing(_flavour: str) -> Any:
    """A list of models, of moderations or of anything else that is no call."""
    model = {"id": "gpt-5", "object": "model", "created": 1, "owned_by": "x", "type": "model"}
    return {"object": "list", "data": [model], "id": "1", "input_tokens": 3, "results": [], "has_more": False}


def decision(flavour: str) -> Any:
    """A decision: to go on, or for other flavours that it is done."""
    choice = "north" if flavour in ("text", "tool") else "done"
    return {**loops.DECISION, "answers": [{**loops.ANSWER, "choice": choice}]}


def documents(_: str) -> Any:
    """What the search of a vector store answers."""
    found = {"file_id": "file-1", "filename": "a.md", "score": 0.5, "content": [{"type": "text", "text": "A."}]}
    return {"object": "vector_store.search_results.page", "search_query": ["a"], "data": [found], "has_more": False}


def failure(sdk: str) -> Any:
    """The body of a refusal."""
    error = {"message": "Not now.", "type": "rate_limit_error", "param": None, "code": "slow_down"}
    return {"error": error} if sdk == "openai" else {"type": "error", "error": error, "request_id": "req_1"}


def whole_of(way: str, flavour: str) -> Any:
    """The body that answers a way of calling in one piece."""
    kind = _kind(way)
    if kind in _PATHS:
        return json.loads(_answers()[kind, flavour, False])
    return {"decisions": decision, "vector_stores": documents}.get(kind, listing)(flavour)


def events_of(way: str, flavour: str) -> Events:
    """The events that answer a way of calling as a stream; a refusal of the Responses API fails."""
    made: Events = [
        (one.event, one.data if one.data == "[DONE]" else one.json())
        for one in events(_answers()[_kind(way), flavour, True])
    ]
    if (_kind(way), flavour) == ("responses", "refusal"):
        _, last = made.pop()
        failed = {**last["response"], "status": "failed"}
        made.append(("response.failed", {**last, "type": "response.failed", "response": failed}))
    return made


def _kind(way: str) -> str:
    first, _, rest = way.partition(".")
    kind = rest.partition(".")[0] if first == "post" else first
    return _SAME.get(kind, kind)
