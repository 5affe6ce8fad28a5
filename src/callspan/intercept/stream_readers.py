"""Stream readers: wrappers around the SDK's reader, used if each item must be processed.

They are needed to hide a usage chunk that callspan requested, for older SDK readers that do not show their end, and to
read the items if the SDK's parsed JSON cannot be observed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeAlias

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.response_observer import HttpResponse, ResponseObserver, body_of, observer_of
from callspan.intercept.response_state import Event
from callspan.intercept.sdk_readers import StreamReader, frame_of, has_read_done, shows_its_end
from callspan.providers.base import Endpoint

_COMPLETED: Final = fail_open("see how a stream ended")
_REQUEST_USAGE: Final = fail_open("request the usage of a stream")

Reader: TypeAlias = Iterator[object] | AsyncIterator[object]
"""The iterator from which a stream, sync or async, reads its items."""


def request_usage(endpoint: Endpoint | None, options: Any) -> bool:  # noqa: ANN401 - FinalRequestOptions of either SDK
    """Request the usage of a chat stream unless the caller has decided about it; return True if requested.

    Without `stream_options.include_usage` such a stream has no usage. With it there is a last chunk without choices,
    which breaks consumers that take the first choice of every chunk: `observed_reader` hides it. The caller's objects
    are not changed. Not for raw responses, whose bytes the caller may read.
    """
    if endpoint is None or endpoint.api != "chat_completions":
        return False
    with _REQUEST_USAGE:
        body, extra = options.json_data, getattr(options, "extra_json", None) or {}
        if not isinstance(body, dict) or "stream_options" in extra:
            return False
        given = body.get("stream_options") or {}
        if not isinstance(given, dict) or "include_usage" in given:
            return False
        options.json_data = {**body, "stream_options": {**given, "include_usage": True}}
        return True
    return False


def is_usage_chunk(chunk: object) -> bool:
    """Return whether a chunk has only the usage."""
    return getattr(chunk, "choices", None) == [] and getattr(chunk, "usage", None) is not None


def observe_iterator(stream: Any) -> None:  # noqa: ANN401 - a stream of either SDK
    """Observe the reader a stream already has, if `__stream__` could not be wrapped."""
    inner: Any = getattr(stream, names.ITERATOR.name, None)
    if is_reader(inner):
        setattr(stream, names.ITERATOR.name, observed_reader(inner, stream.response, observer_of(stream.response)))


def observed_reader(reader: Any, response: Any, observer: ResponseObserver | None) -> Any:  # noqa: ANN401 - of either SDK
    """Return the reader or its wrapper, and register it with the observer of its response.

    Returns the reader itself without an observer, or if it is not an iterator.
    """
    if observer is None or not is_reader(reader):
        return reader
    if observer.path.reads_items or not shows_its_end(reader, response):
        reporter = reporting(reader, response)
        observer.reader = StreamReader(reporter, closes_response=False)
        return reporter
    observer.reader = StreamReader(reader, closes_response=True)
    return _without_usage(reader) if observer.path.hides_usage else reader


def is_reader(found: object) -> bool:
    """Return whether a stream can read its items from this object."""
    return hasattr(found, "__next__") or hasattr(found, "__anext__")


def reporting(reader: Any, response: HttpResponse) -> Reader:  # noqa: ANN401 - a sync or async iterator
    """Return a reader that reports its end to the observer of the response, looked up at its first step.

    Not earlier, because a middleware may replace the response in between.
    """
    return _AsyncReader(reader, response) if hasattr(reader, "__anext__") else _read(reader, response)


def _without_usage(reader: Any) -> Reader:  # noqa: ANN401 - a sync or async iterator
    """Return a reader of the same items without the chunk that has only the usage."""
    return _hiding_async(reader) if hasattr(reader, "__anext__") else _hiding(reader)


def _hiding(inner: Iterator[object]) -> Iterator[object]:
    for item in inner:
        if not is_usage_chunk(item):
            yield item


async def _hiding_async(inner: AsyncIterator[object]) -> AsyncIterator[object]:
    async for item in inner:
        if not is_usage_chunk(item):
            yield item


def _read(inner: Iterator[object], response: object) -> Iterator[object]:
    observer = observer_of(response)
    if observer is None:
        yield from inner
        return
    items = _showing(inner, observer) if observer.path.reads_items else inner
    frame = frame_of(inner)  # a reference to the frame keeps its variables after the generator's end
    try:
        yield from _hiding(items) if observer.path.hides_usage else items
    except GeneratorExit:
        observer.on(Event.READER_GONE)
        raise
    except BaseException as error:
        observer.failed(error)
        raise
    _completed(observer, frame)


def _completed(observer: ResponseObserver, frame: object) -> None:
    """Report the normal end of the SDK's reader with this frame."""
    with _COMPLETED:
        if not observer.call.stream_complete and has_read_done(frame):
            observer.call.signalled_end()
    observer.completed()


def _showing(inner: Iterator[object], observer: ResponseObserver) -> Iterator[object]:
    for item in inner:
        observer.data(body_of(item, None))
        yield item


class _AsyncReader:
    """An async iterator over the SDK's reader; not a generator, whose finalization would race with the inner one."""

    __slots__ = ("__weakref__", "_frame", "_inner", "_observer", "_response", "running")

    def __init__(self, inner: AsyncIterator[object], response: object) -> None:
        self._inner = inner
        self._frame = frame_of(inner)
        """A reference keeps its variables after the generator's end."""
        self._response = response
        self._observer: ResponseObserver | None = None
        self.running = False
        """True while a caller waits for an item."""

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        """Return the next item, or report the end."""
        observer = self._observer = self._observer or observer_of(self._response)
        # The SDK's reader rejects a second task while one is inside: that is the task's error, not the stream's end.
        if observer is None or self.running:
            return await self._inner.__anext__()
        try:
            self.running = True
            item = await self._inner.__anext__()
            while observer.path.hides_usage and is_usage_chunk(item):
                item = await self._inner.__anext__()
        except StopAsyncIteration:
            frame, self._frame = self._frame, None
            _completed(observer, frame)
            raise
        except BaseException as error:
            observer.failed(error)
            raise
        else:
            if observer.path.reads_items:
                observer.data(body_of(item, None))
            return item
        finally:
            self.running = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the SDK's reader has
        return getattr(self._inner, name)
