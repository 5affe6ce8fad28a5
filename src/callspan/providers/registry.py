"""Which endpoint a request speaks to, and what the bodies of a record say: the table of all adapters.

Adapters are imported when first asked for, so that importing this module costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final

import msgspec

from callspan.providers.base import Api, Endpoint, Endpoints
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation

_MOST_PATHS: Final = 128

ENDPOINTS: Endpoints
"""Every endpoint, in order of how common it is."""


def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a request, or None for what is no call to a model.

    `path` is the logical path the SDK was given, absolute or not, with or without a query. Whole last segments
    decide, so `/v1/messages/batches`, `/responses/{id}` and `/threads/{id}/messages` are none. Never raises.
    """
    if method not in _METHODS:
        return None
    api = _api_of(path)
    return None if api is None else _endpoint(api)


def by_api(api: str) -> Endpoint | None:
    """Return the endpoint of that name (`CallRecord.api`), or None if there is none."""
    return _endpoint(api) if api in _LOADERS else None


def conversation_of(record: CallRecord) -> Conversation | None:
    """Return what was said in a call, read from its bodies.

    None if neither body was kept or can be read, or the endpoint is unknown. Never raises.
    """
    endpoint = by_api(record.api)
    if endpoint is None:
        return None
    request = _decoded(record.request.body)
    response = None if record.response is None else _decoded(record.response.body)
    return None if request is None and response is None else endpoint.conversation(request, response)


def with_conversation(record: CallRecord) -> CallRecord:
    """Return the record with its conversation; itself if it has one already or none can be read."""
    conversation = conversation_of(record) if record.conversation is None else None
    return record if conversation is None else msgspec.structs.replace(record, conversation=conversation)


@lru_cache(maxsize=_MOST_PATHS)
def _api_of(path: str) -> Api | None:
    segments = path.partition("?")[0].rstrip("/").rsplit("/", 2)
    return _BY_LAST_TWO.get("/".join(segments[-2:])) or _BY_LAST.get(segments[-1])


def _decoded(body: msgspec.Raw) -> object:
    data = bytes(body)
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return _leniently_decoded(data)


def _leniently_decoded(data: bytes) -> object:
    """What msgspec refuses and SDKs send: lone surrogates, NaN."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _chat_completions() -> Endpoint:
    from callspan.providers.openai.chat import ChatCompletions

    return ChatCompletions()


def _responses() -> Endpoint:
    from callspan.providers.openai.responses import Responses

    return Responses()


def _messages() -> Endpoint:
    from callspan.providers.anthropic.messages import Messages

    return Messages()


def _embeddings() -> Endpoint:
    from callspan.providers.openai.embeddings import Embeddings

    return Embeddings()


def _completions() -> Endpoint:
    from callspan.providers.openai.completions import Completions

    return Completions()


def _decisions() -> Endpoint:
    from callspan.providers.openai.decisions import Decisions

    return Decisions()


_LOADERS: Final[dict[str, Callable[[], Endpoint]]] = {
    "chat_completions": _chat_completions,
    "responses": _responses,
    "messages": _messages,
    "embeddings": _embeddings,
    "completions": _completions,
    "decisions": _decisions,
}

_METHODS: Final = frozenset({"post", "POST"})
_BY_LAST_TWO: Final[dict[str, Api]] = {
    "chat/completions": "chat_completions",
    "v1/messages": "messages",
    "responses/compact": "responses",
}
_BY_LAST: Final[dict[str, Api]] = {
    "responses": "responses",
    "embeddings": "embeddings",
    "completions": "completions",
    "decisions": "decisions",
}


@cache
def _endpoint(api: str) -> Endpoint:
    return _LOADERS[api]()


def __getattr__(name: str) -> Endpoints:
    if name != "ENDPOINTS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(_endpoint(api) for api in _LOADERS)
