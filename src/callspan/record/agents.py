"""Agents: which records ran in which agents, by their spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeGuard

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord


class Agents:
    """The agents among records of one session. What an agent's own agents did, it did too."""

    def __init__(self, records: Iterable[object]) -> None:
        spans = [one for one in records if isinstance(one, CallRecord | EventRecord) and one.span_id is not None]
        self._above = {one.span_id: one.parent_span_id for one in spans}
        self._agents = {one.span_id for one in spans if is_agent(one)}
        self._calls: dict[str | None, list[CallRecord]] = defaultdict(list)
        for call in spans:
            if isinstance(call, CallRecord):
                for agent in self._around(call):
                    self._calls[agent].append(call)

    def depth(self, record: object) -> int:
        """Return in how many agents a record was made."""
        return len(self._around(record))

    def calls(self, agent: EventRecord) -> list[CallRecord]:
        """Return the calls in an agent."""
        return self._calls[agent.span_id] if agent.span_id is not None else []

    def _around(self, record: object) -> list[str | None]:
        found: list[str | None] = []
        above = getattr(record, "parent_span_id", None)
        for _ in self._above:  # no longer than there are spans, even in a cycle of parents
            if above is None:
                break
            found += [above] if above in self._agents else []
            above = self._above.get(above)
        return found


def is_agent(record: object) -> TypeGuard[EventRecord]:
    """Return whether a record is the event of an agent."""
    return isinstance(record, EventRecord) and record.event_type == "agent"
