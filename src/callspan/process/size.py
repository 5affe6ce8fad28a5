"""The size of a record: replaces bodies that are too long by their size, and lists them."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.process.bodies import encoded, with_bodies
from callspan.record.bounded import json_attribute, weight
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, Record

TRUNCATED_KEY: Final = "callspan_truncated"

_WORST_ESCAPE: Final = 6
"""Bytes of JSON that one character can become, as in a control character's escape."""


def within(record: Record, max_bytes: int) -> Record:
    """Return the record with what it holds of content in at most `max_bytes`; the same object if it already is.

    Of a call the longer body goes first, replaced by `{"callspan_truncated": {"bytes": size}}`. The data of an
    event and the content of a message are cut to valid JSON text.
    """
    if isinstance(record, CallRecord):
        return _call(record, max_bytes)
    if isinstance(record, EventRecord) and (cut := _cut(record.data, max_bytes)) is not None:
        note = Redaction(what="data", why="size", original_bytes=cut[1])
        return msgspec.structs.replace(record, data=cut[0], redactions=[*record.redactions, note])
    if isinstance(record, MessageRecord) and (cut := _cut(record.content, max_bytes)) is not None:
        note = Redaction(what="content", why="size", original_bytes=cut[1])
        return msgspec.structs.replace(record, content=cut[0], redactions=[*record.redactions, note])
    return record


def _call(record: CallRecord, max_bytes: int) -> CallRecord:
    request = len(memoryview(record.request.body))
    response = 0 if record.response is None else len(memoryview(record.response.body))
    if request + response <= max_bytes:
        return record
    notes = []
    for size, side in sorted(((request, "request"), (response, "response")), reverse=True):
        if request + response <= max_bytes or size == 0:
            break
        marker = encoded({TRUNCATED_KEY: {"bytes": size}})
        if side == "request":
            record, request = with_bodies(record, marker, None), len(memoryview(marker))
        else:
            record, response = with_bodies(record, None, marker), len(memoryview(marker))
        notes.append(Redaction(what=f"{side}.body", why="size", original_bytes=size))
    return msgspec.structs.replace(record, redactions=[*record.redactions, *notes])


def _cut(value: object, max_bytes: int) -> tuple[object, int] | None:
    if weight(value, max_bytes) * _WORST_ESCAPE <= max_bytes:
        return None
    size = len(encode_json(value))
    if size <= max_bytes:
        return None
    return msgspec.json.decode(json_attribute(value, max_bytes)), size
