"""Reentrancy: OpenTelemetry's work for a call made in a signal handler, deferred where its own thread is in such work.

Spans, instruments and span processors have plain locks. A signal handler that has interrupted their holder and comes to
the same lock waits for ever. So a thread is in one such section at a time; work that a handler adds meanwhile is done
by a background thread, or by the next thread that enters a section.
"""

from __future__ import annotations

import atexit
import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from callspan.background import AtomicFlag, PutOff

_A = TypeVar("_A")
_B = TypeVar("_B")


class _Thread(threading.local):
    """State of each thread. Its attributes are read without a call of a function."""

    in_section = False


_AT_EXIT_S: Final = 5.0
_IN_ORDER_S: Final = 1.0
"""Seconds for which a section waits for what was deferred before it and is being done."""
_here: Final = _Thread()
_deferred: Final = PutOff("callspan-deferred-telemetry")
_pending: Final[list[None]] = []
"""Not empty where something may have been deferred since `drain`."""
_exit_unregistered: Final = AtomicFlag(is_set=True)


def run_or_defer(work: Callable[[_A, _B], object], first: _A, second: _B) -> None:
    """Do `work(first, second)`, which may wait for locks of OpenTelemetry, now or after what it has interrupted.

    What was deferred before is done first. Raises what `work` raises.
    """
    if _here.in_section and _is_interrupted():
        if _exit_unregistered.test_and_clear():
            atexit.register(drain, _AT_EXIT_S)
        _deferred.put(partial(work, first, second))
        _pending.append(None)
        return
    _here.in_section = True
    try:
        if _pending:
            _drain(_IN_ORDER_S)
        work(first, second)
    finally:
        _here.in_section = False


def drain(timeout_s: float) -> bool:
    """Do what was deferred, and wait for what is being done; False if the time ran out.

    In a signal handler that has interrupted a section nothing can be done before the handler returns: False at once.
    """
    if _here.in_section and _is_interrupted():
        return not _pending
    return _drain(timeout_s)


def _drain(timeout_s: float) -> bool:
    # Cleared first: what is deferred from now on is pending again.
    _pending.clear()
    done = _deferred.drain(timeout_s)
    if not done:
        _pending.append(None)
    return done


def _is_interrupted() -> bool:
    """Whether a section of this thread is really below: an interrupt may have left its mark behind."""
    here = inspect.currentframe()
    frame = None if here is None else here.f_back
    # That of our caller, which is about to enter a section itself.
    while frame is not None and (frame := frame.f_back) is not None:
        if frame.f_code is run_or_defer.__code__:
            return True
    return False
