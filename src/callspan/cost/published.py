"""Published prices: costs from the price list of the `genai-prices` package, cached as rates per model.

The package is imported when an SDK is patched, if calls are priced, because the import blocks all threads and must not
happen during traffic. Prices are only used if the provider is known: a model name alone may belong to another provider.

The package needs about 200 µs to find a model and compute a cost; with cached rates a call needs a few multiplications.
Rates are only used for combinations of counters for which they gave exactly the package's amount before.
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
    cost_with_reasons,
    dimensions,
    missing_prices,
    models_of,
    tool_runs,
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
"""The index, in the result of `_counts`, of the count that a price applies to."""
_MAX_COUNT: Final = 10**9
"""Larger counts may exceed the package's decimal precision."""
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
"""The package's counters by our own."""
_CACHED: Final[Mapping[str, str]] = {
    "cache_read_audio_tokens": "cache_audio_read_tokens",
    "cache_read_image_tokens": "cache_image_read_tokens",
}
"""Those that it needs, even if they are 0, where the input was cached and has several modalities."""
_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_ALWAYS: Final = -1
_MAX_CACHED: Final = 2_000
_KEEP: Final = fail_open("cache the rates of a model; they are looked up each time")

_Context: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of price dimensions other than the standard ones."""
_Model: TypeAlias = tuple[str, str, _Context, int]
"""Provider, name, dimensions, and the minute of use (Unix time), because some prices depend on the time; `_ALWAYS` if
they do not."""

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
"""The package's provider names by those of the conventions."""
_HOSTS: Final[Mapping[str, re.Pattern[str]]] = {
    "openai": re.compile(r"(?:[a-z]{2}\.)?api\.openai\.com"),
    "anthropic": re.compile(r"api\.anthropic\.com"),
}
"""The hosts of these providers. Any other host is a gateway or a private server that uses the same SDK."""
_BEDROCK: Final = "aws"
_LISTED_REGIONS: Final = frozenset({"us", "us-east-1"})
"""Bedrock's regions whose prices the package has."""
_GOVERNMENT: Final = "us-gov"
"""Prefix of regions with separate prices, which the package lacks."""
_FILE_SEARCH: Final = "file_search"
_COUNTED_TOOLS: Final[Mapping[str, Callable[[int], Usage]]] = {
    WEB_SEARCH: lambda count: Usage(input_tokens=0, web_search_requests=count),
    _FILE_SEARCH: lambda count: Usage(input_tokens=0, hosted_tools={_FILE_SEARCH: count}),
}
"""For tools that the package may have a price for: a usage with only a number of their runs."""


class _Tier(Protocol):
    start: int
    price: Decimal


class _TieredPrices(Protocol):
    base: Decimal
    tiers: list[_Tier]


class _Rate(NamedTuple):
    count_index: int
    """The index of its count."""
    price: Decimal
    per: int


class Rates:
    """The prices of one model at one provider for one set of dimensions. Thread-safe."""

    __slots__ = ("_by_bracket", "_has_image_prices", "_names", "_prices", "_same", "_starts")

    def __init__(self, prices: Mapping[str, object]) -> None:
        """`prices` are amounts by the package's names, or amounts that depend on the number of input tokens."""
        self._prices = {name: price for name, price in prices.items() if _per(name) and price is not None}
        self._names = frozenset(self._prices)
        self._has_image_prices = any("image" in name for name in self._names)
        tiers = [_tiers(price) for price in self._prices.values()]
        self._starts = tuple(sorted({tier.start for found in tiers for tier in found}))
        self._by_bracket = tuple(tuple(self._rates(tokens)) for tokens in (0, *(start + 1 for start in self._starts)))
        self._same: dict[tuple[int, int], bool] = {}

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the amount for these counts; None if the package must compute it."""
        return self._sum(usage) if self._same.get(self._case(usage)) else None

    def check(self, usage: Usage, usd: Decimal) -> None:
        """Compare with the package's amount for these counts, and store whether they agree."""
        found, case = self._sum(usage), self._case(usage)
        if found is not None:
            self._same[case] = self._same.get(case, True) and found.as_tuple() == usd.as_tuple()

    def _case(self, usage: Usage) -> tuple[int, int]:
        """Return the case to be checked separately: the counters other than 0, and the price bracket."""
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
        for position, price, per in self._by_bracket[self._bracket(usage.input_tokens or 0)]:
            total += price * counts[position] / per
        return total

    def _counts(self, usage: Usage) -> tuple[int, ...] | None:
        """Return the count for each price; None if a price does not apply to a single count."""
        if usage.cache_write_5m_tokens or usage.input_audio_tokens or usage.output_audio_tokens or usage.hosted_tools:
            return None
        if usage.input_audio_seconds or (
            (usage.input_image_tokens or usage.output_image_tokens) and self._has_image_prices
        ):
            return None
        tokens, read, written = usage.input_tokens or 0, usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        hour, output = usage.cache_write_1h_tokens or 0, usage.output_tokens or 0
        searches, names = usage.web_search_requests or 0, self._names
        if min(tokens, read, written, hour, output, searches) < 0 or max(tokens, output, searches) > _MAX_COUNT:
            return None
        if hour > written or read + written > tokens:
            return None
        # Counts with a separate price are not part of the price for the whole.
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
    """The rates of one snapshot of the price list, which may update itself."""

    def __init__(self, snapshot: object) -> None:
        self.snapshot = snapshot
        self.rates: dict[_Model, Rates] = {}
        self.unknown: set[_Model] = set()


