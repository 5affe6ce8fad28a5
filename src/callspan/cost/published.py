"""Published prices: costs from the price list of the `genai-prices` package, cached per model.

The package is imported when an SDK is patched, if calls are priced, because the import blocks all threads and must not
happen during traffic. Prices are only used if the provider is known: a model name alone may belong to another provider.

The package needs about 200 µs to find a model and compute a cost. A call with nothing but tokens, at the lowest of a
model's prices, needs a few multiplications with cached prices, which gave exactly the package's amount before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from functools import cache
from operator import attrgetter
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from callspan.cost.dimensions import (
    BATCH,
    MODALITIES,
    PROCESSING,
    REGION,
    TOKENS_OF_SIDES,
    UNKNOWN,
    as_text,
    cost_with_reasons,
    dimensions,
    in_global_region,
    may_have_media,
    missing_prices,
    models_of,
)
from callspan.cost.tools import WEB_SEARCH, tool_runs
from callspan.providers.hosts import is_host_of
from callspan.record.call import CallRecord
from callspan.record.usage import Cost, Usage
from callspan.runtime.amounts import USUAL
from callspan.runtime.fail_open import fail_open
from callspan.runtime.forks import LATE_IMPORTS, late_import

_MAX_COUNT: Final = 10**9
"""Larger counts may exceed the package's decimal precision."""
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
"""Counters that it needs, even if they are 0, when a cached input has several modalities."""
_TOKENS: Final = frozenset({"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"})
_other_counts: Final = attrgetter(*(name for name in (*_COUNTERS, *_CACHED) if name not in _TOKENS))
_MTOK: Final = 1_000_000
_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_ALWAYS: Final = -1
_MAX_CACHED: Final = 2_000
_KEEP: Final = fail_open("cache the prices of a model; they are looked up each time")

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
    "voyageai": "voyageai",
}
"""The package's provider names by the conventions' names."""
_DECISIONS: Final = "openai-decisions"
"""The package's provider for OpenAI's decisions, which charge only the input, cached or not."""
_HUGGING_FACE: Final = "huggingface"
"""Hugging Face's router; each provider behind it has its own prices."""
_GOOGLE: Final = "google"
"""Google, which states one price for "text / image / video" (ai.google.dev/gemini-api/docs/pricing)."""
_BEDROCK: Final = "aws"
_AZURE: Final = frozenset({"azure.ai.openai", "azure.ai.inference"})
_AZURE_ROUTER: Final = "model-router"
"""Azure's model that chooses another one, for a fee."""
_FAMILIES: Final = frozenset({"gpt-4", "gpt-35-turbo", "gpt-3.5-turbo"})
"""Models that answers of Azure state for several versions with different prices."""
_LISTED_REGIONS: Final = frozenset({"us", "us-east-1"})
"""Bedrock's regions with prices in the package."""
_GOVERNMENT: Final = "us-gov"
"""Prefix of regions with separate prices, which the package lacks."""
_FILE_SEARCH: Final = "file_search"
_COUNTED_TOOLS: Final[Mapping[str, Callable[[int], Usage]]] = {
    WEB_SEARCH: lambda count: Usage(input_tokens=0, web_search_requests=count),
    _FILE_SEARCH: lambda count: Usage(input_tokens=0, hosted_tools={_FILE_SEARCH: count}),
}
"""For tools that the package may have a price for: a usage with only a number of their runs."""


