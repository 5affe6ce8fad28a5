"""Registry: the table of all endpoint adapters, by method and path of a request, and by API of a record; own ones too.

Adapters are imported when their SDK is patched, or else when first used: importing this module costs nothing.

An adapter of the application is found by its name (`api`) once registered in this process, or if an installed package
has it in the entry point group `callspan.endpoints`. It is guarded when called.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, TypeVar, cast

import msgspec

from callspan.fail_open import fail_open, ours
from callspan.forks import late_import
from callspan.providers import routes
from callspan.providers.base import NOT_RECOGNIZED, Accumulator, Endpoint, Endpoints, ResponseInfo
from callspan.record.call import CallRecord, Request
from callspan.record.messages import Conversation
from callspan.sdk_profiles import Wire

_MOST_PATHS: Final = 128

ENDPOINTS: Endpoints
"""Every endpoint that a request is for, in order of how common it is."""
GROUP: Final = "callspan.endpoints"
"""Entry point group: the name is the `api`, the value a class or function that returns the endpoint."""

_MOST_OWN: Final = 64
_REQUIRED: Final = ("request", "accumulator", "response_info", "conversation")
_TEXTS: Final = ("api", "operation", "path", "message_key")
_LOAD: Final = fail_open("load an endpoint of the application")
_READ: Final = fail_open("read a body with an endpoint of the application")
_T = TypeVar("_T")

_registered: Final[dict[str, OwnEndpoint]] = {}
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
    "images": ("openai.media", "Images"),
    "image_edits": ("openai.media", "ImageEdits"),
    "image_variations": ("openai.media", "ImageVariations"),
    "transcriptions": ("openai.media", "Transcriptions"),
    "translations": ("openai.media", "Translations"),
    "speech": ("openai.media", "Speech"),
    "text_completions": ("anthropic.completions", "TextCompletions"),
}
"""Module and class of the adapter of each API."""
APIS: Final = frozenset(_PLACES)
"""The names of all APIs with adapters."""
_SEARCH: Final = "vector_store_search"


@lru_cache(maxsize=_MOST_PATHS)
def endpoint_for(method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a request, or None if it is not a call to a model.

    `path` is the logical path given to the SDK, see `routes.find`. Never raises.
    """
    found = routes.find(method, path)
    if found is None or found.path.kind != "call":
        return None
    api = found.path.adapter
    return _vector_store_search(found.ids["store"]) if api == _SEARCH else _endpoint(api)


def by_api(api: str) -> Endpoint | None:
    """Return the endpoint of that name (`CallRecord.api`), including the application's own, or None."""
    return _endpoint(api) if api in _PLACES else _registered.get(api) or _installed(api)


def register(endpoint: Endpoint) -> Endpoint:
    """Register an endpoint of the application in this process by its `api`; replaces one of the same name.

    Returns:
        The endpoint, guarded: it never raises.

    Raises:
        TypeError: A member of the protocol is missing.
        ValueError: Its `api` is one of callspan's own.

    Example:
        >>> from callspan import endpoints
        >>> class Summaries:
        ...     api, operation, path, message_key = "summaries", "chat", "/summaries", "text"
        ...     def request(self, body):
        ...         return endpoints.Request(body=body)
        ...     def accumulator(self):
        ...         raise NotImplementedError("it has no streams")
        ...     def response_info(self, body):
        ...         return endpoints.ResponseInfo(response=endpoints.Response(), usage=endpoints.Usage())
        ...     def conversation(self, request, response):
        ...         return endpoints.Conversation()
        >>> endpoints.register(Summaries()).api
        'summaries'
    """
    if getattr(endpoint, "api", None) in APIS:
        raise ValueError(f"{endpoint!r}: callspan reads the API {endpoint.api!r} itself; give yours another name")
    own = endpoint if isinstance(endpoint, OwnEndpoint) else OwnEndpoint(endpoint)
    _registered[own.api] = own
    return own


def load(wire: Wire) -> None:
    """Import the adapters of a family of APIs, and everything their first response needs."""
    late_import("email.utils")  # for dates in headers
    for api in APIS:
        if wire_of(api) == wire:
            _endpoint(api)


