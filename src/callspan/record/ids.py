"""Identities: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads."""

from __future__ import annotations

import os
import time
from random import Random

_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_LOW = (1 << 62) - 1
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
    moment = time.time_ns() // 1_000_000 << 80
    bits = moment | _VERSION | random >> 62 << 64 | _VARIANT | random & _RANDOM_LOW
    # Of all ways to write a number in hexadecimal digits the fastest.
    digits = bits.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
