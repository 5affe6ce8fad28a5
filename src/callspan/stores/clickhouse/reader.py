"""Reader of ClickHouse. Queries run with `final = 1`, so that each row is its latest version."""

# ruff: noqa: S608 - SQL text holds only constant conditions; values are parameters

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Final, cast

from clickhouse_connect.driver.client import Client

from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.safe_urls import safe_name
from callspan.stores.base import Content, check_layout
from callspan.stores.clickhouse.connection import connect, explaining, layout
from callspan.stores.columns import CALLS, Table
from callspan.stores.filters import CLICKHOUSE
from callspan.stores.sql_reader import ExactCalls, SqlReader
from callspan.stores.sql_rewards import Values

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_SETTINGS: Final = {"final": 1, "cast_keep_nullable": 1}
_AT_ONCE: Final = 500
_BODIES_AT_ONCE: Final = 100
"""Calls whose bodies are in memory together."""
_POINTERS: Final = {"all": ("request", "system", "tools", "output"), "response": ("output",), "none": ()}
"""Columns that refer to contents, by the bodies wanted."""


class ClickHouseReader(SqlReader):
    """Reads through one client. Raises StoreError for a database without callspan's tables."""

    _day = "formatDateTime(fromUnixTimestamp64Nano(c.start_ns, 'UTC'), '%Y-%m-%d')"
    _hour = "formatDateTime(fromUnixTimestamp64Nano(c.start_ns, 'UTC'), '%Y-%m-%dT%H:00Z')"
    _minute = _hour.replace(":00Z", ":%iZ")
    _pico = "sum(toInt128(c.cost_picousd))"
    # Amounts outside the column's range are in `extra`.
    _priced = "count(c.price_v)"
    _inexact = "coalesce(toString(c.cost_usd), nullIf(JSONExtractString(ifNull(c.extra, '{}'), 'cost', 'usd'), ''))"
    _inexact_usd = f"toFloat64OrNull({_inexact})"
    _cost = f"coalesce(c.cost_picousd, toInt64(if({_inexact_usd} > 9e6, 9e18, {_inexact_usd} * 1e12)))"
    _contains = "position(replaceAll(lowerUTF8({text}), 'ß', 'ss'), {part}) > 0"

    _percentile = "quantileExactInclusive({share})({column})"
    _metadata = CLICKHOUSE
    _at_once = 1000  # a server limits the length of each parameter

    def __init__(self, url: str, wait_s: float | None = None) -> None:
        """Connect at once, so that errors show early; `wait_s` is how long that and each answer may take."""
        self.name = safe_name(url)
        with explaining(self.name):
            self._client = connect(url, wait_s)
        self._pieces: dict[str, bytes] = {}
        """Contents of the calls being read."""
        try:
            check_layout(self.name, layout(self._client))
        except BaseException:
            self._client.close()
            raise

    def _rows(self, sql: str, **values: object) -> Iterator[Values]:
        """Yield the rows of a query with `:name` parameters."""
        with explaining(self.name, self._client):
            result = self._client.query(_query(sql, values), parameters=values, settings=_SETTINGS)
        for row in result.result_rows:
            yield dict(zip(result.column_names, map(_plain, row), strict=True))

    def _tuples(self, sql: str, **values: object) -> Iterator[tuple[object, ...]]:
        """Yield the same rows as plain tuples."""
        with explaining(self.name, self._client):
            rows = self._client.query(_query(sql, values), parameters=values, settings=_SETTINGS).result_rows
        yield from cast("Iterable[tuple[object, ...]]", rows)

    def _read(self, ids: Sequence[object], content: Content) -> Iterator[CallRecord]:
        """Yield the calls of these ids in this order; their contents are fetched many at once."""
        rows = {row["call_id"]: row for row in self._rows("SELECT * FROM calls WHERE call_id IN :ids", ids=ids)}
        self._fetch(rows.values(), content)
        for call_id in ids:
            if call_id in rows:  # else deleted meanwhile
                yield self._call_of(rows[call_id], content)
        self._pieces.clear()

    def _request_messages(self, row: Values) -> list[bytes]:
        """Return the exact JSON of each message of a call's request, first one first."""
        hashes = cast("list[str]", row["history"])
        if any(hash_ not in self._pieces for hash_ in hashes):
            self._fetch([row])
        return [self._content("hash", hash_) for hash_ in hashes]

    def _content(self, column: str, value: object) -> bytes:
        """Return the exact JSON of the content of this hash. Raises KeyError if it is gone."""
        key = value.hex() if isinstance(value, bytes) else str(value)
        known = self._pieces.get(key)
        return super()._content(column, key) if known is None else known

    def _text_condition(self, text: str) -> str:
        """Return the condition that a message of call `c` contains the case-folded text, which is `:text`, too."""
        del text
        return f"hasAny(arrayConcat(c.history, [ifNull(c.output, ''), ifNull(c.system, '')]), ({self._hits()}))"

    def _hits(self) -> str:
        return f"SELECT groupUniqArray(hash) FROM ({self._matching()})"

    def _among(self, column: str) -> str:
        """Return the condition that a column has one of the values of `:among`."""
        return f"{column} IN :among"

    def _remembered(self, digest: bytes) -> object:
        """Return a hash as it stands in the table `erased`."""
        return digest.hex()

    def _sharing(self) -> str:
        """Return the query for the calls whose requests hold a message of a user of the calls `:among`."""
        return f"""
            SELECT c.call_id FROM calls c WHERE hasAny(c.history, (
              SELECT groupUniqArray(t.hash) FROM content t WHERE t.role = 'user' AND t.hash IN (
                SELECT arrayJoin(c.history) FROM calls c WHERE {self._among("c.call_id")})))"""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _fetch(self, calls: Iterable[Values], content: Content = "all") -> None:
        """Load all contents that these bodies of the calls consist of."""
        wanted: set[str] = set()
        for row in calls:
            if content == "all":
                wanted.update(cast("list[str]", row["history"]))
            names = _POINTERS[content]
            wanted.update(str(row[name]) for name in names if row[name] is not None)
        hashes = sorted(wanted - self._pieces.keys())
        for start in range(0, len(hashes), _AT_ONCE):
            chosen = hashes[start : start + _AT_ONCE]
            for row in self._rows("SELECT hash, role, text, data FROM content WHERE hash IN :hashes", hashes=chosen):
                self._pieces[str(row["hash"])] = self._json_of(row)


