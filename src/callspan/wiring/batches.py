"""Batches: what the requests about batches tell becomes one record for each line, and at most two spans for the batch.

A request about batches is observed as a call is, without a span or record of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, TraceFlags

from callspan.agent.runtime import SpanRef
from callspan.fail_open import fail_open, reported
from callspan.observe.batch_lines import LineReader, Seen, put_off
from callspan.observe.batches import Newest, answered, of_batch, requested
from callspan.observe.factory import CallFactory
from callspan.observe.ports import CallEnded, span_ids
from callspan.process import callbacks
from callspan.providers import registry
from callspan.providers.batches import CREATE, RESULTS, BatchInfo, BatchRequest, batches_in, requests_in, result_in
from callspan.record.call import CallRecord, Place
from callspan.record.events import Record
from callspan.record.ids import batch_call_id
from callspan.record.messages import Conversation
from callspan.record.span_handle import SpanHandle
from callspan.semconv.batch import BatchReport
from callspan.spans.call import CallSpans

_OBSERVE: Final = fail_open("observe a request about batches")
_SURROUNDINGS: Final = fail_open("read the session and metadata around a request about batches")
_AT_ONCE: Final = 100
"""Requests of a batch that are written before its creation returns, and at a time later."""
_NOWHERE: Final = Place()


class Batches:
    """Records the lines of batches. Safe from any thread."""

    def __init__(
        self,
        find: Callable[[str, str], SpanRef | None],
        write: Callable[[Record], None],
        measure: Callable[[CallRecord], None],
    ) -> None:
        """`find` looks a call up in stores that answer at once, see `SpanFinder`; `write` keeps a processed record."""
        self.find, self.write, self.measure = find, write, measure
        self.known: Newest[BatchInfo] = Newest()
        """By provider and the id of the batch, or of a file of it."""
        self.created: Newest[SpanHandle[Any, Any]] = Newest()
        """Spans of the requests that created batches, by provider and batch."""
        self.seen: Newest[Seen] = Newest()
        self.shown: Newest[object] = Newest()
        """Batches that have the span of their results."""

    def factory(self, calls: CallFactory, spans: CallSpans, request: BatchRequest) -> CallFactory:
        """Return what starts to observe this request, with the settings of `calls`."""
        return msgspec.structs.replace(
            calls,
            start_span=partial(ObservedRequest, self, calls, spans, request),
            process=_unchanged,
            write=_nothing,
            observed=_nothing,
            begun=lambda _: _over,
            under_way=lambda _: False,
            surroundings=lambda: (None, None, {}),
            fetch=None,
            webhook=None,
            about_batches=None,
            estimates=False,
        )

    def learn(self, provider: str, batch: BatchInfo) -> None:
        """Take note of what a provider says of a batch."""
        for identity in (batch.id, batch.output_file_id, batch.error_file_id):
            if identity is not None:
                self.known.put((provider, identity), batch)


class ObservedRequest:
    """In the place of the span of a request about batches. Its methods raise nothing but interrupts."""

    __slots__ = ("_around", "_calls", "_context", "_of", "_request", "_spans", "_started", "lines")
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None
    wants_content = False

    def __init__(
        self, of: Batches, calls: CallFactory, spans: CallSpans, request: BatchRequest, started: CallRecord
    ) -> None:
        self._of, self._calls, self._spans, self._request, self._started = of, calls, spans, request, started
        self._context = otel_context.get_current()
        self._around: tuple[Place | None, CallEnded | None, dict[str, object]] = (None, None, {})
        try:
            self._around = calls.surroundings()
        except reported(_SURROUNDINGS):
            self._around = (None, None, {})
        self.lines: LineReader | None = self._reader() if request.operation == RESULTS else None
        """Takes the bytes of results; None: the request is for none, or they belong to no known batch."""

    def within(self, context: Any) -> Any:  # noqa: ANN401 - OpenTelemetry's
        """Return `context`: there is no span."""
        return context

    def end(self, record: CallRecord, conversation: Conversation | None) -> None:
        """Take what the request has told."""
        del conversation
        with _OBSERVE:
            if self.lines is not None:
                self.lines.finish(complete=record.outcome == "success")
            elif record.outcome == "success" and record.response is not None:
                self._answered(record, registry.decoded(record.response.body))

    def _answered(self, record: CallRecord, body: object) -> None:
        for batch in batches_in(body):
            self._of.learn(record.provider, batch)
            if self._request.operation == CREATE:
                self._created(record, batch)

    def _created(self, record: CallRecord, batch: BatchInfo) -> None:
        report = self._report(CREATE, batch)
        end_ns = record.timing.start_ns + (record.timing.duration_ns or 0)
        span = self._spans.batch(report, record.timing.start_ns, end_ns, self._context, None)
        self._of.created.put((record.provider, batch.id), span)
        place, _, metadata = self._around
        place = _NOWHERE if place is None else place
        base = msgspec.structs.replace(record, place=place, metadata=metadata, **span_ids(span))  # type: ignore[arg-type]
        lines = (of_batch(requested(base, line), batch.id) for line in requests_in(record.request.body))
        self._write(map(self._calls.process, lines))

    def _write(self, records: Iterable[CallRecord]) -> None:
        """Write the first records now, the others on a thread, some at a time."""
        waiting = iter(records)
        if self._write_some(waiting):
            put_off(partial(self._write_more, waiting))

    def _write_more(self, waiting: Iterator[CallRecord]) -> None:
        if self._write_some(waiting):
            put_off(partial(self._write_more, waiting))

    def _write_some(self, waiting: Iterator[CallRecord]) -> bool:
        """Write some records; return whether there may be more."""
        count = 0
        for record in islice(waiting, _AT_ONCE):
            callbacks.write(record, self._of.write)
            count += 1
        return count == _AT_ONCE

    def _reader(self) -> LineReader | None:
        provider, request = self._started.provider, self._request
        batch = self._of.known.get((provider, request.batch_id or request.file_id))
        if batch is None and request.batch_id is not None:
            batch = BatchInfo(id=request.batch_id)
        if batch is None:
            return None
        key, seen = (provider, batch.id, request.file_id), Seen()
        if not self._of.seen.claim(key, seen):
            seen = self._of.seen.get(key) or seen
        reading = _Reading(self._of, self._calls, self._started, batch)
        return LineReader(seen, reading.line, partial(self._read, reading, batch))

    def _read(self, reading: _Reading, batch: BatchInfo, counts: Counter[str], complete: bool) -> None:
        """Make the span of the batch, once the results that this request was for were read."""
        provider, now_ns = self._started.provider, self._calls.clock.wall_ns()
        if not counts or not reading.is_first or not self._of.shown.claim((provider, batch.id), self):
            return
        report = msgspec.structs.replace(self._report(RESULTS, batch), read=dict(counts), complete=complete)
        created = self._of.created.get((provider, batch.id)) or reading.created
        self._spans.batch(report, self._started.timing.start_ns, now_ns, self._context, _span_of(created))

    def _report(self, operation: str, batch: BatchInfo) -> BatchReport:
        started = self._started
        return BatchReport(
            operation=operation,
            provider=started.provider,
            server_address=started.server_address,
            server_port=started.server_port,
            batch_id=batch.id,
            status=batch.status,
            requests=batch.counts,
            usage=batch.usage,
        )


class _Reading:
    """One reading of the results of a batch."""

    __slots__ = ("_batch", "_calls", "_of", "_started", "_where")

    def __init__(self, of: Batches, calls: CallFactory, started: CallRecord, batch: BatchInfo) -> None:
        self._of, self._calls, self._started, self._batch = of, calls, started, batch
        self._where: tuple[SpanRef | None] | None = None

    @property
    def is_first(self) -> bool:
        """Whether no readable store has results of the batch already."""
        return self._where is None or self._where[0] is None or not self._where[0].complete

    @property
    def created(self) -> SpanRef | None:
        """Where a readable store says that the batch was created."""
        return None if self._where is None else self._where[0]

    def line(self, line: bytes) -> str | None:
        """Record the call of one line; return its outcome, None if it is no result."""
        found = result_in(line)
        if found is None:
            return None
        if self._where is None:
            self._where = (
                self._of.find("call", batch_call_id(self._started.provider, self._batch.id, found.custom_id)),
            )
        record = self._calls.process(answered(self._started, self._batch, found))
        callbacks.write(record, self._of.write)
        if self.is_first:
            self._of.measure(record)
        return record.outcome


def _span_of(span: SpanHandle[Any, Any] | SpanRef | None) -> SpanContext | None:
    if span is None or span.trace_id is None or span.span_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)


def _unchanged(record: CallRecord) -> CallRecord:
    """Return the record of a request about batches as it is: it is not kept."""
    return record


def _nothing(record: object) -> None:
    """Neither write nor measure what is no call."""


def _over() -> None:
    """Count nothing out."""
