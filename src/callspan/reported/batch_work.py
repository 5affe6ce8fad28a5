"""Batch work: records the requests and results of batches as calls, with at most two spans per batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.runtime import LEVELS, SpanRef, UnansweredError, known_level
from callspan.background import LRUCache, on_own_thread
from callspan.fail_open import Once, fail_open, log, ours
from callspan.observe.batch_exchange import BatchExchange
from callspan.observe.batch_lines import (
    LineReader,
    Seen,
    UnknownResults,
    UploadedLines,
    answered,
    of_batch,
    requested,
    submit,
)
from callspan.observe.exchange import NOWHERE, started
from callspan.observe.ports import NO_SPAN, CallEnded, CallInfo, ExchangePorts
from callspan.process import processors
from callspan.providers.batches import (
    BATCHES,
    CREATE,
    RESULTS,
    BatchInfo,
    batches_in,
    request_in,
    requests_in,
    result_in,
)
from callspan.providers.routes import Found
from callspan.record.call import CallRecord, ErrorInfo, Http, Place, Timing
from callspan.record.span_handle import SpanHandle, span_ids
from callspan.reported.batch_files import BatchFiles, Upload
from callspan.reported.look_ups import LookUps, is_before
from callspan.reported.reports import BatchSpanHandle, Known, Level, Report, Reports, span_context
from callspan.semconv.call import BatchReport
from callspan.settings import Content, strictest

_READ_AMBIENT: Final = fail_open("read the session and metadata around a request about batches")
_KEEP: Final = fail_open("keep the requests of a batch")
_KEEP_BATCH: Final = fail_open("keep which batch a file of results is of")
_REMEMBERED: Final = 4096
"""Batches, files and readings."""
_AT_ONCE: Final = 100
"""Requests of a batch that are written before its creation returns, and at a time later."""
_FEW: Final = 8
"""Batches whose files are noted before a request returns; of a longer list they are noted later."""
_AT_ONCE_BYTES: Final = 1 << 17
"""Size of files whose requests are kept before the upload returns."""
FIELDS_FROM_CREATION: Final = (
    "place", "metadata", "trace_id", "span_id", "parent_span_id", "sampled", "trace", "service", "host", "pid", "sdk",
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


class BatchWork:
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

    def start(
        self, ports: ExchangePorts, level: Content, found: Found, query: object, info: CallInfo, context: Context
    ) -> BatchExchange:
        """Start to observe a request, at a content level."""
        del query
        operation = found.path.adapter
        start_ns, zero_ns = ports.clock.wall_ns(), ports.clock.monotonic_ns()
        request = _Request(self, level, started(ports, info, BATCHES, operation, start_ns), ports, context)
        reader = request.reader(found.ids.get("batch"), found.ids.get("file")) if operation == RESULTS else None
        # Started last: an interrupt of the steps above would leave its span open.
        span = request.start_span() if operation == CREATE else None
        return BatchExchange(ports, request.started, span or NO_SPAN, zero_ns, request, reader)

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
            submit(keep)
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

    def batch_of(self, provider: str, batch_id: str | None, file_id: str | None) -> BatchInfo | None:
        """Return the batch whose results are requested, if a process with this spool directory knows it."""
        known = self.known.get((provider, batch_id or file_id))
        if known is not None:
            return known
        if batch_id is not None:
            return BatchInfo(id=batch_id)
        with _KEEP_BATCH:
            return None if file_id is None else self.files.batch_of(provider, file_id)
        return None


class _Request:
    """Records what one request about batches reports. Its methods raise only interrupts."""

    def __init__(
        self, of: BatchWork, level: Content, started: CallRecord, ports: ExchangePorts, context: Context
    ) -> None:
        self._of, self._level, self.started, self._context = of, level, started, context
        self._processors, self._spans = of.reports.outlets[level]
        self._around: tuple[Place | None, CallEnded | None, dict[str, object]] = (None, None, {})
        with _READ_AMBIENT:
            self._around = ports.ambient()
        self._span: BatchSpanHandle | None = None
        self._stored = Upload()
        self._is_uploaded = False

    def start_span(self) -> BatchSpanHandle | None:
        """Return the new span of the creation of a batch."""
        if self._spans is not None:
            start_ns = self.started.timing.start_ns
            self._span = self._spans.of_batch(self._report(CREATE, None), start_ns, self._context, None)
        return self._span

    def uploaded(self, lines: UploadedLines, file_id: str) -> None:
        """Keep the requests of a file until its batch is created."""
        if self._is_uploaded:
            return
        keep = partial(self._keep, lines, file_id)
        self._of.uploads.put((self.started.provider, file_id), self._stored)
        self._is_uploaded = True
        if lines.size <= _AT_ONCE_BYTES:
            keep()
        else:
            submit(keep)

    def _keep(self, lines: UploadedLines, file_id: str) -> None:
        if self._stored.is_finished:
            return
        base = msgspec.structs.replace(self.started, content_level=self._level)
        requests = (requested(base, line) for one in lines if (line := request_in(one)) is not None)
        with _KEEP:
            self._of.files.keep(base.provider, file_id, map(self._processors.process, requests))
        self._stored.finish()
        lines.close()

    def found(self, body: object) -> None:
        """Learn the state of batches, and write the requests of those whose file was uploaded."""
        batches = batches_in(body)
        self._of.learn(self.started.provider, batches)
        for batch in batches:
            if batch.input_file_id is not None:
                start_ns = batch.created_ns or self.started.timing.start_ns
                base = msgspec.structs.replace(self.started, timing=Timing(start_ns=start_ns))
                self._write(batch, base, b"")

    def created(self, requests: bytes, body: object, error: ErrorInfo | None, end_ns: int, http: Http | None) -> None:
        """Record the requests of a batch, and end the span of its creation."""
        batch, span = next(iter(batches_in(body)), None), self._span
        try:
            if batch is not None:
                self._begin(batch, requests)
        finally:
            if span is not None:
                report = msgspec.structs.replace(self._report(CREATE, batch, error), http=http)
                span.end_batch(report, end_ns)

    def _begin(self, batch: BatchInfo, requests: bytes) -> None:
        provider, span = self.started.provider, self._span
        self._of.begun(provider, batch.id, self._level)
        self._of.learn(provider, [batch])
        place, metadata = self._around[0] or NOWHERE, self._around[2]
        self._of.created.put((provider, batch.id), _begun(span, place, self._level))
        base = msgspec.structs.replace(
            self.started, place=place, metadata=metadata, **({} if span is None else span_ids(span))
        )
        self._write(batch, base, requests)

    def _joined(self, base: CallRecord, batch: BatchInfo, file_id: str) -> Iterator[CallRecord]:
        """Yield the requests of the batch's file as lines of the batch."""
        about = {name: getattr(base, name) for name in FIELDS_FROM_CREATION}
        for record in self._of.files.take(base.provider, file_id):
            yield self._of_batch(record, base.provider, batch.id, about)

    def _of_batch(self, kept: CallRecord, provider: str, batch_id: str, about: Mapping[str, Any]) -> CallRecord:
        if kept.content_level != "full":  # of a file that was uploaded so
            self._of.begun(provider, batch_id, kept.content_level)
        return of_batch(kept, provider, batch_id, **about)

    def _write(self, batch: BatchInfo, base: CallRecord, requests: bytes) -> None:
        """Write the requests of a batch once; those of a file as soon as they are stored."""
        provider, file_id = self.started.provider, batch.input_file_id
        if file_id is None:
            records, upload = partial(_lines_of, base, batch, requests), None
        else:
            records = partial(self._joined, base, batch, file_id)
            upload = self._of.uploads.get((provider, file_id))
        key = "requests", provider, batch.id
        self._of.reports.report(_Requests(self._of.reports, self._level, key, records, upload))

    def reader(self, batch_id: str | None, file_id: str | None) -> LineReader | UnknownResults:
        """Return what takes the bytes of results."""
        provider = self.started.provider
        batch = self._of.batch_of(provider, batch_id, file_id)
        if batch is None:
            return UnknownResults(self._unknown)
        key, seen = (provider, batch.id, file_id), Seen()
        if not self._of.seen.claim(key, seen):
            seen = self._of.seen.get(key) or seen
        results = _Results(self._of.reports, self._level, self.started, batch)
        return LineReader(seen, results.line, partial(self._read, results, batch))

    def missed(self) -> None:
        """Count results that were read in a way that is not observed."""
        self._of.unrecorded(_RESULTS_PATH)

    def _unknown(self) -> None:
        self.missed()
        if _WARNED.first(_RESULTS_PATH):
            log(logging.WARNING, _NOT_KNOWN)

    def _read(self, results: _Results, batch: BatchInfo, counts: Counter[str], complete: bool, end_ns: int) -> None:
        """Create the span of the batch when the results of this request were read, the last at `end_ns`."""
        if counts and results.is_first:
            key = "results", self.started.provider, batch.id
            report = msgspec.structs.replace(self._report(RESULTS, batch), read=dict(counts), complete=complete)
            show = partial(self._show, report, results.created, end_ns)
            self._of.reports.report(_FirstRead(self._of.reports, self._level, key, show))

    def _show(self, report: BatchReport, stored: SpanRef | None, end_ns: int) -> None:
        created = self._of.created.get((report.provider, report.batch_id)) or stored
        if created is not None and created.level is not None:
            report = msgspec.structs.replace(report, place=created.place)
        start_ns, spans = self.started.timing.start_ns, self._spans
        span = None if spans is None else spans.of_batch(report, start_ns, self._context, span_context(created))
        if span is not None:
            span.end_at(end_ns)

    def _report(self, operation: str, batch: BatchInfo | None, error: ErrorInfo | None = None) -> BatchReport:
        """Return the data for a span of the batch; `batch` is None before it is created."""
        started = self.started
        report = BatchReport(
            operation=operation, provider=started.provider, place=self._around[0] or NOWHERE,
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


def _lines_of(base: CallRecord, batch: BatchInfo, requests: bytes) -> Iterator[CallRecord]:
    for line in requests_in(requests):
        yield of_batch(requested(base, line), base.provider, batch.id)


class _Requests(Report):
    """The requests of a batch: written in portions, each once; after an interrupt from the next one on."""

    def __init__(
        self, of: Reports, level: Content, key: Hashable, records: Callable[[], Iterator[CallRecord]],
        upload: Upload | None,
    ) -> None:  # fmt: skip
        """`records` yields them from the first on, whenever it is called, and once `upload` is stored."""
        super().__init__(of, level, key)
        self._process = of.outlets[level].processors.process
        self._records, self._upload = records, upload
        self._waiting: Iterator[CallRecord] | None = None
        self._written = 0

    def defer(self) -> None:
        """Have the other portions written on the thread for batches."""
        submit(self.run)

    def _do(self) -> bool:
        """Write the next portion: the first one now, or once the file is stored."""
        if self._upload is not None and not self._upload.is_finished:
            self._upload.after(self.run)
            return False
        # An iterator that is interrupted has ended.
        waiting, self._waiting = self._waiting or islice(self._records(), self._written, None), None
        before = self._written
        for record in islice(waiting, _AT_ONCE):
            processors.write(self._process(record), self._of.write)
            self._written += 1
        if self._written - before < _AT_ONCE:
            return True
        self._waiting = waiting
        self.defer()
        return False


class _FirstRead(Report):
    """The first read of a batch's results. It has a span, and no record: those are of the results."""

    def __init__(self, of: Reports, level: Content, key: Hashable, show: Callable[[], object]) -> None:
        """`show` makes the span."""
        super().__init__(of, level, key)
        self._make_span = show

    def _do(self) -> bool:
        self._make_span()
        return True


class _Results:
    """One read of a batch's results, and what the stores know of the batch."""

    def __init__(self, reports: Reports, in_force: Content, started: CallRecord, batch: BatchInfo) -> None:
        self.reports, self.level = reports, Level(in_force)
        self._started, self._batch = started, batch
        self._id = f"{started.provider} {batch.id}"
        self._where: tuple[SpanRef | None] | None = None

    @property
    def is_looked_up(self) -> bool:
        """Whether the creation of the batch was looked up in the stores, or there are none."""
        return self._where is not None or not self.reports.look_ups

    @property
    def is_first(self) -> bool:
        """Whether no readable store has results of the batch yet."""
        return self.created is None or not self.created.complete

    @property
    def created(self) -> SpanRef | None:
        """The span of the batch's creation, if a readable store has it."""
        return None if self._where is None else self._where[0]

    def known(self) -> Known:
        """Return what is known of the lines of the batch."""
        return Known(level=known_level(_KIND, self._id), is_complete=not self.is_first)

    def ask(self, look_ups: LookUps, line: CallRecord) -> Known:
        """Ask the stores for the creation of the batch, by its first line that is read. Raises UnansweredError."""
        try:
            where = look_ups.find("call", line.call_id)
            level = None if where is None else where.level
        except ours(UnansweredError):
            if not on_own_thread():
                raise  # a later line asks
            where, level = None, "off"
        if where is not None and where.complete and not is_before(where.seen_ns, line.seen_ns):
            where = msgspec.structs.replace(where, complete=False)
        self._where = (where,)
        if level is not None and known_level(_KIND, self._id) is None:
            LEVELS.put((_KIND, self._id), level)
        return self.known()

    def line(self, line: bytes) -> str | None:
        """Record the call of one line; return its outcome, None if the line is not a result."""
        found = result_in(line)
        if found is None:
            return None
        record = answered(self._started, self._batch, found)
        _ResultLine(self, record).run()
        return record.outcome


class _ResultLine(Report):
    """The answer in one line of the results. Its place in the file is what says whether it was read before."""

    is_end = has_tools = True
    has_span = False
    may_wait = False

    def __init__(self, results: _Results, record: CallRecord) -> None:
        super().__init__(results.reports, results.level, None)
        self._results, self._record = results, record

    def local(self) -> Known:
        """Return what this process knows of the batch."""
        return self._results.known()

    def asks(self, known: Known) -> bool:
        """Return whether no line has looked up the batch in the stores."""
        del known
        return not self._results.is_looked_up

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what the stores know of the batch."""
        del known
        return self._results.ask(look_ups, self._record)

    def build(self, known: Known) -> CallRecord:
        """Return the version with the answer."""
        del known
        return self._record
