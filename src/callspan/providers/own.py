"""Own endpoints: adapters defined by the application, checked when registered and guarded when called.

They are found by name (`api`) once used or registered in this process, or if an installed package has them in the
entry point group `callspan.endpoints`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeVar

from callspan.fail_open import fail_open
from callspan.forks import late_import
from callspan.providers.base import Accumulator, Endpoint, ResponseInfo
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation

GROUP: Final = "callspan.endpoints"
"""Entry point group: the name is the `api`, the value a class or function that returns the endpoint."""

_MOST: Final = 64
_METHODS: Final = ("request", "accumulator", "response_info", "conversation")
_TEXTS: Final = ("api", "operation", "path", "message_key")
_LOAD: Final = fail_open("load an endpoint of the application")
_READ: Final = fail_open("read a body with an endpoint of the application")
_NOTHING: Final = ResponseInfo(response=Response(), recognized=False)
_T = TypeVar("_T")

_registered: Final[dict[str, OwnEndpoint]] = {}


class OwnEndpoint:
    """A guarded endpoint of the application: it never raises and always returns the right type."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raise TypeError if a member of the protocol is missing."""
        missing = [name for name in _TEXTS if not isinstance(getattr(endpoint, name, None), str)]
        missing += [f"{name}()" for name in _METHODS if not callable(getattr(endpoint, name, None))]
        if missing:
            raise TypeError(f"{endpoint!r} is no callspan.endpoints.Endpoint: it lacks {', '.join(missing)}")
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
            return _checked(self._endpoint.response_info(body), ResponseInfo) or _NOTHING
        return _NOTHING

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


def remember(endpoint: Endpoint) -> OwnEndpoint:
    """Register the endpoint in this process by its `api`; replaces one of the same name. Raises TypeError as above."""
    own = endpoint if isinstance(endpoint, OwnEndpoint) else OwnEndpoint(endpoint)
    _registered[own.api] = own
    return own


def find(api: str) -> OwnEndpoint | None:
    """Return the application's endpoint of that name, or None. Never raises."""
    return _registered.get(api) or _installed(api)


@lru_cache(maxsize=_MOST)
def _installed(api: str) -> OwnEndpoint | None:
    with _LOAD:
        for found in late_import("importlib.metadata").entry_points(group=GROUP, name=api):
            return OwnEndpoint(found.load()())
    return None


def _checked(value: object, kind: type[_T]) -> _T | None:
    return value if isinstance(value, kind) else None
