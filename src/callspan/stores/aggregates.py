"""Aggregates: the definition of every sum, percentile, count and order that readers return, for all stores."""

from __future__ import annotations

import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Context, Decimal, localcontext
from typing import Final, NamedTuple

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import (
    EventRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    record_key,
    start_id,
)
from callspan.stores.base import Event, Grouping, SessionSummary, Summary
from callspan.stores.columns import MAX_COUNT

ERRORS: Final = frozenset({"error", "timeout"})
"""Outcomes that count as errors."""

_ANNOUNCED: Final = frozenset({"tool", "agent"})
_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_EXACT: Final = Context(prec=200)
"""Enough digits that no sum of money is ever rounded."""


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the percentile of sorted values by linear interpolation; None for no values.

    The same as SQL's `percentile_cont` and the default of NumPy.
    """
    if not values:
        return None
    position = (len(values) - 1) * share
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def percentile_ms(values_ns: Sequence[float], share: float) -> float | None:
    """Return the percentile of sorted durations in nanoseconds, in milliseconds; None for no values."""
    found = percentile(values_ns, share)
    return None if found is None else found / _NS_PER_MS


def known_sum(values: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None where none is known. A count that cannot be true is unknown."""
    known = [value for value in values if value is not None and abs(value) <= MAX_COUNT]
    return sum(known) if known else None


def exact_sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of the known amounts; None where none is known. What is no number counts as unknown."""
    known = [value for value in values if value is not None and value.is_finite()]
    # The usual context rounds to 28 digits.
    with localcontext(_EXACT):
        return sum(known, Decimal(0)) if known else None


def is_error(outcome: str | None) -> bool:
    """Return True for a call that failed; one that was cancelled, or still runs, did not."""
    return outcome in ERRORS


def model_of(record: CallRecord) -> str | None:
    """Return the model a call counts for: the requested one, else the responding one."""
    return record.request.model or (record.response.model if record.response else None)


def day_of(time_ns: int) -> str:
    """Return the UTC day, ISO."""
    return datetime.fromtimestamp(time_ns // _NS_PER_S, tz=timezone.utc).date().isoformat()


def group_of(record: CallRecord, by: Grouping) -> str | None:
    """Return the key a call is grouped under."""
    if by == "model":
        return model_of(record)
    if by == "provider":
        return record.provider
    return record.place.session_id if by == "session" else day_of(record.timing.start_ns)


def summarise(records: Iterable[CallRecord], by: Grouping, *, latencies: bool = True) -> Iterator[Summary]:
    """Yield one summary per group, largest number of calls first, then by key."""
    groups: dict[str | None, list[CallRecord]] = defaultdict(list)
    for record in records:
        groups[group_of(record, by)].append(record)
    for key, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0] or "")):
        yield _summary(key, group, latencies=latencies)


def last_ns(record: CallRecord) -> int:
    """Return the end of a call, else its start, Unix nanoseconds."""
    return record.timing.start_ns + (record.timing.duration_ns or 0)


def reward_of(events: Iterable[Event]) -> float | None:
    """Return a session's reward: the last it was given as a whole, else the sum over its events.

    An event's own reward and a reward record for that event are one reward; of several records for one event the first
    counts. The order of `events` does not matter. None where there is none.
    """
    by_event: dict[str, float] = {}
    loose: list[float] = []
    given: RewardRecord | None = None
    for item in sorted(events, key=event_order):
        if isinstance(item, EventRecord) and item.reward is not None:
            by_event[item.event_id] = item.reward
        elif isinstance(item, RewardRecord) and item.objective == "reward" and item.value is not None:
            if item.scope == "session":
                given = item
            elif item.scope == "event" and item.event_id is not None:
                by_event.setdefault(item.event_id, item.value)
            elif item.scope == "event":
                loose.append(item.value)
    if given is not None:
        return given.value
    return sum(by_event.values()) + sum(loose) if by_event or loose else None


def as_read(session: SessionRecord) -> SessionRecord:
    """Return the session as readers show it: `interrupted` where its process is gone before its end."""
    if session.outcome is None and session.end_ns is None and is_gone(session.host, session.pid):
        return msgspec.structs.replace(session, outcome="interrupted")
    return session


def is_gone(host: str | None, pid: int | None) -> bool:
    """Return True only where it is certain that the process no longer runs: on this host, and not there."""
    if pid is None or pid <= 0 or host != socket.gethostname() or sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def in_order(events: Iterable[Event]) -> list[Event]:
    """Return events in the order they happened; starts of tools and agents only where no end is among them."""
    found = list(events)
    ended = {start_id(one.event_id) for one in found if isinstance(one, EventRecord) and one.event_type in _ANNOUNCED}
    kept = (item for item in found if not isinstance(item, EventRecord) or item.event_id not in ended)
    return sorted(kept, key=event_order)


def event_order(item: Event) -> tuple[int, int, tuple[str, str]]:
    """Return the key that sorts events: by time, the order their process wrote them, kind and id."""
    sequence = None if isinstance(item, RewardRecord) else item.sequence
    return item.time_ns, sequence or 0, record_key(item)


def _summary(key: str | None, group: Sequence[CallRecord], *, latencies: bool) -> Summary:
    usages = [record.usage for record in group if record.usage is not None]
    good = [record.timing for record in group if latencies and record.outcome == "success"]
    durations = sorted(timing.duration_ns for timing in good if timing.duration_ns is not None)
    firsts = sorted(timing.first_token_ns for timing in good if timing.first_token_ns is not None)
    return Summary(
        key=key,
        calls=len(group),
        errors=sum(is_error(record.outcome) for record in group),
        cancelled=sum(record.outcome == "cancelled" for record in group),
        input_tokens=known_sum(usage.input_tokens for usage in usages),
        output_tokens=known_sum(usage.output_tokens for usage in usages),
        cache_read_tokens=known_sum(usage.cache_read_tokens for usage in usages),
        reasoning_tokens=known_sum(usage.reasoning_tokens for usage in usages),
        cost_usd=exact_sum(record.cost.usd for record in group if record.cost),
        calls_without_cost=sum(record.cost is None for record in group),
        p50_ms=percentile_ms(durations, 0.5),
        p95_ms=percentile_ms(durations, 0.95),
        ttft_p50_ms=percentile_ms(firsts, 0.5),
        retries=known_sum(record.retries for record in group),
        first_ns=min(record.timing.start_ns for record in group),
        last_ns=max(last_ns(record) for record in group),
    )


def sessions_of(records: Iterable[Record]) -> dict[str, tuple[int | None, SessionSummary]]:
    """Return the summary of each session these records tell of, with its start; also where only calls name it.

    Records are whole: each once, in its newest version.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        session_id = record.place.session_id if isinstance(record, CallRecord) else record.session_id
        if session_id is not None:
            groups[session_id].append(record)
    found = {session_id: _session(session_id, group) for session_id, group in groups.items()}
    return {session_id: pair for session_id, pair in found.items() if pair is not None}


