"""Database in ClickHouse: its tables and views, its SQL dialect and its errors."""

# ruff: noqa: S608 - only our own names, numbers and conditions are put into SQL; values are parameters

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import ceil
from typing import Any, Final, cast

import msgspec
from clickhouse_connect.driver import create_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from callspan.runtime.safe_urls import safe_name
from callspan.stores.base import check_layout, explained, on_error, quiet
from callspan.stores.schema import statements
from callspan.stores.tables import bodies
from callspan.stores.tables.clickhouse_views import ARITHMETIC, OF_CALLS, OF_SESSIONS, SCORES_OF_SESSIONS, UNENDED
from callspan.stores.tables.contents import ranges_in
from callspan.stores.tables.database import NO_VALUES, Database, Dialect, Values, bound
from callspan.stores.tables.facts import REFERENCES
from callspan.stores.tables.payloads import owner_of
from callspan.stores.tables.scores import CALLS_ABOVE, SESSIONS_ABOVE

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_CONNECT_S: Final = 10
_ANSWER_S: Final = 60
CODE: Final = re.compile(r"[Cc]ode: (\d+)")
_ERRNO: Final = re.compile(r"(?:\[Errno -?\d+\] |Error\(\d+, ')([A-Z][\w ]+)")
_ADVICE: Final = {
    60: "a table was dropped: restore it from a backup, or create it: python -m callspan.stores.schema clickhouse",
    81: "the database does not exist (dropped?); create it: CREATE DATABASE",
    164: "this user, or the server, is read-only",
    242: "the table is read-only; has the server lost its Keeper?",
    243: "the server's disk is full; make room",
    497: "grant the right to this user",
    516: "user or password is wrong",
}
"""Advice by error code."""
_NEVER_NS: Final = 4 * 10**18
_TIMES: Final = {
    "call_versions": "start_ns",
    "call_contents": "start_ns",
    "content_versions": "start_ns",
    "session_versions": "seen_ns",
    "timestep_versions": "seen_ns",
    "event_versions": "time_ns",
    "message_versions": "time_ns",
    "reward_versions": "time_ns",
}
"""The column of a row's age, by table."""
_TTL: Final = (
    "ALTER TABLE {table} MODIFY TTL toDateTime(intDiv(ifNull({time}, {never}), 1000000000)) + INTERVAL {days} DAY"
)
_MONTHLY, _DAILY = "toYYYYMM(", "toYYYYMMDD("
_DAYS_OF_MONTHS: Final = 90
"""From so many days on, rows expire by whole months, otherwise by whole days."""
_SETTINGS: Final[Mapping[str, object]] = {
    "join_use_nulls": 1,
    "cast_keep_nullable": 1,
    "aggregate_functions_null_for_empty": 1,
    "union_default_mode": "DISTINCT",
    "prefer_column_name_to_alias": 1,
    # The versions of a call start in the same month, because they have the same start.
    "do_not_merge_across_partitions_select_final": 1,
    "use_skip_indexes_if_final": 1,
    "use_skip_indexes_if_final_exact_mode": 1,
}
"""Settings by which queries mean what they mean in SQLite and Postgres, and by which they skip granules."""
_CONTENTS_AT_ONCE: Final = 4_000
"""Fewer numbers than fit into a query of 256 KB."""
_STORED_CONTENTS: Final = """
SELECT owner, n, unhex(hash) AS hash, role, data, text, reasoning FROM content_versions FINAL WHERE {conditions}"""
"""Contents that are current, so that the view, which looks for replaced ones, is not needed."""
_HASHES_AT_ONCE: Final = 2_000
_CHARACTERS: Final = 32_000
"""Of one parameter: at most 128 KB, which is all that a server takes (`http_max_field_value_size`)."""
_REMEMBER: Final = """INSERT INTO erased_ids SELECT unhex(pair.1), pair.2
  FROM (SELECT arrayJoin(JSONExtract(:pairs, 'Array(Tuple(String, Int64))')) AS pair)"""
_FORGOTTEN: Final = "hex(id) IN (SELECT upper(arrayJoin(JSONExtract(:hashes, 'Array(String)'))))"
_BYTES: Final[dict[str, str | dict[str, str]]] = {"hash": "bytes", "data": "bytes", "id": "bytes"}
"""Columns that are read as bytes."""
_REFERENCES: Final = """
SELECT owner, call_id, version, request, output, contents FROM call_contents
 WHERE (owner, call_id, version) IN ({keys}) LIMIT 1 BY owner, call_id, version"""
