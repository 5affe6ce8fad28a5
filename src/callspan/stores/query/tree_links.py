"""Tree links: reads only the fields that place the records of a session in its tree."""

# ruff: noqa: S608 - SQL text holds only our own column names

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from callspan.record.events import RUN_TYPES, start_id
from callspan.record.tree import SUBAGENT_ID, TreeLinks
from callspan.stores.tables.database import Database, Values

_TRACE: Final = "CASE WHEN CAST(extra AS text) LIKE '%\"scope_span_id\"%' THEN CAST(extra AS text) END"
_STEPS: Final = f"""
SELECT timestep_id, coalesce(start_ns, 0), parent_timestep_id, span_id, parent_span_id, {_TRACE}
  FROM timesteps WHERE session_id = :id ORDER BY coalesce(start_ns, 0), timestep_id"""
_CALLS: Final = f"""
SELECT call_id, start_ns, timestep_id, span_id, parent_span_id, {_TRACE}, CASE WHEN span_id IS NULL THEN agent_id END
  FROM calls WHERE session_id = :id AND start_ns < :until ORDER BY start_ns, call_id"""
_EVENTS: Final = f"""
SELECT event_id, time_ns, timestep_id, span_id, parent_span_id, {_TRACE}, call_id, event_type,
    CASE WHEN span_id IS NULL THEN metadata END
  FROM events WHERE session_id = :id AND time_ns < :until ORDER BY time_ns, coalesce(sequence, 0), event_id"""


def tree_links(database: Database, session_id: str, until_ns: int) -> Iterator[TreeLinks]:
    """Yield the links of all timesteps of a session, and of its calls and events before a time."""
    for ident, start_ns, step_id, span_id, parent_span_id, extra in database.tuples(_STEPS, {"id": session_id}):
        yield TreeLinks(ident, start_ns, step_id, span_id, parent_span_id, _scope_in(extra), is_step=True)
    values: Values = {"id": session_id, "until": until_ns}
    for ident, start_ns, step_id, span_id, parent_span_id, extra, agent_id in database.tuples(_CALLS, values):
        scope_id = _scope_in(extra)
        yield TreeLinks(ident, start_ns, step_id, span_id, parent_span_id, scope_id, agent_id=agent_id, is_call=True)
    events = [*database.tuples(_EVENTS, values)]
    ended = {start_id(event_id) for event_id, *_ in events}
    for ident, start_ns, step_id, span_id, parent_span_id, extra, call_id, event_type, metadata in events:
        if ident in ended:
            continue
        names = {} if metadata is None else msgspec.json.decode(metadata)
        yield TreeLinks(
            ident, start_ns, step_id, span_id, parent_span_id, _scope_in(extra), call_id,
            agent_id=_text(names.get("agent_id")), subagent_id=_text(names.get(SUBAGENT_ID)),
            is_agent=RUN_TYPES.get(event_type, event_type) == "agent", is_start=event_type in RUN_TYPES,
        )  # fmt: skip


def _scope_in(extra: str | None) -> str | None:
    """Return the span of the nearest scope, among the fields of a record that have no column."""
    trace = None if extra is None else msgspec.json.decode(extra).get("trace")
    return _text(trace.get("scope_span_id")) if isinstance(trace, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
