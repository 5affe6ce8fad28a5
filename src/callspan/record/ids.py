"""Identities: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads."""

from __future__ import annotations

import os
import time
from random import Random

_VARIANT = 1 << 63

_random = Random()  # noqa: S311 - unique is enough
# Seeded by the operating system, here and in each forked child: asking it for every id costs a system call each.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then 74 random bits.

    Sorting ids sorts by creation time to the millisecond. Safe from any thread and after a fork.
    They are unique, not secret.
    """
    # 12 random bits beside the version, 62 beside the variant.
    moment = "%012x" % (time.time_ns() // 1_000_000)
    random = "%016x" % (_VARIANT | _random.getrandbits(62))
    version = "7%03x" % _random.getrandbits(12)  # noqa: UP031
    return f"{moment[:8]}-{moment[8:]}-{version}-{random[:4]}-{random[4:]}"
