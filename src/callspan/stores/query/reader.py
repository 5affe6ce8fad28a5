"""Reader: the query side of a store. Read-only; safe while others write."""

# ruff: noqa: S608 - SQL text holds only constant column names and conditions; values are parameters

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from msgspec.structs import replace

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, TimestepRecord, start_id
from callspan.record.merging import Price
from callspan.record.tree import TreeLinks, links_of
from callspan.runtime.forks import late_attribute
from callspan.stores.base import (
    MAX_CALLS,
    CallAggregates,
    CallIds,
    Content,
    Entry,
    Event,
    History,
    Opening,
    ProcessActivity,
    Run,
    SessionSummary,
    StepSums,
    Summary,
    ids_of,
    start_of,
)
from callspan.stores.query import aggregates, filters, rewards, session_summaries
from callspan.stores.query.filters import CallFilter
from callspan.stores.query.history import follow
from callspan.stores.query.interrupted import mark_unended
from callspan.stores.query.listing import Listing
from callspan.stores.query.owned import owned_calls, owned_sessions
from callspan.stores.query.rewards import Labels, Scores
from callspan.stores.query.run_tools import run_tools, with_results
from callspan.stores.query.session_values import SessionValues, session_values
from callspan.stores.query.sums import TIMESTEP, checked_groupings, summed
from callspan.stores.query.tree_links import tree_links
from callspan.stores.tables.call_rows import call_of, read_calls, record_of
from callspan.stores.tables.database import Database, Values, in_batches
from callspan.stores.tables.erased import digest_of_id
from callspan.stores.tables.facts import EVENTS, MESSAGES, OTHER_IDS, REWARDS, TABLES, TIMESTEPS, Table

if TYPE_CHECKING:
    from typing_extensions import Self

    from callspan.joining.prompt_cache import CacheUse
    from callspan.stores.query.bill_sums import BillSums
    from callspan.stores.query.frames import Kind

_R = TypeVar("_R", bound=Record)
_EVERY: Final = CallFilter()
_BETWEEN: Final = {"since_ns": "s.start_ns >= :since_ns", "until_ns": "s.start_ns < :until_ns"}
_AROUND: Final = 24
"""Characters of an excerpt on each side of the first different one."""
_READ_AT_ONCE: Final = 500
"""Calls read together."""
_SESSIONS_AT_ONCE: Final = 200
_STEP_ORDER: Final = "coalesce(start_ns, 0), timestep_id"


_PROCESSES: Final = """
SELECT host, pid, service, sum(is_call) AS calls, sum(1 - is_call) AS sessions, max(active_ns) AS newest_ns
FROM (
  SELECT host, pid, process, service, 1 AS is_call, start_ns + coalesce(duration_ns, 0) AS active_ns
  FROM calls WHERE start_ns >= :since_ns
  UNION ALL
  SELECT host, pid, process, service, 0 AS is_call, coalesce(end_ns, start_ns) AS active_ns
  FROM sessions WHERE start_ns >= :since_ns
) AS active
GROUP BY host, pid, process, service ORDER BY newest_ns DESC, pid"""
"""`process` tells apart processes that had the same id one after the other."""


