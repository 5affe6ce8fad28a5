"""Price table: prices from a user's file, which override published ones, and the pricing of calls.

```json
{"version": "contract-7", "models": {"gpt-5*": {"input": "1.25", "output": "10", "cache_read": "0.125"}}}
```
Prices are US dollars per million tokens, `request` per call, `tools` per run. A key may be `provider/model` and may end
in `*`. `tiers` has the prices of other service tiers, of batches as `batch` (without it a batch costs half, as an
estimate), and of other dimensions, such as `speed=fast` (see `callspan.cost.dimensions`). A cost stated by the provider
takes precedence over all prices.

Each run inside the provider's server is priced by itself, because a price may depend on its model and its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Final, Literal

import msgspec

from callspan.cost.attempts import with_attempts
from callspan.cost.counters import bills_units_alone, unpriced_fields
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
)
from callspan.cost.published import published_cost
from callspan.cost.tools import tool_runs
from callspan.providers.base import NOT_GENERATING
from callspan.record.call import CallRecord, Response
from callspan.record.usage import ADDITIVE_COUNTERS, Cost, Usage, usage_of_iteration
from callspan.runtime.amounts import EXACT
from callspan.runtime.input_file import read_regular

_BARE: Final = frozenset({SERVICE_TIER, PROCESSING})
"""Dimensions named in `tiers` by their value alone, without the dimension's name."""
_MAX_BYTES: Final = 16 << 20
_MILLION: Final = Decimal(1_000_000)
_DATABASES: Final = frozenset({".db", ".sqlite", ".sqlite3"})
PROVIDER = "provider"
"""Source of a cost stated by the provider."""


class PriceFileError(ValueError):
    """A price file cannot be used. The message names the file and the error."""


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of one model, US dollars per million tokens. Cache prices default to the price of `input`."""

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

    def of(self, values: dict[str, str]) -> tuple[ModelPrices, dict[str, str]]:
        """Return the prices that fit the most of these dimensions, and the dimensions left without a price."""
        candidates = [(self, values)]
        for name, value in values.items():
            tier = self.tiers.get(value if name in _BARE else f"{name}={value}")
            if tier is not None:
                candidates.append(tier.of({other: values[other] for other in values if other != name}))
        return min(candidates, key=lambda candidate: len(candidate[1]))

    def usd(self, usage: Usage) -> Decimal | None:
        """Return the exact amount; None if required counts are unknown or contradictory."""
        if usage.input_tokens is None and not bills_units_alone(usage):
            return None
        lines = list(self._lines(usage))
        if any(count < 0 for count, _ in lines):
            return None
        return sum((count * price for count, price in lines), Decimal(0)) / _MILLION + self.request

    def _lines(self, usage: Usage) -> Iterator[tuple[int, Decimal]]:
        write = self.input if self.cache_write is None else self.cache_write
        hour, hours = usage.cache_write_1h_tokens or 0, usage.cache_write_12h_tokens or 0
        reads, writes = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        yield (usage.input_tokens or 0) - reads - writes, self.input
        yield usage.output_tokens or 0, self.output
        yield reads, self.input if self.cache_read is None else self.cache_read
        yield writes - hour - hours, write
        yield hours, write if self.cache_write_12h is None else self.cache_write_12h
        yield hour, write if self.cache_write_1h is None else self.cache_write_1h


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
        raise PriceFileError(f"prices {path}: a database, not a price file; see 'Your own prices' in the documentation")
    try:
        table = _decode(read_regular(path, _MAX_BYTES))
    except OSError as error:
        raise PriceFileError(f"prices {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PriceFileError(f"prices {path}: {error}; see 'Your own prices' in the documentation") from error
    return table if table.version else msgspec.structs.replace(table, version=path.stem)


class Pricer:
    """Prices calls. Thread-safe; not for the caller's thread, because the first call is slow."""

    def __init__(self, table: PriceTable | None = None) -> None:
        """`table` has the user's prices, which override the published ones."""
        self.table = table

    def _cost_of_one_run(self, record: CallRecord) -> Cost | None:
        usage = record.usage
        if usage is None or record.is_first_version:
            return None
        stated_cost = provider_cost(record)
        cost = stated_cost or self._by_table(record) or published_cost(record)
        if cost is None or cost is stated_cost:
            return cost
        reasons = [*_doubts(record, usage), *_unfinished(record)]
        return cost_with_reasons(cost.usd, cost.source, filter(None, (cost.reason, *reasons))) if reasons else cost

    def priced(self, record: CallRecord) -> CallRecord:
        """Return the record with its cost; the same object if it has one already or none is known.

        An answer that a cache served has no price, but the attempts before it may have a cost.
        """
        if record.cost is not None:
            return record
        with localcontext(EXACT):
            priced = self._priced(record) if record.is_bought else record
            return with_attempts(priced, priced.cost)

    def _priced(self, record: CallRecord) -> CallRecord:
        usage = record.usage
        if usage is not None and usage.iterations and provider_cost(record) is None and not record.is_first_version:
            return self._priced_by_run(record, usage)
        cost = self._cost_of_one_run(record)
        return record if cost is None else msgspec.structs.replace(record, cost=cost)

    def _priced_by_run(self, record: CallRecord, usage: Usage) -> CallRecord:
        """Return the call with its cost and the cost of each run within the server; unchanged if any is unknown."""
        usages = list(map(usage_of_iteration, usage.iterations))
        runs = [_of_run(record, run.model, run_usage) for run, run_usage in zip(usage.iterations, usages, strict=True)]
        costs = list(map(self._cost_of_one_run, (_of_answer(record, usage, usages), *runs)))
        known_costs = [cost for cost in costs if cost is not None]
        if len(known_costs) < len(costs):
            return record
        usd = sum((cost.usd for cost in known_costs), Decimal(0))
        total = cost_with_reasons(usd, known_costs[0].source, filter(None, (cost.reason for cost in known_costs)))
        priced = [
            msgspec.structs.replace(run, cost=cost) for run, cost in zip(usage.iterations, known_costs[1:], strict=True)
        ]
        return msgspec.structs.replace(record, cost=total, usage=msgspec.structs.replace(usage, iterations=priced))

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


