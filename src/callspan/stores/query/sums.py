"""Sums: the groupings of `Reader.summary` and the query for its sums."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, cast, get_args

import msgspec

from callspan.record.finish_reasons import LENGTH
from callspan.runtime.amounts import EXACT
from callspan.stores.base import Grouping, Summary
from callspan.stores.query.aggregates import exact_sum
from callspan.stores.query.filters import COLUMNS, FAILED, REFUSED, finish_condition
from callspan.stores.tables.database import Database, Dialect, Values
from callspan.stores.tables.facts import PICO

META: Final = "meta:"
"""Prefix of a metadata key to group by."""
GROUPINGS: Final[tuple[str, ...]] = get_args(Grouping)
TIMESTEP: Final = "timestep"
"""A grouping that only readers use: the id of the timestep."""
MODEL: Final = "c.model"
"""The model that a call `c` is grouped by."""
WITHOUT_USAGE: Final = f"""
coalesce(c.input_tokens, c.output_tokens) IS NULL AND c.cached IS NULL
AND (coalesce(c.finish_reason, c.stream_end) IS NOT NULL OR c.outcome <> 'success')
AND NOT ({FAILED} AND c.first_token_ns IS NULL)
"""
WITHOUT_COST: Final = f"""
c.cost_usd IS NULL AND (c.may_be_billed IS NOT NULL OR (c.cached IS NULL AND NOT (
({FAILED} OR (c.outcome = 'cancelled' AND c.retries IS NOT NULL AND c.http_status IS NULL))
AND coalesce(c.input_tokens, c.output_tokens, c.first_token_ns) IS NULL)))
"""
"""The calls with an unknown cost, without those that are free by `CallRecord.is_free`."""
_SUMS: Final = f"""
SELECT {{keys}}, count(*) AS calls,
  sum(CASE WHEN {FAILED} THEN 1 ELSE 0 END) AS errors,
  sum(CASE WHEN c.outcome = 'cancelled' THEN 1 ELSE 0 END) AS cancelled,
  sum(CASE WHEN c.stream_end = 'cut_off' THEN 1 ELSE 0 END) AS cut_off,
  sum(CASE WHEN {finish_condition(LENGTH)} THEN 1 ELSE 0 END) AS cut_by_length,
  sum(CASE WHEN {REFUSED} THEN 1 ELSE 0 END) AS refused,
  sum(CASE WHEN c.cached IS NOT NULL THEN 1 ELSE 0 END) AS cached,
  sum(CASE WHEN {WITHOUT_USAGE} THEN 1 ELSE 0 END) AS calls_without_usage,
  sum(CASE WHEN {WITHOUT_COST} THEN 1 ELSE 0 END) AS calls_without_cost,
  CAST(coalesce(sum(c.may_be_billed), 0) AS bigint) AS may_be_billed,
  CAST(sum(c.input_tokens) AS bigint) AS input_tokens, CAST(sum(c.output_tokens) AS bigint) AS output_tokens,
  CAST(sum(c.input_tokens) AS double precision) / count(c.input_tokens) AS mean_input_tokens,
  CAST(sum(c.output_tokens) AS double precision) / count(c.output_tokens) AS mean_output_tokens,
  CAST(sum(c.cache_read_tokens) AS bigint) AS cache_read_tokens,
  CAST(sum(c.reasoning_tokens) AS bigint) AS reasoning_tokens,
  sum((c.cost_picousd - c.cost_picousd % 1000000) / 1000000) AS micro, sum(c.cost_picousd % 1000000) AS rest,
  CAST(sum(c.retries) AS bigint) AS retries, min(c.start_ns) AS first_ns,
  max(coalesce(c.end_ns, c.start_ns)) AS last_ns{{more}}