class _Prices(NamedTuple):
    """The prices of one model at one provider for one set of dimensions, for up to so many input tokens."""

    usd: dict[str, Decimal]
    """By the package's names."""
    max_tokens: int

    def amount(self, usage: Usage) -> Decimal | None:
        """Return the amount for these counts; None if the package must compute it."""
        tokens, output = usage.input_tokens or 0, usage.output_tokens or 0
        reads, writes = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        is_known = (
            min(reads, writes, output) >= 0 and reads + writes <= tokens <= self.max_tokens and output <= _MAX_COUNT
        )
        if not is_known or usage.input_tokens is None or usage.input_audio_seconds or usage.hosted_tools:
            return None
        if any(_other_counts(usage)):
            return None
        # Tokens with a separate price are not part of the price for the whole.
        counts = {"cache_read_mtok": reads, "cache_write_mtok": writes}
        counts["input_mtok"] = tokens - sum(count for name, count in counts.items() if name in self.usd)
        counts["output_mtok"] = output
        usd = Decimal(0)
        for name, price in self.usd.items():
            usd += price * counts.get(name, 0) / _MTOK
        return usd


def _lowest(prices: Mapping[str, Any]) -> _Prices:
    """Return the prices below any bracket.

    `prices` are amounts by the package's names, or amounts that depend on the number of input tokens.
    """
    amounts = {
        name: price for name, price in prices.items() if name.endswith(("_mtok", "_kcount")) and price is not None
    }
    starts = [tier.start for price in amounts.values() if not isinstance(price, Decimal) for tier in price.tiers]
    return _Prices(
        {name: getattr(price, "base", price) for name, price in amounts.items()}, min(starts, default=_MAX_COUNT)
    )


class _Edition:
    """The prices of one snapshot of the price list, which may update itself."""

    def __init__(self, snapshot: object) -> None:
        self.snapshot = snapshot
        self.prices: dict[_Model, _Prices | None] = {}
        """None: they do not give the package's amount, for example if each request has a price."""
        self.unknown: set[_Model] = set()
        self.of_media: dict[tuple[str, str], frozenset[str]] = {}
        """The package's names of the prices of sound and images, by provider and name of a model."""

    def keep(self, model: _Model, prices: _Prices, usage: Usage, usd: Decimal) -> None:
        """Keep the prices of a model, once they gave the package's amount for some counts."""
        amount = prices.amount(usage)
        if amount is None or model in self.prices:
            return
        if len(self.prices) >= _MAX_CACHED:
            self.prices.clear()
        self.prices[model] = prices if amount.as_tuple() == usd.as_tuple() else None


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

        `names` are the package's name of the provider and the model's name; `start_ns` is Unix time.
        """
        with localcontext(USUAL):
            return self._usd(names, context, start_ns, usage)

    def _usd(self, names: tuple[str, str], context: _Context, start_ns: int, usage: Usage) -> Decimal | None:
        edition, snapshot = self._edition, self._snapshot()
        if edition.snapshot is not snapshot:
            edition = self._edition = _Edition(snapshot)
        always = (*names, context, _ALWAYS)
        if always in edition.unknown:
            return None
        prices = edition.prices.get(always) or edition.prices.get((*names, context, start_ns // _MINUTE_NS))
        usd = None if prices is None else prices.amount(usage)
        return self._look_up(edition, always, start_ns, usage) if usd is None else usd

    def _look_up(self, edition: _Edition, model: _Model, start_ns: int, usage: Usage) -> Decimal | None:
        provider, name, context, _ = model
        counts = {package_name: count for field, package_name in _COUNTERS.items() if (count := getattr(usage, field))}
        if usage.cache_read_tokens:
            counts |= {
                package_name: count
                for field, package_name in _CACHED.items()
                if (count := getattr(usage, field)) is not None
            }
        if usage.input_audio_seconds:
            counts["input_audio_seconds"] = counts["audio_seconds"] = Decimal(str(usage.input_audio_seconds))
        if searches := usage.hosted_tools.get(_FILE_SEARCH):
            counts["storage_searches"] = searches
        try:
            calculation = self._package.calc_price(
                self._package.Usage(**counts),
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
        total = calculation.total_price
        if not isinstance(total, Decimal) or not total.is_finite():
            return None
        if not total and usage.input_tokens is None:
            return None  # there is no price for seconds
        amounts = vars(calculation.model_price)
        edition.of_media[provider, name] = frozenset(
            price for price in amounts if amounts[price] is not None and any(map(price.count, MODALITIES))
        )
        if edition.snapshot is not None:
            with _KEEP:
                constraints = [variant.constraint for variant in calculation.model.price_variants or ()]
                timeless = not isinstance(calculation.model.prices, list) and not any(constraints)
                minute = _ALWAYS if timeless else start_ns // _MINUTE_NS
                edition.keep((provider, name, context, minute), _lowest(amounts), usage, total)
        return total

    def of_media(self, names: tuple[str, str]) -> Collection[str]:
        """Return the prices of sound and images, by their names in the list, that a model which was priced has."""
        return self._edition.of_media.get(names, ())

    def _snapshot(self) -> object:
        """Return the current prices; None if the package does not provide them, so that nothing is cached."""
        snapshots = getattr(self._package, "data_snapshot", None)
        return None if snapshots is None else snapshots.get_snapshot()


def published_cost(record: CallRecord) -> Cost | None:
    """Return the cost of a call at the published prices of its day; None if they are unknown."""
    prices, provider, usage = _price_list(), _listed_provider(record), record.usage
    if provider == "openai" and record.api == "decisions":
        provider = _DECISIONS
    if prices is None or provider is None or usage is None or not _is_priced(usage):
        return None
    for model in models_of(record):
        cost = _price(prices, record, usage, provider, _listed_name(provider, model))
        if cost is not None:
            return cost
    return None


def _listed_provider(record: CallRecord) -> str | None:
    """Return the list's name of a provider; at Hugging Face the requested model names the provider."""
    if record.provider != _HUGGING_FACE:
        return _PROVIDERS.get(record.provider)
    inference_provider = (record.request.model or "").partition(":")[2]
    return f"{_HUGGING_FACE}_{inference_provider}" if inference_provider else None


