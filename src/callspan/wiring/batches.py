"""Batches: records the lines of batches as calls, with at most two spans per batch.

A request about batches is observed as a call is, without a span or record of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec
from opentelemetry import context as otel_context

from callspan.agent.runtime import LEVELS, SpanRef, UnansweredError, known_level
from callspan.background import LRUCache, on_own_thread
from callspan.fail_open import Once, fail_open, log, ours, reported
from callspan.observe.batches import (
    LineReader,
    Seen,
    UnknownResults,
    UploadedLines,
    answered,
    file_in,
    of_batch,
    put_off,
    requested,
)
from callspan.observe.factory import CallFactory, nowhere
from callspan.observe.ports import CallEnded, RequestObserver, span_ids
from callspan.providers import registry
from callspan.providers.batches import (
    CREATE,
    RESULTS,
    UPLOAD,
    BatchInfo,
    BatchRequest,
    batches_in,
    request_in,
    requests_in,
    result_in,
)
from callspan.record.call import CallRecord, ErrorInfo, Place, Timing
from callspan.record.merging import staged
from callspan.record.span_handle import SpanHandle
from callspan.reported.claims import higher
from callspan.reported.reports import Reports
from callspan.semconv.call import BatchReport
from callspan.settings import Content, strictest
from callspan.spans.call import SHORTEST_NS, CallSpan, CallSpans
from callspan.wiring.batch_files import BatchFiles, Upload
from callspan.wiring.fetches import span_context

_OBSERVE: Final = fail_open("observe a request about batches")
_SURROUNDINGS: Final = fail_open("read the session and metadata around a request about batches")
_UPLOAD: Final = fail_open("read a file that is uploaded for a batch")
_KEEP: Final = fail_open("keep the requests of a batch")
_KEEP_BATCH: Final = fail_open("keep which batch a file of results is of")
_PURPOSE: Final = "batch"
_REMEMBERED: Final = 4096
"""Batches, files and readings."""
_AT_ONCE: Final = 100
"""Requests of a batch that are written before its creation returns, and at a time later."""
_FEW: Final = 8
"""Batches whose files are noted before a request returns; of a longer list they are noted later."""
_AT_ONCE_BYTES: Final = 1 << 17
"""Size of files whose requests are kept before the upload returns."""
_OF_CREATION: Final = (
    "place", "metadata", "trace_id", "span_id", "parent_span_id", "sampled", "service", "host", "pid", "sdk",
    "server_address", "server_port", "timing",
)  # fmt: skip
"""What the record of a request has of the creation of its batch, and not of the upload of its file."""
_WARNED: Final = Once()
_NOT_KNOWN: Final = (
    "Results of a batch were read that no process with this spool directory knows: they are not recorded. Look the "
    "batch up before its files are read, with `batches.retrieve` or `batches.list`"
)
_KIND: Final = "batch"
"""Kind of what has a content level, see `known_level`."""
_RESULTS_PATH: Final = "/v1/files/{id}/content"
_NOWHERE: Final = Place()


class Batches:
    """Records the lines of batches. Safe from any thread."""

    def __init__(self, reports: Reports, files: BatchFiles, unrecorded: Callable[[str], object]) -> None:
        """`unrecorded` takes the path of results that no batch is known for."""
        self.reports, self.files, self.unrecorded = reports, files, unrecorded
        self.uploads: LRUCache[tuple[str | None, ...], Upload] = LRUCache(_REMEMBERED)
        """Files with requests that this process has uploaded."""
        self.known: LRUCache[tuple[str | None, ...], BatchInfo] = LRUCache(_REMEMBERED)
        """By provider and the id of the batch, or of a file of it."""
        self.created: LRUCache[tuple[str | None, ...], SpanRef] = LRUCache(_REMEMBERED)
        """Spans and places of the requests that created batches, by provider and batch."""
        self.seen: LRUCache[tuple[str | None, ...], Seen] = LRUCache(_REMEMBERED)

    def factory(self, calls: CallFactory, level: Content, spans: CallSpans, request: BatchRequest) -> CallFactory:
        """Return the factory that observes this request, with the settings of `calls`, at a content level."""
        return calls.without_records(partial(ObservedRequest, self, calls, level, spans, request), surroundings=nowhere)

    def begun(self, provider: str, batch_id: str, level: Content) -> None:
        """Remember the content level of a batch: the stricter one of its creation and the upload of its file."""
        key = _KIND, f"{provider} {batch_id}"
        LEVELS.put(key, strictest(level, LEVELS.get(key)))

    def learn(self, provider: str, batches: list[BatchInfo]) -> None:
        """Store the state of batches that a provider returned, and which files are theirs, for other processes."""
        fresh = [
            batch
            for batch in batches
            if any(self.known.get((provider, file_id)) is None for file_id in batch.result_files)
        ]
        keep = partial(self._keep_batches, provider, fresh)
        if len(fresh) > _FEW:
            put_off(keep)
        elif fresh:
            keep()
        # After the files: what an interrupt has left is kept when the batch is seen again.
        for batch in batches:
            for identity in (batch.id, *batch.result_files):
                self.known.put((provider, identity), batch)

    def _keep_batches(self, provider: str, batches: list[BatchInfo]) -> None:
        for batch in batches:
            with _KEEP_BATCH:
                self.files.keep_batch(provider, batch)

    def batch_of(self, provider: str, request: BatchRequest) -> BatchInfo | None:
        """Return the batch whose results are requested, if a process with this spool directory knows it."""
        known = self.known.get((provider, request.batch_id or request.file_id))
        if known is not None:
            return known
        if request.batch_id is not None:
            return BatchInfo(id=request.batch_id)
        with _KEEP_BATCH:
            return None if request.file_id is None else self.files.batch_of(provider, request.file_id)
        return None


class ObservedRequest(RequestObserver):
    """Observes a request about batches. Its methods raise only interrupts."""

    __slots__ = (
        "_around", "_calls", "_context", "_level", "_of", "_request", "_requests", "_span", "_spans", "_started",
        "_stored", "_upload", "lines", "uploads",
    )  # fmt: skip

    def __init__(
        self, of: Batches, calls: CallFactory, level: Content, spans: CallSpans, request: BatchRequest,
        started: CallRecord,
    ) -> None:  # fmt: skip
        self._of, self._calls, self._spans, self._request, self._started = of, calls, spans, request, started
        self._context, self._level = otel_context.get_current(), level
        self._around: tuple[Place | None, CallEnded | None, dict[str, object]] = (None, None, {})
        try:
            self._around = calls.surroundings()
        except reported(_SURROUNDINGS):
            self._around = (None, None, {})
        self.lines: LineReader | UnknownResults | None = self._reader() if request.operation == RESULTS else None
        """Takes the bytes of results; None: the request is for none."""
        self.uploads = self._uploads if request.operation == UPLOAD else None
        """Takes the fields and files of an upload; None: the request is none."""
        self._upload: UploadedLines | None = None
        self._stored = Upload()
        self._requests: dict[str, _Requests] = {}
        """What this request writes, by batch."""
        # Started last: an interrupt of the steps above would leave it open.
        self._span = self._span_of_creation() if request.operation == CREATE else None

    def within(self, context: Any) -> Any:  # noqa: ANN401 - OpenTelemetry's
        """Return `context` with the span of the batch's creation as the current one."""
        return context if self._span is None else self._span.within(context)

    def ended(self, record: CallRecord) -> None:
        """Read the answer to the request."""
        with _OBSERVE:
            if self.lines is not None:
                self.lines.finish(complete=record.outcome == "success")
                if isinstance(self.lines, LineReader) and self.lines.missed:
                    self._of.unrecorded(_RESULTS_PATH)
            elif self._request.operation == UPLOAD:
                self._uploaded(record)
            elif self._request.operation == CREATE:
                self._created(record)
            elif record.outcome == "success" and record.response is not None:
                self._answered(record, registry.decoded(record.response.body))

    def _uploads(self, fields: object, files: object) -> None:
        """Store the fields and files of an upload that is about to be sent."""
        if isinstance(fields, dict) and fields.get("purpose") == _PURPOSE:
            with _UPLOAD:
                self._upload = UploadedLines(file_in(files))

    def _uploaded(self, record: CallRecord) -> None:
        lines, file_id = self._upload, None if record.response is None else record.response.id
        if lines is None or file_id is None or record.outcome != "success":
            return
        keep = partial(self._keep, lines, record, file_id)
        self._of.uploads.put((record.provider, file_id), self._stored)
        try:
            self._upload = None
            if lines.size <= _AT_ONCE_BYTES:
                keep()
            else:
                put_off(keep)
        except BaseException:
            put_off(keep)
            raise

    def _keep(self, lines: UploadedLines, record: CallRecord, file_id: str) -> None:
        if self._stored.is_finished:
            return
        base = msgspec.structs.replace(record, response=None, content_level=self._level)
        requests = (requested(base, line) for one in lines if (line := request_in(one)) is not None)
        with _KEEP:
            self._of.files.keep(record.provider, file_id, map(self._calls.processors.process, requests))
        self._stored.finish()
        lines.close()

    def _answered(self, record: CallRecord, body: object) -> None:
        batches = batches_in(body)
        self._of.learn(record.provider, batches)
        for batch in batches:
            if batch.input_file_id is not None:
                started = batch.created_ns or record.timing.start_ns
                base = msgspec.structs.replace(record, timing=Timing(start_ns=started))
                self._write(batch, partial(self._joined, base, batch, batch.input_file_id), batch.input_file_id)

    def _span_of_creation(self) -> CallSpan | None:
        start_ns = self._started.timing.start_ns
        return self._spans.of_batch(self._report(CREATE, None), start_ns, self._context, None)

    def _created(self, record: CallRecord) -> None:
        """End the span of a batch's creation, and record the requests of the batch."""
        response = record.response if record.outcome == "success" else None
        batch = None if response is None else next(iter(batches_in(registry.decoded(response.body))), None)
        span, end_ns = self._span, record.timing.start_ns + (record.timing.duration_ns or 0)
        if span is not None:
            span.end_batch(self._report(CREATE, batch, record.error), end_ns)
        if batch is None:
            return
        self._of.begun(record.provider, batch.id, self._level)
        self._of.learn(record.provider, [batch])
        place, _, metadata = self._around
        place = _NOWHERE if place is None else place
        self._of.created.put((record.provider, batch.id), _begun(span, place, self._level))
        base = msgspec.structs.replace(
            record,
            place=place,
            metadata=metadata,
            timing=Timing(start_ns=record.timing.start_ns),
            **({} if span is None else span_ids(span)),
        )
        if batch.input_file_id is None:
            self._write(batch, partial(_lines_of, base, batch), None)
        else:
            self._write(batch, partial(self._joined, base, batch, batch.input_file_id), batch.input_file_id)

    def _joined(self, base: CallRecord, batch: BatchInfo, file_id: str) -> Iterator[CallRecord]:
        """Yield the requests of the batch's file as lines of the batch."""
        about = {name: getattr(base, name) for name in _OF_CREATION}
        for record in self._of.files.take(base.provider, file_id):
            yield self._of_batch(record, base.provider, batch.id, about)

    def _of_batch(self, kept: CallRecord, provider: str, batch_id: str, about: Mapping[str, Any]) -> CallRecord:
        if kept.content_level != "full":  # of a file that was uploaded so
            self._of.begun(provider, batch_id, kept.content_level)
        return of_batch(kept, provider, batch_id, **about)

    def _write(self, batch: BatchInfo, records: Callable[[], Iterator[CallRecord]], file_id: str | None) -> None:
        """Write the requests of a batch once; those of a file as soon as they are stored."""
        provider = self._started.provider
        work = self._requests.setdefault(batch.id, _Requests(self._of, self._calls, records))
        claim = self._of.reports.claims.take(("requests", provider, batch.id), work, higher(1))
        if claim is None:
            return
        upload = None if file_id is None else self._of.uploads.get((provider, file_id))
        work.start(upload)
        claim.finish()

    def _reader(self) -> LineReader | UnknownResults:
        provider, request = self._started.provider, self._request
        batch = self._of.batch_of(provider, request)
        if batch is None:
            return UnknownResults(self._unknown)
        key, seen = (provider, batch.id, request.file_id), Seen()
        if not self._of.seen.claim(key, seen):
            seen = self._of.seen.get(key) or seen
        reading = _Reading(self._of, self._level, self._started, batch)
        return LineReader(seen, reading.line, partial(self._read, reading, batch))

    def _unknown(self) -> None:
        self._of.unrecorded(_RESULTS_PATH)
        if _WARNED.first(_RESULTS_PATH):
            log(logging.WARNING, _NOT_KNOWN)

    def _read(self, reading: _Reading, batch: BatchInfo, counts: Counter[str], complete: bool, end_ns: int) -> None:
        """Create the span of the batch when the results of this request were read, the last at `end_ns`."""
        if not counts or not reading.is_first:
            return
        claim = self._of.reports.claims.take(("results", self._started.provider, batch.id), reading, higher(1))
        if claim is None:
            return
        report = msgspec.structs.replace(self._report(RESULTS, batch), read=dict(counts), complete=complete)
        created = self._of.created.get((self._started.provider, batch.id)) or reading.created
        if created is not None and created.level is not None:
            report = msgspec.structs.replace(report, place=created.place)
        start_ns = self._started.timing.start_ns
        span = self._spans.of_batch(report, start_ns, self._context, span_context(created))
        if span is not None:
            span.end_at(max(end_ns, start_ns + SHORTEST_NS))
        claim.finish()

    def _report(self, operation: str, batch: BatchInfo | None, error: ErrorInfo | None = None) -> BatchReport:
        """Return the data for a span of the batch; `batch` is None before it is created."""
        started = self._started
        report = BatchReport(
            operation=operation, provider=started.provider, place=self._around[0] or _NOWHERE,
            server_address=started.server_address,
            server_port=started.server_port, error_type=None if error is None else error.type,
        )  # fmt: skip
        if batch is None:
            return report
        return msgspec.structs.replace(
            report, batch_id=batch.id, status=batch.status, requests=batch.counts, usage=batch.usage
        )


