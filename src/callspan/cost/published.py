"""Published prices: costs from the price list of the `genai-prices` package, cached as rates per model.

The package is imported when an SDK is patched, if calls are priced, because the import blocks all threads for a while
and must not happen during traffic. Prices are looked up only if the provider is known for certain: a model name alone
may belong to another provider.

The list takes about 200 µs to find a model and compute a cost; with the model's rates the next call takes a few
multiplications. Rates are used only for counters for which they gave exactly the amount of the list; for others the
list computes the cost.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from functools import cache
from types import ModuleType
from typing import Final, NamedTuple, Protocol, TypeAlias, cast

from callspan.amounts import USUAL
from callspan.cost.dimensions import (
    BATCH,
    PROCESSING,
    REGION,
    WEB_SEARCH,
    dimensions,
    marked,
    models_of,
    tool_runs,
    without_price,
)
from callspan.cost.regions import UNKNOWN, in_global_region
from callspan.fail_open import fail_open
from callspan.forks import LATE_IMPORTS, late_import
from callspan.record.call import CallRecord
from callspan.record.usage import Cost, Usage

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
_COUNTERS: Final[Mapping[str, str]] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
    "web_search_requests": "web_searches",
}
"""Our counters -> those of the price list."""
_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_ALWAYS: Final = -1
_MOST: Final = 2_000
_KEEP: Final = fail_open("keep the rates of a model; its prices are looked up again")

_Context: TypeAlias = tuple[tuple[str, str], ...]
"""Price dimensions that are not the usual ones: names, values."""
_Model: TypeAlias = tuple[str, str, _Context, int]
"""Provider, name, dimensions, and the minute of use in Unix time: some prices change at a date or with the time of
day. `_ALWAYS`: those that don't."""

_LOAD: Final = fail_open("load the published prices")
_PROVIDERS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "deepseek": "deepseek",
    "groq": "groq",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "perplexity": "perplexity",
    "cohere": "cohere",
    "moonshot_ai": "moonshotai",
    "openrouter": "openrouter",
    "together": "together",
    "cerebras": "cerebras",
    "fireworks": "fireworks",
    "z_ai": "zai",
}
"""Names of the conventions -> names of the price list."""
_HOSTS: Final[Mapping[str, re.Pattern[str]]] = {
    "openai": re.compile(r"(?:[a-z]{2}\.)?api\.openai\.com"),
    "anthropic": re.compile(r"api\.anthropic\.com"),
}
"""These two names are also those of the SDKs' families: any other host is a gateway or a private server."""
_BEDROCK: Final = "aws"
_REGIONS_OF_THE_LIST: Final = frozenset({"us", "us-east-1"})
"""Of Bedrock: the list has the prices of that region."""
_GOVERNMENT: Final = "us-gov"
"""These regions have prices of their own, which the list lacks."""
_FILE_SEARCH: Final = "file_search"
_COUNTED_TOOLS: Final[Mapping[str, Callable[[int], Usage]]] = {
    WEB_SEARCH: lambda count: Usage(input_tokens=0, web_search_requests=count),
    _FILE_SEARCH: lambda count: Usage(input_tokens=0, hosted_tools={_FILE_SEARCH: count}),
}
"""Tools that the list may have a price for: the usage of their runs alone."""


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
    """The prices of one model at one provider for one set of dimensions. Safe from any thread."""

    __slots__ = ("_by_bracket", "_names", "_of_images", "_prices", "_same", "_starts")

    def __init__(self, prices: Mapping[str, object]) -> None:
        """`prices` by their names in the list: amounts, or amounts that depend on the number of input tokens."""
        self._prices = {name: price for name, price in prices.items() if _per(name) and price is not None}
        self._names = frozenset(self._prices)
        self._of_images = any("image" in name for name in self._names)
        tiers = [_tiers(price) for price in self._prices.values()]
        self._starts = tuple(sorted({tier.start for found in tiers for tier in found}))
        self._by_bracket = tuple(tuple(self._rates(tokens)) for tokens in (0, *(start + 1 for start in self._starts)))
        self._same: dict[tuple[int, int], bool] = {}

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the amount for these counts; None if the list must compute it."""
        return self._sum(usage) if self._same.get(self._case(usage)) else None

    def check(self, usage: Usage, usd: Decimal) -> None:
        """Compare with the list's own amount for these counts, and keep whether they agree."""
        found, case = self._sum(usage), self._case(usage)
        if found is not None:
            self._same[case] = self._same.get(case, True) and found.as_tuple() == usd.as_tuple()

    def _case(self, usage: Usage) -> tuple[int, int]:
        """Return a key of what must be checked separately: the counters that are not 0, and the thresholds passed."""
        counters = (
            bool(usage.input_tokens) | bool(usage.output_tokens) << 1 | bool(usage.cache_read_tokens) << 2
            | bool(usage.cache_write_tokens) << 3 | bool(usage.cache_write_1h_tokens) << 4
            | bool(usage.web_search_requests) << 5
        )  # fmt: skip
        return counters, self._bracket(usage.input_tokens or 0)

    def _bracket(self, tokens: int) -> int:
        return bisect_left(self._starts, tokens)

    def _sum(self, usage: Usage) -> Decimal | None:
        counts = self._counts(usage)
        if counts is None:
            return None
        total = _ZERO
        for place, price, per in self._by_bracket[self._bracket(usage.input_tokens or 0)]:
            total += price * counts[place] / per
        return total

    def _counts(self, usage: Usage) -> tuple[int, ...] | None:
        """Return the factor of each price; None if there is no single factor."""
        if usage.cache_write_5m_tokens or usage.input_audio_tokens or usage.output_audio_tokens or usage.hosted_tools:
            return None
        if usage.input_audio_seconds or ((usage.input_image_tokens or usage.output_image_tokens) and self._of_images):
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


