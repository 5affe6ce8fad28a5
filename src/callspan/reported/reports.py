"""Reports: the one place that records what requests report, each fact once, in one order.

Claim, build, process, write, look up, write again, span, measure. The caller waits for the first write only. Where a
store may know more (the span of the request, the session, the model, the content level it was begun with), a thread
of callspan's own queries it; what it knows, with the content that is then allowed, is a second version of the same
record. Neither span nor measurement is made where a store had the end before. Without a store that can be read there is
one write, and all of it is done at once.
A report that an interrupt has left is completed on that thread; a claim whose report failed is released.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from opentelemetry.trace import SpanContext, TraceFlags

from callspan.agent.content_for import ContentRule
from callspan.agent.runtime import SpanRef, UnansweredError
from callspan.background import LOOK_UPS
from callspan.fail_open import fail_open, ours
from callspan.observe.ports import CallSpanHandle, span_ids
from callspan.process import processors
from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.providers import registry
from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.record.merging import staged
from callspan.record.span_handle import SpanHandle
from callspan.reported.claims import Claim, Claims, unless_known
from callspan.reported.look_ups import LookUps
from callspan.semconv.call import BatchReport
from callspan.settings import Content, strictest

_REPORT: Final = fail_open("record what a request reports")
_CLAIM, _FIRST, _LOOK_UP, _BUILD, _WRITE, SHOW, MEASURE, _DONE = range(8)
"""The steps of a report. One that was interrupted is repeated, except the last two."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What this process, or a store, knows of what is reported."""

    where: SpanRef | None = None
    """The span, session and step of the request that caused it."""
    level: Content | None = None
    """The content level it was begun with; None: unknown."""
    is_complete: bool = False
    """A store has it already: it has been shown and measured."""
    is_stored: bool = False
    """A store has all of it."""
    is_answered: bool = True
    """False: a look-up in a store has begun and not ended."""


NOTHING: Final = Known()


class Spans(Protocol):
    """Starts the spans of what is reported."""

    def start_fetch_span(self, begun: Processed[CallRecord], context: Any, call: Any) -> CallSpanHandle | None:  # noqa: ANN401
        """Start the span of a call in `context`, linked to the span `call`; None where it cannot be started."""

    def of_batch(self, report: BatchReport, start_ns: int, context: Any, created: Any) -> BatchSpanHandle | None:  # noqa: ANN401
        """Start the span of a request about a batch in `context`, linked to the span that `created` the batch.

        None where it cannot be started. End it with `end_batch` or `end_at`.
        """


class BatchSpanHandle(CallSpanHandle, Protocol):
    """The span of a request about a batch."""

    def end_batch(self, report: BatchReport, end_ns: int) -> None:
        """Set the attributes of the batch, and end the span, as failed if there is an error. May be repeated."""

    def end_at(self, end_ns: int) -> None:
        """End a span that has all its attributes, at a Unix time in nanoseconds."""


class Outlet(NamedTuple):
    """Where records go at one content level."""

    processors: Processors
    spans: Spans | None
    """None: there are no spans."""


class Reports:
    """Records reports. Safe from any thread."""

    def __init__(
        self,
        look_ups: LookUps,
        write: Callable[[Processed[Any]], None],
        measure: Callable[[Processed[CallRecord]], None],
        outlets: Mapping[Content, Outlet],
        withheld: Processors,
        rule: ContentRule | None = None,
    ) -> None:
        """`write` stores a record; `outlets` has every level that is at least as strict as the setting.

        `withheld` is for records whose level is not known yet; `rule` decides the level of what neither this process
        nor a store knows the level of.
        """
        self.look_ups, self.measure, self.outlets, self.withheld = look_ups, measure, outlets, withheld
        self._write, self.rule = write, rule
        self.claims: Claims[Any] = Claims()

    def report(self, report: Report) -> None:
        """Record a report; after an interrupt the rest is done by another thread. Raises nothing else."""
        try:
            report.run()
        except BaseException:
            report.defer()
            raise

    def write(self, processed: Processed[Any]) -> None:
        """Store a record."""
        processors.write(processed, self._write)


class Level:
    """The content level of what was read in one place: the stricter one of that in force there and the known one."""

    def __init__(self, of: Reports, in_force: Content) -> None:
        self._in_force = in_force
        self._decide = None if of.rule is None else of.rule.later()
        self._undecided: Content | None = None

    def of(self, known: Content | None) -> Content:
        """Return the level; `known` None: the rule decides, once."""
        if known is None and self._decide is not None:
            self._undecided = known = self._undecided or self._decide()
        return strictest(self._in_force, known)


