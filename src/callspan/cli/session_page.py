"""Session page: a session, or a part of a long one, as `show` draws it: its steps and what happened, in order."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import NamedTuple, TypeAlias

from callspan.record.call import CallRecord
from callspan.record.events import TimestepRecord
from callspan.stores.base import CallFilter, Event, Reader, SessionSummary, Summary

Item: TypeAlias = CallRecord | Event


class Page(NamedTuple):
    """Some or all of a session."""

    summary: SessionSummary
    sums: Summary | None
    """Over all its calls; None where it has none."""
    steps: list[TimestepRecord]
    items: list[Item]
    """Calls and events by the time they began, those of this page."""
    offset: int
    """So many come before."""
    total: int
    """Calls and events of the whole session."""

    @classmethod
    def of(cls, reader: Reader, summary: SessionSummary, limit: int | None, offset: int) -> Page:
        """Read a page of `limit` entries after `offset`; None: all. No more of the calls is held than it shows."""
        session_id = summary.session.session_id
        which = CallFilter(session_id=session_id, newest_first=False)
        happened = list(reader.events(session_id))
        sums = next(iter(reader.summary("session", which, latencies=False)), None)
        every = heapq.merge(reader.calls(which), happened, key=when)
        items = list(islice(every, offset, None if limit is None else offset + limit))
        total = len(happened) + (sums.calls if sums else 0)
        return cls(summary, sums, list(reader.timesteps(session_id)), items, offset, max(total, len(items)))

    @property
    def is_part(self) -> bool:
        """Whether the session has more entries than these."""
        return len(self.items) < self.total

    @property
    def calls(self) -> list[CallRecord]:
        """The calls of this page."""
        return [item for item in self.items if isinstance(item, CallRecord)]

    @property
    def events(self) -> list[Event]:
        """What else happened in it."""
        return [item for item in self.items if not isinstance(item, CallRecord)]

    @property
    def shown_steps(self) -> list[TimestepRecord]:
        """The steps something of this page belongs to, and those above them; of a whole session every one."""
        if not self.is_part:
            return self.steps
        by_id = {step.timestep_id: step for step in self.steps}
        wanted: set[str] = set()
        for item in self.items:
            step = by_id.get(step_of(item) or "")
            while step is not None and step.timestep_id not in wanted:
                wanted.add(step.timestep_id)
                step = by_id.get(step.parent_timestep_id or "")
        return [step for step in self.steps if step.timestep_id in wanted]


def when(item: Item) -> int:
    """Return when a call or event began, Unix nanoseconds."""
    return item.timing.start_ns if isinstance(item, CallRecord) else item.time_ns


def step_of(item: Item) -> str | None:
    """Return the id of the timestep it belongs to; None: to the session itself."""
    return item.place.timestep_id if isinstance(item, CallRecord) else item.timestep_id
