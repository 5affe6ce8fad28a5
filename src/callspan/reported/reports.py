"""Reports: the one place that records what requests report, each fact once, in one order.

Claim, build, process, write, look up, span, measure. The caller waits for the first write only. Where a store may know
more (the span of the request, the session, the model, the content level it was begun with), it is asked on a thread of
callspan's own; what it knows, with the content that is then allowed, is a second version of the same record.
A report that an interrupt has left is completed on that thread; a claim whose report failed is released.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

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
from callspan.reported.claims import Claim, Claims
from callspan.reported.look_ups import LookUps
from callspan.settings import Content, strictest

_REPORT: Final = fail_open("record what a request reports")
_CLAIM, _FIRST, _LOOK_UP, _BUILD, _WRITE, _SHOW, _MEASURE, _DONE = range(8)
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
    """False: a store was asked and has not answered."""


NOTHING: Final = Known()


class Spans(Protocol):
    """Starts the spans of what is reported."""

    def of_fetch(self, begun: Processed[CallRecord], context: Any, call: Any) -> CallSpanHandle | None:  # noqa: ANN401
        """Start the span of a call in `context`, linked to the span `call`; None where it cannot be started."""


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
            LOOK_UPS.put(report.run)
            raise

    def write(self, processed: Processed[Any]) -> None:
        """Store a record."""
        processors.write(processed, self._write)


class Report:
    """One fact that a request reports. Subclasses say what it is."""

    is_end = False
    """Whether it is the first end of a call: only that has a span, and is measured."""
    is_begun = False
    """Whether it is what has only begun: no store is asked for its level, for its end will be asked for."""

    def __init__(self, of: Reports, level: Content, key: Hashable, adds: Callable[[Any], Any]) -> None:
        """`level` is the content level in force where it was read; `key` and `adds` are for `Claims.take`."""
        self._of, self._in_force, self._key, self._adds = of, level, key, adds
        self._decide = None if of.rule is None else of.rule.later()
        self._undecided: Content | None = None
        """What holds where the level is unknown, besides the level in force."""
        self._step = _CLAIM
        self._claim: Claim[Any] | None = None
        self._is_put_off = False
        self._first: tuple[Record, Content | None] | None = None
        """What was written before a store was asked, unprocessed, and its content level."""
        self._known = NOTHING
        self._unprocessed: Any = None
        """What is to be written, unprocessed."""
        self._level_allowed: Content = level
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
        """Return the new span of the record; None: it has none."""
        raise NotImplementedError

    def run(self) -> None:
        """Take the steps that are left. Raises nothing but interrupts."""
        with _REPORT:
            self._take_steps()
            return
        if self._claim is not None and self._step < _SHOW:
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
        self._claim = self._of.claims.take(self._key, self, self._adds)
        return _DONE if self._claim is None else _FIRST

    def _write_first(self) -> int:
        """Write what is known without waiting: without content where its level is unknown."""
        self._known = self.local()
        if self._known.level is None and self._decide is not None:
            self._undecided = self._decide()
        if self._known.level is None and self.is_begun and self._of.look_ups:
            self._of.write(self._of.withheld.process(self.version(self.build(self._known))))
            return _MEASURE
        if not self._of.look_ups or not self.asks(self._known):
            return _BUILD
        level = self._known.level
        version = self.version(self.build(self._known))
        self._first = version, None if level is None else self._level(level)
        if level is None:
            self._of.write(self._of.withheld.process(staged(version, 0)))
        else:
            self._of.write(self._of.outlets[self._level(level)].processors.process(staged(version, 1)))
        return _LOOK_UP

    def _look_up(self) -> int | None:
        if not self._is_put_off:
            self._is_put_off = True
            LOOK_UPS.put(self.run)
            return None
        try:
            self._known = self.ask(self._of.look_ups, self._known)
        except ours(UnansweredError):
            level = self._known.level or "off"
            self._known = msgspec.structs.replace(self._known, is_answered=False, level=level)
        return _DONE if self._known.is_stored else _BUILD

    def _build(self) -> int:
        self._level_allowed = level = self._level(self._known.level)
        of_calls, spans = self._of.outlets[level]
        record = self.build(self._known)
        if spans is not None and self._is_counted:
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
            written = of_calls.process(staged(version, 1))
        elif self._known.is_answered and self._first != (version, self._level_allowed):
            written = of_calls.process(staged(version, 2))
        else:
            written = None
        if written is not None:
            self._of.write(written)
        if self._is_counted:
            self._shown = written if is_shown and written is not None else of_calls.process(self._unprocessed)
        return _SHOW

    def _show(self) -> int:
        span, shown = self._span, self._shown
        if span is not None and shown is not None:
            span.end(shown, registry.conversation_of(shown.record) if span.wants_content else None)
        return _MEASURE

    def _measure(self) -> int:
        self._step = _DONE
        if self._shown is not None:
            self._of.measure(self._shown)
        return _DONE

    def _level(self, level: Content | None) -> Content:
        return strictest(self._in_force, level or self._undecided)

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