class Report:
    """One fact that a request reports. Subclasses say what it is."""

    is_end = False
    """Whether it is the first end of a call: only that has a span, and is measured."""
    is_begun = False
    """Whether it is what has only begun: its level is looked up with its end."""
    has_span = True
    """Whether its first end has a span."""
    may_wait = True
    """Whether to ask stores on a thread of callspan's own; False: only where it is run by one."""

    def __init__(
        self, of: Reports, level: Content | Level, key: Hashable, adds: Callable[[Any], Any] = unless_known
    ) -> None:
        """`level` is that of the content in force where it was read; `key` and `adds` are for `Claims.take`.

        `key` None: no claim is needed, it is read once.
        """
        self._of, self._key, self._adds = of, key, adds
        self._level = level if isinstance(level, Level) else Level(of, level)
        self._step = _CLAIM
        self._claim: Claim[Any] | None = None
        self._is_deferred = False
        self._first: tuple[Record, Content | None] | None = None
        """What was written before the look-up, unprocessed, and its content level."""
        self._known = NOTHING
        self._unprocessed: Any = None
        """What is to be written, unprocessed."""
        self._level_allowed: Content = "off"
        self._shown: Processed[Any] | None = None
        self._span: CallSpanHandle | None = None

    def build(self, known: Known) -> Any:  # noqa: ANN401 - a record
        """Return the unprocessed record."""
        raise NotImplementedError

    def version(self, record: Any) -> Any:  # noqa: ANN401
        """Return the unprocessed record that is written, of the one that is shown."""
        return record

    def local(self) -> Known:
        """Return what this process knows."""
        return NOTHING

    def asks(self, known: Known) -> bool:
        """Return whether a store may know what this process does not."""
        return known.level is None or self.is_end

    def ask(self, look_ups: LookUps, known: Known) -> Known:
        """Return what this process and the stores know. Raises UnansweredError."""
        del look_ups
        return known

    @property
    def before(self) -> Any:  # noqa: ANN401
        """What was recorded before this report; None: nothing."""
        return None if self._claim is None else self._claim.before

    def start_span(self, spans: Spans, begun: Processed[Any], known: Known) -> CallSpanHandle | None:
        """Return the new span of the record; None: it could not be started."""
        raise NotImplementedError

    def defer(self) -> None:
        """Have the steps that are left taken on a thread of callspan's own."""
        LOOK_UPS.put(self.run)

    def run(self) -> None:
        """Take the steps that are left. Raises nothing but interrupts."""
        with _REPORT:
            self._take_steps()
            return
        if self._claim is not None and self._step < SHOW:
            self._claim.release()
        self._step = _DONE

    def _take_steps(self) -> None:
        steps = self._take_claim, self._write_first, self._look_up, self._build, self._write, self._show, self._measure
        while self._step != _DONE:
            following = steps[self._step]()
            if following is None:
                return
            self._step = following
        if self._claim is not None:
            self._claim.finish()

    def _take_claim(self) -> int:
        if self._key is None:
            return _FIRST
        self._claim = self._of.claims.take(self._key, self, self._adds)
        return _DONE if self._claim is None else _FIRST

    def _write_first(self) -> int | None:
        """Write what is known without waiting: without content where its level is unknown."""
        self._known = self.local()
        self._level_allowed = self._level.of(self._known.level)
        if self._known.level is None and self.is_begun and self._of.look_ups:
            self._of.write(self._of.withheld.process(self.version(self.build(self._known))))
            return MEASURE
        if not self._of.look_ups or not self.asks(self._known):
            return _BUILD
        level = None if self._known.level is None else self._level_allowed
        version = self.version(self.build(self._known))
        self._first = version, level
        if level is None:
            self._of.write(self._of.withheld.process(staged(version, "withheld")))
        else:
            self._of.write(self._of.outlets[level].processors.process(staged(version, "first")))
        return _LOOK_UP

    def _look_up(self) -> int | None:
        if self.may_wait and not self._is_deferred:
            self._is_deferred = True
            self.defer()
            return None
        try:
            self._known = self.ask(self._of.look_ups, self._known)
        except ours(UnansweredError):
            level = self._known.level or "off"
            self._known = msgspec.structs.replace(self._known, is_answered=False, level=level)
        return _DONE if self._known.is_stored else _BUILD

    def _build(self) -> int:
        if self._first is not None:  # it is looked up
            self._level_allowed = self._level.of(self._known.level)
        level = self._level_allowed
        of_calls, spans = self._of.outlets[level]
        record = self.build(self._known)
        if spans is not None and self.has_span and self._is_counted:
            self._span = self._span or self.start_span(spans, of_calls.begun(record), self._known)
            if self._span is not None:
                record = msgspec.structs.replace(record, **span_ids(self._span))
        self._unprocessed = record
        return _WRITE

    def _write(self) -> int:
        of_calls = self._of.outlets[self._level_allowed].processors
        version = self.version(self._unprocessed)
        is_shown = version is self._unprocessed
        if self._first is None:
            written = of_calls.process(staged(version, "first"))
        elif self._known.is_answered and self._first != (version, self._level_allowed):
            written = of_calls.process(staged(version, "completed"))
        else:
            written = None
        if written is not None:
            self._of.write(written)
        if self._is_counted:
            self._shown = written if is_shown and written is not None else of_calls.process(self._unprocessed)
        return SHOW

    def _show(self) -> int:
        span, shown = self._span, self._shown
        if span is not None and shown is not None:
            span.end(shown, registry.conversation_of(shown.record) if span.wants_content else None)
        return MEASURE

    def _measure(self) -> int:
        self._step = _DONE
        if self._shown is not None:
            self._of.measure(self._shown)
        return _DONE

    @property
    def _is_counted(self) -> bool:
        return self.is_end and not self._known.is_complete


class FixedReport(Report):
    """A record to which no store can add anything."""

    def __init__(self, of: Reports, level: Content, key: Hashable, adds: Callable[[Any], Any], record: Record) -> None:
        """`record` is unprocessed, and without content."""
        super().__init__(of, level, key, adds)
        self._record = record

    def asks(self, known: Known) -> bool:
        """Return False."""
        del known
        return False

    def build(self, known: Known) -> Record:
        """Return the record."""
        del known
        return self._record


def span_context(span: SpanHandle[Any, Any] | SpanRef | None) -> SpanContext | None:
    """Return the span context for a link; None if there is no span."""
    if span is None or span.trace_id is None or span.span_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), is_remote=True, trace_flags=flags)
