"""Gathering: sums over the calls, the newest calls, and the sessions they belong to, as the page shows them."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from callspan.comparison.groups import Group, grouped
from callspan.formatting import shown
from callspan.record.call import CallRecord
from callspan.reports.page_rows import ERROR, LOOSE, NAME, Json, Placed, call_row, loose_row, session_row
from callspan.stores.aggregates import exact_sum, model_of
from callspan.stores.base import CallFilter, Reader, SessionSummary, Summary
from callspan.stores.filters import of_calls

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the number read, the total, and what is counted: `calls`, then `sessions`."""

_OUTPUT_LENGTHS: Final = ((10_000, 160), (50_000, 60))
"""Characters of each output, by the number of calls it applies up to; with more calls no output is shown."""
_CALLS: Final = 50_000
"""Number of newest calls with a row; older ones are only in the sums."""
_SESSIONS: Final = 20_000
"""Number of newest sessions that are listed."""
_ENTRIES: Final = 100_000
"""Number of steps and events after which only the sessions of these calls have theirs."""
BREAKDOWNS: Final = {"user": "user", "meta:prompt_version": "prompt version", "day": "day"}
"""What the sessions are grouped by, and its name on the page."""
Rows: TypeAlias = dict[str, list[Placed]]
"""Session id -> its calls."""


@dataclass
class ModelTotals:
    """Sums of one model's calls."""

    calls: int = 0
    errors: int = 0
    """Calls that ended other than well."""
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

    def add(self, sums: Summary) -> None:
        """Add the sums over some calls."""
        self.calls += sums.calls
        self.errors += sums.errors
        self.retries += sums.retries or 0
        self.priced += sums.calls - sums.calls_without_cost
        self.cost = exact_sum((self.cost, sums.cost_usd))
        for name in ("input_tokens", "output_tokens", "cache_read_tokens"):
            known = [one for one in (getattr(self, name), getattr(sums, name)) if one is not None]
            setattr(self, name, sum(known) if known else None)

    def add_times(self, duration_ns: int | None, first_token_ns: int | None) -> None:
        """Add the times of a call that succeeded."""
        if duration_ns is not None:
            self.durations_ns.append(duration_ns)
        if first_token_ns is not None:
            self.first_tokens_ns.append(first_token_ns)


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
    without_timeline: int = 0
    """Number of sessions that are listed without their steps and events."""
    session_count: int = 0
    """Number of all sessions, not counting calls outside of sessions."""
    breakdowns: dict[str, list[Group]] = field(default_factory=dict)
    """The groups of all sessions by each of `BREAKDOWNS` that some session has."""
    rewards: list[tuple[str, float, bool | None]] = field(default_factory=list)
    """Name, reward and success of sessions, oldest first."""
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def model_names(self) -> list[str]:
        """Model names, in the order of the indexes used in rows."""
        return list(self.models)

    def place_of(self, model: str) -> int:
        """Return the place of a model in this order; one that was recorded only just now is added."""
        _ = self.models[model]
        return self.model_names.index(model)


def gather(reader: Reader, which: CallFilter, progress: Progress) -> Gathered:
    """Read the sums of all calls and the newest calls, then what their sessions did.

    Memory is bounded by what the page lists.
    """
    found = Gathered(reader.name)
    _add_sums(found, reader, which)
    total = found.every.calls
    limit = next((characters for calls, characters in _OUTPUT_LENGTHS if total <= calls), 0)
    rows: Rows = defaultdict(list)
    newest = msgspec.structs.replace(which, newest_first=True, limit=_CALLS, content="response" if limit else "none")
    for number, call in enumerate(reader.calls(newest), 1):
        placed = Placed(
            call.timing.start_ns,
            call.place.timestep_id,
            call_row(call, found.place_of(_model(model_of(call))), limit),
        )
        rows[call.place.session_id or LOOSE].append(placed)
        progress(number, min(total, _CALLS), "calls")
    for calls in rows.values():
        calls.reverse()
    _add_sessions(found, reader, which, rows, limit, progress)
    return found


def _add_sums(found: Gathered, reader: Reader, which: CallFilter) -> None:
    for sums in reader.summary("model", which, latencies=False):
        found.models[_model(sums.key)].add(sums)
        found.every.add(sums)
        found.first_ns = min(one for one in (found.first_ns, sums.first_ns) if one is not None)
        found.last_ns = max(found.last_ns or 0, sums.last_ns or 0)
    for model, *times in reader.times(which):
        found.models[_model(model)].add_times(*times)
        found.every.add_times(*times)
    if found.every.errors and which.errors is not False:
        for call in reader.calls(msgspec.structs.replace(which, errors=True, content="none")):
            _add_failure(found, call)


def _add_sessions(
    found: Gathered, reader: Reader, which: CallFilter, rows: Rows, limit: int, progress: Progress
) -> None:
    loose, entries = rows.pop(LOOSE, None), 0
    for number, summary in enumerate(summaries := _summaries(reader, which, rows), 1):
        found.session_count += 1
        calls = rows.pop(summary.session.session_id, [])
        if number <= _SESSIONS:
            whole = bool(calls) or entries < _ENTRIES
            entries += (summary.timesteps + summary.events) * whole
            found.without_timeline += not whole
            found.sessions.append(session_row(reader, summary, calls, limit, whole=whole))
        if summary.reward is not None:
            name = shown(summary.session.name or summary.session.session_id, NAME)
            found.rewards.append((name, summary.reward, summary.session.success))
        progress(number, len(summaries), "sessions")
    found.rewards.reverse()
    found.breakdowns = _breakdowns(summaries)
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


def _breakdowns(summaries: list[SessionSummary]) -> dict[str, list[Group]]:
    groups = {by: grouped(summaries, [by]) for by in BREAKDOWNS}
    groups["day"].sort(key=lambda group: group.keys[0] or "", reverse=True)
    return {by: some for by, some in groups.items() if any(group.keys != (None,) for group in some)}


def _left_out(found: Gathered) -> str:
    parts = []
    if found.every.calls > _CALLS:
        parts.append(f"Timelines hold the newest {_CALLS:,} of {found.every.calls:,} calls.")
    if found.session_count > _SESSIONS:
        parts.append(f"The list holds the newest {_SESSIONS:,} of {found.session_count:,} sessions.")
    if found.without_timeline:
        parts.append(f"{found.without_timeline:,} older sessions are listed without their steps and events.")
    return " ".join(parts)


def _narrow(which: CallFilter) -> bool:
    """Return whether the filter selects single calls, so that sessions without matches are left out."""
    of_one_call = (which.until_ns, which.errors, which.min_cost_usd, which.min_duration_ns, of_calls(which))
    return any(condition is not None for condition in of_one_call)


def _add_failure(found: Gathered, call: CallRecord) -> None:
    start, error = call.timing.start_ns, call.error
    failure = found.failures[shown(error.kind if error else call.outcome, NAME), _type(call)]
    failure.calls += 1
    failure.models[_model(model_of(call))] += 1
    if start >= failure.last_ns:
        failure.last_ns = start
        failure.message = shown((error.message if error else None) or "", ERROR)


def _model(name: str | None) -> str:
    return shown(name or "unknown", NAME)


def _type(call: CallRecord) -> str:
    status = f" ({call.error.status})" if call.error and call.error.status else ""
    return shown(call.error.type if call.error else call.outcome, NAME) + status
