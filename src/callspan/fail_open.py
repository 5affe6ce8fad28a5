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
Only an `Exception` is swallowed: cancellation, exits and interrupts go through, and so does what a signal handler of
the application raises in the middle of the step.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Final, TypeVar

_MOST_KEYS: Final = 1024
_LOGGER: Final = logging.getLogger("callspan")
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
        if error is None or is_interrupt(error):
            return False
        report(self.what, error)
        return True


def reported(step: fail_open) -> tuple[type[Exception], ...]:
    """For an `except` clause: matches what `with step:` swallows, and reports it as that step.

    Write `except reported(_READ):` where a step runs for every call.
    """
    error = sys.exc_info()[1]
    if error is None or is_interrupt(error):
        return ()
    report(step.what, error)
    return (Exception,)


def value_of(function: Callable[[], _T]) -> _T | None:
    """Return what `function` returns, or None if it raises. For code that is not ours: `repr`, `model_dump`."""
    with _FOREIGN:
        return function()
    return None


def is_interrupt(error: BaseException) -> bool:
    """Return whether a signal handler of the application raised the exception, or it is not an `Exception`."""
    if not isinstance(error, Exception):
        return True
    registered = map(signal.getsignal, signal.valid_signals())
    handlers = {_code_of(handler) for handler in registered if callable(handler)}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> object:
    """Return the code that a signal handler runs: a function, method, `partial` of one, or object with `__call__`."""
    handler = getattr(handler, "func", handler)
    handler = getattr(handler, "__func__", handler)
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


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
