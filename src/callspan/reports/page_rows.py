"""Page rows: calls, sessions, steps and events in the compact form that the page's script reads."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.formatting import exact, in_ms, reward, score, shown
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, TimestepRecord
from callspan.record.messages import short_texts
from callspan.record.reward_sums import REWARD
from callspan.stores.aggregates import exact_sum, idle_gaps, is_error, known_sum
from callspan.stores.base import Event, Reader, SessionSummary

Json: TypeAlias = dict[str, object]
Places: TypeAlias = Mapping[str, int]
"""Id of a step -> its index in the session's list of steps."""

ERROR: Final = 200
"""Maximum characters of an error message."""
NAME: Final = 80
"""Maximum characters of a name."""
LOOSE: Final = ""
"""Placeholder for the session of calls outside of sessions."""
_NS_PER_MS: Final = 1e6
_OUTCOME, _MS, _IN, _OUT, _COST, _OUTPUT = 1, 2, 4, 5, 6, 8
"""Indexes in the row of a call."""
_AT, _CALL_MS, _EVENT_MS = 1, 4, 5
"""Indexes in the placed rows of a call and an event."""
_IDLE_MS: Final = 60_000
"""A longer gap is folded."""


class Placed(NamedTuple):
    """The row of a call, with its session and step."""

    start_ns: int
    timestep_id: str | None
    row: list[object]


def call_row(call: CallRecord, model: int, limit: int) -> list[object]:
    """Return the row of one call.

    `model` is the index in the page's list of models; the output is truncated to `limit` characters.
    """
    usage, timing = call.usage, call.timing
    messages = call.conversation.output if call.conversation and limit else []
    output = " ".join(text for message in messages for text in short_texts(message))
    return [
        model,
        call.outcome,
        in_ms(timing.duration_ns, 1),
        in_ms(timing.first_token_ns, 1) if call.request.stream else None,
        usage.input_tokens if usage else None,
        usage.output_tokens if usage else None,
        exact(call.cost.usd if call.cost else None),
        call.retries or 0,
        shown(output, limit) if output else "",
        shown(call.error.message or call.error.type, ERROR) if call.error else _cut(call),
        call.call_id,
    ]


def _cut(call: CallRecord) -> str:
    if call.is_cut_off:
        return "cut off: the stream stopped without its end"
    return "cut by length: the answer ended at the limit of tokens" if call.is_cut_by_length else ""


def session_row(
    reader: Reader, summary: SessionSummary, calls: list[Placed], limit: int, *, whole: bool = True
) -> Json:
    """Return one session with its steps, calls and events; texts are truncated to `limit` characters (0: no texts).

    Without `whole` it has neither steps nor events, only their number.
    """
    session = summary.session
    steps = list(reader.timesteps(session.session_id)) if whole else []
    events = reader.events(session.session_id) if whole else ()
    places = {step.timestep_id: at for at, step in enumerate(steps)}
    start = session.start_ns or (calls[0].start_ns if calls else 0)
    end = session.end_ns or summary.last_ns
    call_rows = [_placed(call, start, places) for call in calls]
    event_rows = [row for item in events if (row := _event(item, start, places, limit)) is not None]
    is_known = whole and len(calls) == summary.calls
    return {
        "id": session.session_id,
        "name": shown(session.name or "", NAME),
        "user": shown(session.user_id or "", NAME),
        "start": round(start / _NS_PER_MS),
        "ms": None if end is None else in_ms(max(0, end - start), 1),
        "active": in_ms(summary.active_ns, 1),
        "outcome": shown(session.outcome or "running", NAME),
        "reward": summary.reward,
        "scores": {
            shown(name, NAME): [one.mean, score(*msgspec.structs.astuple(one))] for name, one in summary.scores.items()
        },
        "marks": _marks(summary),
        "last": _last_message(calls),
        "errors": summary.errors,
        "in": summary.input_tokens,
        "out": summary.output_tokens,
        "cost": exact(summary.cost_usd),
        "meta": shown(encode_json(session.metadata).decode(), limit or NAME) if session.metadata else "",
        "steps": [_step(step, at, start) for at, step in enumerate(steps)],
        "calls": call_rows,
        "events": event_rows,
        # Calls that are not listed may have run meanwhile.
        "idle": _idle(call_rows, event_rows, end - start if end else 0) if is_known else [],
        "counts": [summary.timesteps, len(calls) or summary.calls],
    }


def _marks(summary: SessionSummary) -> str:
    """Return what was less than whole among its calls, as `2 cut off`."""
    odd = {"cut by length": summary.cut_by_length, "cut off": summary.cut_off, "cancelled": summary.cancelled}
    return ", ".join(f"{number:,} {word}" for word, number in odd.items() if number)


