"""Payloads: a record as a row with its bodies, and as one line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.codec import encode, encode_json
from callspan.record.events import EventRecord, Record, record_key
from callspan.record.labels import EXTRA, label_of, labels
from callspan.record.messages import without_media_bytes
from callspan.runtime.amounts import EXACT, is_amount
from callspan.stores.tables import bodies
from callspan.stores.tables.facts import LABELS, PICO, TABLES
from callspan.stores.tables.rows import Cell, Row, to_row

_FINDABLE: Final = frozenset({*LABELS, "tags", EXTRA})
_NO_LABELS: Final[Mapping[str, Cell]] = dict.fromkeys((*LABELS, "tags"))
_INT_LIMIT: Final = 2**63
_LARGE_COST_USD: Final = 10_000
"""More expensive calls are summed separately: a thousand of them would overflow 63 bits of picodollars."""
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


def bodies_of(call: CallRecord) -> tuple[bytes, bytes]:
    """Return the JSON of the request and the response; empty if not recorded."""
    return bytes(call.request.body), b"" if call.response is None else bytes(call.response.body)


def row_of(record: Record) -> Row:
    """Return the columns of a record that are not NULL, without its bodies."""
    if (
        isinstance(record, EventRecord)
        and record.timestep_id is not None
        and not (record.trace and record.trace.is_apart)
    ):
        record = msgspec.structs.replace(record, trace_id=None)
    row = to_row(TABLES[record_key(record)[0]], record)
    if isinstance(record, CallRecord):
        for name, cell in computed(record).items():
            if cell is not None:
                row[name] = cell
    return row


class PreparedCall(msgspec.Struct, frozen=True, gc=False):
    """A call's row and bodies, the same for all SQL stores."""

    owner: str
    """Owner of its contents."""
    row: Row
    request: bodies.Parts | None
    """None without a body."""
    answer: bodies.Answer | None
    """None without a body."""


def prepared(call: CallRecord) -> PreparedCall:
    """Return the row of a call and the pieces of its bodies."""
    request, answer = bodies_of(call)
    parts = bodies.split(request, call.api) if request else None
    owner = owner_of(call.call_id, call.place.session_id)
    return PreparedCall(owner, row_of(call), parts, bodies.answer(answer, call.api, parts) if answer else None)


def without_run(call: CallRecord) -> CallRecord:
    """Return a call as it was recorded, without the run that a store found for it."""
    if not call.place.inferred:
        return call
    place = msgspec.structs.replace(call.place, session_id=None, inferred=False, previous_call_id=None, joined_by=None)
    return msgspec.structs.replace(call, place=place)


def owner_of(call_id: str, session_id: str | None) -> str:
    """Return the owner of a call's contents."""
    return f"c:{call_id}" if session_id is None else f"s:{session_id}"


def computed(record: CallRecord) -> dict[str, Cell]:
    """Return the computed columns of a call by name; None for unknown values."""
    duration = record.timing.duration_ns
    return {
        "finish_reason": record.finish_reason,
        "http_status": record.http_status,
        "may_be_billed": record.may_be_billed or None,
        "end_ns": None if duration is None else _fitting(record.timing.start_ns + duration),
        "cost_picousd": None if record.cost is None else picodollars(record.cost.usd),
        "request_id": record.request_id,
        "user_id": record.user_id,
        **_labels_of(record.metadata),
    }


def _labels_of(metadata: Mapping[str, object]) -> Mapping[str, Cell]:
    """Return the organization, project, run, agent, workflow and tags of a call by column."""
    if _FINDABLE.isdisjoint(metadata):
        return _NO_LABELS
    tags = labels(metadata, "tags")
    cells: dict[str, Cell] = {name: label_of(metadata, name) for name in LABELS}
    return {**cells, "tags": encode_json(tags).decode() if tags else None}


def _fitting(number: int) -> int | None:
    return number if -_INT_LIMIT <= number < _INT_LIMIT else None


def picodollars(usd: Decimal) -> int | None:
    """Return the amount in whole picodollars; None if that is inexact or would overflow sums."""
    if not is_amount(usd) or usd.copy_abs() >= _LARGE_COST_USD:
        return None
    pico = EXACT.multiply(usd, PICO)
    return int(pico) if pico == pico.to_integral_value() else None


def line_of(record: Record) -> bytes:
    """Return a record as one line of JSON, a call with its conversation.

    Bodies keep their exact bytes, except that line ends between values (in pretty-printed JSON) become spaces. JSON
    strings contain no line ends.
    """
    if isinstance(record, CallRecord) and (conversation := record.conversation) is not None:
        record = msgspec.structs.replace(record, conversation=without_media_bytes(conversation))
    data = encode(record)
    return data.translate(_SPACES) if data.find(b"\n") >= 0 or data.find(b"\r") >= 0 else data
