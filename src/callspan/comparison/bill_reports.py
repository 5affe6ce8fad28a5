"""Bill reports: reads what providers state as used or billed, in the files that their pages, APIs and SDKs save.

Each shape of a report is a row of one table: the fields that only it has, and where its amounts are. Fields are named
in snake case, since SDKs save the same reports in camel case, and by their path. Amounts that a report lacks are absent
here, and are not compared.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

Measure: TypeAlias = Literal["requests", "input_tokens", "cached_tokens", "written_tokens", "output_tokens", "cost_usd"]
"""What is compared. Input includes cached and written tokens, output reasoning."""
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
Fields: TypeAlias = dict[str, object]


class ReportError(ValueError):
    """A file is no report of usage or costs that can be read. The message is a sentence for the user."""


class Billed(NamedTuple):
    """What a provider states for one bucket of time."""

    start_ns: int
    end_ns: int
    """Unix times; the bucket ends before `end_ns`."""
    provider: str
    """As in records."""
    model: str | None
    """None: all models together."""
    amounts: Mapping[Measure, Decimal]
    """Only what the report states."""
    is_batch: bool = False
    """Whether the report says that these were requests of batches."""


class Report(NamedTuple):
    """What one file states."""

    rows: Mapping[tuple[object, ...], Billed]
    """By shape, bucket and all that the report is grouped by."""
    notes: list[str]
    """What the file lacks, or states and is not compared, in sentences."""


class _Shape(NamedTuple):
    provider: str
    marks: tuple[str, ...]
    """The fields that a row of this shape has."""
    amounts: Mapping[Measure, tuple[str, ...]]
    """The fields whose sum is the amount."""
    model: str = "model"
    """The field of the model; empty: the report names none as requests do."""
    unit: Decimal = Decimal(1)
    """US dollars of one unit of money."""
    currency: str = ""
    """The field of the currency; empty: US dollars."""
    service: str = ""
    """A word of `service_name` if the shape is one of several services."""


_FOCUS: Final = ("charge_period_start", "billed_cost", "service_name")
_FOCUS_COST: Final[Mapping[Measure, tuple[str, ...]]] = {"cost_usd": ("billed_cost",)}
_SHAPES: Final = (
    # https://platform.openai.com/docs/api-reference/usage/completions_object
    _Shape(
        "openai",
        ("num_model_requests",),
        {
            "requests": ("num_model_requests",),
            "input_tokens": ("input_tokens",),
            "cached_tokens": ("input_cached_tokens",),
            "output_tokens": ("output_tokens",),
        },
    ),
    # https://platform.openai.com/docs/api-reference/usage/costs_object
    _Shape("openai", ("amount.value",), {"cost_usd": ("amount.value",)}, model="", currency="amount.currency"),
    # https://platform.claude.com/docs/en/api/admin-api/usage-cost/get-messages-usage-report
    _Shape(
        "anthropic",
        ("uncached_input_tokens",),
        {
            "input_tokens": (
                *("uncached_input_tokens", "cache_read_input_tokens"),
                *("cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens"),
            ),
            "cached_tokens": ("cache_read_input_tokens",),
            "written_tokens": ("cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens"),
            "output_tokens": ("output_tokens",),
        },
    ),
    # https://platform.claude.com/docs/en/api/admin-api/usage-cost/get-cost-report, in cents
    _Shape("anthropic", ("amount", "starting_at"), {"cost_usd": ("amount",)}, "", Decimal("0.01"), "currency"),
    # https://openrouter.ai/docs/client-sdks/typescript/models/activityitem
    _Shape(
        "openrouter",
        ("date", "model_permaslug", "prompt_tokens"),
        {
            "requests": ("requests",),
            "input_tokens": ("prompt_tokens",),
            "output_tokens": ("completion_tokens",),
            "cost_usd": ("usage",),
        },
    ),
    # https://docs.aws.amazon.com/cur/latest/userguide/table-dictionary-focus-1-2-aws-columns.html
    _Shape("aws.bedrock", _FOCUS, _FOCUS_COST, model="", currency="billing_currency", service="bedrock"),
    # https://docs.cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/focus-export
    _Shape("gcp.vertex_ai", _FOCUS, _FOCUS_COST, model="", currency="billing_currency", service="vertex"),
)
_STARTS: Final = ("start_time", "starting_at", "charge_period_start", "date")
_ENDS: Final = ("end_time", "ending_at", "charge_period_end")
_LISTS: Final = ("results", "result")
"""Fields of a bucket with its rows; OpenAI's first reports call them `result`."""
_BATCHES: Final = {"batch": True, "service_tier": "batch"}
"""The fields that say that requests were in batches, with their values."""
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DAY_NS: Final = 86_400 * 10**9
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


