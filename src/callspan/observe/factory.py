"""Factory: what calls get when they are made, and where their records go.

There is one factory for each content level of an `instrument()`, so that a call itself reads no setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from callspan.observe.earlier_answers import EarlierAnswers
from callspan.process.processed import ProcessedRecord
from callspan.process.processors import Processors
from callspan.record.call import CallRecord, Place, Timing
from callspan.record.messages import Conversation
from callspan.record.span_handle import SpanHandle
from callspan.runtime.lock_free import LRUCache

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

    from callspan.delivery.recorder import Recorder
    from callspan.observe.deferred_ends import DeferredEnds
    from callspan.runtime.process_end import ForkedWorkers
    from callspan.spans.call import CallSpans
    from callspan.spans.instruments import CallMetrics


CallEnded: TypeAlias = Callable[[ProcessedRecord[CallRecord], Conversation | None], None]
"""Adds a call to the totals of its session and timestep, with its messages; None if they must not be exported."""


class CallSpanHandle(SpanHandle):
    """The span of a call."""

    wants_content: bool = False
    """Whether the span will have the messages: it is recording and content is allowed on spans."""
    is_shared: bool = False
    """Whether another library started the span, and will end it."""

    def still_open(self) -> CallSpanHandle:
        """Return this span; if it is shared and has ended, so that it takes no more attributes, a span of our own."""
        return self

    def end(self, processed: ProcessedRecord[CallRecord], conversation: Conversation | None) -> None:
        """Set the final attributes on the span and end it at the record's end time, unless it has ended.

        `conversation`: its messages; None if they must not be exported.
        """


NO_SPAN: Final = CallSpanHandle()


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a call before anything is sent."""

    provider: str
    sdk: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    model: str | None = None
    stream: bool | None = None
    """None if only the body or the response shows it."""
    raw: bool = False
    """The caller requested the raw response and may read its bytes directly."""


class CallFactory(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one content level need from outside, and where their records go. Safe from any thread."""

    spans: CallSpans | None
    metrics: CallMetrics | None
    """None if nothing is measured."""
    processors: Processors
    """Applied to each record before it is shown, stored or measured."""
    recorder: Recorder
    workers: ForkedWorkers
    ends: DeferredEnds
    recorded_calls: LRUCache[str, object]
    """Ends and lines that this process has recorded. Reading them again creates no span and measures nothing.

    An evicted one is recorded again, as a version of the same record.
    """
    answers: EarlierAnswers
    """Answers of this process; an identical one shows that a cache answered without saying so."""
    loose_calls: list[int]
    """About how many calls of this process have ended in no scope."""
    ambient: Callable[[], tuple[Place | None, CallEnded | None, dict[str, object]]]
    """Returns the ids of the current session and timestep, the function to call at the end, and the metadata."""
    keep: Callable[[CallRecord], object]
    """Called with the record of a call that was sent or has ended, so that later code can refer to it. Never raises."""
    requested_in: Callable[[str], tuple[Place, SpanContext | None]]
    """Returns the session and step of a call and the context of its span, if known to this process."""
    tools_ran: Callable[[Conversation, CallRecord], None]
    """Called with the messages and record of a call with runs of hosted tools. Never raises."""
    service: str | None
    host: str | None
    estimates: bool
    """Estimate tokens that the provider does not return."""
    chunk_log: int
    """Number of chunks of a stream to record individually."""

    def without_telemetry(self) -> CallFactory:
        """Return a factory for calls with a record, and the metric of its cost, but no span or other metrics."""
        return msgspec.structs.replace(self, spans=None, metrics=None if self.metrics is None else self.metrics.costs)

    def start_later(
        self, processed: ProcessedRecord[CallRecord], context: Context, call: SpanContext | None
    ) -> CallSpanHandle:
        """Start the span of a finished call, see `CallSpans.start_later`."""
        return (self.spans and self.spans.start_later(processed, context, call)) or NO_SPAN


class ExplicitTimes(msgspec.Struct, eq=False):
    """Offsets from the start of a call, in nanoseconds; None: not given."""

    is_past: bool = False
    """Whether its start is explicit too, so that observed times do not apply."""
    duration_ns: int | None = None
    first_token_ns: int | None = None

    def applied(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields `timing` and `attempts` of a record with these times; a past call has no others."""
        timing, attempts = fields["timing"], fields["attempts"]
        if self.is_past:
            timing = Timing(start_ns=timing.start_ns, duration_ns=self.duration_ns, server_ns=timing.server_ns)
            attempts = [
                msgspec.structs.replace(attempt, start_ns=0, headers_ns=None, end_ns=None, wait_s=None)
                for attempt in attempts
            ]
        if self.first_token_ns is not None:
            timing = msgspec.structs.replace(timing, first_token_ns=self.first_token_ns)
        return {**fields, "timing": timing, "attempts": attempts}
