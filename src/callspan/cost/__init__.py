"""Cost: exact costs from the usage that a provider returns, or as the provider states them. Unknown is None."""

from __future__ import annotations

from callspan.cost.price_table import PriceFileError, Pricer, PriceTable, priced, pricer_for, read_prices

__all__ = ["PriceFileError", "PriceTable", "Pricer", "priced", "pricer_for", "read_prices"]