class Reader:
    """Reads SQLite, Postgres or ClickHouse. Sessions and calls are also found by a unique prefix of their id.

    Close it after use, or use it in a `with` block.
    """

    def __init__(self, database: Database) -> None:
        """The database is closed with this."""
        self._database = database
        self._lists = Listing(database)
        self.name = database.name
        """The store's URL without its password."""
        self.keeps_runs = bool(database.dialect.joints)
        """Whether the store joins calls outside of sessions to runs, which ClickHouse does not."""

    def version(self) -> str:
        """Return a text that changes with every write."""
        return self._database.version()

    def close(self) -> None:
        """Close the store."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the reader, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def calls(self, selection: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield calls with their conversations, see `CallFilter.content`. Few are in memory at a time."""
        ids = self._lists.calls(selection)
        while call_ids := [call.call_id for call in islice(ids, _READ_AT_ONCE)]:
            yield from map(mark_unended, read_calls(self._database, call_ids, selection.content))

    def call(self, call_id: str) -> CallRecord | None:
        """Return the call with this id or unique prefix, or None.

        Also accepts its span id, response id, request id or trace id; of several calls it returns the first.
        """
        if not call_id:
            return None
        call_ids = self.ids_like("call", call_id)
        columns = {"call_id": call_ids[0]} if len(call_ids) == 1 else dict.fromkeys(OTHER_IDS, call_id)
        for column, ident in columns.items():
            sql = f"SELECT * FROM calls WHERE {column} = :id ORDER BY start_ns, call_id LIMIT 1"
            row = next(self._database.rows(sql, {"id": ident}), None)
            if row is not None:
                (whole_row,) = self._database.with_references([row])
                return mark_unended(call_of(self._database, whole_row))
        return None

    def history(self, call: CallRecord, *, limit: int = MAX_CALLS) -> History:
        """Return the `History` of a call that continues a response or a conversation: at most `limit` calls before it.

        `callspan.stores.whole_conversation` joins their messages.
        """
        return follow(self, call, limit)

    def prompt_cache(
        self, selection: CallFilter = _EVERY, price: Price | None = None, *, around: int = _AROUND
    ) -> Iterator[CacheUse]:
        """Yield what these calls read from their provider's prompt cache and why not more, session by session, by time.

        `price`: returns a call with its cost; by default, at the published prices. `around`: characters to return on
        each side of the first different one.
        """
        where, values = self._lists.condition(selection)
        price = price or late_attribute("callspan.cost:pricer_for")(None).priced
        uses = late_attribute("callspan.stores.query.prompt_cache:cache_uses")
        yield from uses(self._database, where, values, price, around)

    def count_calls(self, selection: CallFilter = _EVERY) -> int:
        """Return the number of calls that `calls` yields without a limit."""
        where, values = self._lists.condition(selection)
        sql = f"SELECT count(*) FROM calls c WHERE {where}"
        return int(next(self._database.tuples(sql, values))[0])

    def processes(self, since_ns: int) -> Iterator[ProcessActivity]:
        """Yield the processes with calls or sessions that began at this Unix time or later, the last active first."""
        for row in self._database.tuples(_PROCESSES, {"since_ns": since_ns}):
            yield ProcessActivity._make(row)

    def count_sessions(self, selection: CallFilter = _EVERY) -> int:
        """Return the number of sessions that `sessions` yields without a limit."""
        query, values = self._lists.sessions_query(selection)
        sql = f"{query.before}SELECT count(*) FROM {query.source} WHERE {query.where}"
        return int(next(self._database.tuples(sql, values))[0])

    def count_grouped_sessions(self, group_ids: Collection[str], selection: CallFilter = _EVERY) -> dict[str, int]:
        """Return the number of sessions of each of these groups that `sessions` yields without limit, by `group_id`."""
        (query, values), counts = self._lists.sessions_query(selection), dict[str, int]()
        for condition, parameters in in_batches([*group_ids], "g.group_id"):
            sql = f"""{query.before}SELECT g.group_id, count(*) FROM {query.source}
              JOIN sessions g ON g.session_id = listed.session_id
             WHERE {query.where} AND {condition} GROUP BY g.group_id"""
            counts.update(self._database.tuples(sql, {**values, **parameters}))
        return counts

    def ids(self, selection: CallFilter = _EVERY) -> Iterator[CallIds]:
        """Yield the ids of the calls that `calls` yields without a limit, in any order."""
        where, values = self._lists.condition(selection)
        sql = f"SELECT c.call_id, c.session_id FROM calls c WHERE {where}"
        yield from map(CallIds._make, self._database.tuples(sql, values))

    def ids_in(self, session_ids: Collection[str]) -> Iterator[CallIds]:
        """Yield the ids of the calls of these sessions, in any order."""
        for condition, parameters in in_batches([*session_ids]):
            sql = f"SELECT call_id, session_id FROM calls WHERE {condition}"
            yield from map(CallIds._make, self._database.tuples(sql, parameters))

    def owned(self, key: str, owner: str) -> tuple[set[str], set[str]]:
        """Return the ids of an owner's sessions, see `owned_sessions`, and of the calls that name the owner.

        `key`: the metadata key of the owner, `user_id` or one of a tenant.
        """
        dialect, values = self._database.dialect, {"owner": owner, "erased": time.time_ns()}
        queries = owned_sessions(dialect, key, owner), owned_calls(dialect, key, owner)
        sessions, calls = ({str(row[0]) for row in self._database.tuples(sql, values)} for sql in queries)
        return sessions, calls

    def sessions(self, selection: CallFilter = _EVERY, *, call_labels: Sequence[str] = ()) -> Iterator[SessionSummary]:
        """Yield sessions, newest first by default. Those known only from their calls match no condition on labels.

        `call_labels`: metadata keys; their values in the calls are read too, see `SessionSummary.call_labels`.
        """
        ids = self.listed_session_ids(selection)
        while batch := list(islice(ids, _SESSIONS_AT_ONCE)):
            yield from session_summaries.session_summaries(self._database, batch, call_labels)

    def listed_session_ids(self, selection: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the sessions that `sessions` yields, in the same order."""
        return self._lists.sessions(selection)

    def session_values(
        self, selection: CallFilter = _EVERY, *, groupings: Collection[str] = (), label_keys: Collection[str] = ()
    ) -> SessionValues:
        """Return one number of each measure for each of the sessions that `sessions` yields, in the same order.

        `groupings`: facts to keep besides, of `SESSION_FACTS`, `start_ns` and `models`; `label_keys`: metadata keys.
        """
        ids = self._lists.every_session(selection)
        is_every = selection == replace(_EVERY, objectives=selection.objectives, content=selection.content)
        return session_values(self._database, ids, is_every=is_every, groupings=groupings, label_keys=label_keys)

    def session(self, session_id: str) -> SessionSummary | None:
        """Return the session with this id or unique prefix, or None."""
        matching_ids = self.ids_like("session", session_id)
        return (
            next(session_summaries.session_summaries(self._database, matching_ids)) if len(matching_ids) == 1 else None
        )

    def ids_like(self, kind: Literal["session", "call"], ident: str) -> list[str]:
        """Return the id itself if there is such a session or call, else all ids that begin with it, the last first."""
        if not ident:
            return []
        tables = ("sessions", "calls") if kind == "session" else ("calls",)
        key = f"{kind}_id"
        selects = [f"SELECT {key} FROM {table} WHERE {key} >= :low AND {key} < :high" for table in tables]
        if kind == "session":
            # A run that was joined with an older one is found by its former id.
            selects.append("SELECT session_id FROM run_ids WHERE id >= :low AND id < :high")
        values = {"low": ident, "high": f"{ident}{chr(sys.maxunicode)}"}
        sql = f"SELECT * FROM ({' UNION '.join(selects)}) ids ORDER BY 1 DESC"
        matching_ids = [stored_id for (stored_id,) in self._database.tuples(sql, values)]
        return [ident] if ident in matching_ids else matching_ids

    def session_ids(self, selection: CallFilter = _EVERY) -> Iterator[str]:
        """Yield the ids of the recorded sessions with these labels and start times, in any order."""
        conditions = [text for name, text in _BETWEEN.items() if getattr(selection, name) is not None]
        labels = filters.session_condition(selection, self._database.dialect)
        where = " AND ".join([*conditions, *([] if labels is None else [labels])]) or "1 = 1"
        sql = f"SELECT s.session_id FROM sessions s WHERE {where}"
        yield from (row[0] for row in self._database.tuples(sql, self._lists.parameters(selection)))

    def first_words(self, session_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the first words of each of these sessions on one line, if recorded.

        They are from the first message of type `question`, else the user's last text in the first request: a turn of a
        chat begins with the turns before. Those of a run have each question that its last calls repeat, with ` · `
        between them.
        """
        return {key: opening.words for key, opening in self.openings(session_ids).items() if opening.words}

    def openings(self, session_ids: Sequence[str]) -> Mapping[str, Opening]:
        """Return how each of these sessions begins, if it was recorded, and which of the others it continues."""
        return session_summaries.openings(self._database, session_ids)

    def courses(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        """Return the runs of calls and tools of each of these sessions, in order."""
        return session_summaries.courses(self._database, session_ids)

    def reward_curves(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return the cumulative reward (objective `reward`) after each reward, with its time, by session."""
        curves: dict[str, Sequence[tuple[int, float]]] = {}
        for condition, parameters in in_batches(session_ids):
            curves |= rewards.reward_curve(self._database, condition, parameters)
        return curves

    def timestep(self, timestep_id: str) -> TimestepRecord | None:
        """Return the timestep with this id or the application's own id (the first of several), or None."""
        sql = "SELECT * FROM timesteps WHERE timestep_id = :id OR user_step_id = :id ORDER BY start_ns LIMIT 1"
        row = next(self._database.rows(sql, {"id": timestep_id}), None)
        return None if row is None else record_of(TIMESTEPS, row, TimestepRecord)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session in the order of their positions."""
        scores = self.timestep_scores(session_id)
        sql = f"SELECT * FROM timesteps WHERE session_id = :id ORDER BY {_STEP_ORDER}"
        for row in self._database.rows(sql, {"id": session_id}):
            step = record_of(TIMESTEPS, row, TimestepRecord)
            yield rewards.with_scores(step, scores.get(step.timestep_id, {}))

    def call_scores(self, calls: Iterable[CallRecord | CallIds], objectives: Sequence[str]) -> Mapping[str, Scores]:
        """Return the scores of each of these calls by call id and objective: its own, or else its session's.

        A call also has the reward of its session; a call without scores has an empty mapping. `calls`: as `calls` or
        `ids` yields them.
        """
        return rewards.scores_of_calls(self._database, [ids_of(call) for call in calls], objectives)

    def call_labels(self, calls: Iterable[CallRecord | CallIds], objectives: Sequence[str]) -> Mapping[str, Labels]:
        """Return the labels of each of these calls by call id and objective: its own, or else its session's.

        A call without labels has an empty mapping. `calls`: as `calls` or `ids` yields them.
        """
        return rewards.labels_of_calls(self._database, [ids_of(call) for call in calls], objectives)

    def score_labels(self, session_ids: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Return, by session and objective, the label that all its values share, its calls' values included."""
        return rewards.labels_of_scores(self._database, session_ids)

    def rated_ids(self, kind: Literal["session", "call"], ids: Sequence[str]) -> Collection[str]:
        """Return the ids that a human has rated, of a session also if one of its calls was; tags do not count."""
        return rewards.rated_ids(self._database, kind, ids)

    def timestep_scores(self, session_id: str, *, excluding: Collection[str | None] = ()) -> Mapping[str, Scores]:
        """Return the scores of each timestep that has any. Rewards of nested timesteps count in it.

        Rewards of the timesteps in `excluding` do not count in their ancestors.
        """
        return rewards.scores_of_steps(
            self._database, session_id, [timestep_id for timestep_id in excluding if timestep_id is not None]
        )

    def step_positions(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the position of each timestep of these sessions, by the timestep's id.

        Positions count all timesteps of a session from 0, by start, then id; `index` counts within a process.
        """
        positions: dict[str, int] = {}
        for condition, parameters in in_batches(session_ids):
            sql = f"SELECT session_id, timestep_id FROM timesteps WHERE {condition} ORDER BY session_id, {_STEP_ORDER}"
            for _, steps in groupby(self._database.tuples(sql, parameters), itemgetter(0)):
                positions.update(zip((step_id for _, step_id in steps), count(), strict=False))
        return positions

    def events(self, session_id: str | None, *, since_ns: int | None = None) -> Iterator[Event]:
        """Yield events, messages and rewards of a session by time, unbuffered.

        None: only records outside of sessions. `since_ns`: only at this Unix time or later, in nanoseconds.
        """
        condition, parameters = "session_id IS NULL", dict[str, object]()
        of_rewards = f"SELECT * FROM {self._database.dialect.session_rewards} WHERE {condition}"
        if session_id is not None:
            condition, parameters = "session_id = :id", {"id": session_id}
            of_rewards = rewards.rewards_of(self._database, "session", condition)
        of_events, of_messages = (f"SELECT * FROM {table} WHERE {condition}" for table in ("events", "messages"))
        run_ids = self._database.tuples(
            f"SELECT event_id FROM events WHERE {condition} AND {aggregates.ANNOUNCED}", parameters
        )
        announced = {start_id(event_id) for (event_id,) in run_ids}
        streams: tuple[Iterator[Event], ...] = (
            (record_of(EVENTS, row, EventRecord) for row in self._children(EVENTS, of_events, parameters, since_ns)),
            (
                record_of(MESSAGES, row, MessageRecord)
                for row in self._children(MESSAGES, of_messages, parameters, since_ns)
            ),
            (
                record_of(REWARDS, row, RewardRecord)
                for row in self._children(REWARDS, of_rewards, parameters, since_ns)
            ),
        )
        for record in heapq.merge(*streams, key=aggregates.event_order):
            if not isinstance(record, EventRecord) or record.event_id not in announced:
                yield record

    def entries(self, session_id: str, *, since_ns: int | None = None, content: Content = "all") -> Iterator[Entry]:
        """Yield the calls and events of a session in the order of their start. For the parameters see `CallFilter`.

        A run also has the tools that ran between its calls (`EventRecord.inferred`). A tool that was recorded without a
        result has that of the request which brings it.
        """
        selection = CallFilter(session_id=session_id, newest_first=False, since_ns=since_ns, content=content)
        whole = CallFilter(session_id=session_id, newest_first=False)
        events = with_results(self.events(session_id, since_ns=since_ns), lambda: run_tools(self.calls(whole)))
        return heapq.merge(self.calls(selection), events, self._run_tools(session_id, since_ns or 0), key=start_of)

    def _run_tools(self, session_id: str, since_ns: int) -> Iterator[EventRecord]:
        """Yield the tools of a run by time, without those that the application recorded; none of a session."""
        sql = "SELECT 1 FROM calls WHERE session_id = :id AND inferred LIMIT 1"
        if next(self._database.tuples(sql, {"id": session_id}), None) is None:
            return
        recorded = {event.tool_call_id for event in self.events(session_id) if isinstance(event, EventRecord)} - {None}
        tools = run_tools(self.calls(CallFilter(session_id=session_id, newest_first=False)))
        inferred = (tool for tool in tools if tool.tool_call_id not in recorded and tool.time_ns >= since_ns)
        yield from sorted(inferred, key=start_of)

    def tree_links(self, session_id: str, until_ns: int) -> Iterator[TreeLinks]:
        """Yield the tree links of all timesteps of a session, and of its calls and events before a time."""
        yield from tree_links(self._database, session_id, until_ns)
        if until_ns:
            yield from (links_of(tool) for tool in self._run_tools(session_id, 0) if tool.time_ns < until_ns)

    def _children(self, table: Table, sql: str, parameters: Values, since_ns: int | None) -> Iterator[Values]:
        """Yield the rows of a query for a table by time, since a time."""
        if since_ns is not None:
            sql, parameters = f"{sql} AND time_ns >= :since", {**parameters, "since": since_ns}
        order = "time_ns, coalesce(sequence, 0)" if "sequence" in table.names else "time_ns"
        return self._database.rows(f"{sql} ORDER BY {order}, {table.key}", parameters)

    def rewards(self, call: CallRecord | None = None) -> Iterator[RewardRecord]:
        """Yield rewards and feedback, newest first. `call`: only for this call."""
        sql, parameters = "SELECT * FROM rewards", dict[str, object]()
        if call is not None:
            sql, parameters = rewards.rewards_of(self._database, "call", "call_id = :id"), {"id": call.call_id}
        rows = self._database.rows(f"{sql} ORDER BY coalesce(time_ns, 0) DESC, reward_id DESC", parameters)
        return (record_of(REWARDS, row, RewardRecord) for row in rows)

    def summary(
        self, by: str | Sequence[str], selection: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over groups of calls, largest group first. Percentiles are the slowest part and optional.

        A call is in the group of each value of a list in its metadata, as filters find it.

        `by` is a `Grouping` or `meta:KEY`, or several; empty: all calls form one group. Raises ValueError for anything
        else.
        """
        where, values = self._lists.condition(selection)
        groups = summed(self._database, checked_groupings(by), where, values, latencies=latencies)
        yield from (summary for summary, _ in groups)

    def frame(self, kind: Kind, where: CallFilter = _EVERY) -> Any:
        """Return `calls`, `sessions`, `events` or `rewards` as a pyarrow table, for pandas (`to_pandas`) and polars.

        Calls and sessions have the columns of `--json`, events and rewards those of their tables. Money is exact, lists
        and objects are JSON, None is unknown. `where` selects calls or sessions, or the sessions of events and rewards;
        those outside of sessions are only in a table without a condition.

        Raises SettingError if pyarrow is not installed, ValueError for another `kind`.
        """
        return late_attribute("callspan.stores.query.frames:frame")(self, self._database, kind, where)

    def bill_sums(self, since_ns: int, until_ns: int, step_ns: int) -> Iterator[BillSums]:
        """Yield sums over the calls that ended between two Unix times, by buckets of `step_ns` from the first time on.

        Several may be of the same bucket and model: each call that may have been billed without usage has its own.
        """
        sums: Callable[..., Iterator[BillSums]] = late_attribute("callspan.stores.query.bill_sums:bill_sums")
        return sums(self._database, since_ns, until_ns, step_ns)

    def step_sums(self, session_id: str) -> Mapping[str, StepSums]:
        """Return the sums over the calls of each timestep of a session, by the timestep's id."""
        where, values = "c.session_id = :id AND c.timestep_id IS NOT NULL", {"id": session_id}
        context = "max(c.input_tokens) AS context_tokens"
        return {
            str(sums.key): StepSums(
                **{name: getattr(sums, name) for name in CallAggregates.__struct_fields__},
                context_tokens=cast("int | None", row["context_tokens"]),
            )
            for sums, row in summed(self._database, [TIMESTEP], where, values, extra_columns=[context])
        }

    def stored(self, record_type: type[_R], ids: Sequence[str]) -> Iterator[_R]:
        """Yield the records of a class of `callspan.records` with these full ids, without bodies, in any order."""
        table = TABLES[str(record_type.__struct_config__.tag)]
        for condition, parameters in in_batches(ids, table.key):
            for row in self._database.rows(f"SELECT * FROM {table.name} WHERE {condition}", parameters):
                yield record_of(table, row, record_type)

    def is_erased(self, kind: Literal["session", "call"], ident: str) -> bool:
        """Return whether the session or call with this full id was erased."""
        sql = "SELECT 1 FROM erased WHERE id = :id"
        return next(self._database.tuples(sql, {"id": digest_of_id(kind, ident)}), None) is not None
