"""Deleting from ClickHouse. Contents go by when a writer last wrote them, since nothing locks writers out."""

# ruff: noqa: S608 - only our own names and conditions are put into SQL; values are parameters

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clickhouse_connect.driver.client import Client

from callspan.stores.base import StoreError
from callspan.stores.clickhouse import connect, layout
from callspan.stores.opening import safe_name
from callspan.stores.retention import Choice, Removed

_DAY_NS: Final = 86_400 * 10**9
_FINAL: Final = {"final": 1, "cast_keep_nullable": 1}
_HAPPENINGS: Final = ("events", "messages", "rewards")


def remove(url: str, choice: Choice) -> Removed:
    """Delete what was chosen; harmless when repeated after a failure.

    A content goes once it was not written for a day longer than the oldest call that stays could need it: writers
    write what they refer to again each hour. Raises StoreError where there are no tables.
    """
    client = connect(url)
    try:
        if layout(client) == 0:
            raise StoreError(f"{safe_name(url)}: no tables of callspan's yet; nothing was recorded there")
        return _remove(client, choice)
    finally:
        client.close()


def _remove(client: Client, choice: Choice) -> Removed:
    if choice.session_id is not None:
        gone = {"sessions": [choice.session_id], "steps": []}
        times = dict.fromkeys(("start", "time", "seen"), "false")
        values: dict[str, object] = {}
    else:
        values = {"old": choice.older_than_ns, "unseen": (choice.older_than_ns or 0) - _DAY_NS}
        gone = {
            "sessions": _ids(
                client, "SELECT session_id FROM sessions WHERE coalesce(end_ns, start_ns) < {old:Int64}", values
            ),
            "steps": _ids(client, "SELECT timestep_id FROM timesteps WHERE start_ns < {old:Int64}", values),
        }
        times = {"start": "start_ns < {old:Int64}", "time": "time_ns < {old:Int64}", "seen": "seen_ns < {unseen:Int64}"}
    values |= gone
    ours = "session_id IN {sessions:Array(String)}"
    others = _delete(
        client, "timestep_versions", f"{ours} OR timestep_id IN {{steps:Array(String)}}", values, "timestep_id"
    )
    others += sum(_delete(client, table, f"{ours} OR {times['time']}", values) for table in _HAPPENINGS)
    return Removed(
        others=others,
        calls=_delete(client, "calls", f"{ours} OR {times['start']}", values),
        sessions=_delete(client, "session_versions", ours, values, "session_id"),
        contents=_delete(client, "content", times["seen"], values),
    )


def _ids(client: Client, sql: str, values: Mapping[str, object]) -> list[str]:
    return [str(row[0]) for row in client.query(sql, parameters=dict(values), settings=_FINAL).result_rows]


def _delete(client: Client, table: str, condition: str, values: Mapping[str, object], key: str | None = None) -> int:
    """Delete rows and return how many things they were: by `key`, else as many as there are after all merges."""
    counted = "count()" if key is None else f"uniqExact({key})"
    sql = f"SELECT {counted} FROM {table} WHERE {condition}"
    number = int(str(client.query(sql, parameters=dict(values), settings=_FINAL).result_rows[0][0]))
    if number:
        client.command(f"DELETE FROM {table} WHERE {condition}", parameters=dict(values))
    return number
