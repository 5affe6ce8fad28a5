"""Aggregates: the definition of every sum, percentile, count and order that readers return, for all stores."""

from __future__ import annotations

import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Context, Decimal, localcontext
from typing import Final, NamedTuple, TypeVar, cast

import msgspec

from callspan.record import reward_sums
from callspan.record.call import FAILED, CallRecord
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    record_key,
    start_id,
)
from callspan.record.reward_sums import RewardSums
from callspan.stores.base import Event, SessionSummary, Summary, Times
from callspan.stores.columns import MAX_COUNT
from callspan.stores.filters import checked_grouping, label_by

_Summed = TypeVar("_Summed", SessionRecord, TimestepRecord)
ANNOUNCED: Final = frozenset({"tool", "agent"})
"""Types of events that have a start event too, where they are long."""
_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_EXACT: Final = Context(prec=200)
"""Enough digits that no sum of costs is ever rounded."""


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
    """Return the sum of the known counts; None if none is known. Impossibly large counts are unknown."""
    known = [value for value in values if value is not None and abs(value) <= MAX_COUNT]
    return sum(known) if known else None


def exact_sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the exact sum of the known amounts; None if none is known. NaN and infinities are unknown."""
    known = [value for value in values if value is not None and value.is_finite()]
    # The default context rounds to 28 digits.
    with localcontext(_EXACT):
        return sum(known, Decimal(0)) if known else None


def is_error(outcome: str | None) -> bool:
    """Return whether a call failed; cancelled and running calls have not."""
    return outcome in FAILED


def model_of(record: CallRecord) -> str | None:
    """Return the model a call is grouped under: the requested one, else the one in the response."""
    return record.request.model or (record.response.model if record.response else None)


def day_of(time_ns: int) -> str:
    """Return the UTC day, ISO."""
    return datetime.fromtimestamp(time_ns // _NS_PER_S, tz=timezone.utc).date().isoformat()


def group_of(record: CallRecord, by: str, session: SessionRecord | None = None) -> str | None:
    """Return the key a call of this session is grouped under."""
    if by == "model":
        return model_of(record)
    if by == "provider":
        return record.provider
    if by == "session":
        return record.place.session_id
    return day_of(record.timing.start_ns) if by == "day" else label_by(record, session, by)


def summarise(
    records: Iterable[CallRecord],
    by: str,
    *,
    latencies: bool = True,
    sessions: Mapping[str, SessionRecord] | None = None,
) -> Iterator[Summary]:
    """Yield one summary per group, largest number of calls first, then by key.

    `sessions` (by id) are needed for labels. Raises ValueError for an unknown grouping.
    """
    groups: dict[str | None, list[CallRecord]] = defaultdict(list)
    known = sessions or {}
    checked_grouping(by)
    for record in records:
        groups[group_of(record, by, known.get(record.place.session_id or ""))].append(record)
    for key, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0] or "")):
        yield _summary(key, group, latencies=latencies)


def times_of(records: Iterable[CallRecord]) -> Iterator[Times]:
    """Yield the times of the calls that succeeded."""
    for record in records:
        if record.outcome == "success":
            yield Times(model_of(record), record.timing.duration_ns, record.timing.first_token_ns)


def last_ns(record: CallRecord) -> int:
    """Return the end of a call, else its start, Unix nanoseconds."""
    return record.timing.start_ns + (record.timing.duration_ns or 0)


def rewards_of(events: Iterable[Event]) -> RewardSums:
    """Return the sums of a session's rewards. The order of `events` does not matter."""
    return reward_sums.total(_counted(events))


def rewards_by_step(events: Iterable[Event], parents: Mapping[str, str | None]) -> dict[str, RewardSums]:
    """Return the sums of a session's rewards by timestep, late ones included. The order of `events` does not matter.

    `parents` has the parent of each nested step: rewards of a nested step also count in the enclosing step.
    """
    found: dict[str, RewardSums] = {}
    for record in _counted(events):
        timestep_id = None if isinstance(record, RewardRecord) and record.scope == "session" else record.timestep_id
        seen: set[str] = set()
        while timestep_id is not None and timestep_id not in seen:
            seen.add(timestep_id)
            found[timestep_id] = found.get(timestep_id, reward_sums.NO_REWARD).plus(reward_sums.sums_of(record))
            timestep_id = parents.get(timestep_id)
    return found


def with_rewards(step: TimestepRecord, rewards: Mapping[str, RewardSums]) -> TimestepRecord:
    """Return a timestep with its sums of `rewards_by_step`; a step with unknown totals gets none."""
    return _rewarded(step, rewards.get(step.timestep_id, reward_sums.NO_REWARD))


