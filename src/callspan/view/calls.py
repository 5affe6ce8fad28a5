"""Calls: the list of calls, by pages, and the row of a call in any list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from callspan.formatting import exact, in_ms, shown
from callspan.record.call import CallRecord
from callspan.view.source import View, place_text

_FIRST: Final = 100
_ROWS: Final = 1_000
"""Of each page but the first one, which is shown soon."""
_WORDS: Final = 160


class AttemptBar(msgspec.Struct, array_like=True):
    """One attempt: offsets from the start of the call in milliseconds."""

    start_ms: float
    end_ms: float | None
    status: int | None
    error_kind: str | None
    wait_ms: float | None
    """Until the next one."""
    asked_ms: float | None
    """The wait that the answer requested."""


class CallRow(msgspec.Struct):
    """One call in a list; None is unknown."""

    id: str
    session_id: str | None
    session_name: str | None
    step_id: str | None
    user: str | None
    model: str | None
    operation: str
    start_ms: float
    lasted_ms: float | None
    first_token_ms: float | None
    outcome: str
    error_kind: str | None
    status: int | None
    error: str | None
    cut_off: bool
    cut_by_length: bool
    max_tokens: object
    retries: int | None
    attempts: list[AttemptBar]
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cost_usd: str | None
    cost_estimated: bool
    label: str
    """The beginning of the answer."""
    batch_line: str | None


class CallsPage(msgspec.Struct):
    """A page of the list."""

    rows: list[CallRow]
    next: str | None


def page(view: View) -> CallsPage:
    """Return a page of the calls that the filter line `q` selects; `after` is how many come before."""
    reader, which = view.chosen()
    place = view.after()
    offset, most = (int(place[0]), _ROWS) if place else (0, _FIRST)
    found = list(reader.calls(msgspec.structs.replace(which, limit=most + 1, offset=offset, content="response")))
    return CallsPage(call_rows(found[:most]), place_text([offset + most]) if len(found) > most else None)


def call_rows(calls: Iterable[CallRecord]) -> list[CallRow]:
    """Return the rows of these calls."""
    return [call_row(call) for call in calls]


def call_row(call: CallRecord) -> CallRow:
    """Return the row of a call."""
    error, usage = call.error, call.usage
    return CallRow(
        id=call.call_id,
        session_id=call.place.session_id,
        session_name=call.place.session_name,
        step_id=call.place.timestep_id,
        user=call.user,
        model=call.model,
        operation=call.operation,
        start_ms=call.timing.start_ns / 1e6,
        lasted_ms=in_ms(call.timing.duration_ns),
        first_token_ms=in_ms(call.timing.first_token_ns),
        outcome=call.outcome,
        error_kind=error.kind if error else None,
        status=error.status if error else None,
        error=shown(error.message or error.type or "", _WORDS) if error else None,
        cut_off=call.is_cut_off,
        cut_by_length=call.is_cut_by_length,
        max_tokens=next((value for key, value in call.request.params.items() if key in _LIMITS), None),
        retries=call.retries,
        attempts=_attempts(call),
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        cache_read_tokens=usage.cache_read_tokens if usage else None,
        cost_usd=exact(call.cost.usd if call.cost else None),
        cost_estimated=call.cost is not None and call.cost.estimated,
        label=label_of(call),
        batch_line=call.custom_id,
    )


_LIMITS: Final = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


def label_of(call: CallRecord) -> str:
    """Return the beginning of a call's answer on one line; "" where it has none."""
    return shown(" ".join(call.answer_texts), _WORDS)


def _attempts(call: CallRecord) -> list[AttemptBar]:
    return [
        AttemptBar(
            start_ms=one.start_ns / 1e6,
            end_ms=in_ms(one.end_ns),
            status=one.status,
            error_kind=one.error_kind,
            wait_ms=None if one.wait_s is None else one.wait_s * 1000,
            asked_ms=None if one.retry_after_s is None else one.retry_after_s * 1000,
        )
        for one in call.attempts
    ]
