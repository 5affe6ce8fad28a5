"""Streams: how the end of a stream is seen, whoever brings it about.

The SDK's own reader (`Stream.__stream__`) is observed from inside the SDK's stream object, which stays the
caller's. A `break` is no end: the caller may go on. The first of normal end, error, cancellation, close
and collection counts.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

from callspan.intercept import stream_usage
from callspan.intercept.raw_responses import body_of
from callspan.intercept.watch import KEY, HttpResponse, Watch, watch_of


def observe_reader(
    wrapped: Callable[..., Iterator[object]], stream: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[object]:
    """Wrap `Stream.__stream__`: the same items, with the end reported."""
    response = getattr(stream, "response", None)
    reader = _read(wrapped(*args, **kwargs), response)
    if response is not None:
        _remember_reader(response, reader)
    return reader


def observe_async_reader(
    wrapped: Callable[..., AsyncIterator[object]], stream: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[object]:
    """Wrap `AsyncStream.__stream__`: the same items, with the end reported."""
    response = getattr(stream, "response", None)
    reader = _AsyncReader(wrapped(*args, **kwargs), response)
    if response is not None:
        _remember_reader(response, reader)
    return reader


def observe_iterator(stream: Any) -> None:  # noqa: ANN401 - a stream of either SDK
    """Observe the reader a stream already has: where `__stream__` could not be wrapped."""
    inner = getattr(stream, "_iterator", None)
    if inner is not None:
        observe = observe_async_reader if hasattr(inner, "__anext__") else observe_reader
        stream._iterator = observe(lambda: inner, stream, (), {})


def observe_close(original: Callable[..., None]) -> Callable[..., None]:
    """Return `Response.close` with the end of a watched call reported."""

    @wraps(original)
    def close(response: HttpResponse) -> None:
        try:
            original(response)
        finally:
            if KEY in response.extensions:
                _on_close(response)

    return close


def observe_aclose(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `Response.aclose` with the end of a watched call reported."""

    @wraps(original)
    async def aclose(response: HttpResponse) -> None:
        try:
            await original(response)
        finally:
            if KEY in response.extensions:
                _on_close(response)

    return aclose


def watch_for_loss(response: object, watch: Watch) -> None:
    """See to it that a response which is dropped without being closed ends its call."""
    finalizer = weakref.finalize(response, watch.dropped)
    finalizer.atexit = False


_READER = "callspan.reader"


def _remember_reader(response: HttpResponse, reader: object) -> None:
    response.extensions[_READER] = weakref.ref(reader)


def _on_close(response: HttpResponse) -> None:
    watch = watch_of(response)
    if watch is None or watch.call.ended or watch.pulling:
        return
    reader = response.extensions.get(_READER)
    watch.generator = reader if isinstance(reader, weakref.ref) else None
    if watch.generator is not None and watch.generator() is None:
        # The collector clears weak references before it closes the generators it found, whose `finally` closes the
        # response: this may be a finalizer.
        watch.let_go()
    elif not watch.running():
        watch.closed()


def _read(inner: Iterator[object], response: object) -> Iterator[object]:
    # Read at the first step, not before: a middleware may replace the response in between.
    watch = watch_of(response)
    if watch is None:
        yield from inner
        return
    watch.iterated = True
    try:
        yield from _one_by_one(inner, watch) if watch.hides_usage or watch.reads_items else inner
    except GeneratorExit:
        watch.let_go()
        raise
    except BaseException as error:
        watch.failed(error)
        raise
    watch.finished()


def _one_by_one(inner: Iterator[object], watch: Watch) -> Iterator[object]:
    for item in inner:
        if watch.reads_items:
            watch.data(body_of(item, None))
        if not (watch.hides_usage and stream_usage.is_extra(item)):
            yield item


class _AsyncReader:
    """An async iterator over the SDK's reader; not a generator, whose finalisation would race with the inner one."""

    __slots__ = ("__weakref__", "_inner", "_response", "_watch", "running")

    def __init__(self, inner: AsyncIterator[object], response: object) -> None:
        self._inner = inner
        self._response = response
        self._watch: Watch | None = None
        self.running = False

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        watch = self._watch or self._begin()
        # While one task is inside, another is refused by the SDK's reader: that is its error, and no end of the stream.
        if watch is None or self.running:
            return await self._inner.__anext__()
        self.running = True
        try:
            item = await self._inner.__anext__()
            while watch.hides_usage and stream_usage.is_extra(item):
                item = await self._inner.__anext__()
        except StopAsyncIteration:
            watch.finished()
            raise
        except BaseException as error:
            watch.failed(error)
            raise
        else:
            if watch.reads_items:
                watch.data(body_of(item, None))
            return item
        finally:
            self.running = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the SDK's reader has
        return getattr(self._inner, name)

    def _begin(self) -> Watch | None:
        watch = self._watch = watch_of(self._response)
        if watch is not None:
            watch.iterated = True
        return watch
