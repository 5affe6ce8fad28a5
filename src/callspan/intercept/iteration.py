"""Iteration: passes on what an iterator yields, and reports each item and how the iteration ends.

One driver for iterators, and one for async ones. The latter is no generator: a generator's finalization would race with
the inner one's. Neither reports anything before its first step, or after its end. Items are taken without a `with`
block, which costs more, because this runs for each chunk of a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias

from callspan.intercept.foreign_objects import Proxy, named_like
from callspan.runtime.fail_open import fail_open

Take: TypeAlias = Callable[[Any], object]
"""Takes an item before the caller gets it; returns True for one that the caller must not get."""


class Watch:
    """What one iteration reports to. Methods may fail, which costs the caller nothing; these do nothing."""

    step: ClassVar[fail_open]
    __slots__ = ()

    def begun(self) -> Take | None:
        """Report the first step; return what takes each item, None if nothing does."""

    def completed(self) -> None:
        """Report that the iterator has ended."""

    def failed(self, error: BaseException) -> None:
        """Report the exception of the iterator, or an interrupt in it."""

    def lost(self) -> None:
        """Report that the caller has closed or dropped the iterator before its end. Called in finalizers."""


def watched(items: Any, watch: Watch) -> Any:
    """Return an iterator over the same items, sync or async as `items` is; anything else unchanged."""
    if hasattr(items, "__anext__"):
        return WatchedAsync(items, watch)
    return named_like(_watched(items, watch), items) if hasattr(items, "__next__") else items


def _watched(items: Iterator[Any], watch: Watch) -> Iterator[Any]:
    step = watch.step
    try:
        take = None
        with step:
            take = watch.begun()
        if take is None:
            yield from items
        else:
            for item in items:
                try:
                    if take(item) is True:
                        continue
                except Exception as error:
                    step.report(error)
                yield item
    except GeneratorExit:
        with step:
            watch.lost()
        raise
    except BaseException as error:
        with step:
            watch.failed(error)
        raise
    with step:
        watch.completed()


def _not_begun(item: object) -> None:
    """Stand for what takes the items until the first step."""


class WatchedAsync(Proxy):
    """An async iterator over the same items."""

    __slots__ = ("__weakref__", "_take", "_watch", "running")

    def __init__(self, inner: AsyncIterator[Any], watch: Watch) -> None:
        super().__init__(inner)
        self._take: Take | None = _not_begun
        self.running = False
        """True while a caller waits for an item."""
        self._watch: Watch | None = watch
        """None once its end was reported."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """Return the next item, or report the end."""
        watch = self._watch
        # The inner iterator rejects a second task while one is inside: that is the task's error, not the stream's.
        if self.running or watch is None:
            return await self._inner.__anext__()
        try:
            self.running = True
            take = self._take
            if take is _not_begun:
                take = self._take = None
                with watch.step:
                    take = self._take = watch.begun()
            if take is None:
                return await self._inner.__anext__()
            while True:
                item = await self._inner.__anext__()
                try:
                    if take(item) is not True:
                        return item
                except Exception as error:
                    watch.step.report(error)
                    return item
        except StopAsyncIteration:
            self._watch = None
            with watch.step:
                watch.completed()
            raise
        except BaseException as error:
            self._watch = None
            with watch.step:
                watch.lost() if isinstance(error, GeneratorExit) else watch.failed(error)
            raise
        finally:
            self.running = False

    def __del__(self) -> None:
        with suppress(AttributeError):  # the constructor was interrupted
            if self._watch is not None and self._take is not _not_begun:
                with self._watch.step:
                    self._watch.lost()


# The usual iterator's name: older versions of Sentry tell sync and async streams apart by it.
WatchedAsync.__module__, WatchedAsync.__name__ = "builtins", "async_generator"
