"""Gathering: one pass over the calls, and the sessions they belong to, as the numbers and rows of the page."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, TimestepRecord
from callspan.record.messages import Message, Refusal, Text, ToolCall
from callspan.reports.text import shown
from callspan.stores.answers import exact_sum, is_error, known_sum, model_of
from callspan.stores.base import CallFilter, Happening, Reader, SessionSummary

Json: TypeAlias = dict[str, object]
Progress: TypeAlias = Callable[[int, int, str], None]
"""Told how many are read, of how many, and of what: `calls`, then `sessions`."""

_SAID: Final = ((10_000, 160), (50_000, 60))
"""Up to so many calls, so many characters of each answer; of more calls none."""
_CALLS: Final = 50_000
"""So many calls, the newest, have rows of their own; older ones count in the sums alone."""
_SESSIONS: Final = 20_000
"""So many sessions, the newest, are listed."""
_ERROR: Final = 200
_NAME: Final = 80
_NS_PER_MS: Final = 1e6
LOOSE: Final = ""
"""Stands for the session of calls that have none."""


class Placed(NamedTuple):
    """The row of a call, and where it belongs."""

    start_ns: int
    timestep_id: str | None
    row: list[object]


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
    """The exact sum of what is known; None where nothing is."""
    durations_ms: array[float] = field(default_factory=lambda: array("d"))
    firsts_ms: array[float] = field(default_factory=lambda: array("d"))

    @property
    def errors(self) -> int:
        """Calls that ended other than well."""
        return sum(number for outcome, number in self.outcomes.items() if is_error(outcome))

    def add(self, call: CallRecord) -> None:
        """Add one call; times count where it succeeded."""
        self.calls += 1
        self.outcomes[call.outcome] += 1
        self.retries += call.retries or 0
        for name in ("input_tokens", "output_tokens", "cache_read_tokens"):
            value = getattr(call.usage, name, None)
            if value is not None:
                setattr(self, name, (getattr(self, name) or 0) + value)
        if call.cost is not None:
            self.priced += 1
            self.cost = exact_sum((self.cost, call.cost.usd))
        if call.outcome == "success":
            if call.timing.duration_ns is not None:
                self.durations_ms.append(call.timing.duration_ns / _NS_PER_MS)
            if call.timing.first_token_ns is not None:
                self.firsts_ms.append(call.timing.first_token_ns / _NS_PER_MS)


@dataclass
class Failure:
    """Calls that failed the same way."""

    calls: int = 0
    models: Counter[str] = field(default_factory=Counter)
    last_ns: int = 0
    message: str = ""
    """Of the last of them."""


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
    """What is in the sums and not in the list; empty where nothing is."""
    session_count: int = 0
    """All sessions; calls outside of any are none."""
    rewards: list[tuple[str, float, bool | None]] = field(default_factory=list)
    """Name, reward and success of sessions, oldest first."""
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def model_names(self) -> list[str]:
        """Models in the order rows count them."""
        return list(self.models)


def gather(reader: Reader, which: CallFilter, progress: Progress) -> Gathered:
    """Read the calls once, newest first, then what their sessions did. Memory is bounded by what the page lists."""
    found = Gathered(reader.name)
    total = reader.count_calls(which)
    limit = next((characters for calls, characters in _SAID if total <= calls), 0)
    rows: Rows = defaultdict(list)
    for number, call in enumerate(reader.calls(msgspec.structs.replace(which, newest_first=True)), 1):
        _count(found, call)
        if number <= _CALLS:
            placed = Placed(call.timing.start_ns, call.place.timestep_id, _row(found, call, limit))
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
            found.sessions.append(_session(reader, summary, calls, limit))
        if summary.reward is not None:
            name = shown(summary.session.name or summary.session.session_id, _NAME)
            found.rewards.append((name, summary.reward, summary.session.success))
        progress(number, len(summaries), "sessions")
    found.rewards.reverse()
    found.left_out = _left_out(found)
    if loose:
        found.sessions.append(_loose(loose))


def _summaries(reader: Reader, which: CallFilter, rows: Rows) -> list[SessionSummary]:
    """The sessions the page is about: what has chosen calls, and where nothing narrows, what has none, too."""
    if which.session_id is not None:
        only = reader.session(which.session_id)
        return [] if only is None else [only]
    found = [
        summary
        for summary in reader.sessions(since_ns=which.since_ns)
        if summary.session.session_id in rows or not _narrow(which)
    ]
    # Those that began before the time asked about, but have calls since.
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
    """Whether only some calls of a session are asked for, so that one without any is of no interest."""
    return any((which.model, which.provider, which.until_ns, which.text, which.errors is not None))


def _count(found: Gathered, call: CallRecord) -> None:
    start = call.timing.start_ns
    found.first_ns = start if found.first_ns is None else min(found.first_ns, start)
    found.last_ns = max(found.last_ns or 0, start + (call.timing.duration_ns or 0))
    model = shown(model_of(call) or "unknown", _NAME)
    found.models[model].add(call)
    found.every.add(call)
    if is_error(call.outcome):
        error = call.error
        failure = found.failures[shown(error.kind if error else call.outcome, _NAME), _type(call)]
        failure.calls += 1
        failure.models[model] += 1
        if start >= failure.last_ns:
            failure.last_ns = start
            failure.message = shown((error.message if error else None) or "", _ERROR)


def _type(call: CallRecord) -> str:
    status = f" ({call.error.status})" if call.error and call.error.status else ""
    return shown(call.error.type if call.error else call.outcome, _NAME) + status


_OUTCOME, _MS, _IN, _OUT, _COST = 1, 2, 4, 5, 6
"""Places in the row of a call."""


def _row(found: Gathered, call: CallRecord, limit: int) -> list[object]:
    """One call: model, outcome, duration, first token, tokens, cost, retries, what was said, the error, its id."""
    usage, timing = call.usage, call.timing
    said = " ".join(_gist(call.conversation.output if call.conversation else ())) if limit else ""
    return [
        found.model_names.index(shown(model_of(call) or "unknown", _NAME)),
        call.outcome,
        _ms(timing.duration_ns),
        _ms(timing.first_token_ns) if call.request.stream else None,
        usage.input_tokens if usage else None,
        usage.output_tokens if usage else None,
        format(call.cost.usd, "f") if call.cost else None,
        call.retries or 0,
        shown(said, limit) if said else "",
        shown(call.error.message or call.error.type, _ERROR) if call.error else "",
        call.call_id,
    ]


def _gist(messages: Iterable[Message]) -> Iterable[str]:
    for message in messages:
        for part in message.parts:
            if isinstance(part, Text | Refusal):
                yield part.text
            elif isinstance(part, ToolCall):
                yield f"{part.name or 'tool'}({part.arguments or ''})"


def _session(reader: Reader, summary: SessionSummary, calls: list[Placed], limit: int) -> Json:
    session = summary.session
    steps = list(reader.timesteps(session.session_id))
    start = session.start_ns or (calls[0].start_ns if calls else 0)
    end = session.end_ns or summary.last_ns
    return {
        "id": session.session_id,
        "name": shown(session.name or "", _NAME),
        "start": round(start / _NS_PER_MS),
        "ms": None if end is None else _ms(max(0, end - start)),
        "outcome": shown(session.outcome or "running", _NAME),
        "reward": summary.reward,
        "errors": summary.errors,
        "in": summary.input_tokens,
        "out": summary.output_tokens,
        "cost": None if summary.cost_usd is None else format(summary.cost_usd, "f"),
        "meta": shown(encode_json(session.metadata).decode(), limit or _NAME) if session.metadata else "",
        "steps": [_step(step, start) for step in steps],
        "calls": [_placed(call, start, steps) for call in calls],
        "events": [
            row
            for item in reader.happenings(session.session_id)
            if (row := _event(item, start, steps, limit)) is not None
        ],
    }


def _loose(calls: list[Placed]) -> Json:
    """The calls without a session, as one row of the list."""
    start = calls[0].start_ns
    ends = [call.start_ns + int(_NS_PER_MS * _number(call.row[_MS])) for call in calls]
    costs = [Decimal(str(call.row[_COST])) for call in calls if call.row[_COST] is not None]
    total = exact_sum(costs)
    return {
        "id": LOOSE,
        "name": "calls outside sessions",
        "start": round(start / _NS_PER_MS),
        "ms": _ms(max(ends) - start),
        "outcome": "",
        "reward": None,
        "errors": sum(is_error(str(call.row[_OUTCOME])) for call in calls),
        "in": known_sum(_whole(call.row[_IN]) for call in calls),
        "out": known_sum(_whole(call.row[_OUT]) for call in calls),
        "cost": None if total is None else format(total, "f"),
        "meta": "",
        "steps": [],
        "calls": [_placed(call, start, []) for call in calls],
        "events": [],
    }


def _number(value: object) -> float:
    return value if isinstance(value, float | int) else 0.0


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _step(step: TimestepRecord, start: int) -> list[object]:
    """One step: index, offset, duration, reward, how it ended."""
    begun = step.start_ns or start
    ended = "terminated" if step.terminated else "truncated" if step.truncated else ""
    return [
        step.index,
        _ms(begun - start),
        None if step.end_ns is None else _ms(step.end_ns - begun),
        step.totals.reward if step.totals else None,
        ended if step.outcome in (None, "success") else shown(f"{step.outcome} {ended}", _NAME),
    ]


def _placed(call: Placed, start: int, steps: list[TimestepRecord]) -> list[object]:
    """The row with its step (-1: none) and its offset in front."""
    return [_position(steps, call.timestep_id), _ms(call.start_ns - start), *call.row]


def _event(item: Happening, start: int, steps: list[TimestepRecord], limit: int) -> list[object] | None:
    """One event: step, offset, kind, text, reward, duration."""
    place = _position(steps, item.timestep_id)
    at = _ms(item.time_ns - start)
    match item:
        case EventRecord():
            told = f"{item.name or ''} {_event_text(item, limit)}".strip()
            return [
                place,
                at,
                shown(item.event_type, _NAME),
                shown(told, limit) if limit else "",
                item.reward,
                _ms(item.duration_ns),
            ]
        case MessageRecord():
            way = f"{item.sender or '?'} → {item.receiver or '?'} {_brief(item.content, limit)}"
            return [place, at, shown(item.message_type, _NAME), shown(way, limit) if limit else "", None, None]
        case RewardRecord(scope="event"):
            return None
    return [place, at, f"reward of the {item.scope}", shown(item.label or item.objective, _NAME), item.value, None]


def _event_text(event: EventRecord, limit: int) -> str:
    """What matters of an event's data: of a tool what went in and came out, of the environment what it became."""
    data = event.data if isinstance(event.data, dict) else {}
    failed = f" {event.error.message or event.error.type}" if event.error else ""
    if event.event_type == "tool":
        result = f" → {_brief(data['result'], limit)}" if "result" in data else ""
        return f"{_brief(data.get('arguments'), limit)}{result}{failed}"
    ended = "terminated " if event.terminated else "truncated " if event.truncated else ""
    return f"{ended}{_brief(data.get('after', event.data), limit)}{failed}"


def _position(steps: list[TimestepRecord], timestep_id: str | None) -> int:
    return next((at for at, step in enumerate(steps) if step.timestep_id == timestep_id), -1)


def _brief(value: object, limit: int) -> str:
    if value is None or not limit:
        return ""
    return value[: 2 * limit] if isinstance(value, str) else encode_json(value)[: 4 * limit].decode(errors="replace")


def _ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / _NS_PER_MS, 1)
