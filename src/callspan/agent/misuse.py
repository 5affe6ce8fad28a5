"""Misuse of the session API: it is logged and has no effect; inside `callspan.testing.capture()` it raises.

Each misuse is logged once. An argument that names no call is logged each time, because each time a rating is lost.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec

from callspan.agent.runtime import Runtime, current_runtime, never_instrumented
from callspan.record.ids import new_id
from callspan.runtime.fail_open import log
from callspan.runtime.lock_free import Once
from callspan.settings_loader import load

_P = ParamSpec("_P")
_NOT_INSTRUMENTED: Final = "not_instrumented"
_LOOSE: Final = (
    "a session ended without a call while calls were made outside of sessions: a thread of a pool has no session "
    "unless its work is passed by callspan.copy_context, or OpenTelemetry instruments threads (logged once)"
)
_warned: Final = Once()
_raising: Final[list[bool]] = []


class UsageError(RuntimeError):
    """The session API was misused inside `callspan.testing.capture()`. The message names the correct use.

    Example:
        >>> with callspan.testing.capture():
        ...     with callspan.timestep():
        ...         pass
        Traceback (most recent call last):
        callspan.agent.misuse.UsageError: a timestep must be started inside `with callspan.session(...)`
    """


class UnknownCallError(UsageError):
    """An argument names no call."""


def report_misuse(error: UsageError) -> None:
    """Raise the error inside `usage_errors()`; otherwise log it, if anything is recorded."""
    if _raising:
        raise error
    if current_runtime_or_warn() is None:
        return
    if isinstance(error, UnknownCallError):
        log(logging.WARNING, "%s; ignored", error)
    elif _warned.first(str(error)):
        log(logging.WARNING, "%s; ignored (logged once)", error)


def report_loose_calls() -> None:
    """Log once that a session had no call while others were made outside of sessions."""
    if _warned.first(_LOOSE):
        log(logging.WARNING, "%s", _LOOSE)


def ignore_misuse(function: Callable[_P, str]) -> Callable[_P, str]:
    """Decorate a function that returns an id: on misuse it records nothing and returns an unused id."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> str:
        try:
            return function(*args, **kwargs)
        except UsageError as error:
            report_misuse(error)
            return new_id()

    return call


def none_on_misuse(function: Callable[_P, str | None]) -> Callable[_P, str | None]:
    """Decorate a function that returns the id of its record: on misuse it records nothing and returns None."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> str | None:
        try:
            return function(*args, **kwargs)
        except UsageError as error:
            report_misuse(error)
            return None

    return call


@contextmanager
def usage_errors() -> Iterator[None]:
    """Context manager that makes misuse raise `UsageError`, in every thread."""
    _raising.append(True)
    try:
        yield
    finally:
        _raising.pop()


def current_runtime_or_warn() -> Runtime | None:
    """Return the current runtime; None if nothing is instrumented.

    Warns once per process if `instrument()` was never called, because the session API then records nothing; not if
    callspan was disabled by `instrument(enabled=False)`, `uninstrument()` or the environment.
    """
    runtime = current_runtime()
    if runtime is None and never_instrumented() and _warned.first(_NOT_INSTRUMENTED) and load(warn=False).enabled:
        log(
            logging.WARNING,
            "callspan sessions are used, but callspan.instrument() has not been called: nothing is recorded",
        )
    return runtime


def forget_warnings() -> None:
    """Forget which warnings were logged. For tests."""
    _warned.forget()
