"""Interrupted: finds sessions and calls without an end, if their process has exited or is no longer known to run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import SessionRecord
from callspan.record.interrupted import INTERRUPTED, UNKNOWN
from callspan.runtime.process_identity import UNKNOWN_AFTER_S, own_machine, own_namespace, state_of
from callspan.stores.tables.database import NO_VALUES, Database, Values

_Run = TypeVar("_Run", SessionRecord, CallRecord)
IS_HERE: Final = """(coalesce(substr({0}.process, 1, length(CAST(:here AS text))), '') = :here
  OR coalesce(replace({0}.process, :machine, '') <> {0}.process, 1 = 0))"""
"""Whether this process would know if a row's process ran, with the parameters of `exited_processes`."""
HAS_EXITED: Final = f"({IS_HERE} AND replace(:exited, ',' || {{0}}.process || ',', '') <> :exited)"
"""Whether it has exited."""
_OF: Final = f"SELECT DISTINCT p.process FROM {{table}} p WHERE ({{rows}}) AND {IS_HERE.format('p')}"  # noqa: S608


def processes_of(table: str, rows: str) -> str:
    """Return the query for the processes of rows `p` that this one would know of.

    `rows` is the condition on all rows that `HAS_EXITED` is asked about: of any other, it takes the process as running.
    """
    return _OF.format(table=table, rows=rows)


OF_SESSIONS: Final = processes_of("sessions", "p.end_ns IS NULL")
OF_CALLS: Final = processes_of("calls", "p.part = 'started'")


def exited_processes(database: Database, queries: Iterable[str], values: Values = NO_VALUES) -> Values:
    """Return the parameters of the conditions on processes that these queries find, and the queries' own `values`."""
    values = {**values, "here": f"{own_namespace() or '?'}/", "machine": f"@{own_machine() or '?'}"}
    sql = " UNION ".join(queries)
    processes = [process for (process,) in database.tuples(sql, values)] if sql else []
    exited = "".join(f",{process}," for process in processes if state_of(process) == "exited")
    return {**values, "exited": exited, "silent": silent_ns()}


def silent_ns() -> int:
    """Return the time since when a process that cannot be seen must have shown a sign of life."""
    return time.time_ns() - UNKNOWN_AFTER_S * 10**9


def mark_unended(record: _Run, last_ns: int | None = None) -> _Run:
    """Return a session or call without an end as `interrupted` if its process has exited, others unchanged.

    It is `unknown` if the process cannot be seen and has shown no sign of life for long; the last was at `last_ns`.
    """
    if isinstance(record, CallRecord):
        is_unended, start_ns = record.is_first_version, record.timing.start_ns
    else:
        is_unended, start_ns = record.outcome is None and record.end_ns is None and record.seen_ns > 0, record.start_ns
    if not is_unended:
        return record
    state = state_of(record.process)
    if state == "exited":
        return msgspec.structs.replace(record, outcome=INTERRUPTED)
    if state == "elsewhere" and max(last_ns or 0, record.seen_ns or 0, start_ns or 0) < silent_ns():
        return msgspec.structs.replace(record, outcome=UNKNOWN)
    return record