class PriceList:
    """Calculates the cost of calls. Thread-safe; the first call of a model takes 200 µs."""

    def __init__(self, package: ModuleType) -> None:
        """`package` is `genai_prices`."""
        self._package = package
        self._edition = _Edition(self._snapshot())
        self.version = f"genai-prices {package.__version__}"
        """The source of the costs."""

    def usd(self, names: tuple[str, str], context: _Context, start_ns: int, usage: Usage) -> Decimal | None:
        """Return the price of a call; None for an unknown model or contradictory counts.

        `names` are those of the provider in the package and of the model; `start_ns` is Unix time.
        """
        with localcontext(USUAL):
            return self._usd(names, context, start_ns, usage)

    def _usd(self, names: tuple[str, str], context: _Context, start_ns: int, usage: Usage) -> Decimal | None:
        edition, snapshot = self._edition, self._snapshot()
        if edition.snapshot is not snapshot:
            edition = self._edition = _Edition(snapshot)
        always = (*names, context, _ALWAYS)
        rates = edition.rates.get(always)
        if rates is None:
            if always in edition.unknown:
                return None
            rates = edition.rates.get((*names, context, start_ns // _MINUTE_NS))
        usd = None if rates is None else rates.usd(usage)
        return self._look_up(edition, always, start_ns, usage) if usd is None else usd

    def _look_up(self, edition: _Edition, model: _Model, start_ns: int, usage: Usage) -> Decimal | None:
        provider, name, context, _ = model
        counted = {theirs: count for ours, theirs in _COUNTERS.items() if (count := getattr(usage, ours))}
        if usage.cache_read_tokens:
            counted |= {
                theirs: count for ours, theirs in _CACHED.items() if (count := getattr(usage, ours)) is not None
            }
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
                price_context=dict(context) or None,
            )
        except LookupError:
            edition.unknown.add(model)
            return None
        # Contradictory counts, or a time before year 1.
        except (ValueError, OverflowError):
            return None
        total = found.total_price
        if not isinstance(total, Decimal) or not total.is_finite():
            return None
        if not total and usage.input_tokens is None:
            return None  # there is no price for seconds
        if edition.snapshot is not None:
            with _KEEP:
                constraints = [variant.constraint for variant in found.model.price_variants or ()]
                timeless = not isinstance(found.model.prices, list) and not any(constraints)
                minute = _ALWAYS if timeless else start_ns // _MINUTE_NS
                _cache(edition, (provider, name, context, minute), vars(found.model_price)).check(usage, total)
        return total

    def _snapshot(self) -> object:
        """Return the current prices; None if the package does not provide them, so that nothing is cached."""
        snapshots = getattr(self._package, "data_snapshot", None)
        return None if snapshots is None else snapshots.get_snapshot()


def _cache(edition: _Edition, model: _Model, prices: Mapping[str, object]) -> Rates:
    if len(edition.rates) >= _MAX_CACHED:
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
    """Return whether all counts with a price are known."""
    if usage.raw is not None and ("svg_usage" in usage.raw or usage.raw.get("paused_seconds")):
        return False  # usage of another model, or at another rate
    return usage.input_tokens is not None or usage.input_audio_seconds is not None


def load() -> None:
    """Import the price list now, if installed, instead of for the first priced call."""
    _price_list()


def is_installed() -> bool:
    """Return whether published prices are available; loads them."""
    return _price_list() is not None


def is_foreign_host(record: CallRecord) -> bool:
    """Return whether the call went to a host other than the provider's, so that the provider is only assumed."""
    own = _HOSTS.get(record.provider)
    host = record.server_address
    return own is not None and host is not None and own.fullmatch(host) is None


def _price(prices: PriceList, record: CallRecord, usage: Usage, provider: str, model: str) -> Cost | None:
    names, start_ns, context = (provider, model), record.timing.start_ns, tuple(dimensions(record).items())
    standard = prices.usd(names, (), start_ns, usage)
    if standard is None:
        return None
    total = prices.usd(names, context, start_ns, usage) or standard if context else standard
    # The package ignores dimensions for which it has no prices.
    ignored = [one for one in context if prices.usd(names, _without(context, one), start_ns, usage) == total]
    if provider == _BEDROCK:
        in_global = prices.usd((provider, in_global_region(model)), (), start_ns, usage)
        ignored = [one for one in ignored if one[0] != REGION or not _is_regional(one[1], standard, in_global)]
    reasons = missing_prices(f"{name}={value}" for name, value in ignored)
    if (PROCESSING, BATCH) in ignored:
        total, reasons = total / 2, [*reasons, "half the usual price"]
    reasons += missing_prices(_tools_without_price(prices, record, names))
    if is_foreign_host(record):
        reasons.append(f"{record.server_address} is not the provider's own host")
    return cost_with_reasons(total, prices.version, reasons)


def _without(context: _Context, one: tuple[str, str]) -> _Context:
    return tuple(other for other in context if other != one)


def _is_regional(region: str, usd: Decimal, in_global: Decimal | None) -> bool:
    """Return whether an amount is the price in this region; `in_global` is that of the global profile, if known."""
    if region == UNKNOWN or region.startswith(_GOVERNMENT):
        return False
    return region in _LISTED_REGIONS or in_global not in (None, usd)


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
        # The first price imports the list itself, 1.5 MB of Python.
        package.calc_price(package.Usage(), model_ref="gpt-4o", provider_id="openai")
    return PriceList(package)
