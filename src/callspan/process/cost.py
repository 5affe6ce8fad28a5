"""Cost of a call, added to its record: the one the provider states, or a computed one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from callspan.cost.pricing import Pricer, pricer_for, provider_cost
from callspan.fail_open import fail_open
from callspan.record.call import CallRecord
from callspan.record.events import Record

_READ: Final = fail_open("read the price file")


def with_provider_cost(record: Record) -> Record:
    """Return a call with the cost its provider states; any other record as it is."""
    if not isinstance(record, CallRecord) or record.cost is not None or record.usage is None:
        return record
    cost = provider_cost(record)
    return record if cost is None else msgspec.structs.replace(record, cost=cost)


class ComputedCost:
    """Adds a missing cost to a call: the provider's, else by the user's prices, else by published ones."""

    __slots__ = ("_prices",)

    def __init__(self, prices: Path | None = None) -> None:
        """`prices` is the user's own price file; it is read when the first call is priced."""
        self._prices = prices

    def __call__(self, record: Record) -> Record:
        """Return the record with its cost; the same object where there is none to add."""
        if not isinstance(record, CallRecord) or record.cost is not None or record.usage is None:
            return record
        return self._pricer().priced(record)

    def _pricer(self) -> Pricer:
        with _READ:
            return pricer_for(self._prices)
        # `instrument()` has refused an invalid file; one that became invalid since is reported above.
        return pricer_for(None)
