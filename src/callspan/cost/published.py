"""Published prices: those of the `genai-prices` package, imported when an SDK is patched where calls are priced.

The import holds up every thread for a while, which traffic is to be spared. Only where the provider is certain to be
known are its prices looked up; a name alone may be anybody's model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from callspan.cost.price_list import PriceList
from callspan.fail_open import fail_open
from callspan.forks import LATE_IMPORTS, late_import
from callspan.record.call import CallRecord, Cost, Usage

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

_HOSTS: Final[Mapping[str, tuple[str, ...]]] = {"openai": ("api.openai.com",), "anthropic": ("api.anthropic.com",)}
"""These two names are also those of the SDKs' families: any other host is a gateway or a private server."""

USUAL_TIERS: Final = frozenset({None, "default", "standard", "auto", "scale"})
"""Names of the service tier that plain prices are for."""


def published_cost(record: CallRecord) -> Cost | None:
    """Return what the call costs by the published prices of its day; None where those do not tell, or are not here."""
    prices, provider, usage = _price_list(), _PROVIDERS.get(record.provider), record.usage
    if prices is None or provider is None or usage is None or usage.input_tokens is None:
        return None
    for model in _models(record):
        found = _price(prices, record, usage, provider, model)
        if found is not None:
            return found
    return None


def load() -> None:
    """Import the price list now, if it is installed, and not with the first call that is priced."""
    _price_list()


def is_installed() -> bool:
    """Return whether published prices are to be had; they are loaded for it."""
    return _price_list() is not None


def guessed_provider(record: CallRecord) -> bool:
    """Return True where the provider's name is only that of the SDK: the call went through some other host."""
    own = _HOSTS.get(record.provider)
    return own is not None and record.server_address is not None and record.server_address not in own


def _price(prices: PriceList, record: CallRecord, usage: Usage, provider: str, model: str) -> Cost | None:
    tier = record.response.service_tier if record.response else None
    names, start_ns = (provider, model), record.timing.start_ns
    usual = prices.usd(names, None, start_ns, usage)
    if usual is None:
        return None
    # A tier the list has no prices for is priced as the usual one, which is a guess.
    total = usual if tier in USUAL_TIERS else prices.usd(names, tier, start_ns, usage) or usual
    guessed = guessed_provider(record) or (tier not in USUAL_TIERS and total == usual)
    return Cost(usd=total, source=prices.version, estimated=guessed)


def _models(record: CallRecord) -> Iterator[str]:
    """The model of the response, then of the request: on Azure the latter is the name of a deployment."""
    response_model = record.response.model if record.response else None
    yield from dict.fromkeys(name for name in (response_model, record.request.model) if name)


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
