"""Streams: an iterator inside the SDK's stream object reports how the stream ended.

The object, its type and its identity stay the SDK's. The iterator also hides a usage chunk that callspan requested.

An exception of a stream helper above the raw stream (accumulating, parsing, creating events) is the call's error. An
exception of the application in its loop passes through no iterator.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from types import GeneratorType
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.foreign_objects import Proxy, named_like
from callspan.intercept.hooks import HookSteps
from callspan.intercept.responses import CURRENT_CALL, ResponseObserver, observer_of

_OF_EVERY_CHUNK: Final = frozenset(
    {
        "choices", "created", "id", "model", "obfuscation", "object", "provider", "service_tier", "system_fingerprint",
        "usage",
    }
)  # fmt: skip
"""Fields that every chunk may have, those of OpenRouter too."""
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
    response = _response_of(helper)
    return _AsyncEvents(inner, response) if hasattr(inner, "__anext__") else named_like(_events(inner, response), inner)


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
    """Return a reader of the same items; an object that is no iterator is returned unchanged.

    It looks up the observer of the response at its first step, until which a middleware may replace the response.
    """
    if hasattr(inner, "__anext__"):
        return _AsyncReader(inner, response)
    return named_like(_read(inner, response), inner) if hasattr(inner, "__next__") else inner


def _read(inner: Iterator[object], response: object) -> Iterator[object]:
    observer = None
    with _OBSERVE:
        observer = observer_of(response)
    if observer is None:
        yield from inner
        return
    hides = observer.call.hides_usage
    # Iterators returned by other libraries may not be weakly referenceable.
    items = inner if isinstance(inner, GeneratorType) and not hides else _visible_items(inner, hides=hides)
    observer.reader = weakref.ref(items)
    # Keeps the inner iterator alive: an HTTP library closes the response when that is collected.
    frame = getattr(inner, "gi_frame", None)
    try:
        yield from items
    except GeneratorExit:
        with _OBSERVE:
            observer.lost()
        raise
    except BaseException as error:
        with _OBSERVE:
            observer.failed(error)
        raise
    with _OBSERVE:
        observer.completed()
    del frame


def _visible_items(inner: Iterator[object], *, hides: bool) -> Iterator[object]:
    for item in inner:
        if not (hides and is_usage_chunk(item)):
            yield item


def _events(inner: Iterator[object], response: object) -> Iterator[object]:
    try:
        yield from inner
    except GeneratorExit:
        raise
    except BaseException as error:
        if (observer := observer_of(response)) is not None:
            observer.failed_above(error)
        raise


class _AsyncReader(Proxy):
    """An async iterator over the SDK's; not a generator, whose finalization would race with that of the inner one."""

    __slots__ = ("__weakref__", "_observer", "_response", "running")

    def __init__(self, inner: AsyncIterator[object], response: object) -> None:
        super().__init__(inner)
        self._response = response
        self._observer: ResponseObserver | None = None
        self.running = False
        """True while a caller waits for an item."""

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        """Return the next item, or report the end."""
        observer = self._observer = self._observer or self._attach_observer()
        # The SDK's iterator rejects a second task while one is inside: that is the task's error, not the stream's.
        if observer is None or self.running:
            return await self._inner.__anext__()
        try:
            self.running = True
            item = await self._inner.__anext__()
            while observer.call.hides_usage and is_usage_chunk(item):
                item = await self._inner.__anext__()
        except StopAsyncIteration:
            with _OBSERVE:
                self._report_end(observer)
            raise
        except BaseException as error:
            with _OBSERVE:
                self._report_error(observer, error)
            raise
        finally:
            self.running = False
        return item

    def _attach_observer(self) -> ResponseObserver | None:
        observer = observer_of(self._response)
        if observer is not None:
            observer.reader = weakref.ref(self)
        return observer

    def _report_end(self, observer: ResponseObserver) -> None:
        observer.completed()

    def _report_error(self, observer: ResponseObserver, error: BaseException) -> None:
        observer.failed(error)


# The name of the SDK's iterator, by which older versions of Sentry tell sync and async streams apart.
_AsyncReader.__module__, _AsyncReader.__name__ = "builtins", "async_generator"


class _AsyncEvents(_AsyncReader):
    """An async iterator over the events of a helper, which may fail above the stream."""

    __slots__ = ()

    def _attach_observer(self) -> ResponseObserver | None:
        return observer_of(self._response)

    def _report_end(self, observer: ResponseObserver) -> None:
        """Do nothing: the reader of the stream reports its end."""

    def _report_error(self, observer: ResponseObserver, error: BaseException) -> None:
        observer.failed_above(error)


def request_usage(endpoint: object, options: Any) -> bool:
    """Request the usage of a chat stream unless the caller has set the option; return True if requested.

    Without `stream_options.include_usage` a stream has no usage. With it there is a last chunk without choices, which
    breaks consumers that use the first choice of every chunk, so the reader hides it. The caller's objects are not
    changed. Not for raw responses, whose bytes the caller may read.
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