CLICKHOUSE: Final = Dialect(
    minute="formatDateTime(fromUnixTimestamp64Nano(c.start_ns, 'UTC'), '%Y-%m-%dT%H:%iZ')",
    cost="coalesce(intDiv(c.cost_picousd, 1000000), toInt64OrNull(toString(trunc(toFloat64OrNull(c.cost_usd) * 1e6))))",
    cost_rest="""coalesce(c.cost_picousd % 1000000,
      if(abs(toFloat64OrNull(c.cost_usd)) < 9e6, toInt64(trunc(toFloat64OrZero(c.cost_usd) * 1e12)) % 1000000, 0))""",
    array="groupArray({values})",
    percentiles="quantilesExactInclusive(0.5, 0.95)({values})",
    items="SELECT arrayJoin(JSONExtract(:items, 'Array(String)'))",
    contains="position(caseFoldUTF8({text}), {part}) > 0",
    in_sessions="c.session_id IN (SELECT s.session_id FROM sessions s WHERE {condition})",
    has_message="""(c.call_id, c.version) IN (
  WITH hit AS (SELECT t.owner AS owner, groupArray(t.n) AS numbers FROM content_versions t FINAL
    WHERE t.role IS NOT NULL AND {contains} GROUP BY t.owner)
  SELECT k.call_id, k.version FROM call_contents k JOIN hit ON hit.owner = k.owner
   WHERE k.owner IN (SELECT owner FROM hit) AND hasAny(arrayMap(r -> r.2, k.contents), hit.numbers))""",
    is_deflated=False,
    has="callspan_has({at}, {value})",
    label_at="if(startsWith(ifNull(callspan_value({at}), '{{'), '{{'), NULL, callspan_value({at}))",
    label_in="toJSONString({column})",
    labels="LEFT ARRAY JOIN callspan_labels({label}) AS `{name}.value`",
    arithmetic=ARITHMETIC,
    has_score=f"""(c.call_id IN ({CALLS_ABOVE}) OR (c.session_id IN ({SESSIONS_ABOVE})
      AND c.call_id NOT IN (SELECT o.call_id FROM call_scores o WHERE o.objective = {{objective}})))""",
    in_scored="coalesce(c.session_id IN ({sessions}), false)",
    scores={},
    keys="",
    joints="",
    offers="",
    unended=f" AND x.session_id IN ({UNENDED})",
    began=" AND s.session_id IN (SELECT v.session_id FROM session_versions v WHERE v.start_ns >= :since_ns)",
    few_calls=None,
    of_sessions=OF_SESSIONS,
    scores_of_sessions=SCORES_OF_SESSIONS,
    of_calls=OF_CALLS,
    session_rewards="session_rewards",
    recursive_union="UNION ALL",
    temporary="",
)


