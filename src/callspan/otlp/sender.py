"""Sender: sends the spans of a store's records that a receiver does not have, and remembers the accepted ones."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from callspan.otlp.answers import Rejection
from callspan.otlp.byte_bounds import parts_of
from callspan.otlp.receiver import Receiver, RefusedError
from callspan.otlp.recorded import RecordedSpans
from callspan.record.call import CallRecord
from callspan.record.events import record_key
from callspan.record.interrupted import UNENDED
from callspan.runtime.clock import monotonic_s
from callspan.stores.base import Event
from callspan.stores.query.filters import CallFilter
from callspan.stores.sent import RowVersion, SentVersions

_OVERLAP_NS: Final = 60_000_000_000
"""Rows this recent are read again, because a transaction may be committed this long after it wrote a row."""
_ROWS_AT_ONCE: Final = 100_000
"""Number of rows within which each session is read only once."""
_UNENDED_EVERY_S: Final = 60.0
"""Interval of the search for sessions of ended processes: killing a process changes nothing in the store."""
_DAY_NS: Final = 86_400_000_000_000


class SpanSender:
    """Sends to one receiver. The caller closes `receiver` and `versions`. Not thread-safe."""

    def __init__(
        self,
        receiver: Receiver,
        versions: SentVersions,
        *,
        again: bool = False,
        on_progress: Callable[[int], object] = bool,
    ) -> None:
        """`again`: resend accepted records. `on_progress` is called with `examined` from time to time."""
        self.sent = 0
        """Number of spans that the receiver accepted."""
        self.before = 0
        """Number of spans that the receiver already had."""
        self.refusals = Counter[str]()
        """Number of spans of requests that the receiver refused for good, by reason."""
        self.rejections = Counter[str]()
        """Number of spans that it rejected in requests that it accepted, by reason."""
        self.late = 0
        """Number of spans that ended after they were sent as `unknown`, and are not sent again under their id."""
        self.receiver, self._sent, self._again, self._on_progress = receiver, versions, again, on_progress
        self._since_ns = 0 if again else max(0, versions.mark_ns - _OVERLAP_NS)
        self._seen: set[RowVersion] = set()
        """Rows since the last mark with spans that were sent."""
        self._next_unended_s = 0.0
        self._silent: set[str] = set()
        """Keys of spans of this round that are `unknown`."""
        self._examined: dict[str, int] = {}
        """Versions that were sent or examined in this round."""

    @property
    def examined(self) -> int:
        """Number of examined spans."""
        return self.sent + self.before + self.refusals.total() + self.rejections.total()

    def send_new(self, spans: RecordedSpans) -> None:
        """Send the records delivered to the store since the last time, and unended ones of exited processes.

        Raises UnavailableError; unsent records are sent the next time.
        """
        self._examined.clear()
        self._silent = spans.silent
        now_ns = time.time_ns()
        if self._since_ns > now_ns:  # the clock was set back: new rows have earlier times than those that were sent
            self._since_ns = 0
        rows = (row for row in self._sent.written_since(self._since_ns) if row not in self._seen)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            self._send(spans.outside(_outside_sessions(spans, batch)))
            self._send(_of_sessions(spans, batch))
            self._sent.mark_ns = mark_ns = min(batch[-1].stored_ns, now_ns)
            self._since_ns = max(self._since_ns, mark_ns - _OVERLAP_NS)
            self._seen = {row for row in (*self._seen, *batch) if row.stored_ns >= self._since_ns}
        if monotonic_s() >= self._next_unended_s:
            self._send_unended(spans)
            self._next_unended_s = monotonic_s() + _UNENDED_EVERY_S
        self._again = False

    def _send_unended(self, spans: RecordedSpans) -> None:
        """Send the sessions of ended and silent processes, each once, unless a later record arrives."""
        for outcome in UNENDED:
            for summary in spans.reader.sessions(CallFilter(session_outcome=outcome)):
                versions = {f"left {summary.session.session_id}": summary.last_ns or 0}
                if self._sent.versions([*versions]) != versions:
                    self._send([spans.of_session(summary)])
                    self._sent.add(versions)
            selection = CallFilter(in_session=False, outcome=outcome, since_ns=time.time_ns() - _DAY_NS)
            self._send(spans.outside(spans.calls(selection)))

    def _send(self, groups: Iterable[Iterable[ReadableSpan]]) -> None:
        new = (span for group in groups for span in self._new_of(group))
        for part in parts_of(new):
            self._deliver(part)

    def _new_of(self, group: Iterable[ReadableSpan]) -> Iterator[ReadableSpan]:
        spans = {_key(span): span for span in group}
        sent_versions = {} if self._again else self._sent.versions([*spans])
        for key, span in spans.items():
            version, sent_version = self._version(key, span), sent_versions.get(key)
            if self._examined.get(key) == version:
                continue
            self._examined[key] = version
            if sent_version is not None and (sent_version == version or sent_version < 0):
                self.before += 1
                self.late += version >= 0 > sent_version
            else:
                yield span
        self._on_progress(self.examined)

    def _version(self, key: str, span: ReadableSpan) -> int:
        """Return a number that changes with the end of a span: a continued session ends again.

        It is negative for what is sent as `unknown`: nothing is sent after it.
        """
        version = 2 * (span.end_time or 0) + (not span.status.is_ok)
        return -1 - version if key in self._silent else version

    def _deliver(self, spans: list[ReadableSpan]) -> None:
        """Send spans in one request; if they are permanently rejected, bisect them."""
        try:
            rejection = self.receiver.send(spans)
        except RefusedError as error:
            if len(spans) == 1:
                self.refusals[str(error)] += 1
            else:
                self._deliver(spans[: len(spans) // 2])
                self._deliver(spans[len(spans) // 2 :])
        else:
            self._note(spans, rejection)

    def _note(self, spans: list[ReadableSpan], rejection: Rejection | None) -> None:
        """Remember accepted spans. OTLP does not say which ones were rejected, and forbids an immediate retry."""
        if rejection is None:
            self._sent.add({(key := _key(span)): self._version(key, span) for span in spans})
            self.sent += len(spans)
        else:
            rejected = min(rejection.number, len(spans))
            self.rejections[rejection.reason] += rejected
            self.sent += len(spans) - rejected


def _key(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x} {span.context.span_id:016x}"


def _of_sessions(spans: RecordedSpans, rows: Iterable[RowVersion]) -> Iterator[list[ReadableSpan]]:
    """Yield the spans of the sessions of these rows, each from its first written row on."""
    starts: dict[str, int] = {}
    for row in rows:
        if row.session_id is not None:
            starts[row.session_id] = min(row.start_ns, starts.get(row.session_id, row.start_ns))
    for session_id, began_ns in starts.items():
        if (summary := spans.reader.session(session_id)) is not None:
            yield spans.of_session(summary, began_ns)


def _outside_sessions(spans: RecordedSpans, rows: list[RowVersion]) -> Iterator[CallRecord | Event]:
    """Yield the records of these rows that are outside of sessions."""
    starts = {(row.kind, row.ident): row.start_ns for row in rows if row.session_id is None}
    calls = (spans.reader.call(ident) for kind, ident in starts if kind == "call")
    yield from (call for call in calls if call is not None)
    times = [time_ns for (kind, _), time_ns in starts.items() if kind != "call"]
    if times:
        events = spans.reader.events(None, since_ns=min(times))
        yield from (event for event in events if record_key(event) in starts)
