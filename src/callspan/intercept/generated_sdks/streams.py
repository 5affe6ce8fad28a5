"""Streams: an iterator inside the SDK's stream object reports how the stream ended.

The object, its type and its identity stay the SDK's. The iterator also hides a usage chunk that callspan requested.

An exception of a stream helper above the raw stream (accumulating, parsing, creating events) is the call's error. An
exception of the application in its loop passes through no iterator.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from callspan import private_names as names
from callspan.intercept.hooks import HookSteps
from callspan.intercept.iteration import Take, Watch, watched
from callspan.intercept.responses import CURRENT_CALL, ResponseObserver, observer_of
from callspan.runtime.fail_open import fail_open

_OF_EVERY_CHUNK: Final = frozenset(
    {
        "choices", "created", "id", "model", "obfuscation", "object", "provider", "service_tier", "system_fingerprint",
        "usage",
    }
)  # fmt: skip
"""Fields that every chunk may have, also OpenRouter's."""
_OBSERVE: Final = fail_open("observe a stream")
_OBSERVE_HELPER: Final = fail_open("observe a stream helper")


def _stream_of(_args: object, stream: Any, _kwargs: object) -> Any:
    return stream


def _with_end(stream: Any, inner: Any) -> Any:
    """Return a reader of the same items that reports the end."""
    response = stream.response
    # If a middleware replaces the response, the open call gets it later.
    is_observed = observer_of(response) is not None or CURRENT_CALL.get() is not None
    return _reader(inner, response) if is_observed else inner


def _with_errors(helper: Any, inner: Any) -> Any:
    """Return an iterator over the same events that reports the helper's exceptions."""
    return watched(inner, _Events(_response_of(helper)))


def _unfinished(_args: object, helper: object, _kwargs: object) -> ResponseObserver | None:
    """Return the observer of a helper's response, unless its call has ended."""
    observer = observer_of(_response_of(helper))
    return None if observer is None or observer.call.ended else observer


def _release(observer: ResponseObserver, _: object) -> None:
    observer.release()


READER: Final = HookSteps(step=_OBSERVE, before=_stream_of, on_return=_with_end)
"""Reports the end of a stream around `Stream.__stream__`."""
EVENTS: Final = HookSteps(step=_OBSERVE_HELPER, before=_stream_of, on_return=_with_errors)
"""Reports the exceptions of a helper around its `__stream__`."""
FINAL: Final = HookSteps(
    step=_OBSERVE_HELPER, before=_unfinished, enter=ResponseObserver.hold, on_return=_release,
    on_error=ResponseObserver.failed_above,
)  # fmt: skip
"""Reports exceptions of `get_final_*` of a helper, which reads the stream, as the call's error."""


def _response_of(helper: Any) -> object:
    return getattr(getattr(helper, names.RAW_STREAM.name, helper), "response", None)


def _reader(inner: Any, response: object) -> Any:
    """Return a reader of the same items; an object that is no iterator is returned unchanged."""
    items = _Items(response)
    reader = watched(inner, items)
    if reader is not inner:
        items.reader = weakref.ref(reader)
    return reader


class _Items(Watch):
    """The items of a stream.

    The observer of the response is looked up at the first step, until which a middleware may replace the response.
    """

    step = _OBSERVE
    __slots__ = ("_observer", "_response", "reader")
    reader: weakref.ref[Any]

    def __init__(self, response: object) -> None:
        self._response = response
        self._observer: ResponseObserver | None = None

    def begun(self) -> Take | None:
        self._observer = observer = observer_of(self._response)
        if observer is None:
            return None
        observer.reader = self.reader
        return is_usage_chunk if observer.call.hides_usage else None

    def completed(self) -> None:
        if self._observer is not None:
            self._observer.completed()

    def failed(self, error: BaseException) -> None:
        if self._observer is not None:
            self._observer.failed(error)

    def lost(self) -> None:
        if self._observer is not None:
            self._observer.lost()


class _Events(Watch):
    """The events of a helper, which may fail above the stream. The reader of the stream reports its end."""

    step = _OBSERVE_HELPER
    __slots__ = ("_response",)

    def __init__(self, response: object) -> None:
        self._response = response

    def failed(self, error: BaseException) -> None:
        if (observer := observer_of(self._response)) is not None:
            observer.failed_above(error)


def request_usage(endpoint: object, options: Any) -> bool:
    """Request the usage of a chat stream unless the caller has set the option; return True if requested.

    Without `stream_options.include_usage` a stream has no usage. With it there is a last chunk without choices, which
    breaks consumers that use the first choice of every chunk, so the reader hides it. The caller's objects are not
    changed. Not for raw responses: the caller may read their bytes.
    """
    if getattr(endpoint, "api", None) != "chat_completions":
        return False
    body, extra = options.json_data, getattr(options, "extra_json", None) or {}
    if not isinstance(body, dict) or "stream_options" in extra:
        return False
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict) or "include_usage" in stream_options:
        return False
    options.json_data = {**body, "stream_options": {**stream_options, "include_usage": True}}
    return True


def is_usage_chunk(chunk: object) -> bool:
    """Return whether a chunk has only the usage, and no field such as `moderation`."""
    if getattr(chunk, "choices", None) != [] or getattr(chunk, "usage", None) is None:
        return False
    fields = getattr(chunk, "__dict__", {}) | (getattr(chunk, "model_extra", None) or {})
    return all(value is None for name, value in fields.items() if name not in _OF_EVERY_CHUNK)