FROM {{source}} WHERE {{where}} GROUP BY {{positions}} ORDER BY count(*) DESC, {{order}}
"""
_SUMMED: Final = (
    *("calls", "errors", "cancelled", "cut_off", "cut_by_length", "refused", "cached"),
    *("input_tokens", "output_tokens", "retries"),
    *("mean_input_tokens", "mean_output_tokens", "cache_read_tokens", "reasoning_tokens"),
    *("calls_without_usage", "calls_without_cost", "may_be_billed", "first_ns", "last_ns"),
)
"""Columns of a row of sums that are fields of `Summary`."""
_TIMES: Final = {"durations": "duration_ns", "first_tokens": "first_token_ns"}
_SUCCESS: Final = "c.outcome = 'success'"
_NO_COST: Final = Decimal(0)
_ALL: Final = "'all'"
"""The key of a single group of all calls."""
_BY: Final = "label_key"
_OF_SESSION: Final = re.compile(r"\bs\.")
_SESSIONS: Final = "LEFT JOIN sessions s ON s.session_id = c.session_id"


def checked_groupings(by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the groupings. Raises ValueError if one is invalid."""
    return tuple(map(checked_grouping, [by] if isinstance(by, str) else by))


def checked_grouping(by: str) -> str:
    """Return a valid grouping. Raises ValueError if it is neither a field nor `meta:KEY`."""
    if by in GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"summary: by={by!r} is unknown; use {', '.join(GROUPINGS)} or {META}KEY")


def summed(
    database: Database,
    groupings: Sequence[str],
    where: str,
    values: Values,
    *,
    source: str = "calls c",
    latencies: bool = False,
    extra_columns: Sequence[str] = (),
) -> Iterator[tuple[Summary, Values]]:
    """Yield the sums over groups of the calls `c` that match a condition, with their rows, largest group first.

    `source` has the calls and what the condition needs besides them. The rows also have the `extra_columns`.
    """
    dialect = database.dialect
    keys = [_group(dialect, by, number) for number, by in enumerate(groupings)] or [_ALL]
    values = {**values, **{f"{_BY}{number}": by.removeprefix(META) for number, by in enumerate(groupings)}}
    columns = [*extra_columns, f"{other_costs(dialect)} AS others"]
    for name, column in _TIMES.items() if latencies else ():
        columns.append(f"{_aggregate(dialect.percentiles or dialect.array, column, _SUCCESS)} AS {name}")
    sql = _SUMS.format(
        keys=_keyed(keys), positions=", ".join(str(number + 1) for number, _ in enumerate(keys)), where=where,
        source=_source(dialect, source, groupings, keys), order=", ".join(f"coalesce({key}, '')" for key in keys),
        more="".join(f", {column}" for column in columns),
    )  # fmt: skip
    for row in database.rows(sql, values):
        group = tuple(cast("str | None", row[f"group{number}"]) for number, _ in enumerate(groupings))
        times: dict[str, Any] = _latencies(dialect, row) if latencies else {}
        sums: dict[str, Any] = {name: row[name] for name in _SUMMED}
        cost = exact_cost(row["micro"], row["rest"], cast("str | None", row["others"]))
        yield Summary(keys=group, **sums, cost_usd=cost, **times), row


def other_costs(dialect: Dialect) -> str:
    """Return the SQL for the costs of a group that are no whole picodollars, see `exact_cost`."""
    return _aggregate(dialect.array, "cost_usd", "c.cost_picousd IS NULL")


def exact_cost(micro: Any, rest: Any, others: str | None) -> Decimal | None:
    """Return the exact cost of a group from its microdollars, its picodollars beyond them, and its other costs.

    Microdollars are summed apart from the rest: the sum of picodollars would overflow 63 bits from $9.2 million on.
    """
    pico = None if micro is None or rest is None else EXACT.divide(Decimal(int(micro) * 1_000_000 + int(rest)), PICO)
    other_amounts = msgspec.json.decode(others, type=list[Decimal]) if others else []
    if pico is not None and not other_amounts:
        return EXACT.add(_NO_COST, pico)  # as `exact_sum`, without its checks: there may be very many groups
    return exact_sum([pico, *other_amounts])


def _aggregate(aggregate: str, column: str, condition: str) -> str:
    """Return the SQL for the aggregate of a group's known values in a column where a condition is true."""
    values = aggregate.format(values=f"c.{column}")
    return f"{values} FILTER (WHERE {condition} AND c.{column} IS NOT NULL)"


