"""Sent: the versions of spans that a receiver has, in ClickHouse, and the lease of the process that sends to it."""

# ruff: noqa: S608 - only our own names are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final
from uuid import uuid4

import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError

from callspan.runtime.clock import monotonic_s
from callspan.stores.base import StoreError
from callspan.stores.clickhouse.database import CLICKHOUSE, ClickHouseDatabase
from callspan.stores.schema import NOW_NS
from callspan.stores.sent import BusyError, RowVersion, SentVersions, number_of
from callspan.stores.tables.clickhouse_views import joined_rewards
from callspan.stores.tables.database import Values, items
from callspan.stores.tables.facts import CALLS, REWARDS, STORED, Table

_LEASE_S: Final = 60
"""From so many seconds without a sign of life on, another process may send."""
_RENEW_S: Final = 10.0
_WRITTEN_AT_ONCE: Final = 50_000
"""Rows of a query. Each reads the times of all rows that were written later, so that few queries are made."""
_AT_ONCE: Final = 2_000
"""Versions or ids of a query."""
# A replicated table ignores a repeated block.
_ADD: Final = """
INSERT INTO sent_spans SETTINGS insert_deduplicate = 0
SELECT pair.1, pair.2 FROM (SELECT arrayJoin(JSONExtract(:pairs, 'Array(Tuple(Int64, Int64))')) AS pair)"""
_RENEW: Final = "INSERT INTO sender_leases (receiver, sender) SETTINGS insert_deduplicate = 0 SELECT :receiver, :sender"
_HOLDER: Final = f"""
SELECT sender FROM sender_leases WHERE receiver = :receiver
 GROUP BY sender HAVING max(renewed_ns) > {NOW_NS["clickhouse"]} - {_LEASE_S} * 1000000000
 ORDER BY min(began_ns), sender LIMIT 1"""
_SESSIONS: Final = f"""
SELECT reward_id, session_id FROM ({joined_rewards(f" AND session_id IS NULL AND reward_id IN ({CLICKHOUSE.items})")})
 WHERE session_id IS NOT NULL"""


class ClickHouseSentVersions(SentVersions):
    """The versions in ClickHouse. It has no locks: of the senders with a living lease the earliest may send.

    A sender renews its lease every ten seconds and gives it back at its end. If it is killed, another one can begin
    after a minute. If it hangs for longer, or two begin within the same moment, both send until the later one renews
    its lease and stops with BusyError. A span that is sent twice has the same ids.
    """

    _database: ClickHouseDatabase

    def __init__(self, database: ClickHouseDatabase, receiver: str) -> None:
        """`receiver` is its URL. Raises BusyError while another process sends to it."""
        super().__init__(database, receiver)
        self._lease: Values = {"receiver": number_of(receiver), "sender": str(uuid4())}
        self._next_renewal_s = 0.0
        self._sessions: dict[str, str | None] = {}
        """The sessions of the targets of the rewards that were written last; None: outside of sessions, or unknown."""
        self._renew()

    def versions(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the versions that the receiver has, by key, without unknown keys."""
        self._renew()
        return super().versions(keys)

    def close(self) -> None:
        """Give back the lease and close the store, so that another process may send."""
        self._give_back()
        super().close()

    def _add(self, versions: Mapping[int, int]) -> None:
        pairs = [*versions.items()]
        for start in range(0, len(pairs), _AT_ONCE):
            values = {"pairs": msgspec.json.encode(pairs[start : start + _AT_ONCE]).decode()}
            self._database.insert_selected(_ADD, values)
        # What was sent was sent, even if another process sends by now.
        self._renew()

    def _written(self, table: Table, time: str, since_ns: int) -> Iterator[RowVersion]:
        # Versions of calls may differ in their session. The others name it in their key, and need not be merged.
        source = f"{table.kind}_versions{' FINAL' if table is CALLS else ''}"
        order = f"{STORED}, {table.key}, ifNull(session_id, '')"
        sql = (
            f"SELECT '{table.kind}', {table.key}, session_id, ifNull({time}, 0), {STORED} FROM {source}"
            f" WHERE {STORED} >= :since AND ({order}) > (:since, :after, :session)"
            f" ORDER BY {order} LIMIT {_WRITTEN_AT_ONCE}"
        )
        last: Values = {"since": since_ns, "after": "", "session": ""}
        sessions = dict[str, str | None]()
        is_last_page = False
        while not is_last_page:
            self._renew()
            page = [RowVersion(*row) for row in self._database.tuples(sql, last)]
            is_last_page = len(page) < _WRITTEN_AT_ONCE
            if page:
                row = page[-1]
                last = {"since": row.stored_ns, "after": row.ident, "session": row.session_id or ""}
            if table is REWARDS:
                sessions = self._sessions_of([row.ident for row in page if row.session_id is None])
                page = [row._replace(session_id=row.session_id or sessions.get(row.ident)) for row in page]
            yield from page
        if table is REWARDS:
            self._sessions = sessions

    def _sessions_of(self, reward_ids: Sequence[str]) -> dict[str, str | None]:
        """Return the sessions of the targets of rewards that do not state theirs, each looked up once.

        If a target is stored later, its own row is new then.
        """
        sessions = {ident: self._sessions.get(ident) for ident in reward_ids}
        new = [ident for ident in reward_ids if ident not in self._sessions]
        for start in range(0, len(new), _AT_ONCE):
            sessions.update(self._database.tuples(_SESSIONS, items(new[start : start + _AT_ONCE])))
        return sessions

    def _renew(self) -> None:
        """Renew the lease if it is time. Raises BusyError if another process has an earlier one."""
        if monotonic_s() < self._next_renewal_s:
            return
        self._database.insert_selected(_RENEW, self._lease)
        sender = self._lease["sender"]
        # A replica that lags may have no lease yet.
        if next(self._database.tuples(_HOLDER, self._lease), (sender,))[0] != sender:
            self._give_back()
            raise BusyError(self.receiver)
        self._next_renewal_s = monotonic_s() + _RENEW_S

    def _give_back(self) -> None:
        """Delete the lease. If that fails, it expires."""
        with suppress(StoreError, ClickHouseError):
            self._database.delete("sender_leases", "receiver = :receiver AND sender = :sender", self._lease)
