"""Ids: time-ordered UUIDs (version 7) as lower-case text, unique across forks and threads.

Several requests, possibly in several processes, read one background response or batch line. The id of such a call is
derived from the provider's ids (UUID version 8), so that all of them write versions of one record.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from callspan.record.call import CallRecord

_RANDOM_BYTES = 9

_random = Random()  # noqa: S311 - unique is enough
# Seeded by the operating system once per process; os.urandom for each id would cost a system call.
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_random.seed)

_NAMED_VERSION = 8 << 76
_VARIANT = 2 << 62
_BITS = (1 << 128) - 1
_FIXED = 15 << 76 | 3 << 62


class CallIdCell(msgspec.Struct, eq=False, gc=False):
    """The id of a call, shared by everything that refers to the call while it may still change."""

    value: str | None
    """None until the provider has named the call, if the id is derived from that name."""
    stream: Callable[[], OpenStream | None] | None = None
    """Returns the call of a streamed answer; None after it was garbage-collected."""


class OpenStream(Protocol):
    """A call with an answer that may still be read."""

    def answered(self) -> CallRecord | None:
        """Return its record with the answer as far as it was read, if the answer is complete; else None."""


def new_id() -> str:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then 72 random bits.

    Sorting ids sorts by creation time to the millisecond. Safe from any thread and after a fork.
    They are unique, not secret.
    """
    # A test may set the clock to a time before 1970.
    moment = (max(time.time_ns(), 0) // 1_000_000).to_bytes(6, "big").hex()
    random = _random.getrandbits(8 * _RANDOM_BYTES).to_bytes(_RANDOM_BYTES, "big").hex()
    return f"{moment[:8]}-{moment[8:]}-7{random[:3]}-8{random[3:6]}-{random[6:]}"


def new_span_id() -> str:
    """Return a new span id, 16 hexadecimal digits, for a record without a span of OpenTelemetry."""
    return random_bits(64).to_bytes(8, "big").hex()


def random_bits(number: int) -> int:
    """Return so many random bits, whatever the seed of `random`. Safe from any thread and after a fork."""
    return _random.getrandbits(number)


def response_call_id(provider: str, response_id: str) -> str:
    """Return the id of the call that created a background response: UUID version 8, the same in every process."""
    digest = hashlib.sha256(f"{provider}\n{response_id}".encode("utf-8", "replace")).digest()
    bits = int.from_bytes(digest[:16], "big") & (_BITS ^ _FIXED) | _NAMED_VERSION | _VARIANT
    return _uuid_text(bits.to_bytes(16, "big").hex())


def _uuid_text(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def batch_call_id(provider: str, batch_id: str, custom_id: str) -> str:
    """Return the id of the call for one batch line: UUID version 8, the same in every process."""
    return response_call_id(provider, f"{batch_id}\n{custom_id}")
