"""JSON rows: the stable `--json` output: calls and sessions flattened for lists, and a session with everything."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from callspan.cost.unknown import cost_reason
from callspan.formatting import exact, in_ms, iso
from callspan.records import CallRecord, EventRecord, MessageRecord, TimestepRecord
from callspan.stores import CallFilter, Entry, Event, Reader, SessionSummary, ids_of, step_of

Row: TypeAlias = dict[str, object]

_OF_REQUEST: Final = ("request_id", "batch_id", "custom_id", "user", "metadata", "content_level")
_TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
_LABELS: Final = ("session_id", "name", "user_id", "group_id", "task_id", "experiment", "content_level")
_SUMS: Final = (
    *("reward", "scores", "timesteps", "calls", "errors", "cancelled", "cut_off", "cut_by_length", "retries"),
    *("first_error", "calls_without_cost", "calls_without_usage", "events", "models", "input_tokens", "output_tokens"),
)
_OF_STEP: Final = ("index", "turn", "name", "outcome", "terminated", "truncated", "start_ns", "end_ns", "totals")
_OUTPUT_CHARACTERS: Final = 200
_EVERY: Final = CallFilter()
CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
"""Ends abbreviated ids."""
_SHORTEST: Final = 13
"""Length of the timestamp at the start of a time-ordered id."""
_LISTS: Final = ("calls", "tools", "events", "messages", "rewards")
_ROWS_AT_ONCE: Final = 500
"""Rows of calls for which the positions of timesteps are read together."""


def call_rows(reader: Reader, calls: Iterable[CallRecord], selection: CallFilter = _EVERY) -> Iterator[Row]:
    """Yield calls as `callspan calls --json` prints them, with the positions of their timesteps.

    With a selection by scores they have their scores.
    """
    left = iter(calls)
    positions: Mapping[str, int] = {}
    known: set[str] = set()
    while read := list(itertools.islice(left, _ROWS_AT_ONCE)):
        some = [call_row(call) for call in read]
        if selection.is_about_scores:
            scores = reader.call_scores([ids_of(call) for call in read], selection.judged)
            some = [row | {"scores": scores[str(row["call_id"])]} for row in some]
        sessions = {str(row["session_id"]) for row in some if row["timestep_id"] is not None}
        if not sessions <= known:
            known, positions = sessions, reader.step_positions(sorted(sessions))
        for row in some:
            yield row | {"timestep_position": positions.get(str(row["timestep_id"]))}


def call_row(call: CallRecord, position: int | None = None) -> Row:
    """Return a call as a row, with the given position of its timestep. None is unknown."""
    response = call.response
    return {
        "call_id": call.call_id,
        "session_id": call.place.session_id,
        "session_name": call.place.session_name,
        "timestep_position": position,
        "timestep_id": call.place.timestep_id,
        "trace_id": call.trace_id,
        "span_id": call.span_id,
        "response_id": response.id if response else None,
        **_fields(call, _OF_REQUEST),
        "start": iso(call.timing.start_ns),
        "start_ns": call.timing.start_ns,
        **_fields(call, ("provider", "api", "operation")),
        "model": call.model,
        "response_model": response.model if response else None,
        "outcome": call.outcome,
        **{f"error_{name}": value for name, value in _fields(call.error, ("type", "kind", "message")).items()},
        "http_status": _status(call),
        "retries": call.retries,
        "rate_limited": call.rate_limited,
        "stream": call.request.stream,
        "stream_end": call.stream.end if call.stream else None,
        **{name: getattr(response, name, False) for name in ("unrecognized", "unknown_finish", "tools_unlisted")},
        "cached": response.cached if response else None,
        "finish_reason": call.finish_reason,
        "finish_reasons": response.finish_reasons if response else [],
        **_fields(call.usage, _TOKENS),
        "cost_usd": exact(call.cost.usd if call.cost else None),
        "cost_reason": cost_reason(call),
        "duration_ms": in_ms(call.timing.duration_ns),
        "first_token_ms": in_ms(call.timing.first_token_ns),
        "server_ms": in_ms(call.timing.server_ns),
        "output": output_text(call),
    }


def session_row(summary: SessionSummary) -> Row:
    """Return a session as `callspan sessions --json` prints it; None is unknown."""
    session = summary.session
    return {
        **_fields(session, _LABELS),
        "start": iso(session.start_ns),
        "start_ns": session.start_ns,
        "end_ns": session.end_ns,
        "duration_ms": in_ms(summary.duration_ns),
        "active_ms": in_ms(summary.active_ns),
        **_fields(session, ("outcome", "success")),
        **_fields(summary, _SUMS),
        "cost_usd": exact(summary.cost_usd),
        "metadata": session.metadata,
        "trace_id": session.trace_id,
    }


def _fields(record: object, names: Iterable[str]) -> Row:
    """Return these fields of a record; all None for None."""
    return {name: None if record is None else getattr(record, name) for name in names}


def output_text(call: CallRecord) -> str | None:
    """Return a short form of a call's output: its text, else its tool calls; None if it was not recorded."""
    return " ".join(call.answer_texts or ())[:_OUTPUT_CHARACTERS] or None