class ClickHouseWritersReader(ClickHouseReader, ExactCalls):
    """Reads over a writer's client, also versions of a call that are to be merged."""

    def __init__(self, name: str, client: Client) -> None:
        """Take the name of the store and its client."""
        self.name, self._client = name, client
        self._pieces = {}

    def versions(self, call_id: str) -> list[CallRecord]:
        """Return what was written of a call, as far as ClickHouse has not replaced it yet."""
        sql = _query("SELECT * FROM calls WHERE call_id = :id", {"id": call_id})
        result = self._client.query(sql, parameters={"id": call_id}, settings={**_SETTINGS, "final": 0})
        names = result.column_names
        return [self._call_of(dict(zip(names, map(_plain, row), strict=True))) for row in result.result_rows]

    def rows_and_records(self, table: Table, sql: str, values: Values) -> Iterator[tuple[Values, Record | None]]:
        """Yield rows with what `keyed_records` yields of each."""
        rows = self._rows(sql, **values)
        while some := list(islice(rows, _BODIES_AT_ONCE)):
            if table is CALLS:
                self._fetch(some)
            for row in some:
                yield row, self._undamaged(table, row)
            self._pieces.clear()


def _query(sql: str, values: Mapping[str, object]) -> str:
    """Return the query with its parameters in ClickHouse's syntax, with their types."""

    def typed(found: re.Match[str]) -> str:
        value = values[found[1]]
        kind = "Array(String)" if isinstance(value, list) else "Int64" if isinstance(value, int) else "String"
        return f"{{{found[1]}:{kind}}}"

    return _PARAMETER.sub(typed, sql)


def _plain(value: object) -> object:
    """Return amounts without the trailing zeros of their column's scale."""
    if not isinstance(value, Decimal):
        return value
    text = format(value, "f")
    return Decimal(text.rstrip("0").rstrip(".") or "0") if "." in text else value
