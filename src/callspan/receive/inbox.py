"""Inbox: turns OTLP requests into records, writes them, and counts what it cannot use.

A request is acknowledged once all its records are written. If writing fails, the sender is told to retry. The records
are kept meanwhile, and nothing else is read until they are on disk.

All of this happens on a thread of its own, one request after the other. If a disk hangs, the server still refuses
requests and ends slow ones, and no other thread waits for a lock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import chain
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from callspan.formatting import counted
from callspan.providers.wire_json import text
from callspan.receive.claude_code import SERVICE, ClaudeCode, is_read
from callspan.receive.claude_records import SCOPE_OF_SPANS, call_of_span
from callspan.receive.codex import SCOPE as CODEX
from callspan.receive.codex import Codex
from callspan.receive.codex import is_read as is_of_codex
from callspan.receive.decoding import LogEvent, OtlpRequest, Signal, decoded_request
from callspan.receive.history import Entry, History, ReadEvent, ReadSpan, WrittenRecord, WrittenRecords
from callspan.receive.senders import Sender
from callspan.receive.spans import RECORDED_APART, RECORDED_TWICE, SpanReader, SpanRecords
from callspan.receive.waiting import Leveled, WaitingRecords
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.codec import decode, encode
from callspan.record.events import EventRecord, Record, SessionRecord
from callspan.runtime.background import Worker
from callspan.runtime.lock_free import LRUCache
from callspan.runtime.nothing import nothing
from callspan.semconv.conversations import CONVERSATION
from callspan.settings import Content

_MAX_SESSIONS: Final = 4096
_MAX_CALLS: Final = 16_384
MAX_WAIT_S: Final = 60.0
_ERROR_TEXTS: Final = frozenset({"error", "error.message"})
"""Attributes with the message of an error."""
Write: TypeAlias = Callable[[Record, Content], bool]
"""Processes a record at a content level and writes it; returns whether the operating system has it. Thread-safe."""
_T = TypeVar("_T")


class Receipt(NamedTuple):
    """The result of a request after its records are written."""

    rejected: int
    """Number of its spans or log records that could not be read."""
    message: str
    """What could not be read of it; empty if nothing."""


class Inbox:
    """Takes OTLP requests. Thread-safe; requests are read one at a time, on its thread."""

    def __init__(self, write: Write, unrecorded: Callable[[str], object] = nothing) -> None:
        """`unrecorded` takes what is not understood, and may have been a call."""
        self._write, self._unrecorded = write, unrecorded
        self._worker = Worker("callspan-inbox", exit_timeout_s=0)  # `close` waits
        self.waiting: WaitingRecords | None = None
        """Where requests and tools wait that have no record yet; None: in memory alone. Set before the first one."""
        self._history: History | None = None
        """Where events are kept for the next receiver; None without a next one."""
        self._level: Content = "full"
        self._unwritten: deque[Leveled] = deque()
        self._written = WrittenRecords()
        self._claude_code = ClaudeCode(self._written)
        self._codex = Codex(self._written)
        self._spans = SpanReader(reads_messages=True)
        self._sessions: LRUCache[str, object] = LRUCache(_MAX_SESSIONS)
        self._call_ids: LRUCache[str, object] = LRUCache(_MAX_CALLS)
        self.calls = 0
        """Number of recorded calls; a version of an earlier one does not count."""
        self.unused: Counter[str] = Counter()
        """Numbers of spans, log events and requests of metrics that are no part of a call, by kind."""
        self.unread: Counter[str] = Counter()
        """Numbers of what could not be read of acknowledged requests, by kind."""

    def resume(self, waiting: WaitingRecords, history: History, sender: Sender) -> None:
        """Go on where the previous receiver ended, and keep what the next one needs to go on. Raises OSError.

        `sender` is who sends.
        """
        self.waiting, self._history, self._level = waiting, history, sender.level
        entries = history.entries(waiting.files)
        for entry in entries:
            if isinstance(entry, WrittenRecord):
                self._written.put(entry)
        events = [entry.event for entry in entries if isinstance(entry, ReadEvent)]
        self._claude_code.resume(events, waiting.files, sender)
        self._codex.resume(events, sender)
        self._spans.resume((entry for entry in entries if isinstance(entry, ReadSpan)), waiting.files)

    def take(
        self, signal: Signal, body: bytes, sender: Sender, *, is_protobuf: bool, encoding: str = ""
    ) -> Future[Receipt | None]:
        """Write the records of a request. A result of None: the sender is to send it again.

        The future may also raise UndecodableError or TooLargeError.
        """
        return self._later(partial(self._take, signal, body, sender, is_protobuf=is_protobuf, encoding=encoding))

    def take_events(self, events: Iterable[LogEvent], sender: Sender, *, limit_s: float = MAX_WAIT_S) -> bool:
        """Write the records of events that came by another way; return whether all are written."""
        return self._now(lambda: self._write_all(self._claude_code.records(events, sender)), limit_s)

    def close(self, sender: Sender | None = None, *, limit_s: float = MAX_WAIT_S) -> bool:
        """Write what still waits for an answer, of one sender or all; return False if that failed."""
        is_final = self._history is None
        readers = (self._claude_code, self._codex)
        write = chain.from_iterable(reader.close(sender, is_final=is_final) for reader in readers)
        tools = self._of_records(self._spans.close()) if is_final and sender is None else ()
        return self._now(lambda: self._write_all(chain(write, tools)), limit_s)

    def _later(self, work: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        self._worker.put(partial(_fulfil, future, work))
        return future

    def _now(self, work: Callable[[], bool], limit_s: float) -> bool:
        """Return the result; False if a disk hangs, or a redactor."""
        future = self._later(work)
        # Unlike the future, it also works as the interpreter ends, when no thread can be started.
        return self._worker.drain(limit_s) and future.done() and future.result()

    def _take(self, signal: Signal, body: bytes, sender: Sender, *, is_protobuf: bool, encoding: str) -> Receipt | None:
        if not self._write_all(()):
            return None
        request = decoded_request(signal, body, is_protobuf=is_protobuf, encoding=encoding)
        is_written = self._write_all(self._records(signal, request, sender))
        return self._receipt(signal, request) if is_written else None

    def _receipt(self, signal: Signal, request: OtlpRequest) -> Receipt:
        """Count what could not be read of a request, and return that."""
        unread = Counter(request.replaced)
        if request.rejected:
            unread["spans without ids, or too many" if signal == "traces" else "log events that are too many"] = (
                request.rejected
            )
        self.unread += unread
        for what in unread:
            self._unrecorded(f"{what}, in OTLP requests")
        return Receipt(request.rejected, f"callspan could not read {counted(unread)}." if unread else "")

    def _write_all(self, records: Iterable[Leveled]) -> bool:
        try:
            self._unwritten.extend(records)
            return self._write_what_waits()
        except OSError:  # the disk of body files hangs, or no file can be made for what waits
            return False

    def _write_what_waits(self) -> bool:
        claude_code, waiting = self._claude_code, self.waiting
        if waiting is not None:
            waiting.assign(claude_code.written_as)
        while self._unwritten:
            record, level = self._unwritten[0]
            if not self._write(record, level):
                return False
            self._unwritten.popleft()
            if isinstance(record, CallRecord):
                self.calls += self._call_ids.is_first(record.call_id)
        waits = {**claude_code.waiting(), **self._spans.waiting()} if waiting is not None else {}
        if waiting is not None:
            waiting.keep(waits)
        if self._history is not None:
            self._history.add(map(self._noted, chain(claude_code.read, self._codex.read, self._spans.noted())), waits)
        if waiting is not None:
            waiting.drop_others(waits)
        claude_code.settle()
        self._codex.settle()
        self._spans.settle()
        return True

    def _noted(self, entry: Entry) -> Entry:
        """Return an entry with everything as in a record: only that may lie on disk."""
        if self.waiting is None or isinstance(entry, WrittenRecord):
            return entry
        if isinstance(entry, ReadSpan):
            run = entry.run
            if run is not None:
                session, tool = (self._processed(part, run.level) for part in (run.session, run.event))
                run = msgspec.structs.replace(run, session=session, event=tool)
            return msgspec.structs.replace(entry, record=self._processed(entry.record, entry.level), run=run)
        event = entry.event
        for name in _ERROR_TEXTS & event.attributes.keys():
            error = ErrorInfo(kind="unknown", type="error", message=text(event.attributes, name))
            record = EventRecord(event_id="", event_type="error", time_ns=event.time_ns, error=error)
            processed = getattr(self.waiting.process(record, self._level), "error", None)
            attributes = {**event.attributes, name: processed and processed.message}
            event = msgspec.structs.replace(event, attributes=attributes)
        return msgspec.structs.replace(entry, event=event)

    def _processed(self, record: msgspec.Raw, level: Content) -> msgspec.Raw:
        if self.waiting is None or not bytes(record):
            return record
        return msgspec.Raw(encode(self.waiting.process(decode(bytes(record)), level)))

    def _records(self, signal: Signal, request: OtlpRequest, sender: Sender) -> Iterator[Leveled]:
        if signal == "logs":
            events = list(request.log_events())
            unread = [event for event in events if not (is_read(event) or is_of_codex(event))]
            if number := len(unread) + request.nameless:
                self.unused["log events"] += number
            for service in {text(event.resource, "service.name") for event in unread if not _is_of_program(event)}:
                self._unrecorded(f"OTLP requests with log events of {service}")
            yield from self._claude_code.records(events, sender)
            yield from self._codex.records(events, sender)
        elif signal == "traces":
            yield from self._of_spans(request, sender)
        else:
            self.unused["requests of metrics"] += 1

    def _of_spans(self, request: OtlpRequest, sender: Sender) -> Iterator[Leveled]:
        spans = list(request.spans())
        of_claude_code = [span for span in spans if span.scope == SCOPE_OF_SPANS]
        called = [call for span in of_claude_code if (call := call_of_span(span, sender)) is not None]
        others = self._spans.read((span for span in spans if span.scope != SCOPE_OF_SPANS), sender.level)
        if unused := others.unused + len(of_claude_code) - len(called):
            self.unused["spans"] += unused
        yield from self._of_records(others)
        for call, level in (*((call, sender.level) for call in called), *others.calls):
            if (session := self._session_of(call)) is not None:
                yield session, level
            yield call, level

    def _of_records(self, records: SpanRecords) -> Iterator[Leveled]:
        for _ in range(records.repeated):
            self._unrecorded(RECORDED_TWICE)
        for _ in range(records.apart):
            self._unrecorded(RECORDED_APART)
        for run, level in records.runs:
            if isinstance(run, SessionRecord):
                self._sessions.is_first(run.session_id)
            yield run, level

    def _session_of(self, call: CallRecord) -> SessionRecord | None:
        """Return the record of a session that a span names for the first time."""
        ident, start_ns = call.place.session_id, call.timing.start_ns
        if ident is None or call.service == SERVICE or not self._sessions.is_first(ident):
            return None
        conversation = call.place.session_name
        return SessionRecord(
            session_id=ident,
            seen_ns=start_ns,
            name=conversation,
            service=call.service,
            start_ns=start_ns,
            metadata={} if conversation is None else {CONVERSATION: conversation},
        )


def _is_of_program(event: LogEvent) -> bool:
    """Return whether an event comes from Claude Code or Codex; their events that are not read belong to no call."""
    return text(event.resource, "service.name") == SERVICE or event.name.startswith(CODEX)


def _fulfil(future: Future[_T], work: Callable[[], _T]) -> None:
    """Do the work that a future waits for."""
    if not future.set_running_or_notify_cancel():
        return  # nobody waits for it any more
    try:
        future.set_result(work())
    except BaseException as error:  # of the request, for the server, which says so
        future.set_exception(error)
    finally:
        # The exception's frames have the body, and would wait for the garbage collector with a future that has them.
        del future, work
