"""Streams: hooks on the SDK's stream reader and on the close of a response; they report events to the observer.

The SDK's reader (`Stream.__stream__`) and stream object are not replaced. Newer readers close their response in a
`finally` at every end; observing this close is enough, without a wrapper between the reader and the caller. Wrappers
for other cases are in `stream_readers`.
"""

from __future__ import annotations

from typing import Any, Final

from callspan.fail_open import fail_open
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.intercept.request import CURRENT_CALL
from callspan.intercept.response_observer import OBSERVERS, HttpResponse, ResponseObserver, observer_of
from callspan.intercept.response_state import Event
from callspan.intercept.sdk_readers import end_in_frames, frame_of, has_read_done
from callspan.intercept.stream_readers import observed_reader

_CLOSED: Final = fail_open("see who closed a response")
_OBSERVE: Final = fail_open("observe a stream")


def observe_reader(hook_context: HookContext, original: Function) -> Function:
    """Return a replacement of `Stream.__stream__` (sync or async) with the same items, which reports the end."""
    del hook_context

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - a stream of either SDK
        del kwargs
        return args[0]

    def returned(stream: Any, inner: Any) -> Any:  # noqa: ANN401
        response, opened = stream.response, CURRENT_CALL.get()
        observer = observer_of(response)
        if observer is not None or opened is None:
            return observed_reader(inner, response, observer)
        # The open call may get its response later, if a middleware replaces it.
        return opened.early_reader(inner, response)

    return guarded(original, HookSteps(step=_OBSERVE, begin=begin, returned=returned))


def observe_close(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of `Response.close` or `aclose` that reports the end of an observed call."""
    del hook_context

    def closed(response: HttpResponse, result: object) -> None:
        del result
        _on_close(response, None)

    return guarded(
        original,
        HookSteps(step=_CLOSED, begin=_observed_response, returned=closed, raised=_on_close),
        is_async=is_async,
    )


def _observed_response(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponse | None:
    del kwargs
    response: HttpResponse = args[0]
    return response if id(response) in OBSERVERS else None


def _on_close(response: HttpResponse, error: BaseException | None) -> None:
    """Report that the response was closed; `error` is the exception the close raised."""
    observer = observer_of(response)
    if observer is None or observer.call.ended:
        return
    found = _end_by_close(observer, error)
    if found is None:
        return
    event, failure = found
    if failure is None:
        observer.on(event)
    else:
        observer.failed(failure)


def _end_by_close(observer: ResponseObserver, error: BaseException | None) -> tuple[Event, BaseException | None] | None:
    """Return the end that a close of the response means; None if its reader is executing and will report its own end.

    The HTTP library also closes a response at the end of its bytes, when its reader may have items left.
    """
    reader = observer.reader
    if observer.pulling:
        return None
    if reader is None:
        return Event.CLOSED, None
    iterator = reader.get()
    if iterator is None:
        # The garbage collector clears weak references before it closes generators, whose `finally` closes the
        # response: this code may run in a finalizer.
        return Event.READER_GONE, None
    if not reader.is_running():
        return Event.CLOSED, None
    if not reader.closes_response or reader.waits_for_bytes():
        return None
    found = end_in_frames(iterator, error)
    if found == (Event.COMPLETED, None) and not observer.call.stream_complete and has_read_done(frame_of(iterator)):
        observer.call.signalled_end()
    return found
