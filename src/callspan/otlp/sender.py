"""Sender: sends the spans of a store's records that a receiver lacks, and remembers what it took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from msgspec.structs import replace

from callspan.otlp.byte_bounds import MAX_BATCH_BYTES, parts_of
from callspan.otlp.receiver import Receiver
from callspan.otlp.recorded import Group, RecordedSpan, RecordedSpans
from callspan.record.events import record_key
from callspan.record.interrupted import INTERRUPTED
from callspan.stores.base import RUNNING, CallFilter, Event, Reader, SessionSummary
from callspan.stores.sent import SentVersions, Written

_MAX_SPANS: Final = 512
"""Spans of a request, as OpenTelemetry's batches have by default."""
_OVERLAP_NS: Final = 60_000_000_000
"""What is read again: a transaction may end so long after it wrote a row."""
_ROWS_AT_ONCE: Final = 5000
_LEFT_EVERY_S: Final = 60.0
"""How often it is looked for what ended processes left: nothing in a store changes when one is killed."""
_DAY_NS: Final = 86_400_000_000_000
_EVERY: Final = CallFilter()
_LOOSE: Final = frozenset({"event", "reward"})


class UnavailableError(Exception):
    """The receiver did not take a request, and may take it later. The text says why."""


class Sender:
    """Sends to one receiver. `receiver` and `sent` are closed by who made them. Not for several threads."""

    def __init__(self, receiver: Receiver, sent: SentVersions, *, again: bool = False) -> None:
        """`again`: also what was sent before, once."""
        self.sent = 0
        """Number of spans that the receiver took."""
        self.before = 0
        """Number of spans that it had before."""
        self.refusals = Counter[str]()
        """Number of spans that it refuses for good, by its reason."""
        self.unsampled: set[str] = set()
        """Keys of the records whose span was not sampled."""
        self.unended: set[str] = set()
        """Keys of the records that have not ended."""
        self._receiver, self._sent = receiver, sent
        self._again = again
        self._done: dict[str, int] = {}
        """What was sent or looked at in this round, by key."""
        self._whole: set[str] = set()
        """The sessions that were sent whole in this round."""
        self._refused: set[tuple[str, int]] = set()
        self._since_ns = 0 if again else max(0, sent.mark_ns - _OVERLAP_NS)
        self._seen: dict[tuple[str, str], int] = {}
        self._left: dict[str, int] = {}
        self._next_left_s = 0.0

    @property
    def found(self) -> int:
        """Number of spans and records that were looked at."""
        return self.sent + self.before + self.refusals.total() + len(self.unsampled) + len(self.unended)

    def send_new(self, reader: Reader, spans: RecordedSpans, tell: Callable[[], object] = bool) -> None:
        """Send what was delivered to the store since the last time, and what ended processes left.

        `tell` is called now and then. Raises UnavailableError: what was not sent is sent the next time.
        """
        self._done.clear()
        self._whole.clear()
        rows = (row for row in self._sent.written_since(self._since_ns) if not self._was_seen(row))
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            self._send(self._groups(reader, spans, some))
            self._seen.update({(row.kind, row.ident): row.stored_ns for row in some})
            self._sent.mark_ns = some[-1].stored_ns
            self._since_ns = max(self._since_ns, some[-1].stored_ns - _OVERLAP_NS)
            tell()
        self._seen = {key: stored_ns for key, stored_ns in self._seen.items() if stored_ns >= self._since_ns}
        if time.monotonic() >= self._next_left_s:
            self._send_left(reader, spans)
            self._next_left_s = time.monotonic() + _LEFT_EVERY_S
        self._again = False

    def send_chosen(
        self, reader: Reader, spans: RecordedSpans, which: CallFilter, tell: Callable[[], object] = bool
    ) -> None:
        """Send the sessions that have a call of those chosen, and such calls outside of sessions. Raises as above."""
        for summary in reader.sessions(since_ns=which.since_ns, which=which):
            self._send([self._of_session(spans, summary)])
            tell()
        if which.session_id is not None:
            return
        traces: set[str | None] = set()
        calls = spans.calls(replace(which, in_session=False, newest_first=False))
        for some in iter(lambda: list(islice(calls, _MAX_SPANS)), []):
            traces |= {call.trace_id for call in some if call.trace_id is not None}
            self._send(spans.outside(some, ()))
            tell()
        around = [one for one in reader.events(None) if getattr(one, "trace_id", None) in traces]
        self._send(spans.outside((), around))

    def _was_seen(self, row: Written) -> bool:
        return self._seen.get((row.kind, row.ident)) == row.stored_ns

    def _groups(self, reader: Reader, spans: RecordedSpans, rows: list[Written]) -> Iterator[Group]:
        """Yield the spans of what was written, and those of its sessions; of a session that goes on, the later ones."""
        starts: dict[str, int] = {}
        for row in rows:
            if row.session_id is not None and row.session_id not in self._whole:
                starts[row.session_id] = min(row.start_ns, starts.get(row.session_id, row.start_ns))
        loose = (reader.call(row.ident) for row in rows if row.kind == "call" and row.session_id is None)
        yield from spans.outside((call for call in loose if call is not None), _loose_events(reader, rows))
        for session_id, began_ns in starts.items():
            if (summary := reader.session(session_id)) is not None:
                yield self._of_session(spans, summary, began_ns)

    def _of_session(self, spans: RecordedSpans, summary: SessionSummary, since_ns: int | None = None) -> Group:
        if summary.outcome == INTERRUPTED:
            self._left[_left_key(summary)] = summary.last_ns or 0
        if summary.outcome == RUNNING:
            return spans.of_session(summary, since_ns)
        self._whole.add(summary.session.session_id)
        return spans.of_session(summary)

    def _send_left(self, reader: Reader, spans: RecordedSpans) -> None:
        left = reader.sessions(which=CallFilter(session_outcome=INTERRUPTED))
        self._send(self._of_session(spans, one) for one in left if not self._is_sent(one))
        begun = replace(_EVERY, in_session=False, outcome="started", since_ns=time.time_ns() - _DAY_NS)
        self._send(spans.outside(spans.calls(begun), ()))

    def _is_sent(self, left: SessionSummary) -> bool:
        """Return whether what an ended process left of a session was sent, and nothing came later."""
        key = _left_key(left)
        known = self._left.get(key) or self._sent.versions([key]).get(key)
        return known == (left.last_ns or 0)

    def _send(self, groups: Iterable[Group]) -> None:
        waiting: list[RecordedSpan] = []
        for group in groups:
            waiting += self._new_of(group)
            if len(waiting) >= _MAX_SPANS:
                self._deliver_all(waiting)
                waiting = []
        self._deliver_all(waiting)
        self._sent.add(self._left)

    def _new_of(self, group: Group) -> Iterator[RecordedSpan]:
        self.unsampled.update(group.unsampled)
        self.unended.update(group.unended)
        self.unended.difference_update(group.ended)
        new = [one for one in group.spans if self._done.get(one.key) != one.version]
        known = {} if self._again else self._sent.versions([one.key for one in new])
        for one in new:
            self._done[one.key] = one.version
            if known.get(one.key) == one.version:
                self.before += 1
            elif (one.key, one.version) not in self._refused:
                yield one

    def _deliver_all(self, spans: list[RecordedSpan]) -> None:
        start = 0
        for part in parts_of([one.span for one in spans], MAX_BATCH_BYTES, _MAX_SPANS):
            self._deliver(spans[start : start + len(part)])
            start += len(part)

    def _deliver(self, spans: list[RecordedSpan]) -> None:
        """Send spans in one request; if they are refused for good, in two halves, until the ones are found."""
        refusal = self._receiver.send([one.span for one in spans])
        if refusal is None:
            taken = {one.key: one.version for one in spans}
            self._sent.add(taken)
            self.sent += len(taken)
        elif not refusal.is_permanent:
            raise UnavailableError(refusal.reason)
        elif len(spans) > 1:
            self._deliver(spans[: len(spans) // 2])
            self._deliver(spans[len(spans) // 2 :])
        else:
            self.refusals[refusal.reason] += 1
            self._refused.add((spans[0].key, spans[0].version))


def _left_key(summary: SessionSummary) -> str:
    return f"left {summary.session.session_id}"


def _loose_events(reader: Reader, rows: list[Written]) -> Iterator[Event]:
    loose = {(row.kind, row.ident): row.start_ns for row in rows if row.session_id is None and row.kind in _LOOSE}
    if loose:
        since_ns = min(loose.values())
        yield from (one for one in reader.events(None, since_ns=since_ns) if record_key(one) in loose)
