"""Calls: the paged list of calls, and the row of a call in any list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from callspan.formatting import excerpt, in_ms
from callspan.records import CallRecord, aside_of
from callspan.semconv.table import MAX_TOKENS
from callspan.stores import as_row, call_facts, question
from callspan.view.source import PageRequest, Row

_FIRST: Final = 100
_ROWS: Final = 1_000
"""Rows per page, except the first, which should appear quickly."""
_WORDS: Final = 160


class AttemptBar(msgspec.Struct, array_like=True):
    """One attempt: offsets from the start of the call in milliseconds."""

    start_ms: float
    end_ms: float | None
    status: int | None
    error_kind: str | None
    wait_ms: float | None
    """Wait before the next attempt."""
    asked_ms: float | None
    """Wait requested by the response."""


class CallsPage(msgspec.Struct):
    """A page of the list."""

    rows: list[Row]
    next: str | None


def page(request: PageRequest) -> CallsPage:
    """Return a page of the calls selected by the filter line `q`; `after` is the number of calls before it."""
    reader, selection = request.filtered()
    offset = request.after()
    page_size = _ROWS if offset else _FIRST
    calls = list(reader.calls(msgspec.structs.replace(selection, limit=page_size + 1, offset=offset)))
    return CallsPage(call_rows(calls[:page_size]), str(offset + page_size) if len(calls) > page_size else None)


def call_rows(calls: Iterable[CallRecord]) -> list[Row]:
    """Return the rows of these calls."""
    return [call_row(call) for call in calls]


def call_row(call: CallRecord) -> Row:
    """Return the row of a call."""
    error = call.error
    return as_row(call_facts(call, "page")) | {
        "error": excerpt(error.message or error.type or "", _WORDS) if error else None,
        "question": question(call),
        "inferred": call.place.inferred,
        "previous_call_id": call.place.previous_call_id,
        "output": excerpt(" ".join(call.answer_texts or ()), _WORDS),
        "max_tokens": next((value for key, value in call.request.params.items() if key in MAX_TOKENS), None),
        "attempts": _attempts(call),
        "aside": aside_of(call.metadata),
    }


def _attempts(call: CallRecord) -> list[AttemptBar]:
    return [
        AttemptBar(
            start_ms=attempt.start_ns / 1e6,
            end_ms=in_ms(attempt.end_ns),
            status=attempt.status,
            error_kind=attempt.error_kind,
            wait_ms=None if attempt.wait_s is None else attempt.wait_s * 1000,
            asked_ms=None if attempt.retry_after_s is None else attempt.retry_after_s * 1000,
        )
        for attempt in call.attempts
    ]
