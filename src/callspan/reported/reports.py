"""Reports: the one place that records what requests report, each fact once, in one order.

Claim, build, process, write, look up, write again, span, measure. The caller waits for the first write only. Where a
store may know more (the span of the request, the session, the model, the content level it was begun with), a thread
of callspan's own queries it; what it knows, with the content that is then allowed, is a second version of the same
record. Neither span nor measurement is made where a store had the end before. Without a store that can be read there is
one write, and all of it is done at once.
A report that an interrupt has left runs again on that thread, from its start, with a token each for the end of its span
and its measurement; a claim whose report failed is released.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from opentelemetry.trace import SpanContext, TraceFlags

from callspan.agent.runtime import SpanRef, SpanStarter, UnansweredError
from callspan.background import LOOK_UPS
from callspan.fail_open import fail_open, ours
from callspan.observe.ports import CallSpanHandle
from callspan.process import processors
from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.providers import registry
from callspan.record.call import CallRecord, Stage
from callspan.record.events import Record
from callspan.record.merging import staged
from callspan.record.span_handle import SpanHandle, with_span_ids
from callspan.reported.claims import Claim, Claims, unless_known
from callspan.reported.look_ups import LookUps
from callspan.semconv.call import BatchReport
from callspan.settings import Content, strictest

_REPORT: Final = fail_open("record what a request reports")


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


def not_recorded(record: CallRecord, level: Content) -> None:
    """Record no tools."""


class Reports:
    """Records reports. Safe from any thread."""

    def __init__(
        self,
        look_ups: LookUps,
        write: Callable[[Processed[Any]], None],
        measure: Callable[[Processed[CallRecord]], None],
        outlets: Mapping[Content, Outlet],
        withheld: Processors,
        tools_ran: Callable[[CallRecord, Content], object] = not_recorded,
    ) -> None:
        """`write` stores a record; `outlets` has every level that is at least as strict as the setting.

        `withheld` is for records whose level is not known yet; `tools_ran` records the tools that
        ran at the provider in an answer.
        """
        self.tools_ran = tools_ran
        self.scope_spans: SpanStarter | None = None
        """Starts the spans of tools that are reported one by one."""
        self.look_ups, self.measure, self.outlets, self.withheld = look_ups, measure, outlets, withheld
        self.write = write
        self.claims: Claims[Any] = Claims()

    def report(self, report: Report) -> None:
        """Record a report; after an interrupt another thread runs it again. Raises nothing else."""
        try:
            report.run()
        except BaseException:
            report.defer()
            raise


class Level:
    """The content level of what was read in one place: the stricter one of that in force there and the known one."""

    def __init__(self, in_force: Content) -> None:
        self._in_force = in_force

    def of(self, known: Content | None) -> Content:
        """Return the level; `known` None: unknown."""
        return strictest(self._in_force, known)


class Report:
    """One fact that a request reports. Subclasses say what it is."""

    is_end = False
    """Whether it is the first end of a call: only that has a span, and is measured."""
    is_begun = False
    """Whether it is what has only begun: its level is looked up with its end."""
    has_span = True
    """Whether its first end has a span."""
    has_tools = False
    """Whether tools that ran at the provider are recorded out of its answer."""
    may_wait = True
    """Whether to ask stores on a thread of callspan's own; False: only where it is run by one."""

    def __init__(
        self, of: Reports, level: Content | Level, key: Hashable, adds: Callable[[Any], Any] = unless_known
    ) -> None:
        """`level` is that of the content in force where it was read; `key` and `adds` are for `Claims.take`.

        `key` None: no claim is needed, it is read once.
        """
        self._of, self._key, self._adds = of, key, adds
        self._level = level if isinstance(level, Level) else Level(level)
        self._claim: Claim[Any] | None = None
        self._is_deferred = False
        self._first: tuple[Record, Content | None] | None = None
        """What was written before the look-up, unprocessed, and its content level."""
        self._known = NOTHING
        self._versions: dict[Stage, Processed[Any]] = {}
        """What was written, or is being written, by its stage."""
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
        """Have it run again on a thread of callspan's own."""
        LOOK_UPS.put(self.run)

    def run(self) -> None:
        """Do it, again from its start where an interrupt came or a store is queried. Raises nothing but interrupts."""
        with _REPORT:
            if self._key is not None:
                self._claim = self._of.claims.take(self._key, self, self._adds)
                if self._claim is None:
                    return
            if self._do() and self._claim is not None:
                self._claim.finish()
            return
        if self._claim is not None:
            self._claim.release()

    def _do(self) -> bool:
        """Record it; False where another thread goes on. What is kept is not made again."""
        if self._first is None:
            known = self._known = self.local()
            level = self._level.of(known.level)
            if known.level is None and self.is_begun and self._of.look_ups:
                self._write(self._of.withheld, "withheld", self.version(self.build(known)))
                return True
            if not (self._of.look_ups and self.asks(known)):
                self._complete(known, level)
                return True
            self._first = self.version(self.build(known)), None if known.level is None else level
        if not self._is_deferred:
            self._write_first(*self._first)
            if self.may_wait:
                self._is_deferred = True
                self.defer()
                return False
        known = self._asked()
        if not known.is_stored:
            self._complete(known, self._level.of(known.level))
        return True

    def _write_first(self, version: Any, level: Content | None) -> None:  # noqa: ANN401
        """Write what is known without waiting: without content where its level is unknown."""
        if level is None:
            self._write(self._of.withheld, "withheld", version)
        else:
            self._write(self._of.outlets[level].processors, "first", version)

    def _asked(self) -> Known:
        try:
            return self.ask(self._of.look_ups, self._known)
        except ours(UnansweredError):
            level = self._known.level or "off"
            return msgspec.structs.replace(self._known, is_answered=False, level=level)

    def _complete(self, known: Known, level: Content) -> None:
        """Write all that is known; show and measure it where it is the first end."""
        of_calls, spans = self._of.outlets[level]
        record, is_counted = self.build(known), self.is_end and not known.is_complete
        if spans is not None and self.has_span and is_counted:
            self._span = self._span or self.start_span(spans, of_calls.begun(record), known)
            if self._span is not None:
                record = with_span_ids(record, self._span)
        version, shown = self.version(record), None
        if self._first is None:
            shown = self._write(of_calls, "first", version)
        elif known.is_answered and self._first != (version, level):
            shown = self._write(of_calls, "completed", version)
        if is_counted:
            self._show(of_calls.process(record) if shown is None or version is not record else shown)
            if self.has_tools:
                self._of.tools_ran(record, level)

    def _write(self, through: Processors, stage: Stage, version: Any) -> Processed[Any]:  # noqa: ANN401
        """Store a version: after an interrupt the same one, which is appended once."""
        processed = self._versions.get(stage)
        if processed is None:
            processed = self._versions[stage] = through.process(staged(version, stage))
        processors.write(processed, self._of.write)
        return processed

    def _show(self, shown: Processed[CallRecord]) -> None:
        span = self._span
        if span is not None:
            span.end(shown, registry.conversation_of(shown.record) if span.wants_content else None)
        self._of.measure(shown)


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
