"""Interrupted: the spans of what a process had begun when it was killed, made of the last segment that it left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from callspan.delivery.begun_records import begin_key, is_begin
from callspan.otlp.encoding import span_id_of
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import AGENT_START, EventRecord, MessageRecord, Record, RewardRecord
from callspan.record.span_frames import SPAN, SegmentHead, decode_span
from callspan.semconv.session_spans import SessionSpans
from callspan.semconv.spans import Span

OUTCOME: Final = "interrupted"
_SUFFIX: Final = "-start"


def interrupted_spans(head: SegmentHead, payloads: Iterable[bytes], make: SessionSpans) -> Iterator[Span]:
    """Yield the spans of what has no end, each ended where its session was last heard of."""
    finished: set[str] = set()
    records = [*_decoded((bytes(one) for one in head.begun), finished), *_decoded(payloads, finished)]
    begun: dict[tuple[str, str], Record] = {}
    for record in records:
        if is_begin(record):
            begun[begin_key(record)] = record
        else:
            begun.pop(begin_key(record), None)
    last_ns: dict[str | None, int] = {}
    for record in records:
        last_ns[_session(record)] = max(last_ns.get(_session(record), 0), _seen_ns(record))
    ended = {key: _ended(record, last_ns[_session(record)]) for key, record in begun.items()}
    others = [record for record in records if begin_key(record) not in ended]
    left = {record.span_id for record in ended.values() if not isinstance(record, MessageRecord)} - finished
    yield from (span for span in make.of([*ended.values(), *others]) if span.span_id in left)


def _decoded(payloads: Iterable[bytes], finished: set[str]) -> Iterator[Record]:
    """Yield the records; add the ids of finished spans, whose end record may be missing."""
    for payload in payloads:
        with suppress(*NO_RECORD):
            if payload.startswith(SPAN):
                finished.add(span_id_of(decode_span(payload).span))
            else:
                yield decode(payload)


def _ended(record: Record, last_ns: int) -> Record:
    """Return the record of what was begun as if it had ended when it was last heard of."""
    error = ErrorInfo(type=OUTCOME, kind="unknown", message="Its process ended before it did.")
    match record:
        case CallRecord():
            timing = msgspec.structs.replace(record.timing, duration_ns=max(0, last_ns - record.timing.start_ns))
            return msgspec.structs.replace(record, part="ended", outcome="error", error=error, timing=timing)
        case EventRecord():
            kind = "agent" if record.event_type == AGENT_START else "tool"
            return msgspec.structs.replace(
                record, event_id=record.event_id.removesuffix(_SUFFIX), event_type=kind, error=error,
                duration_ns=max(0, last_ns - record.time_ns),
            )  # fmt: skip
        case RewardRecord() | MessageRecord():
            return record
        case _:
            end_ns = max(last_ns, record.start_ns or 0)
            return msgspec.structs.replace(record, end_ns=end_ns, outcome=OUTCOME, error=error)


def _session(record: Record) -> str | None:
    return (record.place if isinstance(record, CallRecord) else record).session_id


def _seen_ns(record: Record) -> int:
    if isinstance(record, CallRecord):
        return record.timing.start_ns + (record.timing.duration_ns or 0)
    if isinstance(record, EventRecord):
        return record.time_ns + (record.duration_ns or 0)
    if isinstance(record, MessageRecord | RewardRecord):
        return record.time_ns
    return record.end_ns or record.start_ns or 0
