"""Price table: prices from a user's file, which override published ones, and the pricing of calls.

```json
{"version": "contract-7", "models": {"gpt-5*": {"input": "1.25", "output": "10", "cache_read": "0.125"}}}
```
Prices are US dollars per million tokens, `request` per call, `tools` per run. A key may be `provider/model` and may end
in `*`. `tiers` has the prices of other service tiers, of batches as `batch` (without it a batch costs half, as an
estimate), and of other dimensions, such as `speed=fast` (see `callspan.cost.dimensions`). A cost stated by the provider
takes precedence over all prices.

Runs of other models inside the provider's server are priced by those models, the rest of the usage by the answering
model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from callspan.amounts import EXACT
from callspan.cost.dimensions import (
    BATCH,
    CACHE_TTL,
    PROCESSING,
    REGION,
    SERVICE_TIER,
    as_text,
    cost_with_reasons,
    dimensions,
    missing_prices,
    models_of,
    tool_runs,
)
from callspan.cost.published import published_cost
from callspan.record.call import CallRecord, Response
from callspan.record.usage import ADDITIVE_COUNTERS, Cost, Usage, usage_of_iteration

_BARE: Final = frozenset({SERVICE_TIER, PROCESSING})
"""Dimensions whose values alone are keys of `tiers`."""
_MILLION: Final = Decimal(1_000_000)
_ANSWERING: Final = frozenset({"chat", "text_completion"})
"""Operations whose answers have tokens."""
_DATABASES: Final = frozenset({".db", ".sqlite", ".sqlite3"})
PROVIDER = "provider"
"""Source of a cost stated by the provider."""


class PriceFileError(ValueError):
    """A price file cannot be used. The message names the file and the error."""


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of one model, US dollars per million tokens. The default of a cache price is that of `input`."""

    input: Decimal
    output: Decimal = Decimal(0)
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    """Written for five minutes, or for an unknown time."""
    cache_write_1h: Decimal | None = None
    """By default the price of `cache_write`."""
    cache_write_12h: Decimal | None = None
    """By default the price of `cache_write`, and the cost is an estimate."""
    request: Decimal = Decimal(0)
    """US dollars per call."""
    tools: dict[str, Decimal] = {}
    """US dollars per run of a hosted tool, such as `web_search`."""
    tiers: dict[str, ModelPrices] = {}
    """Prices of other service tiers, such as `flex`, and of other dimensions, such as `speed=fast`."""

    def __post_init__(self) -> None:
        """Raise ValueError for a price that is negative or not finite."""
        for name, price in {**msgspec.structs.asdict(self), **self.tools}.items():
            if isinstance(price, Decimal) and not (price.is_finite() and price >= 0):
                raise ValueError(f"{name} is {price}: use a non-negative amount")

    def of(self, wanted: dict[str, str]) -> tuple[ModelPrices, dict[str, str]]:
        """Return the prices for these dimensions, and the dimensions without a price, of which there are fewest."""
        found = [(self, wanted)]
        for name, value in wanted.items():
            tier = self.tiers.get(value if name in _BARE else f"{name}={value}")
            if tier is not None:
                found.append(tier.of({other: wanted[other] for other in wanted if other != name}))
        return min(found, key=lambda one: len(one[1]))

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the exact amount; None if required counts are unknown or contradictory."""
        if usage.input_tokens is None:
            return None
        with localcontext(EXACT):
            dollars = sum((count * price for count, price in self._lines(usage)), Decimal(0)) / _MILLION
            return None if self._uncached(usage) < 0 else dollars + self.request

    def _lines(self, usage: Usage) -> Iterator[tuple[int, Decimal]]:
        write = self.input if self.cache_write is None else self.cache_write
        hour, hours = usage.cache_write_1h_tokens or 0, usage.cache_write_12h_tokens or 0
        yield self._uncached(usage), self.input
        yield usage.output_tokens or 0, self.output
        yield usage.cache_read_tokens or 0, self.input if self.cache_read is None else self.cache_read
        yield (usage.cache_write_tokens or 0) - hour - hours, write
        yield hours, write if self.cache_write_12h is None else self.cache_write_12h
        yield hour, write if self.cache_write_1h is None else self.cache_write_1h

    @staticmethod
    def _uncached(usage: Usage) -> int:
        return (usage.input_tokens or 0) - (usage.cache_read_tokens or 0) - (usage.cache_write_tokens or 0)


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of one file."""

    models: dict[str, ModelPrices]
    version: str | None = None
    """Stored with each cost, for `reprice`; by default the file's name."""
    currency: Literal["USD"] = "USD"

    def key(self, provider: str, model: str) -> str | None:
        """Return the key of a model's prices: the exact name, else the longest matching pattern."""
        names = (f"{provider}/{model}", model)
        for name in names:
            if name in self.models:
                return name
        fitting = [key for key in self.models if key.endswith("*") and any(n.startswith(key[:-1]) for n in names)]
        return max(fitting, key=len, default=None)