def _doubts(record: CallRecord, usage: Usage) -> Iterator[str]:
    """Yield the reasons why a provider may charge other counts than the answer's."""
    if usage.estimated:
        yield "estimated tokens"
    if usage.cost_estimated:
        yield "unknown cached tokens"
    if record.is_answer_alone:
        yield "the parameters of the request are unknown"
    if record.operation not in NOT_GENERATING:
        if usage.output_tokens is None and usage.input_tokens is not None:
            yield "unknown output tokens"
        if usage.input_tokens == 0 and not usage.output_tokens:
            yield "an answer of 0 tokens"
    is_refused = record.response is not None and record.response.refused
    if is_refused and record.api == "messages" and usage.output_tokens == 0:
        yield "a refusal before any output may be free"
    yield from missing_prices(f"usage.{field}" for field in unpriced_fields(usage))


def _priced_by(key: str, prices: ModelPrices, record: CallRecord, usage: Usage) -> tuple[Decimal, list[str]] | None:
    """Return the amount at these prices, and the reasons if it is an estimate; None if the counts are unknown."""
    prices, unpriced = prices.of(dimensions(record))
    if REGION in unpriced and key.rpartition("/")[2].startswith(f"{unpriced[REGION]}."):
        del unpriced[REGION]  # the key is the id of a Bedrock profile, which has the region
    if usage.cache_write_12h_tokens and prices.cache_write_12h is not None:
        unpriced.pop(CACHE_TTL, None)
    usd = prices.usd(usage)
    if usd is None:
        return None
    reasons = missing_prices(f"{name}={value}" for name, value in unpriced.items())
    if unpriced.get(PROCESSING) == BATCH:
        usd, reasons = usd / 2, [*reasons, "half the usual price"]
    for tool, count in tool_runs(record).items():
        if count is None or tool not in prices.tools:
            reasons += missing_prices([tool])
        else:
            usd += prices.tools[tool] * count
    return usd, [*reasons, *missing_prices(modality for modality, _ in as_text(usage))]


def _unfinished(record: CallRecord) -> list[str]:
    """Return the reason why the counters of an answer cover only the received part; empty if it is complete."""
    if record.outcome != "success":
        return [f"the call ended as {record.outcome}"]
    return ["the stream was cut off"] if record.is_cut_off else []


def provider_cost(record: CallRecord) -> Cost | None:
    """Return the cost stated by the provider, if any."""
    usage = record.usage
    if usage is None or usage.cost_usd is None:
        return None
    reasons = ["the provider's own estimate"] if usage.cost_estimated else []
    return cost_with_reasons(usage.cost_usd, PROVIDER, [*reasons, *_unfinished(record)])


@cache
def pricer_for(prices: Path | None) -> Pricer:
    """Return the pricer for a price file, read once per process, or for published prices only.

    Raises PriceFileError.
    """
    return Pricer(None if prices is None else read_prices(prices))


def _of_answer(record: CallRecord, usage: Usage, runs: Sequence[Usage]) -> CallRecord:
    """Return the call with the usage that remains without its runs."""
    remainders = {name: _rest(getattr(usage, name), [getattr(run, name) for run in runs]) for name in ADDITIVE_COUNTERS}
    return msgspec.structs.replace(record, usage=msgspec.structs.replace(usage, iterations=[], **remainders))


def _of_run(record: CallRecord, model: str | None, usage: Usage) -> CallRecord:
    """Return the call with the usage and the model of one run; None is the answering model."""
    request, response = record.request, record.response or Response()
    if model is not None:
        request = msgspec.structs.replace(request, model=model)
        response = msgspec.structs.replace(response, model=model)
    return msgspec.structs.replace(record, request=request, response=response, usage=usage)


def _rest(total: int | None, parts: list[int | None]) -> int | None:
    return None if total is None else total - sum(part or 0 for part in parts)
