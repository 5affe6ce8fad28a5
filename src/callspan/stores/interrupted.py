"""Interrupted: finds sessions and calls whose process exited before they ended.

Only processes of this host can be known to have exited.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import SessionRecord
from callspan.record.interrupted import INTERRUPTED
from callspan.stores.database import Database, Values

_Run = TypeVar("_Run", SessionRecord, CallRecord)
HAS_EXITED: Final = "{0}.host = :host AND replace(:exited, ',' || {0}.pid || ',', '') <> :exited"
"""Whether the process of a row has exited, with the parameters of `exited_processes`."""
OF_SESSIONS: Final = "SELECT DISTINCT pid FROM sessions WHERE end_ns IS NULL AND host = :host"
"""The processes of this host that have sessions without an end."""
OF_CALLS: Final = "SELECT DISTINCT pid FROM calls WHERE part = 'started' AND host = :host"
"""The processes of this host that have calls without an end."""


def exited_processes(database: Database, queries: Iterable[str]) -> Values:
    """Return the parameters of `HAS_EXITED` for the processes that these queries find."""
    host, sql = socket.gethostname(), " UNION ".join(queries)
    pids = [pid for (pid,) in database.tuples(sql, {"host": host})] if sql else []
    return {"host": host, "exited": "".join(f",{pid}," for pid in pids if has_exited(host, pid))}


def mark_interrupted(record: _Run) -> _Run:
    """Return a session or call, with the outcome `interrupted` if its process exited before it ended."""
    if isinstance(record, CallRecord):
        is_unended = record.is_first_version
    else:
        is_unended = record.outcome is None and record.end_ns is None
    if is_unended and has_exited(record.host, record.pid):
        return msgspec.structs.replace(record, outcome=INTERRUPTED)
    return record


def has_exited(host: str | None, pid: int | None) -> bool:
    """Return whether a process of this host has exited; False if unknown."""
    if pid is None or pid <= 0 or host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
