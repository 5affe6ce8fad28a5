"""Price table: the prices a user states in a file of their own; they come before any published ones.

```json
{"version": "contract-7", "models": {"gpt-5*": {"input": "1.25", "output": "10", "cache_read": "0.125"}}}
```
Prices are US dollars per million tokens, `request` per call; a key may be `provider/model` and may end in `*`; `tiers`
holds the prices of other service tiers.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Final

import msgspec

from callspan.record.call import Usage

_MILLION: Final = Decimal(1_000_000)
_EXACT: Final = Context(prec=200)
"""Enough digits that no product or sum of prices and counts is ever rounded."""


class PriceFileError(ValueError):
    """A price file cannot be used. The message names the file and what is wrong with it."""


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of one model, US dollars per million tokens. A missing price is that of `input` or `output`."""

    input: Decimal
    output: Decimal = Decimal(0)
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    """Written to the cache for five minutes, and where nothing tells for how long."""
    cache_write_1h: Decimal | None = None
    """None: the price of `cache_write`."""
    request: Decimal = Decimal(0)
    """US dollars for each call."""
    tiers: dict[str, ModelPrices] = {}
    """Prices of service tiers other than the usual one, such as `flex`."""

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the exact price; None where the counts it needs are unknown or contradict one another."""
        if usage.input_tokens is None:
            return None
        with localcontext(_EXACT):
            dollars = sum((count * price for count, price in self._lines(usage)), Decimal(0)) / _MILLION
            return None if self._uncached(usage) < 0 else dollars + self.request

    def _lines(self, usage: Usage) -> Iterator[tuple[int, Decimal]]:
        write = self.input if self.cache_write is None else self.cache_write
        hour = usage.cache_write_1h_tokens or 0
        yield self._uncached(usage), self.input
        yield usage.output_tokens or 0, self.output
        yield usage.cache_read_tokens or 0, self.input if self.cache_read is None else self.cache_read
        yield (usage.cache_write_tokens or 0) - hour, write
        yield hour, write if self.cache_write_1h is None else self.cache_write_1h

    @staticmethod
    def _uncached(usage: Usage) -> int:
        return (usage.input_tokens or 0) - (usage.cache_read_tokens or 0) - (usage.cache_write_tokens or 0)


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of one file."""

    models: dict[str, ModelPrices]
    version: str | None = None
    """Kept with each cost, so that a later `reprice` can tell; None: the file's name."""
    currency: str = "USD"

    def find(self, provider: str, model: str) -> ModelPrices | None:
        """Return the prices of a model: its own row before patterns, longer patterns before shorter ones."""
        names = (f"{provider}/{model}", model)
        for name in names:
            if name in self.models:
                return self.models[name]
        fitting = [key for key in self.models if key.endswith("*") and any(n.startswith(key[:-1]) for n in names)]
        return self.models[max(fitting, key=len)] if fitting else None


def read_prices(path: str | Path) -> PriceTable:
    """Return the prices in a file. Raises PriceFileError, saying what is wrong, for anything but a valid one."""
    path = Path(path)
    try:
        table = msgspec.json.decode(path.read_bytes(), type=PriceTable)
    except OSError as error:
        raise PriceFileError(f"prices {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PriceFileError(f"prices {path}: {error}; see docs/cost.md for its form") from error
    _check(path, table)
    return table if table.version else msgspec.structs.replace(table, version=path.stem)


def _check(path: Path, table: PriceTable) -> None:
    if table.currency != "USD":
        raise PriceFileError(f"prices {path}: currency {table.currency!r}: callspan counts in USD only")
    for name, prices in table.models.items():
        _check_model(path, name, prices)


def _check_model(path: Path, name: str, prices: ModelPrices) -> None:
    for field, price in msgspec.structs.asdict(prices).items():
        if isinstance(price, Decimal) and not (price.is_finite() and price >= 0):
            raise PriceFileError(f"prices {path}: models.{name}.{field} is {price}: use an amount from 0 up")
    for tier, other in prices.tiers.items():
        _check_model(path, f"{name}.tiers.{tier}", other)
