"""Look-ups in a SQLite file: what a process that records asks of it, by indexed queries with a time limit."""

# ruff: noqa: S608 - SQL text holds only constants; values are parameters

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.settings import Content
from callspan.stores.base import EmptyStoreError, StoredCall, StoredSpan, StoreError
from callspan.stores.sql_rewards import Values
from callspan.stores.sqlite.reader import query

_AGAIN_S: Final = 0.2
_HAS_END: Final = "outcome NOT IN ('started', 'in_progress') AND rec_version NOT IN (3, 4, 5)"
"""Of a stored call: its end with its usage, not only that of a webhook."""
_SPANS: Final = {
    "session": "SELECT * FROM sessions WHERE session_id = :id",
    "timestep": """SELECT t.trace_id, t.span_id, t.session_id, t.timestep_id, t.timestep, s.*
                     FROM timesteps t LEFT JOIN sessions s USING (session_id) WHERE t.timestep_id = :id""",
    "call": f"""SELECT *, {_HAS_END} AS complete,
                      output IS NOT NULL AS has_answer, json_extract(extra, '$.read_ns') AS read_ns
                 FROM calls WHERE call_id = :id""",
}
"""All columns, because a file of an earlier layout lacks some of those that are read, see `_Row`."""
_MODEL: Final = "SELECT json_extract(metadata, '$.agent_model') AS model FROM sessions WHERE session_id = :id"
_COMPLETE: Final = f"""
    SELECT call_id, model_req IS NOT NULL AS has_model, output IS NOT NULL AS has_answer,
           json_extract(extra, '$.read_ns') AS read_ns FROM calls
     WHERE call_id IN (SELECT value FROM json_each(:ids)) AND {_HAS_END}"""


class _Row(msgspec.Struct):
    trace_id: str | None
    span_id: str | None
    session_id: str | None
    timestep_id: str | None = None
    timestep: int | None = None
    response_id: str | None = None
    sampled: int | None = None
    complete: int | None = None
    has_answer: int | None = None
    read_ns: int | None = None
    pid: int | None = None
    content_level: Content | None = None


class SQLiteLookUp:
    """The look-ups of one file. Opens it for each, for `wait_s` seconds at most in all."""

    def __init__(self, path: Path, wait_s: float) -> None:
        """Open nothing yet."""
        self._path = path
        self._deadline = time.monotonic() + wait_s

    def span(self, kind: str, identity: str) -> StoredSpan | None:
        """Return the span of a `session`, `timestep` or `call` by its id; None if it has none. Raises StoreError."""
        row = next(iter(self._rows(_SPANS[kind], id=identity)), None)
        if row is None:
            return None
        known = msgspec.convert(dict(row), _Row)
        return StoredSpan(
            trace_id=known.trace_id,
            span_id=known.span_id,
            session_id=known.session_id,
            timestep_id=known.timestep_id,
            timestep=known.timestep,
            response_id=known.response_id,
            sampled=known.sampled != 0,
            has_end=bool(known.complete),
            has_answer=bool(known.has_answer),
            read_ns=known.read_ns,
            # Only those who read it later have recorded it.
            level=None if known.pid is None and known.content_level == "full" else known.content_level,
        )

    def ended_calls(self, call_ids: Sequence[str]) -> Mapping[str, StoredCall]:
        """Return those of the calls that are stored with their end. Raises StoreError."""
        found = self._rows(_COMPLETE, ids=msgspec.json.encode(call_ids).decode())
        return {
            str(row["call_id"]): StoredCall(
                bool(row["has_model"]), bool(row["has_answer"]), msgspec.convert(row["read_ns"], int | None)
            )
            for row in found
        }

    def agent_model(self, session_id: str) -> str | None:
        """Return the model of a hosted agent's session; None if unknown. Raises StoreError."""
        models = (row["model"] for row in self._rows(_MODEL, id=session_id))
        return next((model for model in models if isinstance(model, str)), None)

    def _rows(self, sql: str, **values: object) -> list[Values]:
        try:
            return query(self._path, sql, self._deadline - time.monotonic(), **values)
        except ours(StoreError) as error:
            if isinstance(error, EmptyStoreError) or time.monotonic() + _AGAIN_S >= self._deadline:
                raise
        # The last writer may just have closed the file, and taken its write-ahead log with it.
        time.sleep(_AGAIN_S)
        return query(self._path, sql, self._deadline - time.monotonic(), **values)
