"""Rates: the prices of one model as the price list calculated with, so that the next call is a few multiplications.

The list takes some 200 µs to find a model and to add up its prices. Rates are used only for the counters for which they
gave, digit by digit, the amount of the list itself; for others the list computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple, Protocol, cast

from callspan.record.call import Usage

_PER: Final[Mapping[str, int]] = {"mtok": 1_000_000, "kcount": 1_000}
"""Units by the last word of a price's name."""
_INPUT, _OUTPUT, _READ, _WRITTEN, _HOUR, _SEARCHES, _REQUESTS, _NONE = range(8)
_COUNTS: Final[Mapping[str, int]] = {
    "input_mtok": _INPUT,
    "output_mtok": _OUTPUT,
    "cache_read_mtok": _READ,
    "cache_write_mtok": _WRITTEN,
    "cache_write_1h_mtok": _HOUR,
    "web_searches_kcount": _SEARCHES,
    "requests_kcount": _REQUESTS,
}
"""Place of the count that a price is for, among those of `_counts`."""
_LARGEST: Final = 10**9
"""Larger counts may need more digits than the list keeps."""
_ZERO: Final = Decimal(0)


class _Tier(Protocol):
    start: int
    price: Decimal


class _TieredPrices(Protocol):
    base: Decimal
    tiers: list[_Tier]


class _Rate(NamedTuple):
    place: int
    """Of its count."""
    price: Decimal
    per: int


class Rates:
    """The prices of one model at one provider in one service tier. Safe from any thread."""

    __slots__ = ("_by_bracket", "_names", "_prices", "_same", "_starts")

    def __init__(self, prices: Mapping[str, object]) -> None:
        """`prices` by their names in the list: amounts, or amounts that depend on the number of input tokens."""
        self._prices = {name: price for name, price in prices.items() if _per(name) and price is not None}
        self._names = frozenset(self._prices)
        tiers = [_tiers(price) for price in self._prices.values()]
        self._starts = tuple(sorted({tier.start for found in tiers for tier in found}))
        self._by_bracket = tuple(tuple(self._rates(tokens)) for tokens in (0, *(start + 1 for start in self._starts)))
        self._same: dict[tuple[int, int], bool] = {}

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the amount for these counts; None where the list must compute it."""
        return self._sum(usage) if self._same.get(self._case(usage)) else None

    def check(self, usage: Usage, usd: Decimal) -> None:
        """Compare with the list's own amount for these counts, and remember whether they agree."""
        found, case = self._sum(usage), self._case(usage)
        if found is not None:
            self._same[case] = self._same.get(case, True) and found.as_tuple() == usd.as_tuple()

    def _case(self, usage: Usage) -> tuple[int, int]:
        """What must be checked separately: which counters are not 0, and how many thresholds are passed."""
        counters = (
            bool(usage.input_tokens) | bool(usage.output_tokens) << 1 | bool(usage.cache_read_tokens) << 2
            | bool(usage.cache_write_tokens) << 3 | bool(usage.cache_write_1h_tokens) << 4
            | bool(usage.web_search_requests) << 5
        )  # fmt: skip
        return counters, self._bracket(usage.input_tokens or 0)

    def _bracket(self, tokens: int) -> int:
        return sum([tokens > start for start in self._starts])

    def _sum(self, usage: Usage) -> Decimal | None:
        counts = self._counts(usage)
        if counts is None:
            return None
        total = _ZERO
        for place, price, per in self._by_bracket[self._bracket(usage.input_tokens or 0)]:
            total += price * counts[place] / per
        return total

    def _counts(self, usage: Usage) -> tuple[int, ...] | None:
        """What each price is multiplied with; None where that is not as simple."""
        if usage.cache_write_5m_tokens or usage.input_audio_tokens or usage.output_audio_tokens:
            return None
        tokens, read, written = usage.input_tokens or 0, usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        hour, output = usage.cache_write_1h_tokens or 0, usage.output_tokens or 0
        searches, names = usage.web_search_requests or 0, self._names
        if min(tokens, read, written, hour, output, searches) < 0 or max(tokens, output, searches) > _LARGEST:
            return None
        if hour > written or read + written > tokens:
            return None
        # What has a price of its own is not priced as a part of the whole again.
        rest = tokens - (read if "cache_read_mtok" in names else 0) - (written if "cache_write_mtok" in names else 0)
        short = written - (hour if "cache_write_1h_mtok" in names else 0)
        return rest, output, read, short, hour, searches, 1, 0

    def _rates(self, tokens: int) -> Iterator[_Rate]:
        for name, price in self._prices.items():
            per = _per(name)
            if isinstance(price, Decimal):
                yield _Rate(_COUNTS.get(name, _NONE), price, per)
            else:
                tiered = cast("_TieredPrices", price)
                passed = [tier.price for tier in tiered.tiers if tokens > tier.start]
                yield _Rate(_COUNTS.get(name, _NONE), passed[-1] if passed else tiered.base, per)


def _per(name: str) -> int:
    return _PER.get(name.rpartition("_")[2], 0)


def _tiers(price: object) -> list[_Tier]:
    return [] if isinstance(price, Decimal) else cast("_TieredPrices", price).tiers
