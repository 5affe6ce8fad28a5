"""Look-ups: finds in the application's stores the calls, sessions and spans that this process does not know.

A store may wait for a lock, so it is only opened on a thread of callspan's own, and for seconds only.
"""

# ruff: noqa: S608 - SQL text holds only constants; values are parameters

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callspan.agent.runtime import SpanRef, UnansweredError
from callspan.background import on_own_thread
from callspan.fail_open import fail_open, ours, reported
from callspan.forks import late_import
from callspan.record.call import Place
from callspan.settings import Content
from callspan.spool.losses import add_unanswered
from callspan.stores.base import EmptyStoreError, StoreError
from callspan.stores.urls import parse

LOOK_UP_S: Final = 5.0
"""The longest time that a look-up takes, and for which a store that has not answered is left alone afterwards."""
_AGAIN_S: Final = 0.2
_HAS_END: Final = "outcome NOT IN ('started', 'in_progress') AND rec_version NOT IN (3, 4, 5)"
"""Of a stored call: its end with its usage, not only that of a webhook."""
_UNREADABLE: Final = fail_open("look up what a store knows")
_COUNT: Final = fail_open("count a look-up that no store has answered")
_QUERIES: Final = {
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


class StoredCall(NamedTuple):
    """A call that a store has with its end."""

    has_model: bool
    has_answer: bool
    read_ns: int | None
    """When its end was first read, Unix time; None: unknown."""


def is_before(stored_ns: int | None, read_ns: int | None) -> bool:
    """Return whether a stored end had been read before the one of this process, or nobody knows when.

    What this process has written may be stored before the store is asked: that is not before.
    """
    return stored_ns is None or read_ns is None or stored_ns < read_ns


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

    @property
    def level(self) -> Content | None:
        """The content level it was begun with; None: unknown, only those who read it later have recorded it."""
        return None if self.pid is None and self.content_level == "full" else self.content_level


class LookUps:
    """The stores that can be asked: SQLite files, by an indexed look-up. Other stores are not asked."""

    def __init__(self, stores: Iterable[str], directory: Callable[[], Path | None] = lambda: None) -> None:
        """`directory` gives the spool directory, where look-ups without an answer are counted; None: nowhere."""
        self._directory = directory
        self.paths = [path for url in stores if (path := parse(url).path) is not None and parse(url).kind == "sqlite"]
        self._silent_until: dict[Path, float] = {}

    def __bool__(self) -> bool:
        """Return whether there is a store to ask."""
        return bool(self.paths)

    def find(self, kind: str, identity: str) -> SpanRef | None:
        """Return the reference of a span (`session`, `timestep`, `call`); None if no file has it.

        Raises UnansweredError.
        """
        row = next(iter(self._query(_QUERIES[kind], id=identity)), None)
        if row is None:
            return None
        known = msgspec.convert(dict(row), _Row)
        return SpanRef(
            trace_id=known.trace_id,
            span_id=known.span_id,
            sampled=known.sampled != 0,
            place=Place(session_id=known.session_id, timestep_id=known.timestep_id, timestep=known.timestep),
            level=known.level,
            response_id=known.response_id,
            complete=bool(known.complete),
            has_answer=bool(known.has_answer),
            read_ns=known.read_ns,
        )

    def complete(self, call_ids: Sequence[str]) -> Mapping[str, StoredCall]:
        """Return those of the calls that are stored with their end. Raises UnansweredError."""
        found = self._query(_COMPLETE, ids=msgspec.json.encode(call_ids).decode())
        return {
            str(row["call_id"]): StoredCall(
                bool(row["has_model"]), bool(row["has_answer"]), msgspec.convert(row["read_ns"], int | None)
            )
            for row in found
        }

    def model(self, session_id: str) -> str | None:
        """Return the recorded model of a hosted agent's session; None if unknown. Raises UnansweredError."""
        models = (row["model"] for row in self._query(_MODEL, id=session_id))
        return next((model for model in models if isinstance(model, str)), None)

    def _query(self, sql: str, **values: object) -> list[Mapping[str, object]]:
        """Return the rows of all files. Raises UnansweredError if there are none, and a file has not answered."""
        if not on_own_thread():
            raise UnansweredError("a store is only opened on a thread of callspan's own")
        deadline = time.monotonic() + LOOK_UP_S
        rows: list[Mapping[str, object]] = []
        answered = True
        for path in self.paths:
            now = time.monotonic()
            if now >= deadline or now < self._silent_until.get(path, 0.0):
                answered = False
                continue
            try:
                rows += _rows(path, sql, deadline, values)
            except ours(EmptyStoreError):
                continue
            except reported(_UNREADABLE):
                answered = False
                self._silent_until[path] = time.monotonic() + LOOK_UP_S
        if not rows and not answered:
            with _COUNT:
                directory = self._directory()
                if directory is not None:
                    add_unanswered(directory)
            raise UnansweredError(f"no answer within {LOOK_UP_S:.0f} s")
        return rows


def _rows(path: Path, sql: str, deadline: float, values: Mapping[str, object]) -> list[Mapping[str, object]]:
    query: Callable[..., list[Mapping[str, object]]] = late_import("callspan.stores.sqlite.reader").query
    try:
        return query(path, sql, deadline - time.monotonic(), **values)
    except ours(StoreError) as error:
        if isinstance(error, EmptyStoreError) or time.monotonic() + _AGAIN_S >= deadline:
            raise
    # The last writer may just have closed the file, and taken its write-ahead log with it.
    time.sleep(_AGAIN_S)
    return query(path, sql, deadline - time.monotonic(), **values)
