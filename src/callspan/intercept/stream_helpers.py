"""Stream helpers: what the SDKs raise above the raw stream, in accumulating, parsing and making events, is the call's.

The exception of an application in its loop does not pass through the helper's iterator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.intercept.response_observer import ResponseObserver, observer_of
from callspan.intercept.stream_readers import is_reader

_OBSERVE: Final = fail_open("observe a stream helper")


def observe_events(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of a helper's `__stream__` with the same events, which reports what the helper raises."""
    del hook_context

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - a helper of either SDK
        del kwargs
        return args[0]

    def returned(helper: Any, inner: Any) -> Any:  # noqa: ANN401
        response = _response_of(helper)
        if response is None or not is_reader(inner):
            return inner
        return _AsyncEvents(inner, response) if hasattr(inner, "__anext__") else _events(inner, response)

    return guarded(original, HookSteps(step=_OBSERVE, begin=begin, returned=returned))


def observe_final(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of a helper's `get_final_*`, which reads the stream: what it raises is the call's error."""
    del hook_context

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ResponseObserver | None:
        del kwargs
        observer = observer_of(_response_of(args[0]))
        return None if observer is None or observer.call.ended else observer

    return guarded(
        original,
        HookSteps(
            step=_OBSERVE, begin=begin, enter=ResponseObserver.hold, returned=_released, raised=ResponseObserver.failed
        ),
    )


def _released(observer: ResponseObserver, result: object) -> None:
    del result
    observer.release()


def _response_of(helper: Any) -> object:  # noqa: ANN401 - of either SDK
    return getattr(getattr(helper, names.RAW_STREAM.name, helper), "response", None)


def _failed(response: object, error: BaseException) -> None:
    observer = observer_of(response)
    if observer is not None:
        observer.failed(error)


def _events(inner: Iterator[object], response: object) -> Iterator[object]:
    try:
        yield from inner
    except GeneratorExit:
        raise
    except BaseException as error:
        _failed(response, error)
        raise


class _AsyncEvents:
    """An async iterator over the helper's; not a generator, whose finalization would race with the inner one."""

    __slots__ = ("__weakref__", "_inner", "_is_running", "_response")

    def __init__(self, inner: AsyncIterator[object], response: object) -> None:
        self._inner = inner
        self._response = response
        self._is_running = False

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        """Return the next event, or report what the helper raises."""
        # The helper rejects a second task while one is inside: that is the task's error.
        if self._is_running:
            return await self._inner.__anext__()
        try:
            self._is_running = True
            return await self._inner.__anext__()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            _failed(self._response, error)
            raise
        finally:
            self._is_running = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the SDK's iterator has
        return getattr(self._inner, name)
