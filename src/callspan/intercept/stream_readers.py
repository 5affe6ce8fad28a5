"""Stream readers: what stands between the SDK's reader and the caller, where something has to be done with each item.

One chunk may have to be kept from the caller; older readers do not tell their end by themselves; and where the SDK's
parsed JSON cannot be seen, the items are read instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

from callspan.intercept import stream_usage
from callspan.intercept.raw_responses import body_of
from callspan.intercept.response_observer import ResponseObserver, observer_of

Reader: TypeAlias = Iterator[object] | AsyncIterator[object]
"""What a stream of either colour reads its items from."""


def without_usage(reader: Any) -> Reader:  # noqa: ANN401 - an iterator of either colour
    """Return a reader of the same items but the chunk that says nothing but the usage."""
    return _hiding_async(reader) if hasattr(reader, "__anext__") else _hiding(reader)


def reporting(reader: Any, response: object) -> Reader:  # noqa: ANN401 - an iterator of either colour
    """Return a reader that reports its end to the observer of the response, which it looks up at its first step.

    Not before: a middleware may replace the response in between.
    """
    return _AsyncReader(reader, response) if hasattr(reader, "__anext__") else _read(reader, response)


def _hiding(inner: Iterator[object]) -> Iterator[object]:
    for item in inner:
        if not stream_usage.is_extra(item):
            yield item


async def _hiding_async(inner: AsyncIterator[object]) -> AsyncIterator[object]:
    async for item in inner:
        if not stream_usage.is_extra(item):
            yield item


def _read(inner: Iterator[object], response: object) -> Iterator[object]:
    observer = observer_of(response)
    if observer is None:
        yield from inner
        return
    observer.iterated = True
    shown = _showing(inner, observer) if observer.reads_items else inner
    try:
        yield from _hiding(shown) if observer.hides_usage else shown
    except GeneratorExit:
        observer.let_go()
        raise
    except BaseException as error:
        observer.failed(error)
        raise
    observer.finished()


def _showing(inner: Iterator[object], observer: ResponseObserver) -> Iterator[object]:
    for item in inner:
        observer.data(body_of(item, None))
        yield item


class _AsyncReader:
    """An async iterator over the SDK's reader; not a generator, whose finalisation would race with the inner one."""

    __slots__ = ("__weakref__", "_inner", "_observer", "_response", "running")

    def __init__(self, inner: AsyncIterator[object], response: object) -> None:
        self._inner = inner
        self._response = response
        self._observer: ResponseObserver | None = None
        self.running = False
        """True while somebody waits for an item."""

    def __aiter__(self) -> AsyncIterator[object]:
        """Return itself, as generators do."""
        return self

    async def __anext__(self) -> object:
        """Return the next item, and report the end where there is none."""
        observer = self._observer or self._begin()
        # While one task is inside, another is refused by the SDK's reader: that is its error, and no end of the stream.
        if observer is None or self.running:
            return await self._inner.__anext__()
        self.running = True
        try:
            item = await self._inner.__anext__()
            while observer.hides_usage and stream_usage.is_extra(item):
                item = await self._inner.__anext__()
        except StopAsyncIteration:
            observer.finished()
            raise
        except BaseException as error:
            observer.failed(error)
            raise
        else:
            if observer.reads_items:
                observer.data(body_of(item, None))
            return item
        finally:
            self.running = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the SDK's reader has
        return getattr(self._inner, name)

    def _begin(self) -> ResponseObserver | None:
        observer = self._observer = observer_of(self._response)
        if observer is not None:
            observer.iterated = True
        return observer
