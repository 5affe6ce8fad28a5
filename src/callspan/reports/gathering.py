"""Gathering: collects the numbers and rows of the page in one pass over the calls and their sessions."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from callspan.formatting import shown
from callspan.record.call import CallRecord
from callspan.reports.rows import ERROR, LOOSE, NAME, Json, Placed, call_row, loose_row, session_row
from callspan.stores.aggregates import exact_sum, is_error, known_sum, model_of
from callspan.stores.base import CallFilter, Reader, SessionSummary

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the number read, the total, and what is counted: `calls`, then `sessions`."""

_OUTPUT_LENGTHS: Final = ((10_000, 160), (50_000, 60))
"""Characters of each output, by the number of calls it applies up to; with more calls no output is shown."""
_CALLS: Final = 50_000
"""Number of newest calls with a row; older ones are only in the sums."""
_SESSIONS: Final = 20_000
"""Number of newest sessions that are listed."""
Rows: TypeAlias = dict[str, list[Placed]]
"""Session id -> its calls."""


@dataclass
class ModelTotals:
    """Sums of one model's calls."""

    calls: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    priced: int = 0
    """Calls whose cost is known."""
    cost: Decimal | None = None
    """The exact sum of the known costs; None if none is known."""
    durations_ns: array[float] = field(default_factory=lambda: array("d"))
    first_tokens_ns: array[float] = field(default_factory=lambda: array("d"))

    @property
    def errors(self) -> int:
        """Number of calls that did not succeed."""
        return sum(number for outcome, number in self.outcomes.items() if is_error(outcome))

    def add(self, call: CallRecord) -> None:
        """Add one call; only successful calls count in the times."""
        self.calls += 1
        self.outcomes[call.outcome] += 1
        self.retries += call.retries or 0
        for name in ("input_tokens", "output_tokens", "cache_read_tokens"):
            value = known_sum([getattr(call.usage, name, None)])
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)
        if call.cost is not None:
            self.priced += 1
            self.cost = exact_sum((self.cost, call.cost.usd))
        if call.outcome == "success":
            if call.timing.duration_ns is not None:
                self.durations_ns.append(call.timing.duration_ns)
            if call.timing.first_token_ns is not None:
                self.first_tokens_ns.append(call.timing.first_token_ns)


@dataclass
class Failure:
    """Calls that failed the same way."""

    calls: int = 0
    models: Counter[str] = field(default_factory=Counter)
    last_ns: int = 0
    message: str = ""
    """Message of the last of them."""


@dataclass
class Gathered:
    """Everything the page shows."""

    store: str
    models: dict[str, ModelTotals] = field(default_factory=lambda: defaultdict(ModelTotals))
    every: ModelTotals = field(default_factory=ModelTotals)
    failures: dict[tuple[str, str], Failure] = field(default_factory=lambda: defaultdict(Failure))
    sessions: list[Json] = field(default_factory=list)
    """Newest first; rows in the form `page.js` reads."""
    left_out: str = ""
    """Describes what is in the sums but not in the list; empty if nothing is left out."""
    session_count: int = 0
    """Number of all sessions, not counting calls outside of sessions."""
    rewards: list[tuple[str, float, bool | None]] = field(default_factory=list)
    """Name, reward and success of sessions, oldest first."""
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def model_names(self) -> list[str]:
        """Model names, in the order of the indexes used in rows."""
        return list(self.models)


def gather(reader: Reader, which: CallFilter, progress: Progress) -> Gathered:
    """Read the calls once, newest first, then their sessions. Memory is bounded by what the page lists."""
    found = Gathered(reader.name)
    total = reader.count_calls(which)
    limit = next((characters for calls, characters in _OUTPUT_LENGTHS if total <= calls), 0)
    rows: Rows = defaultdict(list)
    for number, call in enumerate(reader.calls(msgspec.structs.replace(which, newest_first=True)), 1):
        _count(found, call)
        if number <= _CALLS:
            placed = Placed(
                call.timing.start_ns,
                call.place.timestep_id,
                call_row(call, found.model_names.index(_model(call)), limit),
            )
            rows[call.place.session_id or LOOSE].append(placed)
        progress(number, total, "calls")
    for calls in rows.values():
        calls.reverse()
    _add_sessions(found, reader, which, rows, limit, progress)
    return found


def _add_sessions(
    found: Gathered, reader: Reader, which: CallFilter, rows: Rows, limit: int, progress: Progress
) -> None:
    loose = rows.pop(LOOSE, None)
    for number, summary in enumerate(summaries := _summaries(reader, which, rows), 1):
        found.session_count += 1
        calls = rows.pop(summary.session.session_id, [])
        if number <= _SESSIONS:
            found.sessions.append(session_row(reader, summary, calls, limit))
        if summary.reward is not None:
            name = shown(summary.session.name or summary.session.session_id, NAME)
            found.rewards.append((name, summary.reward, summary.session.success))
        progress(number, len(summaries), "sessions")
    found.rewards.reverse()
    found.left_out = _left_out(found)
    if loose:
        found.sessions.append(loose_row(loose))


def _summaries(reader: Reader, which: CallFilter, rows: Rows) -> list[SessionSummary]:
    """Yield the sessions of the page: those with selected calls and, without a filter of calls, those without calls."""
    if which.session_id is not None:
        only = reader.session(which.session_id)
        return [] if only is None else [only]
    found = [
        summary
        for summary in reader.sessions(since_ns=which.since_ns, which=which)
        if summary.session.session_id in rows or not _narrow(which)
    ]
    # Sessions that began before the filter's start time but have later calls.
    known = {summary.session.session_id for summary in found}
    older = (reader.session(session_id) for session_id in rows if session_id not in known)
    return [*found, *(summary for summary in older if summary is not None)]


def _left_out(found: Gathered) -> str:
    parts = []
    if found.every.calls > _CALLS:
        parts.append(f"Timelines hold the newest {_CALLS:,} of {found.every.calls:,} calls.")
    if found.session_count > _SESSIONS:
        parts.append(f"The list holds the newest {_SESSIONS:,} of {found.session_count:,} sessions.")
    return " ".join(parts)


def _narrow(which: CallFilter) -> bool:
    """Return whether the filter selects single calls, so that sessions without matches are left out."""
    return any(
        (which.model, which.provider, which.until_ns, which.text, which.errors is not None, which.cut_off is not None)
    )


def _count(found: Gathered, call: CallRecord) -> None:
    start = call.timing.start_ns
    found.first_ns = start if found.first_ns is None else min(found.first_ns, start)
    found.last_ns = max(found.last_ns or 0, start + (call.timing.duration_ns or 0))
    model = _model(call)
    found.models[model].add(call)
    found.every.add(call)
    if is_error(call.outcome):
        error = call.error
        failure = found.failures[shown(error.kind if error else call.outcome, NAME), _type(call)]
        failure.calls += 1
        failure.models[model] += 1
        if start >= failure.last_ns:
            failure.last_ns = start
            failure.message = shown((error.message if error else None) or "", ERROR)


def _model(call: CallRecord) -> str:
    return shown(model_of(call) or "unknown", NAME)


def _type(call: CallRecord) -> str:
    status = f" ({call.error.status})" if call.error and call.error.status else ""
    return shown(call.error.type if call.error else call.outcome, NAME) + status