def _begun(span: SpanHandle[Any, Any] | None, place: Place, level: Content) -> SpanRef:
    begun = SpanRef(place=place, level=level)
    if span is None:
        return begun
    return msgspec.structs.replace(begun, trace_id=span.trace_id, span_id=span.span_id, sampled=bool(span.sampled))


def _lines_of(base: CallRecord, batch: BatchInfo) -> Iterator[CallRecord]:
    for line in requests_in(base.request.body):
        yield of_batch(requested(base, line), base.provider, batch.id)


class _Requests:
    """The requests of a batch: written in portions, each once; after an interrupt from the next one on."""

    def __init__(self, of: Batches, calls: CallFactory, records: Callable[[], Iterator[CallRecord]]) -> None:
        """`records` yields them from the first on, whenever it is called."""
        self._of, self._calls, self._records = of, calls, records
        self._waiting: Iterator[CallRecord] | None = None
        self._written = 0
        self._is_started = False

    def start(self, upload: Upload | None) -> None:
        """Write the first portion now, or once `upload` is stored; the others on a background thread."""
        if self._is_started:
            return
        try:
            self._is_started = True
            if upload is None:
                self.run()
            else:
                upload.after(self.run)
        except BaseException:
            put_off(self.run)
            raise

    def run(self) -> None:
        """Write the next portion."""
        # An iterator that is interrupted has ended.
        waiting, self._waiting = self._waiting or islice(self._records(), self._written, None), None
        before = self._written
        with _KEEP:
            for record in islice(waiting, _AT_ONCE):
                self._of.reports.write(self._calls.processors.process(record))
                self._written += 1
        if self._written - before == _AT_ONCE:
            self._waiting = waiting
            put_off(self.run)


