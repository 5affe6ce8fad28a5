"""Agents: finds the agents around each record of a session by the parents of their spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeGuard

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord


class Agents:
    """The agents of one session. Calls of a nested agent also count as calls of the agents around it."""

    def __init__(self, records: Iterable[object]) -> None:
        spans = [one for one in records if isinstance(one, CallRecord | EventRecord) and one.span_id is not None]
        self._parents = {one.span_id: one.parent_span_id for one in spans}
        self._agents = {one.span_id for one in spans if is_agent(one)}
        self._calls: dict[str | None, list[CallRecord]] = defaultdict(list)
        for call in spans:
            if isinstance(call, CallRecord):
                for agent in self._enclosing_agents(call):
                    self._calls[agent].append(call)

    def depth(self, record: object) -> int:
        """Return the number of agents around a record."""
        return len(self._enclosing_agents(record))

    def calls(self, agent: EventRecord) -> list[CallRecord]:
        """Return the calls made inside an agent."""
        return self._calls[agent.span_id] if agent.span_id is not None else []

    def _enclosing_agents(self, record: object) -> list[str | None]:
        found: list[str | None] = []
        above = getattr(record, "parent_span_id", None)
        for _ in self._parents:  # bounded, even if parents form a cycle
            if above is None:
                break
            found += [above] if above in self._agents else []
            above = self._parents.get(above)
        return found


def is_agent(record: object) -> TypeGuard[EventRecord]:
    """Return whether a record is the event of an agent."""
    return isinstance(record, EventRecord) and record.event_type == "agent"
