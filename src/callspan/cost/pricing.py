"""Pricing: the cost of a call as its provider states it, else by the user's prices, else by the published ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from callspan.cost.published import USUAL_TIERS, published_cost
from callspan.cost.table import PriceTable, read_prices
from callspan.record.call import CallRecord, Cost

PROVIDER = "provider"
"""Source of a cost that the provider states in its response."""


class Pricer:
    """Prices calls. Safe from any thread; slow at the first call, so never on a caller's thread."""

    def __init__(self, table: PriceTable | None = None) -> None:
        """`table` has the user's own prices, which come before the published ones."""
        self.table = table

    def cost(self, record: CallRecord) -> Cost | None:
        """Return the cost; None where it is unknown. `estimated` marks what rests on an estimate or a cut answer."""
        usage = record.usage
        if usage is None or record.outcome == "started":
            return None
        of_provider = provider_cost(record)
        if of_provider is not None:
            return of_provider
        found = self._by_table(record) or published_cost(record)
        if found is None:
            return None
        # The counters of a stream that was cut are those of what had come by then.
        guessed = usage.estimated or record.outcome != "success"
        return msgspec.structs.replace(found, estimated=True) if guessed else found

    def priced(self, record: CallRecord) -> CallRecord:
        """Return the record with its cost; itself where it has one already or none is known."""
        found = self.cost(record) if record.cost is None else None
        return record if found is None else msgspec.structs.replace(record, cost=found)

    def _by_table(self, record: CallRecord) -> Cost | None:
        if self.table is None or record.usage is None:
            return None
        response_model, tier = (
            (record.response.model, record.response.service_tier) if record.response else (None, None)
        )
        for model in (response_model, record.request.model):
            prices = self.table.find(record.provider, model) if model else None
            if prices is None:
                continue
            of_tier = prices.tiers.get(tier or "", prices)
            usd = of_tier.usd(record.usage)
            if usd is not None:
                # A tier without prices of its own is priced as the usual one, which is a guess.
                guessed = tier not in USUAL_TIERS and of_tier is prices
                return Cost(usd=usd, source=self.table.version or "own prices", estimated=guessed)
        return None


def provider_cost(record: CallRecord) -> Cost | None:
    """Return the cost that the provider states in its usage; None where it states none."""
    usd = record.usage.cost_usd if record.usage is not None else None
    return None if usd is None else Cost(usd=usd, source=PROVIDER)


@cache
def pricer_for(prices: Path | None) -> Pricer:
    """Return the pricer of a price file, read once per process; None: published prices only.

    Raises PriceFileError for a file that cannot be used.
    """
    return Pricer(None if prices is None else read_prices(prices))


def priced(record: CallRecord, prices: Path | None = None) -> CallRecord:
    """Return the record with its cost; itself where it has one already or none is known."""
    return pricer_for(prices).priced(record)