def given_to_steps(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records; rewards that have only a timestep's id get the session of that timestep."""
    known = list(records)
    sessions = {step.timestep_id: step.session_id for step in known if isinstance(step, TimestepRecord)}
    for record in known:
        if isinstance(record, RewardRecord) and record.session_id is None and record.timestep_id in sessions:
            yield msgspec.structs.replace(record, session_id=sessions[record.timestep_id])
        else:
            yield record


def _rewarded(record: _Summed, sums: RewardSums) -> _Summed:
    if record.totals is None:
        return record
    totals = msgspec.structs.replace(record.totals, reward=sums.reward, rewards=dict(sums.others))
    return msgspec.structs.replace(record, totals=totals)


def _counted(events: Iterable[Event]) -> Iterator[EventRecord | RewardRecord]:
    found = (item for item in sorted(events, key=event_order) if not isinstance(item, MessageRecord))
    return reward_sums.counted(found)


def as_read(session: SessionRecord) -> SessionRecord:
    """Return the session as readers show it: `interrupted` if its process is gone and it has no end."""
    if session.outcome is None and session.end_ns is None and is_gone(session.host, session.pid):
        return msgspec.structs.replace(session, outcome="interrupted")
    return session


def is_gone(host: str | None, pid: int | None) -> bool:
    """Return True only if the process certainly no longer runs: it was on this host and is gone."""
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
    """Return events in the order they happened, without the start events of tools and agents that have an end event."""
    found = list(events)
    ended = {start_id(one.event_id) for one in found if isinstance(one, EventRecord) and one.event_type in ANNOUNCED}
    kept = (item for item in found if not isinstance(item, EventRecord) or item.event_id not in ended)
    return sorted(kept, key=event_order)


def event_order(item: Event) -> tuple[int, int, tuple[str, str]]:
    """Return the sort key of events: time, sequence number, kind and id."""
    sequence = None if isinstance(item, RewardRecord) else item.sequence
    return item.time_ns, sequence or 0, record_key(item)


class Latencies(NamedTuple):
    """Percentiles of one group of calls in milliseconds; None if no call has the value."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    ttft_p50_ms: float | None = None


def latencies_of(
    durations_ns: Mapping[object, Sequence[float]], first_tokens_ns: Mapping[object, Sequence[float]]
) -> dict[object, Latencies]:
    """Return the percentiles of each group's times, given in any order."""
    empty: Sequence[float] = ()
    found = {}
    for group in {*durations_ns, *first_tokens_ns}:
        durations, first_tokens = sorted(durations_ns.get(group, empty)), sorted(first_tokens_ns.get(group, empty))
        found[group] = Latencies(
            percentile_ms(durations, 0.5), percentile_ms(durations, 0.95), percentile_ms(first_tokens, 0.5)
        )
    return found


def summary_of_row(row: Mapping[str, object], cost: Decimal | None, latencies: Latencies) -> Summary:
    """Return the sums of a row of SQL, see `SqlReader.sums`."""
    known = cast("dict[str, int]", row)
    return Summary(
        key=cast("str | None", row["key"]),
        calls=known["calls"],
        errors=known["errors"],
        cancelled=known["cancelled"],
        input_tokens=known["input_tokens"],
        output_tokens=known["output_tokens"],
        cache_read_tokens=known["cache_read_tokens"],
        reasoning_tokens=known["reasoning_tokens"],
        cost_usd=cost,
        calls_without_cost=known["calls"] - known["priced"],
        p50_ms=latencies.p50_ms,
        p95_ms=latencies.p95_ms,
        ttft_p50_ms=latencies.ttft_p50_ms,
        retries=known["retries"],
        first_ns=known["first_ns"],
        last_ns=known["last_ns"],
    )


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
    """Return (summary, start) of each session in these records, including sessions known only from their calls.

    Each record must occur once, in its newest version.
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
    known = list(records)
    own = [record for record in known if isinstance(record, TimestepRecord) and record.session_id == session_id]
    own.sort(key=lambda step: (step.start_ns or 0, step.index, step.timestep_id))
    parents = {step.timestep_id: step.parent_timestep_id for step in own}
    rewards = rewards_by_step(events_of(known, session_id), parents)
    return [with_rewards(step, rewards) for step in own]


def events_of(records: Iterable[Record], session_id: str) -> list[Event]:
    """Return the events, messages and rewards of a session in order."""
    return in_order(
        record
        for record in records
        if not isinstance(record, CallRecord | SessionRecord | TimestepRecord) and record.session_id == session_id
    )


def _session(session_id: str, records: list[Record]) -> tuple[int | None, SessionSummary] | None:
    """Return the session that these records belong to; None if there is neither a session record nor a call."""
    known = next((record for record in records if isinstance(record, SessionRecord)), None)
    calls = [record for record in records if isinstance(record, CallRecord)]
    sums = next(iter(summarise(calls, "session")), None)
    if known is None and sums is None:
        return None
    first = None if sums is None else sums.first_ns
    session = known or SessionRecord(session_id=session_id, seen_ns=0, start_ns=first)
    steps, events = timesteps_of(records, session_id), events_of(records, session_id)
    summary = session_summary(
        session,
        sums,
        models=map(model_of, calls),
        timesteps=extent([step.start_ns if step.end_ns is None else step.end_ns for step in steps]),
        events=extent([item.time_ns for item in events]),
        rewards=rewards_of(events),
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
    rewards: RewardSums,
) -> SessionSummary:
    """Return the summary of a session from its parts; `sums` is None if it has no calls."""
    times = [session.start_ns, session.end_ns, sums.last_ns if sums else None, timesteps.last_ns, events.last_ns]
    return SessionSummary(
        # Rewards may arrive after its end and from other processes.
        session=as_read(_rewarded(session, rewards)),
        timesteps=timesteps.number,
        calls=sums.calls if sums else 0,
        errors=sums.errors if sums else 0,
        cancelled=sums.cancelled if sums else 0,
        events=events.number,
        models=sorted({model for model in models if model is not None}),
        input_tokens=sums.input_tokens if sums else None,
        output_tokens=sums.output_tokens if sums else None,
        cost_usd=sums.cost_usd if sums else None,
        reward=rewards.reward,
        rewards=dict(rewards.others),
        last_ns=max((time for time in times if time is not None), default=None),
    )
