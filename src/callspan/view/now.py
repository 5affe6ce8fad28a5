"""Now: what the store has, what the last hour was like, what runs, and what failed today."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import msgspec

from callspan.formatting import exact, in_ms
from callspan.record.call import CallRecord
from callspan.stores.aggregates import exact_sum, known_sum, latencies_of
from callspan.stores.base import CallFilter, Reader
from callspan.view.calls import CallRow, call_rows
from callspan.view.sessions import SessionRow, session_rows
from callspan.view.source import View

_HOUR_NS: Final = 3_600_000_000_000
_MINUTE_NS: Final = 60_000_000_000
_MOST: Final = 5_000
"""Calls of the last hour that are looked at."""
_FEW: Final = 3


class Hour(msgspec.Struct):
    """The last hour."""

    calls: int
    more: bool
    """There were more calls than are counted."""
    cost_usd: str | None
    calls_without_cost: int
    p50_ms: float | None
    retries: int | None
    minutes: list[int]
    """Calls of each minute, the last one last."""


class NowPage(msgspec.Struct):
    """What the start page and its top bar show."""

    store: str
    live: bool
    """Whether changes are shown as they come."""
    trace_url: str | None
    at_ms: float
    last_ms: float | None
    """When the newest call began."""
    hour: Hour
    running: list[SessionRow]
    worth: list[CallRow]
    """Of the last day: calls that failed, were cut, or cancelled, newest first."""
    waiting: list[str]


def page(view: View) -> NowPage:
    """Return what goes on."""
    reader, now_ns = view.reader, time.time_ns()
    newest = next(reader.calls(CallFilter(limit=1, content="none")), None)
    day = now_ns - 24 * _HOUR_NS
    return NowPage(
        store=view.access.name,
        live=reader.version() is not None,
        trace_url=view.access.trace_url,
        at_ms=now_ns / 1e6,
        last_ms=None if newest is None else in_ms(newest.timing.start_ns),
        hour=_hour(reader, now_ns),
        running=session_rows(reader, list(reader.sessions(which=CallFilter(session_outcome="running"), limit=_FEW))),
        worth=_worth(reader, day),
        waiting=view.access.waiting(),
    )


def _hour(reader: Reader, now_ns: int) -> Hour:
    began = now_ns - _HOUR_NS
    calls = list(reader.calls(CallFilter(since_ns=began, limit=_MOST, content="none")))
    minutes = Counter(min(59, (call.timing.start_ns - began) // _MINUTE_NS) for call in calls)
    times = [call.timing.duration_ns for call in calls if call.outcome == "success"]
    latencies = latencies_of({0: [one for one in times if one is not None]}, {}).get(0)
    return Hour(
        calls=len(calls),
        more=len(calls) == _MOST,
        cost_usd=exact(exact_sum(call.cost.usd if call.cost else None for call in calls)),
        calls_without_cost=sum(call.cost is None for call in calls),
        p50_ms=latencies.p50_ms if latencies else None,
        retries=known_sum(call.retries for call in calls),
        minutes=[minutes[number] for number in range(60)],
    )


def _worth(reader: Reader, since_ns: int) -> list[CallRow]:
    conditions = ({"errors": True}, {"finish": "length"}, {"cut_off": True}, {"outcome": "cancelled"})
    found: dict[str, CallRecord] = {}
    for condition in conditions:
        which = CallFilter(since_ns=since_ns, limit=_FEW, content="none", **condition)
        found |= {call.call_id: call for call in reader.calls(which)}
    newest = sorted(found.values(), key=lambda call: -call.timing.start_ns)
    return call_rows(newest[: 2 * _FEW])
