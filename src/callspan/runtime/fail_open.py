"""Fail open: the only place that swallows exceptions, so that a bug in callspan costs telemetry, never a call.

A step that may fail is named by its purpose:

    with fail_open("read a stream event"):
        ...

The path of every call uses an `except` clause instead, which costs nothing unless something is raised:

    try:
        ...
    except Exception as error:
        _READ.report(error)

The exception is counted and logged, as a warning the first time for each step, afterwards at debug level. Only an
`Exception` is swallowed: cancellation, exits and interrupts propagate, and so do exceptions raised by the application's
signal handlers.
"""

from __future__ import annotations

import logging
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeVar

from callspan.runtime.lock_free import Once

_LOGGER: Final = logging.getLogger("callspan")
_T = TypeVar("_T")
_failures: Counter[str] = Counter()


_warned: Final = Once()


class fail_open:  # noqa: N801 - reads as a statement: with fail_open("do something")
    """Context manager that logs and swallows any `Exception` in its block, except interrupts.

    `what` completes the sentence "Could not ...". Instances are stateless and may be shared by threads.
    """

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    # A no-op; a built-in function is faster than a method.
    __enter__ = staticmethod(bool)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Report and swallow an `Exception`, except interrupts."""
        return error is not None and self.swallow(error)

    def report(self, error: Exception) -> None:
        """Report an exception, in an `except` clause; raise it if it is an interrupt."""
        if not self.swallow(error):
            raise error

    def swallow(self, error: BaseException) -> bool:
        """Report an exception, unless it is an interrupt; return whether it was reported."""
        if is_interrupt(error):
            return False
        report(self.what, error)
        return True


def value_of(function: Callable[[], _T]) -> _T | None:
    """Return the result of `function`, or None if it raises. For foreign code such as `repr` and `model_dump`."""
    with _FOREIGN:
        return function()
    return None


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is not an `Exception`, or was raised by a signal handler of the application."""
    return not isinstance(error, Exception) or is_of_signal_handler(error)


def is_of_signal_handler(error: BaseException) -> bool:
    """Return whether an exception was raised by a signal handler of the application."""
    registered = map(signal.getsignal, signal.valid_signals())
    handlers = {_code_of(handler) for handler in registered if callable(handler)}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> object:
    """Return the code of a signal handler: a function, method, `partial`, or object with `__call__`."""
    handler = getattr(handler, "func", handler)
    handler = getattr(handler, "__func__", handler)
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


def report(what: str, error: BaseException, *, level: int = logging.WARNING) -> None:
    """Log and count a failure of the step `what`. Raises only interrupts."""
    _failures[what] += 1
    if _warned.first(what):
        log(level, "Could not %s (%s); the call is not affected", what, type(error).__name__)
    if _LOGGER.isEnabledFor(logging.DEBUG):
        # Frames only: an exception's message may quote content or a password.
        lines = traceback.format_tb(error.__traceback__)
        log(logging.DEBUG, "Could not %s\n%s%s", what, "".join(lines), type(error).__name__)


def log(level: int, message: str, *values: object) -> None:
    """Log to the logger `callspan`, on behalf of the caller; exceptions of log handlers are ignored."""
    try:
        _LOGGER.log(level, message, *values, stacklevel=2)
    except Exception as error:
        if is_interrupt(error):
            raise


def failures() -> dict[str, int]:
    """Return the number of failures of each step in this process."""
    return dict(_failures)


def forget_failures() -> None:
    """Reset the counts, so that the next failure of each step is logged again. For tests."""
    _failures.clear()
    _warned.forget()


class _Quiet(fail_open):
    __slots__ = ()

    def swallow(self, error: BaseException) -> bool:
        return not is_interrupt(error)


class Guard(fail_open):
    """Like `fail_open`, but logs only at debug level and stores the error for the caller. Not reusable."""

    __slots__ = ("error",)

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.error: Exception | None = None

    def swallow(self, error: BaseException) -> bool:
        """Store and count an exception, unless it is an interrupt; log it at debug level."""
        if not isinstance(error, Exception) or is_interrupt(error):
            return False
        self.error = error
        report(self.what, error, level=logging.DEBUG)
        return True


_FOREIGN: Final = _Quiet("use an object of the application")
