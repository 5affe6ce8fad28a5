"""Span finder: where the span of a session, timestep or call of another process is, as a store file of ours tells."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from callspan.agent.runtime import SpanRef
from callspan.fail_open import value_of
from callspan.forks import late_import
from callspan.record.call import Place
from callspan.stores.urls import parse

_QUERIES: Final = {
    "session": "SELECT trace_id, span_id, session_id FROM sessions WHERE session_id = :id",
    "timestep": "SELECT trace_id, span_id, session_id, timestep_id, timestep FROM timesteps WHERE timestep_id = :id",
    "call": """SELECT trace_id, span_id, session_id, timestep_id, timestep, response_id, sampled
                 FROM calls WHERE call_id = :id""",
}


class _Row(msgspec.Struct):
    trace_id: str | None
    span_id: str | None
    session_id: str | None
    timestep_id: str | None = None
    timestep: int | None = None
    response_id: str | None = None
    sampled: int | None = None


class SpanFinder:
    """Asks the SQLite files among the stores, one indexed row at a time.

    Stores on a network are not queried: rewards are given on the thread of the caller.
    """

    def __init__(self, stores: Iterable[str]) -> None:
        self._paths = [path for url in stores if (path := parse(url).path) is not None and parse(url).kind == "sqlite"]

    def __call__(self, kind: str, identity: str) -> SpanRef | None:
        """Return where the span is; None where no file knows it, or none can be read."""
        for path in self._paths:
            where = value_of(partial(_asked, path, _QUERIES[kind], identity))
            if where is not None:
                return where
        return None


def _asked(path: Path, sql: str, identity: str) -> SpanRef | None:
    reader = late_import("callspan.stores.sqlite.reader").SQLiteReader(path)
    try:
        row = next((dict(row) for row in reader.rows(sql, id=identity)), None)
    finally:
        reader.close()
    if row is None:
        return None
    known = msgspec.convert(row, _Row)
    return SpanRef(
        trace_id=known.trace_id,
        span_id=known.span_id,
        sampled=known.sampled != 0,
        place=Place(session_id=known.session_id, timestep_id=known.timestep_id, timestep=known.timestep),
        response_id=known.response_id,
    )