def _last_message(calls: list[Placed]) -> str:
    """Return the last answer with a text, as its call shows it."""
    return next((str(call.row[_OUTPUT]) for call in reversed(calls) if call.row[_OUTPUT]), "")


def loose_row(calls: list[Placed]) -> Json:
    """Return the calls without a session as one row."""
    start = calls[0].start_ns
    ends = [call.start_ns + int(_NS_PER_MS * _number(call.row[_MS])) for call in calls]
    total = exact_sum([Decimal(str(call.row[_COST])) for call in calls if call.row[_COST] is not None])
    return {
        "id": LOOSE,
        "name": "calls outside sessions",
        "start": round(start / _NS_PER_MS),
        "ms": in_ms(max(ends) - start, 1),
        "outcome": "",
        "reward": None,
        "scores": {},
        "marks": "",
        "last": _last_message(calls),
        "errors": sum(is_error(str(call.row[_OUTCOME])) for call in calls),
        "in": known_sum(_whole(call.row[_IN]) for call in calls),
        "out": known_sum(_whole(call.row[_OUT]) for call in calls),
        "cost": exact(total),
        "meta": "",
        "steps": [],
        "calls": [_placed(call, start, {}) for call in calls],
        "events": [],
        "idle": [],
        "counts": [0, len(calls)],
    }


def _number(value: object) -> float:
    return value if isinstance(value, float | int) else 0.0


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _step(step: TimestepRecord, position: int, start: int) -> list[object]:
    """Return one step: position, offset, duration, reward, outcome, and scores of other objectives if any."""
    started = step.start_ns or start
    ended = "terminated" if step.terminated else "truncated" if step.truncated else ""
    row: list[object] = [
        position,
        in_ms(started - start, 1),
        None if step.end_ns is None else in_ms(step.end_ns - started, 1),
        step.totals.reward if step.totals else None,
        ended if step.outcome in (None, "success") else shown(f"{step.outcome} {ended}", NAME),
    ]
    if step.totals and step.totals.rewards:
        row.append({shown(objective, NAME): [mean, reward(mean)] for objective, mean in step.totals.rewards.items()})
    return row


def _idle(calls: list[list[object]], events: list[list[object]], end_ns: int) -> list[tuple[float, float]]:
    """Return the gaps in milliseconds, from the start of the session to its end."""
    times = [(_number(row[_AT]), _number(row[_CALL_MS])) for row in calls]
    times += [(_number(row[_AT]), _number(row[_EVENT_MS])) for row in events]
    end = end_ns / _NS_PER_MS
    return idle_gaps([(0.0, 0.0), (end, end), *((at, at + lasted) for at, lasted in times)], _IDLE_MS)


def _placed(call: Placed, start: int, places: Places) -> list[object]:
    """Return the row preceded by its step (-1: none) and its offset."""
    return [places.get(call.timestep_id or "", -1), in_ms(call.start_ns - start, 1), *call.row]


def _event(item: Event, start: int, places: Places, limit: int) -> list[object] | None:
    """Return one event: step, offset, kind, text, reward, duration."""
    place = places.get(item.timestep_id or "", -1)
    at = in_ms(item.time_ns - start, 1)
    match item:
        case EventRecord():
            text = f"{item.name or ''} {_event_text(item, limit)}".strip()
            about = shown(text, limit) if limit else ""
            return [place, at, shown(item.event_type, NAME), about, item.reward, in_ms(item.duration_ns, 1)]
        case MessageRecord():
            way = f"{item.sender or '?'} → {item.receiver or '?'} {_brief(item.content, limit)}"
            return [place, at, shown(item.message_type, NAME), shown(way, limit) if limit else "", None, None]
        case RewardRecord(scope="event"):
            return None
    return [
        place,
        at,
        f"{_given(item)} of the {item.scope}",
        shown(item.label or item.objective, NAME),
        item.value,
        None,
    ]


def _given(item: RewardRecord) -> str:
    return REWARD if item.objective == REWARD else f"score {shown(item.objective, NAME)}"


def _event_text(event: EventRecord, limit: int) -> str:
    """Return the text of an event: arguments and result of a tool, the new state of an environment."""
    data = event.data if isinstance(event.data, dict) else {}
    failed = f" {event.error.message or event.error.type}" if event.error else ""
    if event.event_type == "tool":
        result = f" → {_brief(data['result'], limit)}" if "result" in data else ""
        return f"{_brief(data.get('arguments'), limit)}{result}{failed}"
    ended = "terminated " if event.terminated else "truncated " if event.truncated else ""
    return f"{ended}{_brief(data.get('after', event.data), limit)}{failed}"


def _brief(value: object, limit: int) -> str:
    if value is None or not limit:
        return ""
    return value[: 2 * limit] if isinstance(value, str) else encode_json(value)[: 4 * limit].decode(errors="replace")
