"""Aggregates: the sums and orders that readers return, defined once for all stores."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext
from typing import Final

from callspan.record.call import FAILED
from callspan.record.events import RewardRecord, record_key
from callspan.runtime.amounts import EXACT, is_amount
from callspan.stores.base import Event
from callspan.stores.tables.facts import MAX_COUNT

ANNOUNCED: Final = "coalesce(event_type, '') IN ('tool', 'agent')"
"""Whether an event has a type that also has a start event if it takes long."""


def known_sum(values: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None if none is known. Counts above `MAX_COUNT` are unknown."""
    counts = [value for value in values if value is not None and abs(value) <= MAX_COUNT]
    return sum(counts) if counts else None


def exact_sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of the known amounts; None if none is known. NaN and infinities are unknown."""
    amounts = [value for value in values if value is not None and is_amount(value)]
    # The default context rounds to 28 digits.
    with localcontext(EXACT):
        return sum(amounts, Decimal(0)) if amounts else None


def is_error(outcome: str | None) -> bool:
    """Return whether a call failed; cancelled and running calls did not."""
    return outcome in FAILED


def event_order(item: Event) -> tuple[int, int, tuple[str, str]]:
    """Return the sort key of events: time, sequence number, kind, id."""
    sequence = None if isinstance(item, RewardRecord) else item.sequence
    return item.time_ns, sequence or 0, record_key(item)
