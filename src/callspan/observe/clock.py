"""Clocks: wall time once at the start of a call, monotonic time for every duration."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Two sources of nanoseconds, so that tests can say what time it is."""

    wall_ns: Callable[[], int] = time.time_ns
    """Unix time; may jump."""
    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    """Never goes back; of no meaning by itself."""


SYSTEM_CLOCK = Clock()