def short_ids(ids: Iterable[str], besides: Iterable[str] = ()) -> dict[str, str]:
    """Return a prefix of each id, 13 characters or longer, that is unique among `ids` and `besides`.

    Without a terminal a prefix ends in an ellipsis, with which it may be given to any command.
    """
    mark = "" if sys.stdout.isatty() else CUT
    wanted = set(ids)
    lengths = dict.fromkeys(sorted(wanted.union(besides)), _SHORTEST)
    for one, following in itertools.pairwise(lengths):
        common = next((at for at, (a, b) in enumerate(zip(one, following, strict=False)) if a != b), len(one))
        for near in (one, following):
            lengths[near] = max(lengths[near], common + 2)
    shorter = {one: one[: lengths[one]].rstrip("-") for one in wanted}
    return {one: short if short == one else short + mark for one, short in shorter.items()}


def _status(call: CallRecord) -> int | None:
    if call.error is not None and call.error.status is not None:
        return call.error.status
    return call.attempts[-1].status if call.attempts else None


def session_json(reader: Reader, summary: SessionSummary, entries: Iterable[Entry]) -> Row:
    """Return a session with its entries by time, in lists by kind, for each step and outside of steps."""
    steps = list(reader.timesteps(summary.session.session_id))
    positions = {step.timestep_id: position for position, step in enumerate(steps)}
    lists: list[dict[str, list[Row]]] = [{name: [] for name in _LISTS} for _ in range(len(steps) + 1)]
    for entry in entries:
        position = positions.get(step_of(entry) or "")
        name, row = _member(entry, position)
        lists[-1 if position is None else position][name].append(row)
    rows = [_step(step, position) | lists[position] for position, step in enumerate(steps)]
    return {**session_row(summary), "steps": rows, **{f"loose_{name}": found for name, found in lists[-1].items()}}


def _member(entry: Entry, position: int | None) -> tuple[str, dict[str, object]]:
    """Return the name of the list that an entry belongs to, and its JSON."""
    if isinstance(entry, CallRecord):
        return "calls", call_row(entry, position)
    if isinstance(entry, EventRecord):
        return ("tools" if entry.event_type == "tool" else "events"), record_fields(entry)
    return ("messages" if isinstance(entry, MessageRecord) else "rewards"), record_fields(entry)


def record_fields(item: Event) -> dict[str, object]:
    """Return every field, including those that a record omits at their default."""
    return {"kind": item.__struct_config__.tag, **msgspec.structs.asdict(item)}


def _step(step: TimestepRecord, position: int) -> dict[str, object]:
    return {**_fields(step, ("timestep_id", "user_step_id")), "position": position, **_fields(step, _OF_STEP)}
