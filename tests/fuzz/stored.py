"""Stored: compares the content of a real store with the records of the same calls."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from callspan import open_store
from callspan.record.call import NO_BODY
from callspan.records import CallRecord, decode, encode
from callspan.stores import EmptyStoreError
from callspan.wiring import WIRING

_FLUSH_S = 30.0
_NOT_COMPARED = ("cost", "conversation")
"""What is computed on the way to the store, or from the bodies."""


class Stored:
    """The store of one profile, asked after every case."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rows = 0

    def wrong(self, records: list[CallRecord]) -> list[str]:
        """Return what differs between the store and what was captured, after everything was delivered."""
        pipeline = WIRING.pipeline
        if pipeline is None or not pipeline.recorder.flush(_FLUSH_S):
            return ["the store has not taken everything"]
        try:
            reader = open_store(self._url)
        except EmptyStoreError:
            return ["there is no store"] if records else []
        try:
            rows, self._rows = reader.count_calls() - self._rows, reader.count_calls()
            found = [] if rows == len(records) else [f"{len(records)} records, {rows} rows"]
            for record in records:
                row = reader.call(record.call_id)
                found += ["a record has no row"] if row is None else _differences(record, row)
            return found
        finally:
            reader.close()


def _differences(record: CallRecord, row: CallRecord) -> list[str]:
    ours, theirs = _fields(decode(encode(record))), _fields(row)
    return [
        f"the row's {name} is not the record's: {str(theirs[name])[:300]} != {str(ours[name])[:300]}"
        for name in ours
        if ours[name] != theirs[name] and name not in _NOT_COMPARED
    ]


def _fields(record: Any) -> dict[str, Any]:
    """Every field of a record, bodies as what their JSON says."""
    found = msgspec.structs.asdict(record)
    for side in ("request", "response"):
        body = bytes(found[side].body) if found[side] is not None else b""
        found[f"{side}.body"] = json.loads(body) if body else None
        found[side] = found[side] and msgspec.structs.replace(found[side], body=NO_BODY)
    return found
