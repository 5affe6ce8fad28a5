"""SDK readers: inspects the state of the SDK's iterator or generator that reads a stream.

The SDKs report neither that a stream is being read nor how it ended. It is derived from their generators: whether one
is executing, whether its code closes the response, and who called the `close` that is running.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from types import CodeType, FrameType
from typing import Any, Final

from callspan import private_names as names
from callspan.intercept.response_state import Event

OBSERVED: Final = "callspan_observed"
"""Marks a function as hooked; `functools.wraps` and wrapt copy the mark to further wrappers."""
_GENERATOR_RUNS: Final = names.GI_RUNNING.name
_ASYNC_GENERATOR_RUNS: Final = names.AG_RUNNING.name
_SYNC: Final = ("close", "iter_bytes")
"""Methods that close and read a response."""
_ASYNC: Final = ("aclose", "aiter_bytes")


class StreamReader:
    """A weak reference to the iterator that reads the stream of a response."""

    __slots__ = ("_reader", "_source", "closes_response")

    def __init__(self, reader: object, *, closes_response: bool) -> None:
        """Raises TypeError for an object without support for weak references."""
        self._reader: weakref.ref[Any] = weakref.ref(reader)
        self._source: weakref.ref[Any] | None = None
        self.closes_response = closes_response
        """True: an SDK reader that closes the response at its end; False: callspan's, which reports its end itself."""

    def get(self) -> object:
        """Return the iterator; None once it is collected or about to be."""
        return self._reader()

    def is_running(self) -> bool:
        """Return whether it is executing."""
        return is_running(self._reader())

    @property
    def has_source(self) -> bool:
        """True once it has begun to read the bytes of the response."""
        return self._source is not None

    def reads(self, source: object) -> None:
        """Set the iterator whose bytes it reads. Raises TypeError if that does not support weak references."""
        self._source = weakref.ref(source)

    def waits_for_bytes(self) -> bool:
        """Return whether it is executing inside a read of the HTTP library."""
        return self._source is not None and is_running(self._source())


def is_running(reader: object) -> bool:
    """Return whether a generator or wrapper is executing, and so will report its end itself."""
    return (
        getattr(reader, _GENERATOR_RUNS, None) is True
        or getattr(reader, _ASYNC_GENERATOR_RUNS, None) is True
        or getattr(reader, "running", None) is True
    )


def shows_its_end(reader: object, response: object) -> bool:
    """Return whether an SDK's reader closes the response at each of its ends, so that the hooks see them.

    Newer SDKs do so in a `finally`, older ones do not, and a version number does not tell for a development version or
    a subclass. So the names used in the generator's code are checked: without `close` it does not close.
    """
    code, (close, read) = getattr(reader, names.GI_CODE.name, None), _SYNC
    if code is None:
        code, (close, read) = getattr(reader, names.AG_CODE.name, None), _ASYNC
    return (
        isinstance(code, CodeType)
        and isinstance(frame_of(reader), FrameType)
        and close in code.co_names
        and hasattr(getattr(response, close, None), OBSERVED)
        and hasattr(getattr(response, read, None), OBSERVED)
    )


def end_in_frames(reader: object, error: BaseException | None) -> tuple[Event, BaseException | None] | None:
    """Return the end of a reader that is executing while its response is closed; None: it does not end here.

    The only function that looks at frames to detect an end. There is no code of callspan between the `finally` of the
    SDK's generator and the caller (see `shows_its_end`): callspan only sees the `close` that the generator calls. Only
    the frames show whether the generator called it, and with which exception in flight.

    `error` is the exception raised by the close itself. Must be called while the close is on the stack.
    """
    frame = frame_of(reader)
    # Another task or thread may close the response at any time; the reader closes it again at its own end.
    if not isinstance(frame, FrameType) or not _is_below(inspect.currentframe(), frame):
        return None
    if error is None and (in_flight := sys.exc_info()[1]) is not None:
        where = None if in_flight.__traceback__ is None else in_flight.__traceback__.tb_frame
        if where is frame:
            error = in_flight
        elif _is_below(where, frame):
            return None  # It propagates to the reader from a function called by the reader.
        # Else the caller is handling it while reading.
    if error is None:
        return Event.COMPLETED, None
    return (Event.READER_GONE, None) if isinstance(error, GeneratorExit) else (Event.FAILED, error)


def has_read_done(frame: object) -> bool:
    """Return whether the SDK's reader with this frame has read `[DONE]`, the end of a stream.

    The SDK leaves its loop at that event without passing it on: it is only in the loop's local variable.
    """
    event = frame.f_locals.get(names.SSE) if isinstance(frame, FrameType) else None
    return str(getattr(event, "data", "")).startswith("[DONE]")


def frame_of(reader: object) -> object:
    """Return the frame of a generator; None once it has ended, or of anything else."""
    frame = getattr(reader, names.GI_FRAME.name, None)
    return getattr(reader, names.AG_FRAME.name, None) if frame is None else frame


def _is_below(frame: FrameType | None, caller: FrameType) -> bool:
    """Return whether `frame` is `caller` or was called by it, directly or indirectly."""
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is caller