class ClickHouseDatabase(Database):
    """The `Database` of a server, or of the embedded engine. It has no transactions."""

    dialect = CLICKHOUSE
    remedy = "restore it from a backup"
    connection: Client

    def __init__(self, url: str, client: Client) -> None:
        """Takes ownership of the client."""
        self.name = safe_name(url)
        self.connection = client
        self._contents: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        """The hash and the JSON of the contents of the calls that were read last, by owner and number."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        writes: bool = False,
        creates: bool = False,
        syncs: bool = False,
        wait_s: float | None = None,
        retain_days: float | None = None,
    ) -> ClickHouseDatabase:
        """Connect; `creates`: create missing tables, whose rows expire after `retain_days` days.

        `wait_s`: see `connect`. Raises StoreError for other formats, else the driver's errors.
        """
        del writes, syncs  # any user may do what it has the right to, and the server is configured for the other
        name = safe_name(url)
        with explaining(name):
            client = connect(url, wait_s)
        with on_error(client.close), explaining(name):
            version = layout(client)
            if creates and not version:
                _make_tables(client, retain_days)
                version = layout(client)
            check_layout(name, version)
        return cls(url, client)

    def with_references(self, calls: Sequence[Values]) -> list[Values]:
        """Return rows of calls with their references, which are in a table of their own."""
        keys = [
            (owner_of(str(row["call_id"]), _text(row["session_id"])), row["call_id"], row["version"]) for row in calls
        ]
        values: dict[str, object] = {}
        for number, (owner, call_id, version) in enumerate(keys):
            values |= {f"owner{number}": owner, f"call{number}": call_id, f"version{number}": str(version)}
        listed = ", ".join(
            f"(:owner{number}, :call{number}, toUInt128(:version{number}))" for number, _ in enumerate(keys)
        )
        found = self.tuples(_REFERENCES.format(keys=listed), values) if keys else []
        references = {row[:3]: row[3:] for row in found}
        self._read_ahead({(key[0], number) for key, cells in references.items() for number in _numbers(*cells)})
        columns = (dict(zip(REFERENCES, references.get(key, _NO_REFERENCES), strict=True)) for key in keys)
        return [{**row, **cells} for row, cells in zip(calls, columns, strict=True)]

    def contents(self, owner: str, ranges: Sequence[tuple[int, int]]) -> Mapping[int, tuple[bytes, bytes]]:
        """Return the hash and the exact JSON of an owner's contents in these ranges, by number.

        They were read with the references: a query for each call would take a hundredth of a second of CPU.
        """
        keys = [(owner, number) for number, _ in ranges]
        return {key[1]: self._contents[key] for key in keys if key in self._contents}

    def _read_ahead(self, keys: Collection[tuple[str, int]]) -> None:
        """Read the contents of these owners and numbers; forget those before."""
        self._contents.clear()
        ordered = sorted(keys)
        for start in range(0, len(ordered), _CONTENTS_AT_ONCE):
            by_owner: dict[str, list[str]] = defaultdict(list)
            for owner, number in ordered[start : start + _CONTENTS_AT_ONCE]:
                by_owner[owner].append(str(number))
            owners = {f"owner{index}": owner for index, owner in enumerate(by_owner)}
            conditions = (
                f"(owner = :{name} AND n IN ({', '.join(by_owner[owner])}))" for name, owner in owners.items()
            )
            for row in self.rows(_STORED_CONTENTS.format(conditions=" OR ".join(conditions)), owners):
                key = str(row["owner"]), cast("int", row["n"])
                self._contents[key] = cast("bytes", row["hash"]), bodies.json_of(row, is_deflated=False)

    def version(self) -> str:
        """Return a text that changes with every insert."""
        sql = "SELECT max(modification_time), count(), sum(rows) FROM system.parts WHERE database = currentDatabase()"
        return str(next(self.tuples(sql)))

    def insert_selected(self, statement: str, values: Values) -> None:
        """Run an INSERT of rows that it selects."""
        self._command(statement, values)

    def delete(self, table: str, condition: str, values: Values = NO_VALUES) -> None:
        """Delete rows: from what is read at once, from the disk when the server merges their parts."""
        self._command(f"DELETE FROM {table} WHERE {condition}", values)

    def update(self, table: str, cells: Values, keys: Values) -> None:
        """Change the cells of the rows with these keys, at once and on the disk."""
        sets, where = (
            ", ".join(f"{name} = :{name}" for name in cells),
            " AND ".join(f"{name} = :{name}" for name in keys),
        )
        self._command(f"ALTER TABLE {table} UPDATE {sets} WHERE {where} SETTINGS mutations_sync = 2", {**cells, **keys})

    def remember(self, erased_ns: Mapping[bytes, int]) -> None:
        """Store hashes of erased ids, with the Unix times of the decisions; the latest of a hash stays."""
        pairs = [(digest.hex(), time_ns) for digest, time_ns in sorted(erased_ns.items())]
        for start in range(0, len(pairs), _HASHES_AT_ONCE):
            values = {"pairs": msgspec.json.encode(pairs[start : start + _HASHES_AT_ONCE]).decode()}
            self._command(_REMEMBER, values)

    def forget(self, hashes: Iterable[bytes]) -> None:
        """Delete hashes of erased ids."""
        ordered = sorted(digest.hex() for digest in hashes)
        for start in range(0, len(ordered), _HASHES_AT_ONCE):
            values = {"hashes": msgspec.json.encode(ordered[start : start + _HASHES_AT_ONCE]).decode()}
            if next(self.tuples(f"SELECT 1 FROM erased_ids WHERE {_FORGOTTEN} LIMIT 1", values), None) is not None:
                self.delete("erased_ids", _FORGOTTEN, values)

    def note_deletion(self) -> None:
        """Let every writer know that contents are about to be deleted, see `deletions`."""
        self._command("INSERT INTO content_deletions SELECT 1, 1, generateUUIDv4()")

    def deletions(self) -> int:
        """Return how often contents were deleted."""
        return int(next(self.tuples("SELECT ifNull(sum(number), 0) FROM content_deletions"))[0])

    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> Any:
        sql, parameters = _with_placeholders(sql, values)
        result = self.connection.query(sql, parameters, settings=dict(_SETTINGS), column_formats=_BYTES)
        rows = (tuple(map(_cell, row)) for row in result.result_rows)
        return (dict(zip(result.column_names, row, strict=True)) for row in rows) if by_name else rows

    def _command(self, sql: str, values: Values = NO_VALUES) -> None:
        with self._explaining():
            sql, parameters = _with_placeholders(sql, bound(values))
            self.connection.command(sql, parameters)

    def _explaining(self) -> AbstractContextManager[None]:
        return explaining(self.name)


_NO_REFERENCES: Final = (None, None, None)


def _numbers(request: int | None, output: int | None, contents: object) -> Iterator[int]:
    """Yield the numbers of the contents that a call refers to."""
    yield from (number for number in (request, output) if number is not None)
    yield from (first for _, first, _ in ranges_in(contents))


def _text(cell: object) -> str | None:
    return None if cell is None else str(cell)


def _with_placeholders(sql: str, values: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Return a statement with the driver's placeholders, and the parameters that it names, long texts in pieces."""
    pieces = {name: _pieces(name, values[name]) for name in {match[1] for match in _PARAMETER.finditer(sql)}}
    sql = _PARAMETER.sub(lambda match: _placeholder(values[match[1]], [*pieces[match[1]]]), sql)
    return sql, {name: piece for of_value in pieces.values() for name, piece in of_value.items()}


