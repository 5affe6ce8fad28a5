"""Aggregates: the sums, percentiles, counts and orders that readers return, defined once for all stores."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from typing import Final, NamedTuple, TypeVar

import msgspec

from callspan.amounts import EXACT, is_amount
from callspan.record.call import FAILED, CallRecord
from callspan.record.events import RewardRecord, SessionRecord, record_key
from callspan.record.interrupted import INTERRUPTED
from callspan.stores.base import Event
from callspan.stores.columns import MAX_COUNT

_Run = TypeVar("_Run", SessionRecord, CallRecord)
ANNOUNCED: Final = frozenset({"tool", "agent"})
"""Types of events that also have a start event if they take long."""
_NS_PER_MS = 1_000_000


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the percentile of sorted values by linear interpolation; None without values.

    Same as SQL's `percentile_cont` and NumPy's default.
    """
    if not values:
        return None
    position = (len(values) - 1) * share
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def percentile_ms(values_ns: Sequence[float], share: float) -> float | None:
    """Return the percentile in milliseconds of sorted durations in nanoseconds; None without values."""
    found = percentile(values_ns, share)
    return None if found is None else found / _NS_PER_MS


def known_sum(values: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None if none is known. Counts above `MAX_COUNT` are unknown."""
    known = [value for value in values if value is not None and abs(value) <= MAX_COUNT]
    return sum(known) if known else None


def exact_sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of the known amounts; None if none is known. NaN and infinities are unknown."""
    known = [value for value in values if value is not None and is_amount(value)]
    # The default context rounds to 28 digits.
    with localcontext(EXACT):
        return sum(known, Decimal(0)) if known else None


def is_error(outcome: str | None) -> bool:
    """Return whether a call failed; cancelled and running calls did not."""
    return outcome in FAILED


def mark_interrupted(record: _Run) -> _Run:
    """Return a session or call, with the outcome `interrupted` if its process exited before it ended."""
    if isinstance(record, CallRecord):
        is_unended = record.is_first_version
    else:
        is_unended = record.outcome is None and record.end_ns is None
    if is_unended and has_exited(record.host, record.pid):
        return msgspec.structs.replace(record, outcome=INTERRUPTED)
    return record


def has_exited(host: str | None, pid: int | None) -> bool:
    """Return whether a process of this host has exited; False if unknown."""
    if pid is None or pid <= 0 or host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def event_order(item: Event) -> tuple[int, int, tuple[str, str]]:
    """Return the sort key of events: time, sequence number, kind, id."""
    sequence = None if isinstance(item, RewardRecord) else item.sequence
    return item.time_ns, sequence or 0, record_key(item)


class Latencies(NamedTuple):
    """Percentiles of a group of calls in milliseconds; None if no call has the value."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    ttft_p50_ms: float | None = None


def latencies_of(durations_ns: Iterable[float], first_tokens_ns: Iterable[float]) -> Latencies:
    """Return the percentiles of unsorted times."""
    durations, first_tokens = sorted(durations_ns), sorted(first_tokens_ns)
    return Latencies(percentile_ms(durations, 0.5), percentile_ms(durations, 0.95), percentile_ms(first_tokens, 0.5))