class _Reading:
    """One read of a batch's results."""

    __slots__ = ("_batch", "_decide", "_in_force", "_of", "_started", "_undecided", "_where")

    def __init__(self, of: Batches, in_force: Content, started: CallRecord, batch: BatchInfo) -> None:
        self._of, self._in_force, self._started, self._batch = of, in_force, started, batch
        self._decide = None if of.reports.rule is None else of.reports.rule.later()
        self._undecided: Content | None = None
        self._where: tuple[SpanRef | None] | None = None

    @property
    def is_first(self) -> bool:
        """Return whether no readable store has results of the batch yet."""
        return self._where is None or self._where[0] is None or not self._where[0].complete

    @property
    def created(self) -> SpanRef | None:
        """Return the span of the batch's creation, if a readable store has it."""
        return None if self._where is None else self._where[0]

    def line(self, line: bytes) -> str | None:
        """Record the call of one line; return its outcome, None if the line is not a result."""
        found = result_in(line)
        if found is None:
            return None
        reports, record = self._of.reports, answered(self._started, self._batch, found)
        if self._where is None and reports.look_ups and on_own_thread():
            self._look_up(record.call_id)
        if self._where is None and reports.look_ups and self._known_level() is None:
            processed = reports.withheld.process(record)
        else:
            processed = reports.outlets[self._level()].processors.process(staged(record, 1))
        reports.write(processed)
        if self.is_first:
            reports.measure(processed)
        return record.outcome

    def _known_level(self) -> Content | None:
        return known_level(_KIND, f"{self._started.provider} {self._batch.id}")

    def _level(self) -> Content:
        """Return the content level of the batch, or the one in force where it is read if that is stricter."""
        known = self._known_level()
        if known is None and self._decide is not None:
            self._undecided = known = self._undecided or self._decide()
        return strictest(self._in_force, known)

    def _look_up(self, call_id: str) -> None:
        """Ask the stores for the creation of the batch, by the first line that is read."""
        where: SpanRef | None = None
        level: Content | None = "off"
        try:
            where = self._of.reports.look_ups.find("call", call_id)
            level = None if where is None else where.level
        except ours(UnansweredError):
            where = None
        self._where = (where,)
        if level is not None and self._known_level() is None:
            LEVELS.put((_KIND, f"{self._started.provider} {self._batch.id}"), level)
