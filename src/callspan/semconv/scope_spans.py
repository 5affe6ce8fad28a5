"""Scope spans: what the spans of sessions, timesteps, operations and late rewards have, by their records alone."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from callspan.fail_open import fail_open
from callspan.record.events import SCOPE_TYPES, EventRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.semconv import events, gen_ai, openinference, session
from callspan.semconv.call import EXCEPTION_EVENT, SHORTEST_NS, SpanEvent
from callspan.semconv.content_attributes import Attributes, ByteBudget
from callspan.semconv.scope_messages import ScopeMessages, messages_of
from callspan.settings import Settings

_WITH_ERROR: Final = (SessionRecord, TimestepRecord, EventRecord)
_CONTENT: Final = fail_open("show content of a session on a span")
_KIB: Final = 1024


class ScopeSpanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of these spans: content or not, `llm.meta.*`, values for OpenInference, byte limits."""

    content: bool = True
    llm: bool = True
    openinference: bool = False
    attribute_bytes: int = 32 * _KIB
    span_bytes: int = 128 * _KIB

    @classmethod
    def of(cls, settings: Settings) -> ScopeSpanOptions:
        """Return what the settings say."""
        return cls(
            content=settings.content == "full" and settings.content_on_spans,
            llm="llm" in settings.vocabularies,
            openinference="openinference" in settings.vocabularies,
            attribute_bytes=settings.max_attribute_bytes,
            span_bytes=settings.max_span_bytes,
        )

    def budget(self) -> ByteBudget:
        """Return the byte budget of a span's events, or of its attributes: half of the span's bytes for each."""
        return ByteBudget(self.attribute_bytes, self.span_bytes // 2)


class ScopeEnd(NamedTuple):
    """What the end of a session, timestep or operation adds to its span."""

    attributes: Attributes
    events: list[SpanEvent]
    failure: str | None
    """The description of the status `ERROR`; None: the status is unset."""


class ScopeSpan:
    """What one span shows: the events of its records while it is open, and all else at its end."""

    __slots__ = ("_for_events", "_options", "messages")

    def __init__(self, options: ScopeSpanOptions, first: Record | None) -> None:
        """`first` is the record that the span began with; None: it does not record."""
        self._options = options
        self._for_events: ByteBudget | None = None
        self.messages: ScopeMessages | None = None
        """Input and output, set on the span at its end; None if this span does not have them."""
        if first is not None and options.content:
            self.messages = messages_of(first, options.attribute_bytes)

    def events(self, record: Record, time_ns: int) -> list[SpanEvent]:
        """Return the events that a record adds: itself, and an environment's reward also as an evaluation."""
        attributes = events.event_attributes(record)
        if self._options.content:
            self._for_events = budget = self._for_events or self._options.budget()
            with _CONTENT:
                attributes.update(events.event_content(record, budget))
        found = [SpanEvent(events.event_name(record), attributes, time_ns)]
        if isinstance(record, EventRecord) and record.reward is not None:
            found += _evaluations(record, time_ns)
        return found

    def end(self, record: Record, end_ns: int) -> ScopeEnd:
        """Return what the final record adds."""
        attributes = session.end_attributes(record)
        if self._options.content:
            self._add_content(attributes, record)
        found: list[SpanEvent] = []
        failure = None
        if isinstance(record, EventRecord) and record.reward is not None:
            found += _evaluations(record, end_ns)
        error = record.error if isinstance(record, _WITH_ERROR) else None
        if error is not None:
            attributes_of_error = session.exception_attributes(error, content=self._options.content)
            found.append(SpanEvent(EXCEPTION_EVENT, attributes_of_error, end_ns))
            failure = (error.message if self._options.content else None) or error.type
        return ScopeEnd(attributes, found, failure)

    def _add_content(self, attributes: Attributes, record: Record) -> None:
        messages, self.messages, budget = self.messages, None, self._options.budget()
        # Guarded separately: a failure with content must not prevent the end.
        with _CONTENT:
            attributes.update(session.span_content(record, budget))
        if messages is not None:
            with _CONTENT:
                messages.close(record)
                attributes.update(messages.attributes(budget))
        if self._options.openinference:
            openinference.put_scope_values(attributes, budget)


class Evaluation(NamedTuple):
    """The span of a reward whose target has ended, or is unknown."""

    name: str
    attributes: Attributes
    event: SpanEvent
    end_ns: int


def evaluation(
    record: EventRecord | RewardRecord, response_id: str | None, options: ScopeSpanOptions, *, content: bool
) -> Evaluation | None:
    """Return the span of a reward, given the provider's id of the evaluated response; None of what has no reward."""
    attributes = events.late_evaluation(record, response_id)
    if attributes is None:
        return None
    if content and isinstance(record, RewardRecord):
        attributes |= events.event_content(record, options.budget())
    event = SpanEvent(gen_ai.EVALUATION_EVENT, attributes, record.time_ns)
    attributes = attributes | openinference.EVALUATION_START.of(record)
    return Evaluation(events.evaluation_span_name(record), attributes, event, record.time_ns + SHORTEST_NS)


def scope_start_ns(record: Record) -> int | None:
    """Return when the span of a session, timestep or operation begins, Unix nanoseconds; None: unknown."""
    if isinstance(record, EventRecord):
        return record.time_ns
    return record.start_ns if isinstance(record, SCOPE_TYPES) else None


def scope_end_ns(record: Record) -> int | None:
    """Return when the span of a session, timestep or operation ends, Unix nanoseconds; None: unknown."""
    if isinstance(record, EventRecord):
        return record.time_ns + max(record.duration_ns or 0, SHORTEST_NS)
    if not isinstance(record, SCOPE_TYPES) or record.end_ns is None:
        return None
    return record.end_ns if record.start_ns is None else max(record.end_ns, record.start_ns + SHORTEST_NS)


def _evaluations(record: Record, time_ns: int) -> list[SpanEvent]:
    found = events.evaluation_attributes(record)
    return [] if found is None else [SpanEvent(gen_ai.EVALUATION_EVENT, found, time_ns)]
