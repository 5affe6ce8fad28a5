"""Cost: exact costs, computed from the usage or stated by the provider. None means unknown."""

from __future__ import annotations

from callspan.cost.price_table import PriceFileError, Pricer, PriceTable, pricer_for, read_prices

__all__ = ["PriceFileError", "PriceTable", "Pricer", "pricer_for", "read_prices"]