_decode: Final = msgspec.json.Decoder(PriceTable).decode


def read_prices(path: str | Path) -> PriceTable:
    """Return the prices in a file. Raises PriceFileError for an invalid file."""
    path = Path(path)
    if path.suffix in _DATABASES:
        # Closing a file that this process has open in SQLite would release SQLite's locks.
        raise PriceFileError(f"prices {path}: a database, not a price file; see docs/cost.md for the format")
    try:
        table = _decode(path.read_bytes())
    except OSError as error:
        raise PriceFileError(f"prices {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PriceFileError(f"prices {path}: {error}; see docs/cost.md for the format") from error
    return table if table.version else msgspec.structs.replace(table, version=path.stem)


class Pricer:
    """Prices calls. Thread-safe; not for the caller's thread, because the first call is slow."""

    def __init__(self, table: PriceTable | None = None) -> None:
        """`table` has the user's prices, which override the published ones."""
        self.table = table

    def cost(self, record: CallRecord) -> Cost | None:
        """Return the cost; None if unknown."""
        return self.priced(msgspec.structs.replace(record, cost=None)).cost

    def _cost_of_one_model(self, record: CallRecord) -> Cost | None:
        usage = record.usage
        if usage is None or record.is_first_version:
            return None
        stated = provider_cost(record)
        if stated is not None:
            return stated
        found = self._by_table(record) or published_cost(record)
        if found is None:
            return None
        reasons = []
        if usage.estimated:
            reasons.append("estimated tokens")
        if usage.output_tokens is None and usage.input_tokens is not None and record.operation in _ANSWERING:
            reasons.append("unknown output tokens")
        # The counters of a stream that was cut off only cover the received part.
        if record.outcome != "success":
            reasons.append(f"the call ended as {record.outcome}")
        elif record.is_cut_off:
            reasons.append("the stream was cut off")
        if not reasons:
            return found
        return cost_with_reasons(found.usd, found.source, filter(None, (found.reason, *reasons)))

    def priced(self, record: CallRecord) -> CallRecord:
        """Return the record with its cost; the same object if it has one already or none is known."""
        if record.cost is not None:
            return record
        parts = split(record)
        if parts is not None and provider_cost(record) is None and not record.is_first_version:
            return self._priced_in_parts(record, parts)
        found = self._cost_of_one_model(record)
        return record if found is None else msgspec.structs.replace(record, cost=found)

    def _priced_in_parts(self, record: CallRecord, parts: Split) -> CallRecord:
        """Return the call with its cost and that of each part; unchanged if one of them is unknown."""
        answer = self._cost_of_one_model(parts.answer)
        costs = [cost for one in parts.others.values() if (cost := self.cost(one)) is not None]
        return record if answer is None or len(costs) < len(parts.others) else with_costs(record, parts, answer, costs)

    def _by_table(self, record: CallRecord) -> Cost | None:
        if self.table is None or record.usage is None:
            return None
        for model in models_of(record):
            key = self.table.key(record.provider, model)
            usd = None if key is None else _priced_by(key, self.table.models[key], record, record.usage)
            if usd is not None:
                amount, reasons = usd
                return cost_with_reasons(amount, self.table.version or "own prices", reasons)
        return None


def _priced_by(key: str, prices: ModelPrices, record: CallRecord, usage: Usage) -> tuple[Decimal, list[str]] | None:
    """Return the amount at these prices, and the reasons if it is an estimate; None if the counts are unknown."""
    prices, missing = prices.of(dimensions(record))
    if REGION in missing and key.rpartition("/")[2].startswith(f"{missing[REGION]}."):
        del missing[REGION]  # the key is the id of a Bedrock profile, which has the region
    if usage.cache_write_12h_tokens and prices.cache_write_12h is not None:
        missing.pop(CACHE_TTL, None)
    usd = prices.usd(usage)
    if usd is None:
        return None
    reasons = missing_prices(f"{name}={value}" for name, value in missing.items())
    if missing.get(PROCESSING) == BATCH:
        usd, reasons = EXACT.divide(usd, Decimal(2)), [*reasons, "half the usual price"]
    for tool, count in tool_runs(record).items():
        if count is None or tool not in prices.tools:
            reasons += missing_prices([tool])
        else:
            usd = EXACT.add(usd, EXACT.multiply(prices.tools[tool], Decimal(count)))
    return usd, [*reasons, *missing_prices(modality for modality, _ in as_text(usage))]


def provider_cost(record: CallRecord) -> Cost | None:
    """Return the cost stated by the provider, if any."""
    usage = record.usage
    if usage is None or usage.cost_usd is None:
        return None
    return cost_with_reasons(usage.cost_usd, PROVIDER, ["the provider's own estimate"] if usage.cost_estimated else [])


@cache
def pricer_for(prices: Path | None) -> Pricer:
    """Return the pricer for a price file, read once per process, or for published prices only.

    Raises PriceFileError.
    """
    return Pricer(None if prices is None else read_prices(prices))


def repriced(record: CallRecord, cost: Cost) -> CallRecord:
    """Return a later version of a record with another cost: a copy that waits in a spool cannot replace it."""
    return msgspec.structs.replace(record, cost=cost, seen_ns=time.time_ns(), conversation=None)


class Split(NamedTuple):
    """One call split into several, each of one model."""

    answer: CallRecord
    """The call with the usage that is not in the others."""
    others: dict[int, CallRecord]
    """Runs of other models, by their index in the usage's iterations."""


def split(record: CallRecord) -> Split | None:
    """Split a call by model; return None if there is only one model."""
    usage = record.usage
    if usage is None or not usage.iterations:
        return None
    answering = record.response.model if record.response is not None else None
    others = {
        at: _with_model(record, run.model, usage_of_iteration(run))
        for at, run in enumerate(usage.iterations)
        if run.model is not None and run.model != answering
    }
    used = [one.usage for one in others.values() if one.usage is not None]
    rest = {name: _rest(getattr(usage, name), [getattr(other, name) for other in used]) for name in ADDITIVE_COUNTERS}
    own = msgspec.structs.replace(usage, iterations=[], **rest)
    return Split(msgspec.structs.replace(record, usage=own), others)


def with_costs(record: CallRecord, parts: Split, answer: Cost, costs: Sequence[Cost]) -> CallRecord:
    """Return the call with its total cost and that of each run of another model, in order."""
    usage = record.usage
    iterations = [] if usage is None else list(usage.iterations)
    for at, cost in zip(parts.others, costs, strict=True):
        iterations[at] = msgspec.structs.replace(iterations[at], cost=cost)
    with localcontext(EXACT):
        usd = sum((cost.usd for cost in costs), start=answer.usd)
    total = cost_with_reasons(Decimal(usd), answer.source, filter(None, (cost.reason for cost in (answer, *costs))))
    usage = None if usage is None else msgspec.structs.replace(usage, iterations=iterations)
    return msgspec.structs.replace(record, cost=total, usage=usage)


def _with_model(record: CallRecord, model: str | None, usage: Usage | None) -> CallRecord:
    request = msgspec.structs.replace(record.request, model=model)
    response = msgspec.structs.replace(record.response or Response(), model=model)
    return msgspec.structs.replace(record, request=request, response=response, usage=usage)


def _rest(total: int | None, parts: list[int | None]) -> int | None:
    return None if total is None else total - sum(part or 0 for part in parts)
