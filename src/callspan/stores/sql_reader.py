"""SQL reader: the `Reader` of stores that have the tables of `columns`."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import chain, islice, repeat
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from callspan.amounts import EXACT
from callspan.providers.registry import with_conversation
from callspan.record.call import CallRecord
from callspan.record.events import (
    RECORD_TYPES,
    EventRecord,
    Record,
    SessionRecord,
    TimestepRecord,
    start_id,
)
from callspan.stores import aggregates, bodies, filters
from callspan.stores.aggregates import Latencies
from callspan.stores.base import (
    MOST_CALLS,
    CallFilter,
    CallIds,
    Content,
    History,
    SessionFilter,
    SessionSummary,
    Stored,
    StoredKind,
    StoreError,
    Summary,
    Times,
)
from callspan.stores.columns import CALLS, PICO, SESSIONS, TABLES, TIMESTEPS, Table
from callspan.stores.contents import ranges_in
from callspan.stores.erased import digest_of_id
from callspan.stores.filters import checked_groupings, keyed, positions
from callspan.stores.history import follow
from callspan.stores.session_source import session_source
from callspan.stores.sql_courses import SqlCourses
from callspan.stores.sql_rewards import CALL_IDS, Values, in_parts, one_of, record_of

_EVERY: Final = CallFilter()
_TIMES: Final = {"since_ns": "s.start_ns >= :since_ns", "until_ns": "s.start_ns < :until_ns"}
_READ_AT_ONCE: Final = 500
"""Calls per query of whole rows."""
_IDS_AT_ONCE: Final = 20_000
_RANGES_AT_ONCE: Final = 100
_ENDS: Final = ("first", "last")
_AT_ONCE: Final = 200
"""Sessions per query: what one has read of them the next one finds in SQLite's memory."""
_ANNOUNCES_ANOTHER: Final = f"""
event_id IN (SELECT event_id || '{start_id("")}' FROM events
  WHERE {{chosen}} AND coalesce(event_type, '') IN ('tool', 'agent'))
"""
"""Condition on `events`: the row is the start event of a run whose end is stored too."""
_IN_RANGE: Final = "{start} BETWEEN 0 AND 4611686018427387904 AND {lasted} BETWEEN 0 AND 4611686018427387902"
"""Up to the year 2116: no sum of these overflows."""
_ACTIVE: Final = f"""
SELECT session_id, CAST(sum(CASE WHEN before IS NULL OR before < began THEN ended - began
    WHEN before < ended THEN ended - before ELSE 0 END) AS bigint) AS active
FROM (SELECT session_id, began, ended,
    max(ended) OVER (PARTITION BY session_id ORDER BY began, ended
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
  FROM (SELECT c.session_id AS session_id, c.start_ns AS began, c.start_ns + c.duration_ns AS ended FROM calls c
      WHERE c.{{chosen}} AND {_IN_RANGE.format(start="c.start_ns", lasted="c.duration_ns")}
    UNION ALL SELECT e.session_id, e.time_ns, e.time_ns + e.duration_ns FROM events e
      WHERE e.{{chosen}} AND coalesce(e.event_type, '') = 'tool'
        AND {_IN_RANGE.format(start="e.time_ns", lasted="e.duration_ns")}) runs) behind
GROUP BY session_id
"""
"""The time in which a call or a tool of a session ran: each adds what is behind the latest end before it."""
_TYPES: Final[Mapping[StoredKind, type[CallRecord | EventRecord | SessionRecord | TimestepRecord]]] = {
    "session": SessionRecord,
    "timestep": TimestepRecord,
    "call": CallRecord,
    "event": EventRecord,
}
_MODELS: Final = "SELECT DISTINCT session_id, coalesce(c.model_req, c.model_resp) AS model FROM calls c"
_KNOWN_BY: Final = (*CALL_IDS[1:], "trace_id")
"""Columns with ids that find a call."""

_NO_LATENCIES: Final = Latencies()


class _Query(NamedTuple):
    """A query for ids in an order: of keys that no two rows have in common and that are never NULL."""

    key: str
    source: str
    where: str
    order: tuple[str, ...]
    descending: bool = True

    def sql(self, after: Mapping[str, str]) -> str:
        """Return the SQL for the ids and keys behind the row whose keys are these parameters; all if there are none."""
        names, keys = ", ".join(f":{name}" for name in after), ", ".join(self.order)
        where = f"{self.where} AND ({keys}) {'<' if self.descending else '>'} ({names})" if after else self.where
        direction = "DESC" if self.descending else "ASC"
        order = ", ".join(f"{key} {direction}" for key in self.order)
        return f"SELECT {self.key}, {keys} FROM {self.source} WHERE {where} ORDER BY {order}"


