"""Price list: reads the `genai-prices` package and keeps the rates it calculates with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from types import ModuleType
from typing import Final, NamedTuple

from callspan.cost.rates import Rates
from callspan.fail_open import fail_open
from callspan.record.call import Usage

_COUNTERS: Final[Mapping[str, str]] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "web_search_requests": "web_searches",
}
"""Our counters -> those of the price list."""
_SECOND_NS: Final = 1_000_000_000
_MINUTE_NS: Final = 60 * _SECOND_NS
_ALWAYS: Final = -1
_MOST: Final = 2_000
_KEEP: Final = fail_open("keep the rates of a model; its prices are looked up again")


class _Model(NamedTuple):
    """A model, and when it is used."""

    provider: str
    name: str
    tier: str | None
    minute: int
    """Unix time: some prices change at a date or with the time of day. `_ALWAYS`: those that don't."""


class _Edition:
    """Rates from one state of the list, which may update itself: then it has a new snapshot."""

    def __init__(self, snapshot: object) -> None:
        self.snapshot = snapshot
        self.rates: dict[_Model, Rates] = {}
        self.unknown: set[_Model] = set()


class PriceList:
    """Calculates what calls cost. Safe from any thread; takes 200 µs for the first call of a model."""

    def __init__(self, package: ModuleType) -> None:
        """`package` is `genai_prices`."""
        self._package = package
        self._edition = _Edition(self._snapshot())
        self.version = f"genai-prices {package.__version__}"
        """What a cost names as its source."""

    def usd(self, names: tuple[str, str], tier: str | None, start_ns: int, usage: Usage) -> Decimal | None:
        """Return the price of a call; None for an unknown model or counts that contradict one another.

        `names` are those of the provider, as the list knows it, and of the model; `start_ns` is Unix time.
        """
        edition, snapshot = self._edition, self._snapshot()
        if edition.snapshot is not snapshot:
            edition = self._edition = _Edition(snapshot)
        always = _Model(*names, tier, _ALWAYS)
        if always in edition.unknown:
            return None
        rates = edition.rates.get(always) or edition.rates.get(always._replace(minute=start_ns // _MINUTE_NS))
        usd = None if rates is None else rates.usd(usage)
        return self._look_up(edition, always, start_ns, usage) if usd is None else usd

    def _look_up(self, edition: _Edition, model: _Model, start_ns: int, usage: Usage) -> Decimal | None:
        counted = {theirs: count for ours, theirs in _COUNTERS.items() if (count := getattr(usage, ours))}
        try:
            found = self._package.calc_price(
                self._package.Usage(**counted),
                model_ref=model.name,
                provider_id=model.provider,
                genai_request_timestamp=datetime.fromtimestamp(start_ns // _SECOND_NS, tz=timezone.utc),
                price_context={"service_tier": model.tier} if model.tier else None,
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
        if edition.snapshot is not None:
            with _KEEP:
                constraints = [variant.constraint for variant in found.model.price_variants or ()]
                timeless = not isinstance(found.model.prices, list) and not any(constraints)
                minute = _ALWAYS if timeless else start_ns // _MINUTE_NS
                _keep(edition, model._replace(minute=minute), vars(found.model_price)).check(usage, total)
        return total

    def _snapshot(self) -> object:
        """The prices as they are now; None where the package does not tell, and nothing can be kept."""
        snapshots = getattr(self._package, "data_snapshot", None)
        return None if snapshots is None else snapshots.get_snapshot()


def _keep(edition: _Edition, model: _Model, prices: Mapping[str, object]) -> Rates:
    if len(edition.rates) >= _MOST:
        edition.rates.clear()
    return edition.rates.setdefault(model, Rates(prices))
