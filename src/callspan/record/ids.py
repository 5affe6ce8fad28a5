"""Identities: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads."""

from __future__ import annotations

import os
import time
from random import Random

_VERSION = 0x7000
_VARIANT = 0x8000
_RANDOM_LOW = (1 << 48) - 1
_RANDOM_BITS = 74

_random = Random()  # noqa: S311 - unique is enough
# Seeded by the operating system, here and in each forked child: asking it for every id costs a system call each.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then 74 random bits.

    Sorting ids sorts by creation time to the millisecond. Safe from any thread and after a fork.
    They are unique, not secret.
    """
    random = _random.getrandbits(_RANDOM_BITS)
    milliseconds = time.time_ns() // 1_000_000
    return "%08x-%04x-%04x-%04x-%012x" % (  # noqa: UP031 - in half the time of any other way
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        _VERSION | random >> 62,
        _VARIANT | random >> 48 & 0x3FFF,
        random & _RANDOM_LOW,
    )