def _latencies(dialect: Dialect, row: Values) -> dict[str, float | None]:
    """Return the percentiles of a group of calls."""
    percentiles: dict[str, float | None] = {}
    for name, field in (("durations", "duration"), ("first_tokens", "first_token")):
        if dialect.percentiles is not None:
            middle, high = _numbers(row[name]) or (None, None)
        else:
            durations = sorted(_numbers(row[name]))
            middle, high = _percentile(durations, 0.5), _percentile(durations, 0.95)
        percentiles |= {f"{field}_p50_ns": middle, f"{field}_p95_ns": high}
    return percentiles


def _numbers(cell: object) -> list[Any]:
    """Return the numbers of an array, which is JSON where the driver has no arrays."""
    return cast("list[Any]", msgspec.json.decode(cell) if isinstance(cell, str) else cell or [])


def _percentile(values_ns: Sequence[int], share: float) -> float | None:
    """Return the percentile of sorted nanoseconds by linear interpolation; None without values.

    Same as SQL's `percentile_cont` and NumPy's default.
    """
    if not values_ns:
        return None
    position = (len(values_ns) - 1) * share
    low = int(position)
    high = min(low + 1, len(values_ns) - 1)
    return values_ns[low] + (values_ns[high] - values_ns[low]) * (position - low)


def _group(dialect: Dialect, by: str, number: int) -> str:
    """Return the SQL expression to group calls `c` of sessions `s` by; `number` is the index of the grouping."""
    columns = {
        "model": MODEL,
        "provider": "c.provider",
        "session": "c.session_id",
        TIMESTEP: "c.timestep_id",
        "day": f"substr({dialect.minute}, 1, 10)",
        "hour": f"substr({dialect.minute}, 1, 13) || ':00Z'",
        "minute": dialect.minute,
        "user": "coalesce(c.user_id, s.user_id)",
        "name": "coalesce(c.session_name, s.name)",
        "experiment": "s.experiment",
    }
    if by in columns:
        return columns[by]
    return f"label{number}.value"


def _labels(dialect: Dialect, by: str, number: int) -> str:
    """Return the join of calls with their labels for a metadata key; a call without one has its session's."""
    key = by.removeprefix(META)
    own, of_session = (dialect.label_at.format(at=f"{row}.metadata, :{_BY}{number}") for row in "cs")
    if key in COLUMNS:
        # The column of a list is its JSON, as a text may be. A user may be only in the request.
        text = dialect.label_in.format(column=f"c.{key}")
        own = f"CASE WHEN c.{key} LIKE '[%' THEN coalesce({own}, {text}) WHEN c.{key} IS NOT NULL THEN {text} END"
    return dialect.labels.format(label=f"coalesce({own}, {of_session})", name=f"label{number}")


def labels_of_sessions(database: Database, key: str, where: str, values: Values) -> dict[str, list[str]]:
    """Return the values of a metadata key in the calls `c` that match a condition, sorted, by id of the session."""
    by = [f"{META}{key}"]
    source = _source(database.dialect, "calls c", by, [])
    sql = f"SELECT DISTINCT c.session_id, label0.value FROM {source} WHERE {where} AND label0.value IS NOT NULL"
    labels: dict[str, list[str]] = defaultdict(list)
    for session_id, value in sorted(database.tuples(sql, {**values, f"{_BY}0": key})):
        labels[session_id].append(value)
    return labels


def _keyed(keys: Sequence[str]) -> str:
    """Return the select list of the group keys, with columns `group0` and so on."""
    return ", ".join(f"{key} AS group{number}" for number, key in enumerate(keys))


def _source(dialect: Dialect, source: str, groupings: Sequence[str], keys: Sequence[str]) -> str:
    """Return the FROM clause: the source, joined with the sessions `s` and labels of its calls if groupings need them.

    A call is in the group of each of its labels, as a session is.
    """
    labels = [_labels(dialect, by, number) for number, by in enumerate(groupings) if by.startswith(META)]
    return " ".join([source, *([_SESSIONS] if labels or any(map(_OF_SESSION.search, keys)) else []), *labels])
