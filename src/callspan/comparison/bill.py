"""Bill: compares what a provider states for each bucket with the sums of records, and names what records cannot state.

A shortage is what the provider states beyond the records. It is explained by requests that may have been billed without
usage (`BillCause`), then by what the bucket itself shows; the rest is left. More recorded than billed is never set off
against a shortage elsewhere.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from math import gcd
from typing import Final, Literal, NamedTuple, TypeAlias

from callspan.comparison.bill_reports import MEASURES, Billed, Measure
from callspan.stores import BillCause, BillSums

_DAY_NS: Final = 86_400 * 10**9
_NONE: Final = Decimal(0)
_DATE: Final = re.compile(r"[-@](\d{4}-?\d\d-?\d\d|latest)$|:\d+$")
"""What a dated or aliased name of a model has beyond its plain name."""
_IN_SUMS: Final = ("partial_usage", "unpriced")
"""The causes of requests that are in the sums."""
_Key: TypeAlias = tuple[int, int, str, str | None]
"""Start and end of a bucket, provider, and model."""


Note: TypeAlias = Literal["not_reported", "more_recorded", "not_final", "other_prices", "unread_batch"]
"""What else a line shows: `not_reported`: only records have the model; `more_recorded` than billed; `not_final`: so it
is, and the bucket is of the last day; `other_prices`: equal tokens, other money; `unread_batch`: tokens of batches,
none of which was read."""


class Line(NamedTuple):
    """One bucket of one provider and model, in the bill and in the records."""

    start_ns: int
    end_ns: int
    provider: str
    model: str | None
    """None: all models together."""
    billed: Mapping[Measure, Decimal]
    """Empty if the report does not name the model in this bucket."""
    recorded: Mapping[Measure, Decimal]
    """The same measures."""
    causes: Mapping[str, int]
    """Numbers of requests by `BillCause`, besides `unread_batch` (results of batches that nobody read), `across_border`
    (they began in this bucket, or ended in it, alone) and `unpriced` (their price is unknown)."""
    notes: tuple[Note, ...]
    left: Mapping[Measure, Decimal]
    """What no record has and no cause explains."""
    served_by_caches: int


class _Recorded:
    """Sums of records in one bucket."""

    def __init__(self) -> None:
        self.amounts: dict[Measure, Decimal] = dict.fromkeys(MEASURES, _NONE)
        self.causes = Counter[str]()
        self.batch_requests = self.served_by_caches = self.unpriced = self.came = self.went = 0

    def add(self, sums: BillSums) -> None:
        """Add calls that ended in the bucket."""
        for measure in MEASURES:
            self.amounts[measure] += getattr(sums, measure) or 0
        self.causes.update(sums.causes)
        self.served_by_caches += sums.served_by_caches
        self.unpriced += sums.unpriced
        self.batch_requests += sums.requests if sums.is_batch else 0


def step_of(rows: Iterable[Billed]) -> tuple[int, int, int]:
    """Return the first start and last end of all buckets, and the longest time that divides all their bounds."""
    bounds = {bound for row in rows for bound in row[:2]}
    first = min(bounds)
    return first, max(bounds), gcd(*(bound - first for bound in bounds))


def by_day(rows: Iterable[Billed]) -> list[Billed]:
    """Return what a bill states by UTC days, where days are made of its buckets; any other bucket is unchanged."""
    rows = list(rows)
    across = {(row.provider, row.end_ns - row.start_ns) for row in rows if row.end_ns > _day(row) + _DAY_NS}
    return [
        row
        if (row.provider, row.end_ns - row.start_ns) in across
        else row._replace(start_ns=_day(row), end_ns=_day(row) + _DAY_NS)
        for row in rows
    ]


def _day(row: Billed) -> int:
    return row.start_ns - row.start_ns % _DAY_NS


def compare(rows: Iterable[Billed], recorded: Iterable[BillSums], now_ns: int) -> list[Line]:
    """Return a line for each bucket and model of a bill, and for those that only the records have, by time."""
    bill: dict[_Key, dict[Measure, Decimal]] = defaultdict(dict)
    batches = Counter[_Key]()
    for row in rows:
        key = row.start_ns, row.end_ns, row.provider, row.model
        for measure, amount in row.amounts.items():
            bill[key][measure] = bill[key].get(measure, _NONE) + amount
        batches[key] += int(row.amounts.get("requests", 1)) if row.is_batch else 0
    buckets = _Buckets(bill)
    sums: dict[_Key, _Recorded] = defaultdict(_Recorded)
    for part in recorded:
        model = buckets.model_of(part)
        ends, began = (buckets.keys(part.provider, model, time_ns) for time_ns in (part.bucket_ns, part.began_ns))
        number = part.requests + _lost(part.causes)
        for key in ends:
            sums[key].add(part)
            sums[key].came += 0 if key in began else number
        for key in began:
            sums[key].went += 0 if key in ends else number
    lines = (
        _line(key, bill.get(key, {}), sums[key], batches[key], now_ns)
        for key in sorted(bill.keys() | sums.keys(), key=lambda key: (*key[:3], key[3] or ""))
    )
    return [line for line in lines if line is not None]


def _line(key: _Key, billed: Mapping[Measure, Decimal], sums: _Recorded, batch: int, now_ns: int) -> Line | None:
    """Return the comparison of one bucket; None if only records have it and nothing in them may have been billed."""
    recorded = {measure: sums.amounts[measure] for measure in billed or MEASURES[:1]}
    if not billed:
        if not recorded["requests"] and not sums.causes:
            return None
        return Line(*key, billed, recorded, sums.causes, ("not_reported",), {}, sums.served_by_caches)
    short = {measure: amount - recorded[measure] for measure, amount in billed.items()}
    causes = _with_causes_of_bucket(short, sums, batch)
    notes = tuple(_notes(short, sums, batch, is_new=key[1] > now_ns - _DAY_NS))
    left = _left(short, causes, notes)
    return Line(*key, billed, recorded, causes, notes, left, sums.served_by_caches)


def _with_causes_of_bucket(short: Mapping[Measure, Decimal], sums: _Recorded, batch: int) -> Counter[str]:
    """Return the causes of records, if the bucket lacks anything, and for more requests those that it shows itself."""
    causes = Counter(sums.causes if _is_short(short) else ())
    if "requests" in short:
        missing = int(short["requests"])
        unread = min(missing - _lost(causes), batch - sums.batch_requests)
        causes["unread_batch"] = max(unread, 0)
        unnamed = missing - _lost(causes)
        causes["across_border"] = max(min(sums.went, unnamed), min(sums.came, -missing), 0)
    elif not _lost(causes) and _is_short(short):
        causes["across_border"] = sums.went
    if short.get("cost_usd", _NONE) > 0:
        causes["unpriced"] = sums.unpriced
    return +causes


def _notes(short: Mapping[Measure, Decimal], sums: _Recorded, batch: int, *, is_new: bool) -> Iterator[Note]:
    money, *others = short.get("cost_usd", _NONE), *(amount for name, amount in short.items() if name != "cost_usd")
    if "requests" not in short and batch and not sums.batch_requests and _is_short(short):
        yield "unread_batch"
    has_other_prices = bool(others) and not any(others)
    if has_other_prices and money and not (sums.unpriced and money > 0):
        yield "other_prices"
    if min([*others, _NONE if has_other_prices else money]) < 0:
        yield "not_final" if is_new else "more_recorded"


def _left(short: Mapping[Measure, Decimal], causes: Mapping[str, int], notes: Iterable[Note]) -> dict[Measure, Decimal]:
    """Return what no cause explains. Requests are explained by their number; tokens and money by any cause."""
    came = causes.get("across_border", 0) if short.get("requests", _NONE) < 0 else 0
    requests = short.get("requests", _NONE) - (_lost(causes) - came)
    if requests <= 0 and (causes or "unread_batch" in notes):
        return {}
    positive = {measure: amount for measure, amount in short.items() if amount > 0}
    return positive | ({"requests": requests} if requests > 0 else {})


def _is_short(short: Mapping[Measure, Decimal]) -> bool:
    return any(amount > 0 for amount in short.values())


def _lost(causes: Mapping[BillCause, int] | Mapping[str, int]) -> int:
    """Return the number of requests that may have been billed and are in no sum of requests."""
    return sum(number for cause, number in causes.items() if cause not in _IN_SUMS)


def unexplained(lines: Iterable[Line]) -> dict[Measure, tuple[Decimal, Decimal]]:
    """Return what no record has and no cause explains, and what was billed, over all lines, by measure."""
    lines, zero = list(lines), (_NONE, _NONE)
    sums: dict[Measure, tuple[Decimal, Decimal]] = {}
    for line in lines:
        for measure, amount in line.billed.items():
            left, billed = sums.get(measure, zero)
            sums[measure] = left + line.left.get(measure, _NONE), billed + amount
    return {measure: sums[measure] for measure in MEASURES if measure in sums}


class _Buckets:
    """The buckets of a bill: which a time lies in, and which of the bill's names a model has."""

    def __init__(self, bill: Iterable[_Key]) -> None:
        self._starts: dict[tuple[str, int, bool], list[int]] = defaultdict(list)
        """By provider, length, and whether the rows name models: a bill may have rows of both kinds."""
        self._names: dict[str, dict[str, str]] = defaultdict(dict)
        for start, end, provider, model in sorted(bill, key=str):
            self._starts[provider, end - start, model is not None].append(start)
            if model is not None:
                self._names[provider].update({model: model, _plain(model): model})
        for starts in self._starts.values():
            starts.sort()

    def model_of(self, sums: BillSums) -> str:
        """Return the bill's name of a model, else its own."""
        own = [name for name in (sums.response_model, sums.request_model) if name]
        names = self._names.get(sums.provider, {})
        return next((names[name] for name in (*own, *map(_plain, own)) if name in names), own[0] if own else "?")

    def keys(self, provider: str, model: str, time_ns: int) -> list[_Key]:
        """Return the buckets of the bill that a call belongs to at a time: of its model, and of all."""
        keys: list[_Key] = []
        for (of_provider, length, has_models), starts in self._starts.items():
            start = starts[max(bisect_right(starts, time_ns) - 1, 0)]
            if of_provider == provider and start <= time_ns < start + length:
                keys.append((start, start + length, provider, model if has_models else None))
        return keys


def _plain(model: str) -> str:
    return _DATE.sub("", model.lower().rpartition("/")[2])