def read_report(name: str, data: bytes) -> Report:
    """Return what a file states.

    Raises:
        ReportError: It is no JSON or CSV, has no known shape, no buckets, or a count below 0.
    """
    rows: dict[tuple[object, ...], Billed] = {}
    notes: list[str] = []
    has_rows = False
    for fields in _rows(name, data, notes):
        has_rows = True
        shape = next(
            (shape for shape in _SHAPES if all(mark in fields for mark in shape.marks) and _is_of(shape, fields)), None
        )
        if shape is None:
            continue
        billed = _billed(name, shape, fields, notes)
        sources = {source for sources in shape.amounts.values() for source in sources}
        grouped = tuple(sorted((key, str(value)) for key, value in fields.items() if key not in sources))
        key = (shape.provider, shape.marks, billed.start_ns, billed.end_ns, grouped)
        rows[key] = _added(rows[key], billed) if key in rows else billed
    if not rows:
        reason = (
            "it has no row of a report that callspan reads" if has_rows else "it has no buckets with usage or costs"
        )
        raise ReportError(f"{name} cannot be compared: {reason}.")
    return Report(rows, sorted(set(notes)))


def _is_of(shape: _Shape, fields: Fields) -> bool:
    return shape.service in str(fields.get("service_name") or "").lower()


def _added(first: Billed, second: Billed) -> Billed:
    names = first.amounts.keys() | second.amounts.keys()
    zero = Decimal(0)
    sums = {name: first.amounts.get(name, zero) + second.amounts.get(name, zero) for name in names}
    return first._replace(amounts=sums)


def _rows(name: str, data: bytes, notes: list[str]) -> Iterator[Fields]:
    """Yield the rows of a file, with the fields of their bucket. Raises ReportError if it is no JSON or CSV."""
    text = data.decode("utf-8-sig", "replace").strip()
    if text[:1] in {"{", "["}:
        try:
            yield from _buckets(name, _DECODER.decode(text), notes)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ReportError(f"{name} is no complete JSON: {error}.") from error
    elif text[:1] == "<" or "," not in text.partition("\n")[0]:
        raise ReportError(f"{name} is {'HTML' if text[:1] == '<' else 'neither JSON nor CSV'}, no report.")
    else:
        try:
            for row in csv.DictReader(io.StringIO(text), strict=True):
                if None in row or None in row.values():
                    raise ReportError(f"{name} is no complete CSV: a row has not as many cells as the header.")
                yield {_snake(key): value for key, value in row.items()}
        except csv.Error as error:
            raise ReportError(f"{name} is no complete CSV: {error}.") from error


def _buckets(name: str, value: object, notes: list[str]) -> Iterator[Fields]:
    """Yield the rows of a page, of a list of pages, or of a list of rows."""
    if isinstance(value, list):
        for item in value:
            yield from _buckets(name, item, notes)
    elif isinstance(value, dict):
        fields = {_snake(key): item for key, item in value.items()}
        if fields.get("has_more") is True:
            notes.append(f"{name} has more pages: what they state is not compared.")
        if isinstance(fields.get("data"), list):
            yield from _buckets(name, fields["data"], notes)
            return
        results = next((fields[key] for key in _LISTS if isinstance(fields.get(key), list)), None)
        if not isinstance(results, list):
            yield _flat(fields)
            return
        bucket = {key: item for key, item in fields.items() if key not in _LISTS}
        yield from (bucket | _flat(result) for result in results if isinstance(result, dict))


def _flat(fields: Mapping[Any, object], path: str = "") -> Fields:
    """Return the fields of a row by their path, such as `amount.value`."""
    flat: Fields = {}
    for key, value in fields.items():
        name = f"{path}{_snake(key)}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _snake(name: object) -> str:
    return _WORD.sub("_", str(name)).lower()


def _billed(name: str, shape: _Shape, fields: Fields, notes: list[str]) -> Billed:
    """Return what a row states. Raises ReportError if its times or counts have no meaning."""
    start_ns = next((_time_ns(fields[key]) for key in _STARTS if key in fields), None)
    end_ns = next((_time_ns(fields[key]) for key in _ENDS if key in fields), None)
    if start_ns is not None and end_ns is None:
        end_ns = start_ns + _DAY_NS
    if start_ns is None or end_ns is None or start_ns >= end_ns:
        raise ReportError(f"{name} has a row without the start and end of its bucket.")
    amounts: dict[Measure, Decimal] = {}
    for measure, sources in shape.amounts.items():
        values = [value for source in sources if (value := _number(fields.get(source))) is not None]
        if not values:
            continue
        if measure == "cost_usd":
            currency = str(fields.get(shape.currency) or "USD").upper()
            if currency != "USD":
                notes.append(f"{name} has amounts in {currency}, which are not compared.")
                continue
        elif min(values) < 0:
            raise ReportError(f"{name} states {min(values)} {measure}.")
        amounts[measure] = sum(values, Decimal(0)) * (shape.unit if measure == "cost_usd" else 1)
    model = fields.get(shape.model)
    is_batch = any(fields.get(key) == value for key, value in _BATCHES.items())
    return Billed(start_ns, end_ns, shape.provider, str(model) if model else None, amounts, is_batch)


def _number(value: object) -> Decimal | None:
    """Return a finite number, also one written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _time_ns(value: object) -> int | None:
    """Return a Unix time in nanoseconds of Unix seconds, a date or a time; UTC if it states no zone."""
    if isinstance(value, int | Decimal):
        return int(value * 10**9)
    text = str(value).strip().replace(" UTC", "Z")
    try:
        time = msgspec.convert(text if ":" in text else f"{text}T00:00:00Z", datetime)
    except msgspec.ValidationError:
        return None
    zoned = time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
    return round(zoned.timestamp()) * 10**9