def _listed_name(provider: str, model: str) -> str:
    """Return the list's name of a model, which APIs may name with its place or its provider."""
    if provider.startswith(_HUGGING_FACE):
        return model.partition(":")[0]
    return model.removeprefix("models/").removeprefix("google/") if provider == _GOOGLE else model


def _is_priced(usage: Usage) -> bool:
    """Return whether all counts with a price are known."""
    if usage.raw is not None and ("svg_usage" in usage.raw or usage.raw.get("paused_seconds")):
        return False  # a different model's usage, or a different rate
    return usage.input_tokens is not None or usage.input_audio_seconds is not None


def load() -> None:
    """Import the price list now, if installed, instead of for the first priced call."""
    _price_list()


def is_installed() -> bool:
    """Return whether published prices are available; loads them."""
    return _price_list() is not None


def _price(prices: PriceList, record: CallRecord, usage: Usage, provider: str, model: str) -> Cost | None:
    names, start_ns, context = (provider, model), record.timing.start_ns, tuple(dimensions(record).items())
    standard = prices.usd(names, (), start_ns, usage)
    if standard is None:
        return None
    total = prices.usd(names, context, start_ns, usage) or standard if context else standard
    # The package ignores dimensions that it has no prices for.
    ignored = [
        dimension for dimension in context if prices.usd(names, _without(context, dimension), start_ns, usage) == total
    ]
    if provider == _BEDROCK:
        in_global = prices.usd((provider, in_global_region(model)), (), start_ns, usage)
        ignored = [
            dimension
            for dimension in ignored
            if dimension[0] != REGION or not _is_regional(dimension[1], standard, in_global)
        ]
    reasons = missing_prices(f"{name}={value}" for name, value in ignored)
    if (PROCESSING, BATCH) in ignored:
        total, reasons = total / 2, [*reasons, "half the usual price"]
    reasons += missing_prices(_without_price(prices, record, usage, names, standard))
    if of_media := prices.of_media(names):
        reasons += [
            f"the {modality} tokens of its {side} are not counted"
            for side, all_tokens, of_kinds in TOKENS_OF_SIDES
            if all_tokens(usage) and {*of_kinds(usage)} == {None}
            for modality in MODALITIES
            if f"{side}_{modality}_mtok" in of_media and may_have_media(record, side, modality)
        ]
    if _are_prompts(usage) and _is_long(prices, names, start_ns, usage.input_tokens or 0):
        reasons.append("several prompts, priced as one long prompt")
    reasons += _deployment(record)
    if record.server_address is not None and not is_host_of(record.provider, record.server_address):
        reasons.append(f"{record.server_address} is not the provider's own host")
    return cost_with_reasons(total, prices.version, reasons)


