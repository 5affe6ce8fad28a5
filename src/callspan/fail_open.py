"""Fail open: the only place that swallows exceptions, so that a bug in callspan costs telemetry, never a call.

A step that may fail says what it tries to do:

    with fail_open("read a stream event"):
        ...

On the path of every call the same is written as a clause, which costs nothing unless something is raised:

    try:
        ...
    except reported(_READ):
        ...

The exception is logged (a warning the first time for each step, afterwards at debug) and counted.
Only an `Exception` is swallowed, and only one that the step itself has raised: cancellation, exits and interrupts go
through, and so does whatever a signal handler or a debugger of the application raises in the middle of the step.
"""

from __future__ import annotations

import inspect
import logging
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, TypeVar

_MOST_KEYS: Final = 1024
_LOGGER: Final = logging.getLogger("callspan")
_MAX_WRAPPERS: Final = 10
_EVENTS: Final = frozenset({"call", "line", "return", "exception", "opcode", "c_call", "c_return", "c_exception"})
"""What trace and profile functions are called for."""
_E = TypeVar("_E", bound=BaseException)
_T = TypeVar("_T")
_failures: Counter[str] = Counter()


class Once:
    """Remembers up to 1,024 keys. Takes no lock, because a signal handler may use it while its thread does."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Hashable, object] = {}

    def first(self, key: Hashable) -> bool:
        """Return True for exactly one caller per key, until `forget`. False for every key beyond those remembered."""
        mine, seen = object(), self._seen
        return key not in seen and len(seen) < _MOST_KEYS and seen.setdefault(key, mine) is mine

    def forget(self) -> None:
        """Start again. For tests."""
        self._seen.clear()


_warned: Final = Once()


class fail_open:  # noqa: N801 - reads as a statement: with fail_open("do something")
    """Context manager that logs and swallows any `Exception` its block raises, but no interrupt.

    `what` completes the sentence "Could not ...". Instances hold no state and may be shared by threads.
    """

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    # There is nothing to do, and a built-in function is faster than a method.
    __enter__ = staticmethod(bool)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Return True, which swallows, for every `Exception` but interrupts; report it first."""
        if error is None or not isinstance(error, Exception) or is_interrupt(error):
            return False
        report(self.what, error)
        return True


def reported(step: fail_open) -> tuple[type[Exception], ...]:
    """For an `except` clause: matches what `with step:` swallows, and reports it as that step.

    Write `except reported(_READ):` where a step runs for every call.
    """
    error = sys.exc_info()[1]
    if not isinstance(error, Exception) or is_interrupt(error):
        return ()
    report(step.what, error)
    return (Exception,)


def value_of(function: Callable[[], _T]) -> _T | None:
    """Return what `function` returns, or None if it raises. For code that is not ours: `repr`, `model_dump`."""
    with _FOREIGN:
        return function()
    return None


def ours(*kinds: type[_E]) -> tuple[type[_E], ...]:
    """For an `except` clause: matches exceptions of these kinds, except interrupts.

    Write `except ours(OSError) as error:`. A time limit of the application may well raise one of these kinds in the
    middle of what is tried.
    """
    error = sys.exc_info()[1]
    return () if error is not None and is_interrupt(error) else kinds


def unwaited() -> tuple[type[BaseException], ...]:
    """For the last `except` clause of a thread of callspan's own: matches everything, as no caller waits for it.

    The clause says what happened. A callback of the application may raise `SystemExit` or an exception of its own kind.
    """
    return (BaseException,)


def is_interrupt(error: BaseException) -> bool:
    """Return whether a signal handler or debugger raised the exception, not the code that was running.

    True for anything but an `Exception`, and for exceptions of an application's handler that Python runs between
    two instructions: a signal handler, a trace function. Such a handler is recognised by its frame in the traceback: it
    was given the frame that precedes its own, or it is registered as a signal handler.
    """
    return not isinstance(error, Exception) or _passed_handler(error)


def report(what: str, error: BaseException, *, level: int = logging.WARNING) -> None:
    """Log and count that `what` could not be done. Raises nothing but interrupts."""
    _failures[what] += 1
    if _warned.first(what):
        log(level, "Could not %s (%s); the call is not affected", what, type(error).__name__)
    if _LOGGER.isEnabledFor(logging.DEBUG):
        # Frames only: the text of an exception may quote content or a password.
        lines = traceback.format_tb(error.__traceback__)
        log(logging.DEBUG, "Could not %s\n%s%s", what, "".join(lines), type(error).__name__)


def log(level: int, message: str, *values: object) -> None:
    """Log for the caller of this function, to the logger `callspan`; a log handler that raises is ignored."""
    try:
        _LOGGER.log(level, message, *values, stacklevel=2)
    except Exception as error:
        if is_interrupt(error):
            raise


def failures() -> dict[str, int]:
    """Return how often each step has failed in this process, by its name."""
    return dict(_failures)


def forget_failures() -> None:
    """Reset the counts, so that the next failure of each step is logged again. For tests."""
    _failures.clear()
    _warned.forget()


class _Quiet(fail_open):
    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return error is not None and not is_interrupt(error)


class Attempt(fail_open):
    """Swallows like `fail_open`, and keeps the error for its caller to report. For one use."""

    __slots__ = ("error",)

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.error: Exception | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Return True, which swallows, for every `Exception` but interrupts; count it, log it at debug."""
        if error is None or not isinstance(error, Exception) or is_interrupt(error):
            return False
        self.error = error
        report(self.what, error, level=logging.DEBUG)
        return True


_FOREIGN: Final = _Quiet("use an object of the application")


def _passed_handler(error: BaseException) -> bool:
    """Return whether the traceback has the frame of a handler that Python ran between two instructions."""
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:
        return False
    registered = set(_signal_handlers())
    while trace.tb_next is not None:
        before, trace = trace.tb_frame, trace.tb_next
        if trace.tb_frame.f_code in registered or _was_given(trace.tb_frame, before):
            return True
    return False


def _was_given(frame: FrameType, before: FrameType) -> bool:
    """Return whether `frame` has the arguments of a signal handler or trace function."""
    code = frame.f_code
    named, takes_rest = code.co_argcount, code.co_flags & inspect.CO_VARARGS
    known = frame.f_locals
    values = [known.get(name) for name in code.co_varnames[:named]]
    if takes_rest:
        rest = known.get(code.co_varnames[named + code.co_kwonlyargcount])
        values += rest if isinstance(rest, tuple) else ()
    # Others pass frames around too, as `inspect` and log handlers do: what is next to it must fit as well.
    for at, value in enumerate(values):
        if value is before:
            after = values[at + 1] if at + 1 < len(values) else None
            return (at > 0 and isinstance(values[at - 1], int)) or (isinstance(after, str) and after in _EVENTS)
    return False


def _signal_handlers() -> Iterator[CodeType]:
    """Return the code of the current signal handlers: one may have deleted its arguments before it raised."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        # Nearly all are numbers: the system's default, or to be ignored.
        if callable(handler) and (code := _code_of(handler)) is not None:
            yield code


def _code_of(handler: Any) -> CodeType | None:  # noqa: ANN401 - whatever is registered
    for _ in range(_MAX_WRAPPERS):
        if isinstance(handler, partial):
            handler = handler.func
        elif hasattr(handler, "__func__"):
            handler = handler.__func__
        else:
            break
    code = getattr(handler, "__code__", None)
    if code is None and callable(handler):
        code = getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