def wire_of(api: str) -> Wire:
    """Return the family of an API that callspan reads. Raises KeyError for any other."""
    return cast("Wire", _PLACES[api][0].partition(".")[0])


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


def _vector_store_search(store_id: str) -> Endpoint:
    """Return the endpoint with the id from the path."""
    kind: Callable[[str], Endpoint] = type(_endpoint(_SEARCH))
    return kind(store_id)


def decoded(body: msgspec.Raw | bytes | str) -> object:
    """Return the parsed JSON of a body, with lone surrogates and NaN allowed; None if invalid. Never raises."""
    data = body if isinstance(body, str) else bytes(body)
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except ours(msgspec.DecodeError, ValueError, RecursionError):
        return _leniently_decoded(data)


def _leniently_decoded(data: bytes | str) -> object:
    """Parse JSON that msgspec rejects and the SDKs send: lone surrogates, NaN."""
    try:
        return json.loads(data)
    except ours(ValueError, RecursionError):
        return None


@cache
def _endpoint(api: str) -> Endpoint:
    module, name = _PLACES[api]
    return cast("Endpoint", getattr(late_import(f"callspan.providers.{module}"), name)())


def generic(api: str) -> Endpoint:
    """Return the reader of answers on a path that no adapter knows; `api` is the path without ids."""
    return cast("Endpoint", late_import("callspan.providers.generic_body").GenericBody(api))


@cache
def fetch() -> Endpoint:
    """Return the endpoint of requests that fetch or cancel a background response."""
    return cast("Endpoint", late_import("callspan.providers.openai.responses").ResponseFetch())


def __getattr__(name: str) -> Endpoints:
    if name != "ENDPOINTS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(_endpoint(api) for api in _PLACES)


class OwnEndpoint:
    """A guarded endpoint of the application: it never raises and always returns the right type."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raise TypeError if a member of the protocol is missing."""
        missing = [name for name in _TEXTS if not isinstance(getattr(endpoint, name, None), str)]
        missing += [f"{name}()" for name in _REQUIRED if not callable(getattr(endpoint, name, None))]
        if missing:
            raise TypeError(f"{endpoint!r} is not a callspan.endpoints.Endpoint: it lacks {', '.join(missing)}")
        self.api = endpoint.api
        self.operation = endpoint.operation
        self.path = endpoint.path
        self.message_key = endpoint.message_key
        self._endpoint = endpoint

    def request(self, body: object) -> Request:
        """Return what the endpoint reads of a request."""
        with _READ:
            return _checked(self._endpoint.request(body), Request) or Request()
        return Request()

    def accumulator(self) -> Accumulator:
        """Return a fresh guarded accumulator; if creating it fails, one that folds nothing."""
        return _OwnAccumulator(self._endpoint)

    def response_info(self, body: object) -> ResponseInfo:
        """Return what the endpoint reads of a response."""
        with _READ:
            return _checked(self._endpoint.response_info(body), ResponseInfo) or NOT_RECOGNIZED
        return NOT_RECOGNIZED

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages the endpoint reads."""
        with _READ:
            return _checked(self._endpoint.conversation(request, response), Conversation) or Conversation()
        return Conversation()


class _OwnAccumulator:
    """Guards an accumulator of the application. Without a fast path, because that would be unguarded."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._inner: Accumulator | None = None
        with _READ:
            self._inner = endpoint.accumulator()

    @property
    def complete(self) -> bool:
        """The accumulator's value; False if reading it fails."""
        with _READ:
            return self._inner is not None and bool(self._inner.complete)
        return False

    def add(self, chunk: object) -> bool:
        """Fold a chunk; return False if that fails."""
        with _READ:
            return self._inner is not None and bool(self._inner.add(chunk))
        return False

    def body(self) -> dict[str, object] | None:
        """Return the folded body; None if that fails."""
        with _READ:
            return None if self._inner is None else _checked(self._inner.body(), dict)
        return None


@lru_cache(maxsize=_MOST_OWN)
def _installed(api: str) -> OwnEndpoint | None:
    with _LOAD:
        for found in late_import("importlib.metadata").entry_points(group=GROUP, name=api):
            return OwnEndpoint(found.load()())
    return None


def _checked(value: object, kind: type[_T]) -> _T | None:
    return value if isinstance(value, kind) else None
