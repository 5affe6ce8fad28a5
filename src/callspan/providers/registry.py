"""Registry: the table of all endpoint adapters, by method and path of a request and by API of a record.

Adapters are imported when their SDK is patched, or else when first used: importing this module costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, cast
from urllib.parse import unquote

import msgspec

from callspan.fail_open import ours
from callspan.forks import late_import
from callspan.providers import own
from callspan.providers.base import Api, Endpoint, Endpoints
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation

_MOST_PATHS: Final = 128

ENDPOINTS: Endpoints
"""Every endpoint, in order of how common it is."""


def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a request, or None if it is not a call to a model.

    `path` is the logical path given to the SDK, absolute or relative, with or without a query. Complete last segments
    must match, so `/v1/messages/batches`, `/responses/{id}` and `/threads/{id}/messages` do not. Never raises.
    """
    if method not in _METHODS:
        return None
    api = _api_of(path)
    if api is None:
        return None
    return _vector_store_search(path) if api == _SEARCH else _endpoint(api)


def fetch_for(method: str, path: str) -> Endpoint | None:
    """Return what reads the answer to a request that fetches or cancels a background response; None for any other."""
    segments = _segments(path)
    named = segments if method in _GET else segments[:-1] if segments[-1] == "cancel" and method in _METHODS else []
    return _fetch() if named[-2:-1] == ["responses"] else None


def by_api(api: str) -> Endpoint | None:
    """Return the endpoint of that name (`CallRecord.api`), including the application's own, or None."""
    return _endpoint(api) if api in _PLACES else own.find(api)


def register(endpoint: Endpoint) -> Endpoint:
    """Register an endpoint of the application in this process by its `api`; replaces one of the same name.

    Returns:
        The endpoint, guarded: it never raises.

    Raises:
        TypeError: a member of the protocol is missing.
        ValueError: its `api` is one of callspan's own.
    """
    if getattr(endpoint, "api", None) in APIS:
        raise ValueError(f"{endpoint!r}: callspan reads the API {endpoint.api!r} itself; give yours another name")
    return own.remember(endpoint)


def load(family: str) -> None:
    """Import the adapters of the APIs of `openai` or `anthropic`, and everything their first response needs."""
    late_import("email.utils")  # for dates in headers
    for api, (module, _) in _PLACES.items():
        if module.startswith(family):
            _endpoint(api)


def conversation_of(record: CallRecord) -> Conversation | None:
    """Return the messages of a call, parsed from its bodies.

    None if neither body was recorded or can be parsed, or the endpoint is unknown. Never raises.
    """
    endpoint = by_api(record.api)
    if endpoint is None:
        return None
    request = decoded(record.request.body)
    response = None if record.response is None else decoded(record.response.body)
    return None if request is None and response is None else endpoint.conversation(request, response)


def with_conversation(record: CallRecord) -> CallRecord:
    """Return the record with its conversation; unchanged if it already has one or none can be parsed."""
    conversation = conversation_of(record) if record.conversation is None else None
    return record if conversation is None else msgspec.structs.replace(record, conversation=conversation)


@lru_cache(maxsize=_MOST_PATHS)
def _api_of(path: str) -> Api | None:
    segments = _segments(path)
    if segments[-1] == "search" and segments[-3:-2] == ["vector_stores"]:
        return _SEARCH
    return _BY_LAST_TWO.get("/".join(segments[-2:])) or _BY_LAST.get(segments[-1])


def _segments(path: str) -> list[str]:
    return path.partition("?")[0].strip("/").split("/")


@lru_cache(maxsize=_MOST_PATHS)
def _vector_store_search(path: str) -> Endpoint:
    """Return the endpoint with the id from the path."""
    kind: Callable[[str], Endpoint] = type(_endpoint(_SEARCH))
    return kind(unquote(_segments(path)[-2]))


def decoded(body: msgspec.Raw | bytes) -> object:
    """Return the parsed JSON of a body, with lone surrogates and NaN allowed; None if invalid. Never raises."""
    data = bytes(body)
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except ours(msgspec.DecodeError, RecursionError):
        return _leniently_decoded(data)


def _leniently_decoded(data: bytes) -> object:
    """Parse JSON that msgspec rejects and the SDKs send: lone surrogates, NaN."""
    try:
        return json.loads(data)
    except ours(ValueError, RecursionError):
        return None


_PLACES: Final[dict[str, tuple[str, str]]] = {
    "chat_completions": ("openai.chat", "ChatCompletions"),
    "responses": ("openai.responses", "Responses"),
    "messages": ("anthropic.messages", "Messages"),
    "embeddings": ("openai.single_body", "Embeddings"),
    "completions": ("openai.completions", "Completions"),
    "decisions": ("openai.single_body", "Decisions"),
    "moderations": ("openai.single_body", "Moderations"),
    "vector_store_search": ("openai.single_body", "VectorStoreSearch"),
    "graders": ("openai.single_body", "GraderRuns"),
    "images": ("openai.images", "Images"),
    "image_edits": ("openai.images", "ImageEdits"),
    "image_variations": ("openai.images", "ImageVariations"),
    "transcriptions": ("openai.audio", "Transcriptions"),
    "translations": ("openai.audio", "Translations"),
    "speech": ("openai.audio", "Speech"),
}
"""Module and class of the adapter of each API."""

APIS: Final = frozenset(_PLACES)
"""The names of all APIs with adapters."""

_SEARCH: Final = "vector_store_search"
_METHODS: Final = frozenset({"post", "POST"})
_GET: Final = frozenset({"get", "GET"})
_BY_LAST_TWO: Final[dict[str, Api]] = {
    "chat/completions": "chat_completions",
    "v1/messages": "messages",
    "responses/compact": "responses",
    "graders/run": "graders",
    "images/generations": "images",
    "images/edits": "image_edits",
    "images/variations": "image_variations",
    "audio/transcriptions": "transcriptions",
    "audio/translations": "translations",
    "audio/speech": "speech",
}
_BY_LAST: Final[dict[str, Api]] = {
    "responses": "responses",
    "embeddings": "embeddings",
    "completions": "completions",
    "decisions": "decisions",
    "moderations": "moderations",
}


@cache
def _endpoint(api: str) -> Endpoint:
    module, name = _PLACES[api]
    return cast("Endpoint", getattr(late_import(f"callspan.providers.{module}"), name)())


@cache
def _fetch() -> Endpoint:
    return cast("Endpoint", late_import("callspan.providers.openai.responses").ResponseFetch())


def __getattr__(name: str) -> Endpoints:
    if name != "ENDPOINTS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(_endpoint(api) for api in _PLACES)
