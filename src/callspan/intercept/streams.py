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
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, Final

from callspan.fail_open import fail_open
from callspan.intercept.engine import CURRENT_CALL
from callspan.intercept.stream_readers import Reader, reporting, without_usage
from callspan.intercept.watch import KEY, OBSERVED, READER, HttpResponse, Watch, is_running, watch_of

_CLOSED: Final = fail_open("see who closed a response")
_FOLLOW: Final = fail_open("follow a stream")
_SYNC: Final = ("close", "iter_bytes")
"""How a response is closed and read."""
_ASYNC: Final = ("aclose", "aiter_bytes")


def observe_reader(
    wrapped: Callable[..., Reader],
    stream: Any,  # noqa: ANN401 - a stream of either SDK
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Reader:
    """Wrap `Stream.__stream__`, sync and async alike: the same items, with the end reported."""
    reader = wrapped(*args, **kwargs)
    with _FOLLOW:
        return _followed(reader, stream.response)
    return reader


def observe_iterator(stream: Any) -> None:  # noqa: ANN401 - a stream of either SDK
    """Observe the reader a stream already has: where `__stream__` could not be wrapped."""
    inner = getattr(stream, "_iterator", None)
    if inner is not None:
        stream._iterator = _followed(inner, stream.response)


def _followed(reader: Reader, response: HttpResponse) -> Reader:
    watch = watch_of(response)
    if watch is None and CURRENT_CALL.get() is None:
        return reader
    # The call that is open here may find its response later: where a middleware has put another one in its place.
    if watch is None or watch.reads_items or not _tells_its_end(reader, response):
        reader = reporting(reader, response)
        response.extensions[READER] = weakref.ref(reader)
        return reader
    watch.direct = True
    response.extensions[READER] = weakref.ref(reader)
    return without_usage(reader) if watch.hides_usage else reader


def _tells_its_end(reader: Any, response: HttpResponse) -> bool:  # noqa: ANN401 - a generator of either colour
    """Whether the SDK's reader closes the response at its end, and that is seen."""
    code, (close, read) = (reader.ag_code, _ASYNC) if hasattr(reader, "ag_code") else (reader.gi_code, _SYNC)
    return (
        close in code.co_names
        and hasattr(getattr(response, close, None), OBSERVED)
        and hasattr(getattr(response, read, None), OBSERVED)
    )


def observe_close(original: Callable[..., None]) -> Callable[..., None]:
    """Return `Response.close` with the end of a watched call reported."""

    @wraps(original)
    def close(response: HttpResponse) -> None:
        try:
            original(response)
        except BaseException as error:
            _on_close(response, error)
            raise
        if KEY in response.extensions:
            _on_close(response, None)

    return close


def observe_aclose(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `Response.aclose` with the end of a watched call reported."""

    @wraps(original)
    async def aclose(response: HttpResponse) -> None:
        try:
            await original(response)
        except BaseException as error:
            _on_close(response, error)
            raise
        if KEY in response.extensions:
            _on_close(response, None)

    return aclose


def watch_for_loss(response: object, watch: Watch) -> None:
    """See to it that a response which is dropped without being closed ends its call."""
    finalizer = weakref.finalize(response, watch.dropped)
    finalizer.atexit = False


def _on_close(response: HttpResponse, error: BaseException | None) -> None:
    """Somebody has closed the response; `error` is what that raised."""
    with _CLOSED:
        watch = watch_of(response)
        if watch is None or watch.call.ended or watch.pulling:
            return
        known = response.extensions.get(READER)
        reader = known() if isinstance(known, weakref.ref) else None
        if reader is None and known is not None:
            # The collector clears weak references before it closes the generators it found, whose `finally` closes
            # the response: this may be a finalizer.
            watch.let_go()
        elif not is_running(reader):
            watch.closed()
        elif watch.direct:
            _closed_by(reader, watch, error)


def _closed_by(reader: Any, watch: Watch, error: BaseException | None) -> None:  # noqa: ANN401 - a generator
    """The response was closed while its reader is executing: by that, or by anybody else."""
    frame: FrameType = reader.ag_frame if hasattr(reader, "ag_frame") else reader.gi_frame
    # At the end of the bytes the HTTP library closes the response, and the reader may have items left. Another task
    # or thread may close it at any time. Either way the reader will close it once more, at its own end.
    if watch.at_bytes() or not _is_below(inspect.currentframe(), frame):
        return
    if error is None and (in_flight := sys.exc_info()[1]) is not None:
        where = _outermost(in_flight)
        if where is frame:
            error = in_flight
        elif _is_below(where, frame):
            return  # On its way to the reader, out of something that the reader has called.
        # Else it is an error the caller is about while he reads.
    if error is None:
        watch.finished()
    elif isinstance(error, GeneratorExit):
        watch.let_go()
    else:
        watch.failed(error)


def _outermost(error: BaseException) -> FrameType | None:
    """The frame an exception has got to."""
    return None if error.__traceback__ is None else error.__traceback__.tb_frame


def _is_below(frame: FrameType | None, caller: FrameType) -> bool:
    """Whether `frame` is `caller`, or was called by it, be it in several steps."""
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is caller