def timesteps_of(records: Iterable[Record], session_id: str) -> list[TimestepRecord]:
    """Return the timesteps of a session by their start."""
    own = [record for record in records if isinstance(record, TimestepRecord) and record.session_id == session_id]
    return sorted(own, key=lambda step: (step.start_ns or 0, step.index, step.timestep_id))


def events_of(records: Iterable[Record], session_id: str) -> list[Event]:
    """Return the events, messages and rewards of a session in order."""
    return in_order(
        record
        for record in records
        if not isinstance(record, CallRecord | SessionRecord | TimestepRecord) and record.session_id == session_id
    )


def _session(session_id: str, records: list[Record]) -> tuple[int | None, SessionSummary] | None:
    """The session all these records belong to; None where neither it nor a call tells of it."""
    known = next((record for record in records if isinstance(record, SessionRecord)), None)
    calls = [record for record in records if isinstance(record, CallRecord)]
    sums = next(iter(summarise(calls, "session")), None)
    if known is None and sums is None:
        return None
    first = None if sums is None else sums.first_ns
    session = known or SessionRecord(session_id=session_id, record_version=0, start_ns=first)
    steps, events = timesteps_of(records, session_id), events_of(records, session_id)
    summary = session_summary(
        session,
        sums,
        models=map(model_of, calls),
        timesteps=extent([step.start_ns if step.end_ns is None else step.end_ns for step in steps]),
        events=extent([item.time_ns for item in events]),
        reward=reward_of(events),
    )
    return (first if session.start_ns is None else session.start_ns), summary


class Extent(NamedTuple):
    """How many records of a kind a session has, and the time of the latest."""

    number: int = 0
    last_ns: int | None = None


def extent(times: Sequence[int | None]) -> Extent:
    """Return the extent of records by their times."""
    return Extent(len(times), max((time for time in times if time is not None), default=None))


def session_summary(
    session: SessionRecord,
    sums: Summary | None,
    *,
    models: Iterable[str | None],
    timesteps: Extent,
    events: Extent,
    reward: float | None,
) -> SessionSummary:
    """Return the summary of a session out of its parts; `sums` is None where it has no calls."""
    times = [session.start_ns, session.end_ns, sums.last_ns if sums else None, timesteps.last_ns, events.last_ns]
    return SessionSummary(
        session=as_read(session),
        timesteps=timesteps.number,
        calls=sums.calls if sums else 0,
        errors=sums.errors if sums else 0,
        cancelled=sums.cancelled if sums else 0,
        events=events.number,
        models=sorted({model for model in models if model is not None}),
        input_tokens=sums.input_tokens if sums else None,
        output_tokens=sums.output_tokens if sums else None,
        cost_usd=sums.cost_usd if sums else None,
        reward=reward,
        last_ns=max((time for time in times if time is not None), default=None),
    )