class SqlReader(SqlCourses):
    """The reader of SQL stores; subclasses run queries and define the differences of their dialect."""

    name: str
    _day: str
    """SQL for the UTC day of `c.start_ns`, ISO text."""
    _hour: str
    """SQL for its UTC hour, as `2026-11-20T08:00Z`."""
    _minute: str
    """SQL for its UTC minute, as `2026-11-20T08:05Z`."""
    _percentile: str
    """SQL for the percentile `{share}` of a `{column}`."""
    _times = ""
    """SQL for columns of sums from which percentiles are computed."""
    _row_id = "call_id"
    """The column that finds a row of `calls` the quickest."""
    _remedy = "restore it from a backup"
    """What to do about damage."""
    _contains: str
    """SQL condition that a `{text}` contains a case-folded `{part}`."""
    _cost: str
    """SQL for the cost of a call `c` in whole picodollars, rounded down; NULL for no cost."""
    _in_sessions = "c.session_id IN (SELECT s.session_id FROM sessions s WHERE {condition})"
    """SQL condition that the session of call `c` matches a condition."""

    _ids_as_list: str
    """SQL for the ids of a group of contents `t`."""
    _refers_to_one: str
    """SQL condition that a call `k` refers to one of these ids of a row `h`."""

    _metadata: filters.MetadataSql

    @abstractmethod
    def close(self) -> None:
        """Close the store."""

    @abstractmethod
    def _among(self, column: str) -> str:
        """Return the condition that a column has one of the values of `:among`."""

    def _many(self, ids: Sequence[str]) -> object:
        """Return the value of `:among`."""
        return ids

    def ids(self, which: CallFilter = _EVERY, sessions: Collection[str] | None = None) -> Iterator[CallIds]:
        """Yield the ids of the matching calls, in any order; `sessions`: only of these sessions."""
        where, values = self._where(which)
        sql = f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}"
        if sessions is not None:
            sql += f" AND {self._among('c.session_id')}"
            values["among"] = self._many(sorted(sessions))
        for call_id, session_id in self._tuples(sql, **values):
            yield CallIds(str(call_id), None if session_id is None else str(session_id))

    def session_ids(self, which: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the recorded sessions that have these labels and began between these times, in any order."""
        conditions = [text for name, text in _TIMES.items() if getattr(which, name) is not None]
        labels = filters.session_condition(which, self._metadata)
        where = " AND ".join([*conditions, *([] if labels is None else [labels])]) or "1 = 1"
        sql = f"SELECT s.session_id FROM sessions s WHERE {where}"
        yield from (str(row[0]) for row in self._tuples(sql, **filters.parameters(which)))

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the store remembers that the session or call of this whole id was erased."""
        sql = "SELECT 1 FROM erased WHERE id = :id LIMIT 1"
        return next(self._tuples(sql, id=digest_of_id(kind, ident)), None) is not None

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield calls with their conversations, see `CallFilter.content`; only some of them are in memory at a time."""
        ids = self._ids(which)
        while chosen := list(islice(ids, _READ_AT_ONCE)):
            yield from self._read(chosen, which.content)

    def _ids(self, which: CallFilter) -> Iterator[object]:
        """Yield the values of `_row_id` of the calls in their order."""
        where, values = self._where(which)
        order = filters.order_of(which.sort, self._cost)
        query = _Query(f"c.{self._row_id}", "calls c", where, order, descending=which.newest_first)
        return self._in_pages(query, values, which.limit, which.offset)

    def _read(self, ids: Sequence[object], content: Content) -> Iterator[CallRecord]:
        """Yield the calls of these ids, see `_ids`, in this order; those that were deleted meanwhile are left out."""
        chosen, names = one_of(ids, self._row_id)
        rows = {row[self._row_id]: row for row in self._rows(f"SELECT * FROM calls WHERE {chosen}", **names)}
        for one in ids:
            if one in rows:
                yield self._call_of(rows[one], content)

    def _in_pages(
        self,
        query: _Query,
        values: Values,
        limit: int | None,
        offset: int = 0,
        after: Sequence[int | str] | None = None,
    ) -> Iterator[object]:
        """Yield the ids of a query's rows in order, `after` the row with these keys.

        Each page begins where the one before it ended: drivers of servers hold all rows of a result.
        """
        names = {f"last{number}": key for number, key in enumerate(query.order)}
        last: dict[str, object] = {} if after is None else dict(zip(names, after, strict=True))
        # What is limited needs no first page that comes soon.
        for size in chain((_READ_AT_ONCE if limit is None else _IDS_AT_ONCE,), repeat(_IDS_AT_ONCE)):
            number = size if limit is None else min(size, limit)
            sql = f"{query.sql(names if last else {})} LIMIT {number} OFFSET {offset}"
            found = list(self._tuples(sql, **values, **last))
            yield from (row[0] for row in found)
            limit, offset = None if limit is None else limit - len(found), 0
            if len(found) < number or limit == 0:
                return
            last = dict(zip(names, found[-1][1:], strict=True))

    def call(self, call_id: str) -> CallRecord | None:
        """Return one call by its id, a unique prefix of it, or another id, see `Reader.call`; None if there is none."""
        if not call_id:
            return None
        row = self._by_prefix("calls", "call_id", call_id)
        for column in _KNOWN_BY:
            if row is None:
                sql = f"SELECT * FROM calls WHERE {column} = :id ORDER BY start_ns, call_id LIMIT 1"
                row = next(iter(self._rows(sql, id=call_id)), None)
        return None if row is None else self._call_of(row)

    def history(self, call: CallRecord, *, limit: int = MOST_CALLS) -> History:
        """Return the recorded calls before one that continues a response or a conversation, at most `limit`."""
        return follow(self, call, limit)

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        where, values = self._where(which)
        return int(str(next(self._rows(f"SELECT count(*) AS n FROM calls c WHERE {where}", **values))["n"]))

    def sessions(
        self,
        *,
        since_ns: int | None = None,
        limit: int | None = None,
        which: SessionFilter = _EVERY,
        after: Sequence[int | str] | None = None,
    ) -> Iterator[SessionSummary]:
        """Yield sessions, newest first; without a filter also sessions known only from their calls."""
        if which.session_outcome in filters.UNENDED:
            found = self._ordered(since_ns, None, which, after)
            yield from islice((one for one in found if one.outcome == which.session_outcome), limit)
            return
        yield from self._ordered(since_ns, limit, which, after)

    def _ordered(
        self, since_ns: int | None, limit: int | None, which: SessionFilter, after: Sequence[int | str] | None
    ) -> Iterator[SessionSummary]:
        chosen = filters.session_condition(which, self._metadata)
        named = "1 = 1" if chosen is None else self._in_sessions.format(condition=chosen)
        source = session_source(which, chosen or "1 = 1", named, self._cost, self._with_calls(which))
        values = filters.parameters(which) | ({} if since_ns is None else {"since_ns": since_ns})
        where = source.where if "since_ns" not in values else f"{source.where} AND at >= :since_ns"
        query = _Query("session_id", source.sql, where, source.order)
        ids = map(str, self._in_pages(query, values, limit, after=after))
        while some := list(islice(ids, _AT_ONCE)):
            yield from self._sessions(some)

    def _with_calls(self, which: SessionFilter) -> Iterator[str]:
        """Yield the conditions on sessions `found` that are about their calls, their id and their start."""
        if not isinstance(which, CallFilter):
            return
        if which.session_id is not None:
            yield "session_id = :session_id"
        if which.until_ns is not None:
            yield "at > 0 AND at < :until_ns"
        of_sessions = "session_id {} (SELECT c.session_id FROM calls c WHERE c.session_id IS NOT NULL AND {})"
        if which.errors is False:
            yield of_sessions.format("NOT IN", self._where(CallFilter(errors=True))[0])
        if (of_calls := filters.of_calls(which)) is not None:
            yield of_sessions.format("IN", self._where(of_calls)[0])

    def session(self, session_id: str) -> SessionSummary | None:
        """Return one session by its id or a unique prefix; None if there is none."""
        if not session_id:
            return None
        row = self._by_prefix("sessions", "session_id", session_id)
        if row is None:
            row = self._by_prefix("(SELECT DISTINCT session_id FROM calls) found", "session_id", session_id)
        return None if row is None else next(self._sessions([str(row["session_id"])]))

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return one timestep by its id or the application's own id (the first of several); else None."""
        sql = "SELECT * FROM timesteps WHERE timestep_id = :id OR user_step_id = :id ORDER BY start_ns LIMIT 1"
        row = next(self._rows(sql, id=timestep_id), None)
        return None if row is None else record_of(TIMESTEPS, row, TimestepRecord)

    def stored(self, kind: StoredKind, ids: Sequence[str]) -> Iterator[Stored]:
        """Yield the records of a kind that have one of these whole ids, in any order."""
        table = TABLES[kind]
        for chosen, names in in_parts(ids, table.key):
            for row in self._rows(f"SELECT * FROM {table.name} WHERE {chosen}", **names):
                has_answer = kind == "call" and row["output"] is not None
                yield Stored(record_of(table, row, _TYPES[kind]), has_answer)

    def summary(
        self, by: str | Sequence[str], which: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over calls, largest number of calls first."""
        groupings = checked_groupings(by)
        where, values = self._where(which)
        yield from self._summaries(
            groupings, where, values | filters.grouping_parameters(groupings), latencies=latencies
        )

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls that succeeded, in any order."""
        where, values = self._where(which)
        sql = f"SELECT {filters.GROUPS['model']}, c.duration_ns, c.ttft_ns FROM calls c"
        yield from map(Times._make, self._tuples(f"{sql} WHERE {where} AND c.outcome = 'success'", **values))

    def _sums(self, keys: Sequence[str], where: str, values: Values, more: str = "") -> Iterator[Values]:
        """Yield one row per group of the calls `c` that match the condition, largest number of calls first.

        Columns are `group0` and so on, the fields of `Summary`, and `pico`, `priced` and `exact`: the sum of
        picodollars, how many calls have a cost, and how many of those have it in picodollars. `more` are others.
        """
        sql = filters.SUMS.format(
            keys=keyed(keys), positions=positions(keys), source=filters.source(keys), where=where, more=more,
            order=", ".join(f"coalesce({key}, '')" for key in keys),
        )  # fmt: skip
        yield from self._rows(sql, **values)

    def _group(self, by: str, number: int) -> str:
        """Return the SQL expression to group calls `c` by; `number` is its place among several."""
        times = {"day": self._day, "hour": self._hour, "minute": self._minute}
        return filters.GROUPS.get(by) or filters.grouping(by, self._metadata, number) or times[by]

    def _latencies(
        self, keys: Sequence[str], where: str, values: Values, rows: Sequence[Values]
    ) -> Mapping[object, Latencies]:
        """Return the percentiles of the calls that succeeded, by group: the tuple of its keys.

        `rows` are those of `_sums`, with the columns `_times`.
        """
        del rows
        times = (("0.5", "duration_ns"), ("0.95", "duration_ns"), ("0.5", "ttft_ns"))
        columns = ", ".join(
            f"{self._percentile.format(share=share, column=f'c.{name}')} / 1e6" for share, name in times
        )
        sql = f"""
            SELECT {keyed(keys)}, {columns} FROM {filters.source(keys)}
             WHERE {where} AND c.outcome = 'success' GROUP BY {positions(keys)}"""
        rows_of = cast("Iterator[tuple[Any, ...]]", self._tuples(sql, **values))
        return {tuple(row[:-3]): Latencies(*row[-3:]) for row in rows_of}

    def _contents(self, ids: Sequence[tuple[int, int]]) -> dict[int, tuple[bytes, bytes]]:
        """Return the hash and the exact JSON of the contents in these ranges of ids, by id."""
        found: dict[int, tuple[bytes, bytes]] = {}
        for start in range(0, len(ids), _RANGES_AT_ONCE):
            some = [*enumerate(ids[start : start + _RANGES_AT_ONCE])]
            where = " OR ".join(f"id BETWEEN :first{number} AND :last{number}" for number, _ in some)
            names = {f"{name}{number}": one for number, pair in some for name, one in zip(_ENDS, pair, strict=True)}
            for row in self._rows(f"SELECT id, hash, role, text, data FROM contents WHERE {where}", **names):
                found[cast("int", row["id"])] = bytes(cast("bytes", row["hash"])), self._json_of(row)
        return found

    def _json_of(self, row: Values) -> bytes:
        """Return the exact JSON of a row of `contents`."""
        return bodies.from_row(
            cast("str | None", row["role"]), cast("str | None", row["text"]), self._left(row["data"])
        )

    @staticmethod
    def _left(data: object) -> bytes | None:
        """Return the JSON in the column `data`."""
        return data.encode() if isinstance(data, str) else cast("bytes | None", data)

    def _where(self, which: CallFilter) -> tuple[str, dict[str, object]]:
        """Return the condition on calls `c`, and its parameters."""
        values = filters.parameters(which)
        found = list(filters.call_conditions(which, self._metadata, self._in_sessions, self._cost))
        if which.text is not None:
            found.append(self._text_condition())
        if which.error_text is not None:
            kind, message = (
                self._contains.format(text=f"c.{name}", part=":error_text") for name in ("error_type", "error_message")
            )
            found.append(f"{filters.FAILED} AND ({kind} OR {message})")
        return " AND ".join(found) or "1 = 1", values

    def _text_condition(self) -> str:
        """Return the condition that a message of call `c` contains `:text`."""
        contains = self._contains.format(text="t.text", part=":text")
        of_session = "k.session_id = substr(h.owner, 3)"
        return f"""c.call_id IN (
            WITH hit AS MATERIALIZED (
              SELECT t.owner, {self._ids_as_list} AS ids FROM contents t WHERE t.role IS NOT NULL AND {contains}
               GROUP BY t.owner)
            SELECT substr(owner, 3) FROM hit WHERE owner >= 'c:' AND owner < 'c;'
            UNION ALL SELECT k.call_id FROM hit h JOIN calls k ON {of_session} AND h.owner >= 's:'
             WHERE {self._refers_to_one})"""

    def _call_of(self, row: Values, content: Content = "all") -> CallRecord:
        """Return the call of a row, with these bodies and its conversation."""
        try:
            return self._unchecked_call_of(row, content)
        except bodies.DAMAGE as error:
            raise StoreError(f"{self.name}: call {row['call_id']} is damaged; {self._remedy}") from error

    def _unchecked_call_of(self, row: Values, content: Content) -> CallRecord:
        record = record_of(CALLS, row, CallRecord)
        if content == "none":
            return record
        if content == "all" and (body := self._request_body(row)) is not None:
            record = msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, body=body))
        if record.response is not None and (answer := self._response_body(row)) is not None:
            record = msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=answer))
        return with_conversation(record)

    def _request_body(self, row: Values) -> msgspec.Raw | None:
        """Return the body; None if there is none, or if a part was deleted in between, as by pruning."""
        if row["request"] is None:
            return None
        try:
            ranges, request, output = ranges_in(row["contents"]), cast("int", row["request"]), row["output"]
            found = self._contents([(request, request), *((first, last) for _, first, last in ranges)])
            sent = [range(first, last + 1) for at, first, last in ranges if at >= 0 and first != output]
            history = [found[one][1] for one in chain.from_iterable(sent)]
            return msgspec.Raw(bodies.join(found[request][1], history, dict(found.values()).__getitem__))
        except KeyError:
            return None

    def _response_body(self, row: Values) -> msgspec.Raw | None:
        """Return the body; None if there is none, or if it was deleted in between."""
        try:
            output = cast("int | None", row["output"])
            return None if output is None else msgspec.Raw(self._contents([(output, output)])[output][1])
        except KeyError:
            return None

    def _sessions(self, ids: Sequence[str]) -> Iterator[SessionSummary]:
        """Yield the summaries of these sessions, a few hundred at most, with a fixed number of queries."""
        chosen, names = one_of(ids)
        sums = {one.key: one for one in self._summaries(["session"], f"c.{chosen}", names, latencies=False)}
        models: dict[object, list[str | None]] = defaultdict(list)
        for row in self._rows(f"{_MODELS} WHERE {chosen}", **names):
            models[row["session_id"]].append(cast("str | None", row["model"]))
        yield from self._summarized(ids, sums, models)

    def _summarized(
        self, ids: Sequence[str], sums: Mapping[str | None, Summary], models: Mapping[object, list[str | None]]
    ) -> list[SessionSummary]:
        chosen, names = one_of(ids)
        rows = {str(row["session_id"]): row for row in self._rows(f"SELECT * FROM sessions WHERE {chosen}", **names)}
        steps = self._extents("timesteps", "coalesce(end_ns, start_ns)", chosen, names)
        once = f"{chosen} AND NOT ({_ANNOUNCES_ANOTHER.format(chosen=chosen)})"
        happened = [
            self._extents("events", "time_ns", once, names),
            self._extents("messages", "time_ns", chosen, names),
        ]
        rewards = self._given(chosen, names)
        sums_of_rewards = self._reward_sums(chosen, names, rewards)
        active = {row[0]: row[1] for row in self._tuples(_ACTIVE.format(chosen=chosen), **names)}
        errors = self._first_errors([one for one in ids if (known := sums.get(one)) is not None and known.errors])
        found = []
        for session_id in ids:
            given = [record.time_ns for record in rewards[session_id]]
            parts = [extents.get(session_id, aggregates.Extent()) for extents in happened] + [aggregates.extent(given)]
            last = aggregates.extent([part.last_ns for part in parts]).last_ns
            found.append(
                aggregates.session_summary(
                    self._session_record(session_id, rows.get(session_id), sums.get(session_id)),
                    sums.get(session_id),
                    models=models.get(session_id, []),
                    timesteps=steps.get(session_id, aggregates.Extent()),
                    events=aggregates.Extent(sum(part.number for part in parts), last),
                    rewards=sums_of_rewards[session_id],
                    active_ns=cast("int | None", active.get(session_id)),
                    first_error=errors.get(session_id),
                )
            )
        return found

    @staticmethod
    def _session_record(session_id: str, row: Values | None, sums: Summary | None) -> SessionRecord:
        if row is not None:
            return record_of(SESSIONS, row, SessionRecord)
        first = None if sums is None else sums.first_ns
        return SessionRecord(session_id=session_id, seen_ns=0, start_ns=first)

    def _extents(self, table: str, time: str, chosen: str, names: Values) -> dict[str, aggregates.Extent]:
        sql = f"SELECT session_id, count(*) AS n, max({time}) AS last FROM {table} WHERE {chosen} GROUP BY session_id"
        return {
            str(row["session_id"]): aggregates.Extent(int(str(row["n"])), cast("int | None", row["last"]))
            for row in self._rows(sql, **names)
        }

    def _summaries(self, groupings: Sequence[str], where: str, values: Values, *, latencies: bool) -> Iterator[Summary]:
        keys = [self._group(by, number) for number, by in enumerate(groupings)]
        rows = list(self._sums(keys, where, values, self._times if latencies else ""))
        percentiles = self._latencies(keys, where, values, rows) if latencies else {}
        # These are rare, and finding them costs another scan.
        inexact = any(row["priced"] != row["exact"] for row in rows)
        beside = self._inexact_costs(keys, where, values) if inexact else {}
        for row in rows:
            cost = None if row["pico"] is None else EXACT.divide(Decimal(str(row["pico"])), PICO)
            group = tuple(cast("str | None", row[f"group{number}"]) for number, _ in enumerate(keys))
            if group in beside:
                cost = aggregates.exact_sum([*beside[group], cost])
            yield aggregates.summary_of_row(group, row, cost, percentiles.get(group, _NO_LATENCIES))

    def _by_prefix(self, table: str, key: str, prefix: str) -> Values | None:
        sql = f"SELECT * FROM {table} WHERE {key} >= :low AND {key} < :high ORDER BY {key} LIMIT 2"
        found = list(self._rows(sql, low=prefix, high=prefix[:-1] + chr(ord(prefix[-1]) + 1)))
        exact = [row for row in found if row[key] == prefix]
        return (exact or found)[0] if exact or len(found) == 1 else None

    def _inexact_costs(self, keys: Sequence[str], where: str, values: Values) -> dict[object, list[Decimal]]:
        """Return the costs that are not exact in picodollars, by group."""
        found: dict[object, list[Decimal]] = defaultdict(list)
        sql = (
            f"SELECT c.cost_usd AS usd, {keyed(keys)} FROM {filters.source(keys)} "
            f"WHERE {where} AND c.cost_picousd IS NULL AND c.cost_usd IS NOT NULL"
        )
        for usd, *group in self._tuples(sql, **values):
            found[tuple(group)].append(Decimal(str(usd)))
        return found


class ExactCalls(SqlReader):
    """The lookup of writers, which merge the versions of a call."""

    def exact_call(self, call_id: str) -> CallRecord | None:
        """Return the call of this whole id; None if there is none."""
        row = next(self._rows("SELECT * FROM calls WHERE call_id = :id", id=call_id), None)
        return None if row is None else self._call_of(row)

    def keyed_records(self, table: Table, sql: str, values: Values) -> Iterator[tuple[str, Record | None]]:
        """Yield the key and record of rows, None for a damaged one; a call has its bodies, if these can be read."""
        for row in self._rows(sql, **values):
            yield str(row[table.key]), self._undamaged(table, row)

    def _undamaged(self, table: Table, row: Values) -> Record | None:
        levels: tuple[Content, ...] = ("all", "none")
        for content in levels:
            with suppress(StoreError, *bodies.DAMAGE):
                if table is CALLS:
                    return self._call_of(row, content)
                return record_of(table, row, RECORD_TYPES[table.kind])
        return None
