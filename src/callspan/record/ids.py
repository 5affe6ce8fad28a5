"""Identities: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads.

A background response and a line of a batch are seen by several requests, in several processes maybe: the id of such a
call is made of the provider's (version 8), so that all of them write versions of one record.
"""

from __future__ import annotations

import hashlib
import os
import time
from random import Random

_VERSION = 7 << 76
_VARIANT = 2 << 62
_RANDOM_LOW = (1 << 62) - 1
_RANDOM_BITS = 74

_random = Random()  # noqa: S311 - unique is enough
# Seeded by the operating system, here and in each forked child; reading it for every id would cost a system call.
os.register_at_fork(after_in_child=_random.seed)

_NAMED_VERSION = 8 << 76
_BITS = (1 << 128) - 1
_FIXED = 15 << 76 | 3 << 62


def new_id() -> str:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then 74 random bits.

    Sorting ids sorts by creation time to the millisecond. Safe from any thread and after a fork.
    They are unique, not secret.
    """
    random = _random.getrandbits(_RANDOM_BITS)
    moment = time.time_ns() // 1_000_000 << 80
    bits = moment | _VERSION | random >> 62 << 64 | _VARIANT | random & _RANDOM_LOW
    # The fastest way to format a number in hexadecimal.
    digits = bits.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def response_call_id(provider: str, response_id: str) -> str:
    """Return the id of the call for a background response.

    UUID version 8, the same in every process.
    """
    digest = hashlib.sha256(f"{provider}\n{response_id}".encode("utf-8", "replace")).digest()
    bits = int.from_bytes(digest[:16], "big") & (_BITS ^ _FIXED) | _NAMED_VERSION | _VARIANT
    digits = bits.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def batch_call_id(provider: str, batch_id: str, custom_id: str) -> str:
    """Return the id of the call that is one line of a batch: UUID version 8, the same in every process."""
    return response_call_id(provider, f"{batch_id}\n{custom_id}")
