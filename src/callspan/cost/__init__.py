"""Cost: from what a provider counted, or states it charged, to exact money. Unknown stays None."""

from __future__ import annotations

from callspan.cost.pricing import Pricer, priced, pricer_for
from callspan.cost.table import PriceFileError, PriceTable, read_prices

__all__ = ["PriceFileError", "PriceTable", "Pricer", "priced", "pricer_for", "read_prices"]