class _Edition:
    """Rates of one snapshot of the list, which may update itself."""

    def __init__(self, snapshot: object) -> None:
        self.snapshot = snapshot
        self.rates: dict[_Model, Rates] = {}
        self.unknown: set[_Model] = set()


class PriceList:
    """Calculates the cost of calls. Safe from any thread; takes 200 µs for the first call of a model."""

    def __init__(self, package: ModuleType) -> None:
        """`package` is `genai_prices`."""
        self._package = package
        self._edition = _Edition(self._snapshot())
        self.version = f"genai-prices {package.__version__}"
        """What a cost names as its source."""

    def usd(self, names: tuple[str, str], asked: _Context, start_ns: int, usage: Usage) -> Decimal | None:
        """Return the price of a call; None for an unknown model or contradictory counts.

        `names` are those of the provider, as the list knows it, and of the model; `start_ns` is Unix time.
        """
        with localcontext(USUAL):
            return self._usd(names, asked, start_ns, usage)

    def _usd(self, names: tuple[str, str], asked: _Context, start_ns: int, usage: Usage) -> Decimal | None:
        edition, snapshot = self._edition, self._snapshot()
        if edition.snapshot is not snapshot:
            edition = self._edition = _Edition(snapshot)
        always = (*names, asked, _ALWAYS)
        rates = edition.rates.get(always)
        if rates is None:
            if always in edition.unknown:
                return None
            rates = edition.rates.get((*names, asked, start_ns // _MINUTE_NS))
        usd = None if rates is None else rates.usd(usage)
        return self._look_up(edition, always, start_ns, usage) if usd is None else usd

    def _look_up(self, edition: _Edition, model: _Model, start_ns: int, usage: Usage) -> Decimal | None:
        provider, name, asked, _ = model
        counted = {theirs: count for ours, theirs in _COUNTERS.items() if (count := getattr(usage, ours))}
        if usage.input_audio_seconds:
            counted["input_audio_seconds"] = counted["audio_seconds"] = Decimal(str(usage.input_audio_seconds))
        if searches := usage.hosted_tools.get(_FILE_SEARCH):
            counted["storage_searches"] = searches
        try:
            found = self._package.calc_price(
                self._package.Usage(**counted),
                model_ref=name,
                provider_id=provider,
                genai_request_timestamp=datetime.fromtimestamp(start_ns // _SECOND_NS, tz=timezone.utc),
                price_context=dict(asked) or None,
            )
        except LookupError:
            edition.unknown.add(model)
            return None
        # Counts that contradict one another, or a time before year 1.
        except (ValueError, OverflowError):
            return None
        total = found.total_price
        if not isinstance(total, Decimal) or not total.is_finite():
            return None
        if not total and usage.input_tokens is None:
            return None  # it has no price for seconds
        if edition.snapshot is not None:
            with _KEEP:
                constraints = [variant.constraint for variant in found.model.price_variants or ()]
                timeless = not isinstance(found.model.prices, list) and not any(constraints)
                minute = _ALWAYS if timeless else start_ns // _MINUTE_NS
                _keep(edition, (provider, name, asked, minute), vars(found.model_price)).check(usage, total)
        return total

    def _snapshot(self) -> object:
        """Return the current prices; None if the package does not return them, so that nothing can be cached."""
        snapshots = getattr(self._package, "data_snapshot", None)
        return None if snapshots is None else snapshots.get_snapshot()


def _keep(edition: _Edition, model: _Model, prices: Mapping[str, object]) -> Rates:
    if len(edition.rates) >= _MOST:
        edition.rates.clear()
    return edition.rates.setdefault(model, Rates(prices))


def published_cost(record: CallRecord) -> Cost | None:
    """Return the cost of a call at the published prices of its day; None if they are unknown."""
    prices, provider, usage = _price_list(), _PROVIDERS.get(record.provider), record.usage
    if prices is None or provider is None or usage is None or not _is_priced(usage):
        return None
    for model in models_of(record):
        found = _price(prices, record, usage, provider, model)
        if found is not None:
            return found
    return None


def _is_priced(usage: Usage) -> bool:
    """Return whether all counts that have a price are known."""
    if usage.raw is not None and "svg_usage" in usage.raw:
        return False  # of another model
    return usage.input_tokens is not None or usage.input_audio_seconds is not None


def load() -> None:
    """Import the price list, if installed, now instead of at the first priced call."""
    _price_list()


def is_installed() -> bool:
    """Return whether published prices are available; loads them."""
    return _price_list() is not None


def guessed_provider(record: CallRecord) -> bool:
    """Return whether the provider's name is only that of the SDK: the call went to another host."""
    own = _HOSTS.get(record.provider)
    host = record.server_address
    return own is not None and host is not None and own.fullmatch(host) is None


def _price(prices: PriceList, record: CallRecord, usage: Usage, provider: str, model: str) -> Cost | None:
    names, start_ns, asked = (provider, model), record.timing.start_ns, tuple(dimensions(record).items())
    usual = prices.usd(names, (), start_ns, usage)
    if usual is None:
        return None
    total = prices.usd(names, asked, start_ns, usage) or usual if asked else usual
    # The list ignores a dimension that it has no prices for.
    ignored = [one for one in asked if prices.usd(names, _without(asked, one), start_ns, usage) == total]
    if provider == _BEDROCK:
        anywhere = prices.usd((provider, in_global_region(model)), (), start_ns, usage)
        ignored = [one for one in ignored if one[0] != REGION or not _is_of_region(one[1], usual, anywhere)]
    reasons = without_price(f"{name}={value}" for name, value in ignored)
    if (PROCESSING, BATCH) in ignored:
        total, reasons = total / 2, [*reasons, "half the usual price"]
    reasons += without_price(_tools_without_price(prices, record, names))
    if guessed_provider(record):
        reasons.append(f"{record.server_address} is not the provider's own host")
    return marked(total, prices.version, reasons)


def _without(asked: _Context, one: tuple[str, str]) -> _Context:
    return tuple(other for other in asked if other != one)


def _is_of_region(region: str, usd: Decimal, anywhere: Decimal | None) -> bool:
    """Return whether an amount is that of this region; `anywhere` is the global profile's, None if it has no price."""
    if region == UNKNOWN or region.startswith(_GOVERNMENT):
        return False
    return region in _REGIONS_OF_THE_LIST or anywhere not in (None, usd)


def _tools_without_price(prices: PriceList, record: CallRecord, names: tuple[str, str]) -> Iterator[str]:
    for tool, count in tool_runs(record).items():
        alone = None if count is None or tool not in _COUNTED_TOOLS else _COUNTED_TOOLS[tool](count)
        if alone is None or not prices.usd(names, (), record.timing.start_ns, alone):
            yield tool


@cache
def _price_list() -> PriceList | None:
    try:
        package = late_import("genai_prices")
    except ImportError:
        return None
    with LATE_IMPORTS, _LOAD:
        # The price list itself, a megabyte and a half of Python, is imported with the first price.
        package.calc_price(package.Usage(), model_ref="gpt-4o", provider_id="openai")
    return PriceList(package)
