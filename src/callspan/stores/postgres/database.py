"""Database in Postgres: its tables, which any number of writers may share, its SQL dialect and its errors.

A pooler in transaction mode, such as PgBouncer, may run each transaction in another session of the server. So nothing
here outlives a transaction: settings are `SET LOCAL`, locks and temporary tables end with the transaction, and no
statement is prepared. A lock that is held longer has a connection and an open transaction of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import cache
from math import ceil
from typing import Any, Final

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from psycopg.types.string import TextLoader

from callspan.record.events import Record
from callspan.runtime.safe_urls import error_text, safe_name
from callspan.spool.delivering import NoFreeConnectionError
from callspan.stores.base import StoreError, check_layout, explained, on_error, quiet
from callspan.stores.query.rewards import needs_join
from callspan.stores.schema import statements, types_of
from callspan.stores.tables import bodies
from callspan.stores.tables.contents import ContentNumbers, NewContent, pieces_of, run_end
from callspan.stores.tables.database import Dialect, SqlDatabase, Values, bound
from callspan.stores.tables.facts import Table
from callspan.stores.tables.payloads import PreparedCall
from callspan.stores.tables.rows import Row
from callspan.stores.tables.scores import ARITHMETIC, CALLS_ABOVE, OWN, SESSIONS_ABOVE, definitions

_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z_0-9]*)")
_LOCK: Final = 0x43535031
_REMOVAL_LOCK: Final = 0x43535032
"""Key of the advisory lock that writers share and a deletion holds exclusively."""
_SETTINGS: Final = "SET LOCAL jit = off"
"""Settings of each transaction. JIT compilation takes longer than these queries."""
_CONNECT: Final = {
    "connect_timeout": "10",
    # Detect a dead connection within a minute instead of the system's hours.
    "keepalives_idle": "15",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "45000",
}
_ADVICE: Final[dict[type[psycopg.Error], str]] = {
    psycopg.errors.UndefinedTable: "restore it from a backup, or create it: python -m callspan.stores.schema postgres",
    psycopg.errors.InvalidSchemaName: "create the schema of the search_path: CREATE SCHEMA",
    psycopg.errors.DuplicateTable: "name a schema without tables of others: ?options=-csearch_path%3Dmy_schema",
    psycopg.errors.ReadOnlySqlTransaction: "is it a standby, or default_transaction_read_only on?",
    psycopg.errors.InsufficientPrivilege: "grant the right to this user",
    psycopg.errors.LockNotAvailable: "locked by another process; end that one, or wait for it",
    psycopg.errors.DiskFull: "make room on the server's disk",
}
_UTF8: Final = "UTF8"
_NONE_FREE: Final = re.compile("too many clients|too many connections|remaining connection slots|no more connections")
"""In English, as of most servers; with a message in another language it is a failure as any other."""
_NO_DATABASE: Final = re.compile(r'database "[^"]*" does not exist')

_NO_WRITER: Final = f"SELECT pg_advisory_xact_lock({_REMOVAL_LOCK})"
"""Waits for writers, which first take the same lock shared, and for other deletions."""
_SHARED: Final = f"SELECT pg_advisory_xact_lock_shared({_REMOVAL_LOCK})"
_CONNECTIONS: Final = """
WITH server AS (SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                       AS most)
SELECT count(*) FILTER (WHERE a.datname = d.datname OR d.datconnlimit < 0),
       CASE WHEN d.datconnlimit < 0 THEN s.most ELSE least(d.datconnlimit, s.most) END
  FROM pg_database d, server s, pg_stat_activity a
 WHERE d.datname = current_database() AND a.backend_type = 'client backend'
 GROUP BY d.datconnlimit, s.most"""
# Not `to_regclass`: within a transaction it may not see what another process has created since the first answer.
_LAYOUT: Final = "SELECT 1 FROM pg_class WHERE relname = 'callspan_layout' AND pg_table_is_visible(oid)"
# Locks belong to the database, which may have a store in each of several schemas.
_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(hashtextextended(concat(current_schema(), ' ', %s::text), 0))"
_BEHIND_ALL: Final = 2**63 - 1
_JSON: Final = ("json", "jsonb")
_CONTENTS: Final = """
INSERT INTO contents (owner, n, hash, role, text, reasoning, data)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[], %b::text[], %b::text[], %b::text[], %b::bytea[])"""
_FOLDED: Final = (
    (0xB5, 0x588),
    (0x13F8, 0x13FE),
    (0x1C80, 0x1C89),
    (0x1E96, 0x1FFD),
    (0xAB70, 0xABC0),
    (0xFB00, 0xFB18),
)
"""Where Unicode has lower-case characters that `str.casefold` changes."""


def _contains() -> str:
    """Return the condition that a text has a part as `str.casefold` sees it, for any collation of the database."""
    folds = {
        char: fold
        for first, end in _FOLDED
        for char in map(chr, range(first, end))
        if (fold := char.casefold()) != char == char.lower()
    }
    single, several = (
        {char: fold for char, fold in folds.items() if (len(fold) > 1) is more} for more in (False, True)
    )
    lower = """lower({text} COLLATE "und-x-icu")"""
    folded = f"translate({lower}, '{''.join(single)}', '{''.join(single.values())}')"
    longer = folded
    for char, fold in several.items():
        longer = f"replace({longer}, '{char}', '{fold}')"
    return f"""CASE WHEN octet_length({{text}}) = length({{text}})
    THEN position({{part}} in lower({{text}} COLLATE "C"))
  WHEN {lower} ~ '[{"".join(several)}]' THEN position({{part}} in {longer})
  ELSE position({{part}} in {folded}) END > 0"""


POSTGRES: Final = Dialect(
    minute="""to_char(to_timestamp(c.start_ns / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')""",
    cost="""coalesce((c.cost_picousd - c.cost_picousd % 1000000) / 1000000,
      CAST(trunc(CASE WHEN c.cost_usd > 9e12 THEN 9e18 ELSE nullif(c.cost_usd, 'NaN') * 1e6 END) AS bigint))""",
    cost_rest="""coalesce(c.cost_picousd % 1000000, CASE WHEN abs(nullif(c.cost_usd, 'NaN')) < 9e6
      THEN CAST(mod(trunc(c.cost_usd * 1e12), 1000000) AS bigint) ELSE 0 END)""",
    array="json_agg({values})",
    percentiles="percentile_cont(CAST(ARRAY[0.5, 0.95] AS double precision[])) WITHIN GROUP (ORDER BY {values})",
    items="SELECT json_array_elements_text(CAST(:items AS json))",
    contains=_contains(),
    # A list, because `OR` with a subquery uses no index.
    in_sessions="c.session_id = ANY(ARRAY(SELECT s.session_id FROM sessions s WHERE {condition}))",
    # Goes from texts to calls: a condition on calls would search the texts again for each call.
    has_message="""c.call_id IN (
  WITH hit AS MATERIALIZED (
    SELECT t.owner, array_agg(t.n) AS numbers FROM contents t WHERE t.role IS NOT NULL AND {contains} GROUP BY t.owner)
  SELECT k.call_id FROM hit h JOIN calls k ON k.call_id = substr(h.owner, 3) AND k.owner IS NULL
     AND h.owner >= 'c:' AND h.owner < 'c;'
  UNION ALL SELECT k.call_id FROM hit h
    JOIN calls k ON k.session_id = substr(h.owner, 3) AND k.owner IS NULL AND h.owner >= 's:'
   WHERE EXISTS (SELECT FROM jsonb_array_elements(k.contents) r, unnest(h.numbers) i
                  WHERE i BETWEEN (r ->> 1)::bigint AND (r ->> 2)::bigint)
  UNION ALL SELECT k.call_id FROM hit h JOIN calls k ON k.owner = h.owner
   WHERE EXISTS (SELECT FROM jsonb_array_elements(k.contents) r, unnest(h.numbers) i
                  WHERE i BETWEEN (r ->> 1)::bigint AND (r ->> 2)::bigint))""",
    is_deflated=False,
    has="""CASE json_typeof(callspan_value({at})) WHEN 'object' THEN false
  WHEN 'array' THEN EXISTS (SELECT 1 FROM json_array_elements(callspan_value({at})) e
    WHERE e #>> ARRAY[]::text[] = {value})
  ELSE callspan_value({at}) #>> ARRAY[]::text[] = {value} END""",
    label_at="CASE json_typeof(callspan_value({at})) WHEN 'object' THEN NULL ELSE callspan_value({at}) END",
    label_in="to_json({column})",
    # Lists are rare: only these are searched for equal values.
    labels="""LEFT JOIN LATERAL (
  SELECT unnest(CASE json_typeof(l.label) WHEN 'array' THEN ARRAY(
      SELECT DISTINCT e #>> ARRAY[]::text[] FROM json_array_elements(l.label) e
       WHERE json_typeof(e) NOT IN ('null', 'object', 'array'))
    ELSE ARRAY[l.label #>> ARRAY[]::text[]] END) AS value FROM (SELECT {label} AS label OFFSET 0) l) {name} ON true""",
    arithmetic=ARITHMETIC["postgres"],
    # Not `IN`: lists that exceed `work_mem` would be searched once for each call.
    has_score=f"""(EXISTS ({CALLS_ABOVE} AND x.call_id = c.call_id)
      OR (EXISTS ({SESSIONS_ABOVE} AND x.session_id = c.session_id) AND NOT EXISTS ({OWN})))""",
    in_scored="EXISTS ({sessions} AND x.session_id = c.session_id)",
    scores=definitions("postgres"),
    keys="""SELECT CAST(k AS bigint) FROM json_array_elements_text(CAST(:keys AS json)) k
   WHERE EXISTS (SELECT FROM joints j WHERE j.key = CAST(k AS bigint))""",
    joints="""SELECT j.key, j.call_id, j.proof FROM json_array_elements_text(CAST(:keys AS json)) k
  CROSS JOIN LATERAL (SELECT x.key, x.call_id, x.proof FROM joints x WHERE x.key = CAST(k AS bigint)
     ORDER BY x.call_id DESC LIMIT :most) j""",
    offers="""SELECT c.offer, c.call_id FROM json_array_elements_text(CAST(:keys AS json)) k
  CROSS JOIN LATERAL (SELECT x.offer, x.call_id FROM calls x WHERE x.offer = CAST(k AS bigint) LIMIT :most) c""",
    unended="",
    began="",
    few_calls=20_000,
    of_sessions="",
    scores_of_sessions="",
    of_calls="",
    session_rewards="rewards",
    recursive_union="UNION",
    temporary="CREATE TEMP TABLE {name} (id text PRIMARY KEY) ON COMMIT DROP",
)


class PostgresDatabase(SqlDatabase):
    """The `SqlDatabase` of a server."""

    dialect = POSTGRES
    rejects = (
        psycopg.DataError, psycopg.IntegrityError,
        *(psycopg.errors.lookup(code) for code in ("54000", "54001", "54011", "54023")),
    )  # fmt: skip
    # Out of memory, which locks take too; an allocation above 1 GB, which has no code of its own; `statement_timeout`.
    suspects = tuple(psycopg.errors.lookup(code) for code in ("53200", "XX000", "57014"))
    remedy = "restore it from a backup"

    def __init__(self, url: str, connection: psycopg.Connection, settings: bytes) -> None:
        """Takes ownership of the connection. `settings`: the SQL that begins each transaction."""
        self.name = safe_name(url)
        self.connection: psycopg.Connection = connection
        self._url, self._settings = url, settings
        self._locks: list[psycopg.Connection] = []

    @classmethod
    def open(
        cls,
        url: str,
        *,
        writes: bool = False,
        creates: bool = False,
        syncs: bool = False,
        wait_s: float | None = None,
    ) -> PostgresDatabase:
        """Connect; `creates`: create missing tables. `wait_s`: timeout of the connection and of each query.

        Raises StoreError for a database without callspan's tables, else psycopg.Error.
        """
        del syncs  # the server is configured for that
        name, settings = safe_name(url), _settings(wait_s)
        with explaining(name):
            connection = connect(url, wait_s)
        with on_error(connection.close), explaining(name):
            if (encoding := connection.info.parameter_status("server_encoding")) != _UTF8:
                raise StoreError(f"{name}: its encoding is {encoding}; name a database with the encoding {_UTF8}")
            connection.adapters.register_loader("json", TextLoader)
            if writes:
                # Rows of a writer must be visible after waiting for it.
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            else:
                connection.read_only = True
            database = cls(url, connection, settings)
            if creates and not database.layout():
                database.make_tables()
            check_layout(name, database.layout())
        return database

    def layout(self) -> int:
        """Return the format of the tables; 0 without tables."""
        if next(self.tuples(_LAYOUT), None) is None:
            return 0
        return next((int(version) for (version,) in self.tuples("SELECT version FROM callspan_layout")), 0)

    def make_tables(self) -> None:
        """Create the tables unless they exist, in one transaction, one process at a time."""
        with self.transaction():
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if not self.layout():
                for statement in statements("postgres"):
                    self.connection.execute(statement.encode())

    def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Run a statement once for each of these rows of parameters."""
        with self._explaining(), self._in_transaction(), self.connection.cursor() as cursor:
            cursor.executemany(to_query(sql), [*map(bound, rows)])

    @contextmanager
    def transaction(self, *, exclusive: bool = False) -> Iterator[None]:
        """Commit the block's writes, or roll them back if it raises. `exclusive`: deliveries wait until its end."""
        with self._in_transaction():
            if exclusive:
                self.run(_NO_WRITER)
            yield

    @contextmanager
    def _in_transaction(self) -> Iterator[None]:
        """Run the block in a transaction with the settings; inside another transaction, as a part of it."""
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            yield
            return
        with self.connection.transaction():
            self.connection.execute(self._settings)
            yield

    def try_lock(self, name: str) -> bool:
        """Take an advisory lock until the connection is closed; return False if another process holds it."""
        with self._explaining():
            connection = connect(self._url)
            self._locks.append(connection)
            connection.autocommit = False  # the first statement begins the transaction that holds the lock
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            return bool(next(connection.execute(_TRY_LOCK, (name,)))[0])

    def close(self) -> None:
        """Close the connection and release its locks."""
        super().close()
        while self._locks:
            with closing(self._locks.pop()) as lock, suppress(psycopg.Error):
                lock.rollback()  # a pooler notices only later that a client is gone

    def version(self) -> str:
        """Return a text that changes with every write, also to other tables of the server."""
        return str(next(self.tuples("SELECT CAST(txid_current_snapshot() AS text)"))[0])

    def connections(self) -> str:
        """Return how many connections are in use, of those that ordinary users may have in this database."""
        in_use, limit = next(self.tuples(_CONNECTIONS))
        return f"{in_use} of {limit} connections are in use"

    def finish(self, *, vacuum: bool = False) -> None:
        """Do nothing: the server reclaims the space."""
        del vacuum

    @contextmanager
    def delivery(self, records: Sequence[Record]) -> Iterator[None]:
        """Return the transaction of a delivery, which excludes deletions, so that it sees the erased ids."""
        with self._explaining(), self.transaction():
            # A reward without a session also excludes other deliveries, which may write its target.
            self.run(_NO_WRITER if any(map(needs_join, records)) else _SHARED)
            yield

    def lock(self, names: Iterable[str]) -> None:
        """Hold these names until the transaction ends; other writers of one of them wait."""
        if sorted_names := sorted(set(names)):
            sql = "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) name"
            self.connection.execute(sql, (sorted_names,))

    def numbers(self, calls: Sequence[PreparedCall]) -> Mapping[str, ContentNumbers]:
        """Return the numbers of contents by owner of these calls."""
        cursor = self.connection.cursor()
        numbers_by_owner: dict[str, dict[bytes, int]] = {call.owner: {} for call in calls}
        keys = [*{(call.owner, part.hash) for call in calls for part in pieces_of(call)}]
        sql = (
            "SELECT t.owner, t.hash, t.n FROM unnest(%s::text[], %s::bytea[]) AS w(owner, hash)"
            " JOIN contents t ON t.owner = w.owner AND t.hash = w.hash"
        )
        cursor.execute(sql, ([owner for owner, _ in keys], [digest for _, digest in keys]))
        for owner, digest, number in cursor:
            numbers_by_owner[owner][bytes(digest)] = number
        ends = {(owner, run_end(n)) for owner, by_hash in numbers_by_owner.items() for n in by_hash.values() if n > 0}
        ends |= {(owner, _BEHIND_ALL) for owner in numbers_by_owner}
        sql = """
            SELECT owner, (SELECT max(n) FROM contents t WHERE t.owner = w.owner AND n < w.run_end)
              FROM unnest(%s::text[], %s::bigint[]) AS w(owner, run_end)
            UNION SELECT owner, (SELECT min(n) FROM contents t WHERE t.owner = w.owner)
              FROM unnest(%s::text[]) AS w(owner)
            ORDER BY 2"""
        cursor.execute(sql.encode(), ([owner for owner, _ in ends], [end for _, end in ends], [*numbers_by_owner]))
        bounds: defaultdict[str, list[int]] = defaultdict(list)
        for owner, number in cursor:
            bounds[owner] += [] if number is None else [number]
        return {owner: ContentNumbers(by_hash, bounds[owner]) for owner, by_hash in numbers_by_owner.items()}

    def add_contents(self, new: Sequence[NewContent]) -> None:
        """Insert contents."""
        cells = [(owner, number, part.hash, *bodies.to_row(part)) for owner, number, part in new]
        if cells:
            self.connection.execute(_CONTENTS, [*map(list, zip(*cells, strict=True))])

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert all rows, as JSON, by one statement. One statement per row costs several times as much."""
        if rows:
            self.connection.execute(_insert(table), (msgspec.json.encode(rows).decode(),))

    def _execute(self, sql: str, values: dict[str, Any], *, by_name: bool = False) -> Any:
        rows: Any = dict_row if by_name else tuple_row
        with self._in_transaction():
            return self.connection.cursor(row_factory=rows).execute(to_query(sql), values)

    def _explaining(self) -> AbstractContextManager[None]:
        return explaining(self.name)


def connect(url: str, wait_s: float | None = None) -> psycopg.Connection:
    """Return a connection in autocommit mode. Parameters of the URL override the defaults. Raises psycopg.Error.

    `wait_s` is the timeout of the connection in seconds.
    """
    quiet("psycopg")
    parameters = _CONNECT | conninfo_to_dict(url)
    if wait_s is None:
        return _connect(parameters)
    within_ms = str(_milliseconds(wait_s))
    return _connect(parameters | {"connect_timeout": str(ceil(wait_s)), "tcp_user_timeout": within_ms})


def _settings(wait_s: float | None) -> bytes:
    """Return the SQL of the settings of each transaction."""
    if wait_s is None:
        return _SETTINGS.encode()
    within_ms = _milliseconds(wait_s)
    limits = f"SET LOCAL statement_timeout = {within_ms}; SET LOCAL lock_timeout = {max(1, within_ms // 2)}"
    return f"{_SETTINGS}; {limits}".encode()


def _milliseconds(wait_s: float) -> int:
    return max(1, int(wait_s * 1000))


class _NoFreeConnectionError(NoFreeConnectionError, psycopg.OperationalError):
    """An error of Postgres that says so."""


def _connect(parameters: Mapping[str, Any]) -> psycopg.Connection:
    # The server or the environment may name an encoding that lacks characters of records.
    options = {**parameters, "client_encoding": _UTF8}
    try:
        return psycopg.connect(
            make_conninfo("", **options), autocommit=True, prepare_threshold=None, application_name="callspan"
        )
    except psycopg.OperationalError as error:
        # What the server answers to a connection has no code.
        if _NONE_FREE.search(str(error)):
            raise _NoFreeConnectionError(*error.args) from error
        raise


def to_query(sql: str) -> bytes:
    """Return the query with its `:name` parameters in psycopg's syntax."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


def explaining(name: str) -> AbstractContextManager[None]:
    """Return a context manager that replaces known Postgres errors by a StoreError with advice."""
    return explained(name, psycopg.Error, _advice)


def _advice(error: psycopg.Error) -> str | None:
    message = (error.diag.message_primary or next(iter(error_text(error).splitlines()), "")).strip()
    if no_database := _NO_DATABASE.search(message):
        return f"{no_database[0]}; create it (CREATE DATABASE), or name another one"
    advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), None)
    return None if advice is None else f"{message}; {advice}"


@cache
def _insert(table: Table) -> bytes:
    """Return the statement that inserts rows given as JSON."""
    types = types_of("postgres", table)
    # JSON columns are passed as text within the JSON, so that they are not parsed twice.
    columns = ", ".join(f"{name} {'text' if kind in _JSON else kind}" for name, kind in types.items())
    cells = ", ".join(f"{name}::{kind}" if kind in _JSON else name for name, kind in types.items())
    sql = f"INSERT INTO {table.name} ({', '.join(types)}) SELECT {cells} FROM json_to_recordset(%s) AS item({columns})"  # noqa: S608
    return f"{sql} ON CONFLICT DO NOTHING".encode()
