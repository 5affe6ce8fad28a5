"""Received: adds the calls and tools that another process made in a session to its totals, while it is open here.

A call has several versions, and a later one may state more: then only the difference is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callspan.agent.registry import open_scopes
from callspan.agent.totals import sums_of_call
from callspan.record.call import CallRecord, Place
from callspan.record.events import EventRecord, Record
from callspan.runtime.lock_free import LRUCache

_MAX_CALLS: Final = 4096
_TOOL: Final = "tool"
_NOTHING: Final[Mapping[str, int]] = {}


class ReceivedTotals:
    """What was added of the newest calls."""

    def __init__(self) -> None:
        self._added: LRUCache[str, Mapping[str, int]] = LRUCache(_MAX_CALLS)

    def count(self, record: Record) -> None:
        """Add a written record to the totals of its timestep and session, as far as they are open here."""
        if isinstance(record, CallRecord):
            sums = {name: amount for name, amount in sums_of_call(record).items() if amount is not None}
            before = self._added.get(record.call_id) or _NOTHING
            _add(record.place, {name: amount - before.get(name, 0) for name, amount in sums.items()})
            self._added.put(record.call_id, {**before, **sums})
        elif isinstance(record, EventRecord) and record.event_type == _TOOL:
            place = Place(session_id=record.session_id, timestep_id=record.timestep_id)
            _add(place, {"tools": 1, "tool_ns": record.duration_ns})


def _add(place: Place, sums: Mapping[str, int | None]) -> None:
    for scope in open_scopes(place.session_id, place.timestep_id)[:1]:
        scope.add(sums)
