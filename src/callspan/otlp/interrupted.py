"""Interrupted: the spans of what a process had begun when it was killed, made of the last segment that it left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, TypeVar

from msgspec.structs import replace

from callspan.delivery.begun_records import begin_key, is_begin
from callspan.otlp.encoding import span_id_of
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import (
    RUN_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TimestepRecord,
    latest_ns,
)
from callspan.record.span_frames import SPAN, SegmentHead, decode_span
from callspan.semconv.session_spans import SessionSpans
from callspan.semconv.spans import Span

OUTCOME: Final = "interrupted"
_SUFFIX: Final = "-start"
_R = TypeVar("_R", bound=Record)


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
        last_ns[_session(record)] = max(last_ns.get(_session(record), 0), latest_ns(record))
    interrupted = {key: ended(record, last_ns[_session(record)]) for key, record in begun.items()}
    others = [record for record in records if begin_key(record) not in interrupted]
    left = {record.span_id for record in interrupted.values() if not isinstance(record, MessageRecord)} - finished
    yield from (span for span in make.of([*interrupted.values(), *others]) if span.span_id in left)


def _decoded(payloads: Iterable[bytes], finished: set[str]) -> Iterator[Record]:
    """Yield the records; add the ids of finished spans, whose end record may be missing."""
    for payload in payloads:
        with suppress(*NO_RECORD):
            if payload.startswith(SPAN):
                finished.add(span_id_of(decode_span(payload).span))
            else:
                yield decode(payload)


def ended(record: _R, last_ns: int) -> _R:
    """Return the record of what was begun as if it had ended when it was last heard of; any other unchanged."""
    if not is_begin(record):
        return record
    error = ErrorInfo(type=OUTCOME, kind="unknown", message="Its process ended before it did.")
    last_ns = max(last_ns, latest_ns(record))
    match record:
        case CallRecord():
            timing = replace(record.timing, duration_ns=last_ns - record.timing.start_ns)
            return replace(record, part="ended", outcome="error", error=error, timing=timing)
        case EventRecord():
            return replace(
                record, event_id=record.event_id.removesuffix(_SUFFIX), event_type=RUN_TYPES[record.event_type],
                error=error, duration_ns=last_ns - record.time_ns,
            )  # fmt: skip
        case SessionRecord() | TimestepRecord():
            return replace(record, end_ns=last_ns, outcome=OUTCOME, error=error)
        case _:
            return record


def _session(record: Record) -> str | None:
    return (record.place if isinstance(record, CallRecord) else record).session_id