def _deployment(record: CallRecord) -> Iterator[str]:
    """Yield what a price at Azure depends on and a call does not state.

    A region or a data zone has another price than a global deployment, and reserved capacity has none per token. The
    request names the deployment, and some answers state only the model's family.
    """
    if record.provider not in _AZURE:
        return
    answering_model = record.response.model if record.response else None
    if _AZURE_ROUTER in (record.request.model or ""):
        yield from missing_prices([_AZURE_ROUTER])
    if answering_model is None or answering_model in _FAMILIES:
        yield f"the model of the deployment {answering_model or record.request.model} is not stated"
    if "inference_geo" not in ((record.usage.raw if record.usage else None) or {}):
        yield "the type of the deployment is not stated"


def _are_prompts(usage: Usage) -> bool:
    """Return whether Anthropic counted several prompts, for example because its tools ran between them."""
    runs = (usage.raw or {}).get("iterations")
    return isinstance(runs, list) and sum(isinstance(run, dict) and run.get("type") == "message" for run in runs) > 1


def _is_long(prices: PriceList, names: tuple[str, str], start_ns: int, tokens: int) -> bool:
    """Return whether a prompt of so many tokens has another price than a short one."""
    price_of_one, total = (prices.usd(names, (), start_ns, Usage(input_tokens=count)) for count in (1, tokens))
    return price_of_one is not None and total != price_of_one * tokens


def _without(context: _Context, dimension: tuple[str, str]) -> _Context:
    return tuple(other for other in context if other != dimension)


def _is_regional(region: str, usd: Decimal, in_global: Decimal | None) -> bool:
    """Return whether an amount is the price in this region; `in_global` is the global profile's price, if known."""
    if region == UNKNOWN or region.startswith(_GOVERNMENT):
        return False
    return region in _LISTED_REGIONS or in_global not in (None, usd)


def _without_price(
    prices: PriceList, record: CallRecord, usage: Usage, names: tuple[str, str], usd: Decimal
) -> Iterator[str]:
    """Yield the tools, modalities, cached input and answering model without a part in `usd`, the usual price."""
    start_ns = record.timing.start_ns
    for tool, count in tool_runs(record).items():
        alone = None if count is None or tool not in _COUNTED_TOOLS else _COUNTED_TOOLS[tool](count)
        if alone is None or not prices.usd(names, (), start_ns, alone):
            yield tool
    for modality, text in as_text(usage):
        if prices.usd(names, (), start_ns, text) == usd and not _are_read_as_text(record, names[0], usage, text):
            yield modality
    if usage.cache_read_tokens and names[0] != _DECISIONS:
        fresh = msgspec.structs.replace(usage, cache_read_tokens=0)
        if prices.usd(names, (), start_ns, fresh) == usd:
            yield "cached input"
    answering_model = record.response.model if record.response else None
    if answering_model and names[1] != _listed_name(names[0], answering_model) and names[0] != _BEDROCK:
        yield answering_model


def _are_read_as_text(record: CallRecord, provider: str, usage: Usage, text: Usage) -> bool:
    """Return whether `text` counts as text the images that a model of Google reads: they cost as much.

    Images that it draws or embeds have prices of their own.
    """
    return (
        provider == _GOOGLE and record.operation != "embeddings" and text.input_image_tokens != usage.input_image_tokens
    )


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
