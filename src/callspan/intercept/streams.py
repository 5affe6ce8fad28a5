"""Streams: how the end of a stream is seen, whoever brings it about.

The SDK's own reader (`Stream.__stream__`) is followed from inside the SDK's stream object, which stays the
caller's. A `break` is no end: the caller may go on. The first of normal end, error, cancellation, close
and collection counts.

Newer readers close their response in a `finally`, at every end of theirs: seeing that is enough, and nothing need
stand between them and the caller. What stands there otherwise is in `stream_readers`.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from types import CodeType, FrameType
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.guarded import Function, HookSteps, guarded
from callspan.intercept.hook_context import CURRENT_CALL, HookContext
from callspan.intercept.response_observer import (
    OBSERVED,
    OBSERVERS,
    HttpResponse,
    ResponseObserver,
    is_running,
    observer_of,
)
from callspan.intercept.stream_readers import Reader, reporting, without_usage

_CLOSED: Final = fail_open("see who closed a response")
_FOLLOW: Final = fail_open("follow a stream")
_SYNC: Final = ("close", "iter_bytes")
"""How a response is closed and read."""
_ASYNC: Final = ("aclose", "aiter_bytes")


def observe_reader(hook_context: HookContext, original: Function) -> Function:
    """Return `Stream.__stream__`, sync and async alike: the same items, with the end reported."""
    del hook_context

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - a stream of either SDK
        del kwargs
        return args[0]

    def returned(stream: Any, inner: Reader) -> Reader:  # noqa: ANN401
        return _followed(inner, stream.response)

    return guarded(original, HookSteps(step=_FOLLOW, begin=begin, returned=returned))


def observe_iterator(stream: Any) -> None:  # noqa: ANN401 - a stream of either SDK
    """Observe the reader a stream already has: where `__stream__` could not be wrapped."""
    inner: Any = getattr(stream, names.ITERATOR.name, None)
    if _is_reader(inner):
        setattr(stream, names.ITERATOR.name, _followed(inner, stream.response))


def _is_reader(found: object) -> bool:
    return hasattr(found, "__next__") or hasattr(found, "__anext__")


def _followed(reader: Reader, response: HttpResponse) -> Reader:
    observer, opened = observer_of(response), CURRENT_CALL.get()
    if (observer is None and opened is None) or not _is_reader(reader):
        return reader
    # The call that is open here may find its response later: where a middleware has put another one in its place.
    direct = observer is not None and not observer.reads_items and _tells_its_end(reader, response)
    shown = reader if direct else reporting(reader, response)
    if observer is not None:
        observer.direct, observer.reader = direct, weakref.ref(shown)
    elif opened is not None:
        opened.early_reader = id(response), weakref.ref(shown)
    return without_usage(shown) if direct and observer is not None and observer.hides_usage else shown


def _tells_its_end(reader: object, response: HttpResponse) -> bool:
    """Whether the SDK's reader closes the response at its end, and that is seen."""
    code, (close, read) = getattr(reader, names.GI_CODE.name, None), _SYNC
    if code is None:
        code, (close, read) = getattr(reader, names.AG_CODE.name, None), _ASYNC
    return (
        isinstance(code, CodeType)
        and isinstance(_frame_of(reader), FrameType)
        and close in code.co_names
        and hasattr(getattr(response, close, None), OBSERVED)
        and hasattr(getattr(response, read, None), OBSERVED)
    )


def _frame_of(reader: object) -> object:
    frame = getattr(reader, names.GI_FRAME.name, None)
    return getattr(reader, names.AG_FRAME.name, None) if frame is None else frame


def observe_close(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return `Response.close` or `aclose` with the end of an observed call reported."""
    del hook_context
    return guarded(
        original,
        HookSteps(step=_CLOSED, begin=_followed_response, returned=_closed, raised=_on_close),
        is_async=is_async,
    )


def _followed_response(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpResponse | None:
    del kwargs
    response: HttpResponse = args[0]
    return response if id(response) in OBSERVERS else None


def _closed(response: HttpResponse, result: object) -> None:
    del result
    _on_close(response, None)


def _on_close(response: HttpResponse, error: BaseException | None) -> None:
    """Somebody has closed the response; `error` is what that raised."""
    observer = observer_of(response)
    if observer is None or observer.call.ended or observer.pulling:
        return
    known = observer.reader
    reader = None if known is None else known()
    if reader is None and known is not None:
        # The collector clears weak references before it closes the generators it found, whose `finally` closes
        # the response: this may be a finalizer.
        observer.let_go()
    elif not is_running(reader):
        observer.closed()
    elif observer.direct:
        _closed_by(reader, observer, error)


def _closed_by(reader: object, observer: ResponseObserver, error: BaseException | None) -> None:
    """The response was closed while its reader is executing: by that, or by anybody else."""
    frame = _frame_of(reader)
    if not isinstance(frame, FrameType):
        return
    # At the end of the bytes the HTTP library closes the response, and the reader may have items left. Another task
    # or thread may close it at any time. Either way the reader will close it once more, at its own end.
    if observer.at_bytes() or not _is_below(inspect.currentframe(), frame):
        return
    if error is None and (in_flight := sys.exc_info()[1]) is not None:
        where = _outermost(in_flight)
        if where is frame:
            error = in_flight
        elif _is_below(where, frame):
            return  # On its way to the reader, out of something that the reader has called.
        # Else it is an error the caller is about while he reads.
    if error is None:
        observer.finished()
    elif isinstance(error, GeneratorExit):
        observer.let_go()
    else:
        observer.failed(error)


def _outermost(error: BaseException) -> FrameType | None:
    """The frame an exception has got to."""
    return None if error.__traceback__ is None else error.__traceback__.tb_frame


def _is_below(frame: FrameType | None, caller: FrameType) -> bool:
    """Whether `frame` is `caller`, or was called by it, be it in several steps."""
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is caller
