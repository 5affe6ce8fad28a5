"""Fail open: the only place that swallows exceptions, so that a bug of ours costs telemetry, never a call.

A step that may fail says what it tries to do:

    with fail_open("read a stream event"):
        ...

The exception is logged (a warning the first time for each step, afterwards at debug) and counted.
Only `Exception` is swallowed: cancellation, exits and interrupts go through.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, TypeVar

_LOGGER: Final = logging.getLogger("callspan")
_A = TypeVar("_A")
_T = TypeVar("_T")

_failures: Counter[str] = Counter()


class fail_open:  # noqa: N801 - reads as a statement: with fail_open("do something")
    """Context manager that logs and swallows any `Exception` of its block.

    `what` completes the sentence "Could not ...". Instances hold no state and may be shared by threads.
    """

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    # Nothing is to be done, and a built-in function does it faster than a method of ours.
    __enter__ = staticmethod(bool)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Return True, which swallows, for every `Exception`; report it first."""
        if error is None or not isinstance(error, Exception):
            return False
        report(self.what, error)
        return True


def attempt(step: fail_open, function: Callable[[_A], _T], argument: _A) -> _T | None:
    """Return `function(argument)`, or None if it raises, which is reported as `step`.

    For what runs with every chunk of a stream: a block under `fail_open` costs two calls, this one.
    """
    try:
        return function(argument)
    except Exception as error:  # noqa: BLE001 - what this module is for
        report(step.what, error)
        return None


def value_of(function: Callable[[], _T]) -> _T | None:
    """Return what `function` returns, or None if it raises. For code that is not ours: `repr`, `model_dump`."""
    with _FOREIGN:
        return function()
    return None


def report(what: str, error: Exception) -> None:
    """Log and count that `what` could not be done. Never raises."""
    _failures[what] += 1
    if _failures[what] == 1:
        _LOGGER.warning("Could not %s (%s); the call is not affected", what, type(error).__name__)
    if _LOGGER.isEnabledFor(logging.DEBUG):
        # Without the chain: the application's own exception may be in it, with what a provider echoed.
        told = traceback.format_exception(type(error), error, error.__traceback__, chain=False)
        _LOGGER.debug("Could not %s\n%s", what, "".join(told))


def failures() -> dict[str, int]:
    """Return how often each step has failed in this process, by its name."""
    return dict(_failures)


def forget_failures() -> None:
    """Start counting anew, so that the next failure of each step is warned of again. For tests."""
    _failures.clear()


class _Quiet(fail_open):
    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, Exception)


_FOREIGN: Final = _Quiet("use an object of the application")
