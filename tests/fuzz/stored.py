"""Stored: compares the content of a real store with the records and spans of the same calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan

from callspan import open_store
from callspan.record.call import NO_BODY
from callspan.records import CallRecord, decode, encode
from callspan.stores import EmptyStoreError, Reader
from callspan.stores.importing import import_records
from callspan.wiring import WIRING

_FLUSH_S = 30.0
_FACTS = {
    "gen_ai.request.model": lambda call: call.request.model,
    "gen_ai.response.model": lambda call: call.response and call.response.model,
    "gen_ai.response.id": lambda call: call.response and call.response.id,
    "gen_ai.usage.input_tokens": lambda call: call.usage and call.usage.input_tokens,
    "gen_ai.usage.output_tokens": lambda call: call.usage and call.usage.output_tokens,
    "gen_ai.provider.name": lambda call: call.provider,
    "gen_ai.operation.name": lambda call: call.operation,
    "error.type": lambda call: call.error.type if call.error and call.outcome != "cancelled" else None,
}
"""Attributes of spans, and where a record has the same."""
_NOT_COMPARED = ("cost", "conversation")
"""What is computed on the way to the store, or from the bodies."""
_LARGEST = 2**63


class Stored:
    """The store of one profile, asked after every case."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rows = 0

    def _opened(self) -> Reader:
        """Open the store; JSON Lines are loaded into a database, which is read."""
        if not self._url.startswith("jsonl"):
            return open_store(self._url)
        path = Path(self._url.removeprefix("jsonl:///"))
        if not path.exists():
            raise EmptyStoreError(f"{path} does not exist")
        import_records(self._url, path.with_suffix(".lines.db"))
        return open_store(path.with_suffix(".lines.db"))

    def wrong(self, records: list[CallRecord], spans: list[ReadableSpan]) -> list[str]:
        """Return what differs between the store and what was captured, after everything was delivered."""
        pipeline = WIRING.pipeline
        if pipeline is None or not pipeline.recorder.flush(_FLUSH_S):
            return ["the store has not taken everything"]
        try:
            reader = self._opened()
        except EmptyStoreError:
            return ["there is no store"] if records else []
        try:
            rows, self._rows = reader.count_calls() - self._rows, reader.count_calls()
            found = [] if rows == len(records) else [f"{len(records)} records, {rows} rows"]
            by_span = {f"{span.context.span_id:016x}": span for span in spans if span.context is not None}
            for record in records:
                row = reader.call(record.call_id)
                found += ["a record has no row"] if row is None else _differences(record, row)
                if row is not None and row.span_id in by_span:
                    found += _of_span(row, by_span[row.span_id])
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


def _of_span(row: CallRecord, span: ReadableSpan) -> list[str]:
    attributes = span.attributes or {}
    wrong = []
    for name, read in _FACTS.items():
        stated = read(row)
        shown = attributes.get(name)
        if stated is not None and isinstance(stated, int) and not -_LARGEST <= stated < _LARGEST:
            continue
        if shown != stated and not (shown is None and stated == ""):
            wrong.append(f"the span's {name} is not the row's: {str(shown)[:200]} != {str(stated)[:200]}")
    if span.start_time != row.timing.start_ns:
        wrong.append("the span starts at another time than the row")
    return wrong
