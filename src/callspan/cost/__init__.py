"""Cost: from what a provider counted, or states it charged, to exact money. Unknown stays None."""

from __future__ import annotations

from callspan.cost.table import PriceFileError, Pricer, PriceTable, priced, pricer_for, read_prices

__all__ = ["PriceFileError", "PriceTable", "Pricer", "priced", "pricer_for", "read_prices"]
