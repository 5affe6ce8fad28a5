"""Identities: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads."""

from __future__ import annotations

import os
import time

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM_HIGH = (1 << 12) - 1
_RANDOM_LOW = (1 << 62) - 1


def new_id() -> str:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then 74 random bits.

    Sorting ids sorts by creation time to the millisecond. Safe from any thread and after a fork: the
    random bits come from the operating system each time.
    """
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds = (time.time_ns() // 1_000_000) << 80
    value = milliseconds | _VERSION | ((random >> 62) & _RANDOM_HIGH) << 64 | _VARIANT | random & _RANDOM_LOW
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
