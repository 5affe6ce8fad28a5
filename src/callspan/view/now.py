"""Now: the size of the store, the last hour, running sessions, and the failures of the last day."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from callspan.formatting import exact
from callspan.records import CallRecord
from callspan.stores import IN_PROGRESS, CallFilter, Reader, Summary
from callspan.view.calls import call_rows
from callspan.view.sessions import session_rows
from callspan.view.source import PageRequest, Row

_HOUR_NS: Final = 3_600_000_000_000
_MINUTE_NS: Final = 60_000_000_000
_MINUTES: Final = 60
_MAX_ROWS: Final = 3
_MAX_READ: Final = 50
"""Number of the newest successes among which empty answers are searched."""
_WORTH: Final[tuple[dict[str, Any], ...]] = (
    {"errors": True}, {"cut": True}, {"finish_reason": "waiting for approval"}, {"outcome": "cancelled"},
    {"outcome": "interrupted"}, {"refused": True},
)  # fmt: skip
"""The conditions of calls that are worth a look."""


class Hour(msgspec.Struct):
    """The last hour, in full minutes."""

    calls: int
    cost_usd: str | None
    calls_without_cost: int
    errors: int
    duration_p50_ns: float | None
    duration_p95_ns: float | None
    retries: int | None
    minutes: list[int]
    """Number of calls per minute, oldest first."""


class StorePage(msgspec.Struct):
    """The store, for the top bar of each page."""

    name: str
    command: str
    """The beginning of the commands that read it."""
    trace_url: str | None
    calls: int
    sessions: int
    last_ns: int | None
    """Start of the newest call."""
    notices: list[str]
    """Sentences about waiting and lost records."""


class NowPage(msgspec.Struct):
    """The facts above the list on the start page."""

    at_ns: int
    hour: Hour
    running: list[Row]
    worth: list[Row]
    """Failed, cut, cancelled, interrupted, refused and empty calls of the last day, newest first."""


def version(request: PageRequest) -> dict[str, str]:
    """Return a text that changes with every write."""
    return {"version": request.reader.version()}


def store(request: PageRequest) -> StorePage:
    """Return the facts of the store."""
    newest = next(request.reader.calls(CallFilter(limit=1, content="none")), None)
    return StorePage(
        name=request.access.name,
        command=request.access.command,
        trace_url=request.access.trace_url,
        calls=request.reader.count_calls(),
        sessions=request.reader.count_sessions(),
        last_ns=None if newest is None else newest.timing.start_ns,
        notices=request.access.waiting(),
    )


def page(request: PageRequest) -> NowPage:
    """Return the running sessions, the last hour and the failures of a day."""
    reader, now_ns = request.reader, time.time_ns()
    return NowPage(
        at_ns=now_ns,
        hour=_hour(reader, now_ns),
        running=session_rows(reader, list(reader.sessions(CallFilter(session_outcome=IN_PROGRESS, limit=_MAX_ROWS)))),
        worth=_failures(reader, now_ns - 24 * _HOUR_NS),
    )


def _hour(reader: Reader, now_ns: int) -> Hour:
    last_minute = now_ns // _MINUTE_NS
    selection = CallFilter(since_ns=(last_minute - _MINUTES + 1) * _MINUTE_NS)
    total = next(reader.summary((), selection), Summary(calls=0, errors=0))
    minutes = reader.summary("minute", selection, latencies=False)
    calls = {summary.first_ns // _MINUTE_NS: summary.calls for summary in minutes if summary.first_ns}
    return Hour(
        calls=total.calls,
        cost_usd=exact(total.cost_usd),
        calls_without_cost=total.calls_without_cost,
        errors=total.errors,
        duration_p50_ns=total.duration_p50_ns,
        duration_p95_ns=total.duration_p95_ns,
        retries=total.retries,
        minutes=[calls.get(minute, 0) for minute in range(last_minute - _MINUTES + 1, last_minute + 1)],
    )


def _failures(reader: Reader, since_ns: int) -> list[Row]:
    calls: dict[str, CallRecord] = {}
    for condition in _WORTH:
        selection = CallFilter(since_ns=since_ns, limit=_MAX_ROWS, **condition)
        calls |= {call.call_id: call for call in reader.calls(selection)}
    lately = CallFilter(since_ns=since_ns, limit=_MAX_READ, outcome="success", content="response")
    empty = [call.call_id for call in reader.calls(lately) if call.unanswered == "empty"][:_MAX_ROWS]
    calls |= {call.call_id: call for call in map(reader.call, empty) if call is not None}
    newest = sorted(calls.values(), key=lambda call: -call.timing.start_ns)
    return call_rows(newest[: 2 * _MAX_ROWS])