def _pieces(name: str, value: object) -> dict[str, object]:
    """Return the parameters that have a value."""
    text = value.hex() if isinstance(value, bytes) else value
    if not isinstance(text, str) or len(text) <= _CHARACTERS:
        return {name: text}
    return {f"{name}_{start}": text[start : start + _CHARACTERS] for start in range(0, len(text), _CHARACTERS)}


def _placeholder(value: object, names: Sequence[str]) -> str:
    kinds = {bool: "Bool", int: "Int64", float: "Float64", type(None): "Nullable(String)"}
    pieces = ", ".join(f"{{{name}:{kinds.get(type(value), 'String')}}}" for name in names)
    text = f"concat({pieces})" if len(names) > 1 else pieces
    return f"unhex({text})" if isinstance(value, bytes) else text


def _cell(value: object) -> object:
    """Return a list as JSON, as other databases do."""
    return msgspec.json.encode(value).decode() if isinstance(value, list) else value


def connect(url: str, wait_s: float | None = None) -> Client:
    """Return a client for a store's URL; `clickhouse+chdb:///directory` is the embedded server.

    `wait_s` is the timeout of the connection and of each answer in seconds. Raises the driver's errors if it cannot be
    reached.
    """
    dsn = url.partition("+")[2] if url.lower().startswith("clickhouse+") else url
    if dsn.startswith("chdb:"):
        return create_client(dsn=dsn)
    quiet("clickhouse_connect", "urllib3")
    return create_client(
        dsn=dsn,
        autogenerate_session_id=False,
        connect_timeout=_CONNECT_S if wait_s is None else ceil(wait_s),
        send_receive_timeout=_ANSWER_S if wait_s is None else ceil(wait_s),
    )


def layout(client: Client) -> int:
    """Return the format of the tables; 0 without tables."""
    if not client.command("EXISTS TABLE callspan_layout"):
        return 0
    return int(str(client.query("SELECT max(version) FROM callspan_layout").result_rows[0][0]))


def _make_tables(client: Client, retain_days: float | None) -> None:
    """Create missing tables. Safe to repeat and to run concurrently."""
    period = _DAILY if retain_days is not None and retain_days < _DAYS_OF_MONTHS else _MONTHLY
    for statement in statements("clickhouse"):
        client.command(statement.replace(f"PARTITION BY {_MONTHLY}", f"PARTITION BY {period}"))
    if retain_days is not None:
        for table, time in _TIMES.items():
            days = max(1, ceil(retain_days))
            client.command(_TTL.format(table=table, time=time, never=_NEVER_NS, days=days))


def explaining(name: str) -> AbstractContextManager[None]:
    """Return a context manager that replaces known ClickHouse errors by a StoreError with advice."""
    return explained(name, ClickHouseError, _advice)


def _advice(error: ClickHouseError) -> str | None:
    """Return advice. Raises OperationalError for network errors, because the HTTP library's text fills a page."""
    code = CODE.search(str(error))
    advice = None if code is None else _ADVICE.get(int(code[1]))
    if advice is None and (errno := _ERRNO.search(str(error))):
        raise OperationalError(errno[1]) from error
    return advice
