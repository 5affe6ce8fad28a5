"""Runtime: the interface through which the session API reaches spans and records, and the spans of recent scopes by id.

The wiring sets it. Before `callspan.instrument()` there is none: the session API then works but emits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol, TypeAlias

import msgspec
from opentelemetry.context import Context

from callspan.background import LRUCache
from callspan.process.callbacks import Point
from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.record.call import Place
from callspan.record.events import Record
from callspan.record.span_handle import NoSpan, SpanHandle
from callspan.semconv.scope_messages import ScopeMessages
from callspan.settings import Content

AttributeValue: TypeAlias = str | bool | int | float | list[str] | list[int] | list[float]
Attributes: TypeAlias = Mapping[str, AttributeValue]
CALL_SPANS: Final[LRUCache[str, SpanRef]] = LRUCache(4096)
"""The spans of recent calls by id, for feedback and answers that come later."""
_installed: list[Runtime] = []
_decided: list[bool] = []
"""Not empty once `instrument()` or `uninstrument()` has run in this process, whatever it decided."""


class ScopeSpanHandle(SpanHandle[Processed[Record], None], Protocol):
    """The span of a session, timestep or operation; its end needs nothing beside the record."""

    sampled: bool
    """Whether the span is sampled; part of carriers, so that other processes sample alike."""

    messages: ScopeMessages | None
    """Input and output, set on the span at its end; None if this span does not have them."""

    def event(self, processed: Processed[Record]) -> Processed[Record]:
        """Add the record (event, message, reward) as a span event at its own time; a reward also after the end.

        Return the record, with the ids of its own span where it has one.
        """


class _NoScopeSpan(NoSpan):
    sampled: bool = False
    messages: ScopeMessages | None = None

    def within(self, context: Context) -> Context:
        return context

    def event(self, processed: Processed[Record]) -> Processed[Record]:
        """Return the record."""
        return processed


NO_SPAN: Final[ScopeSpanHandle] = _NoScopeSpan()


class SpanRef(msgspec.Struct, frozen=True, kw_only=True):
    """The place and span of a session, timestep or call, for rewards after its end."""

    trace_id: str | None = None
    """32 hex digits; None where it had no span."""
    span_id: str | None = None
    sampled: bool = True
    place: Place = Place()
    """The session and timestep it belongs to, as far as known."""
    response_id: str | None = None
    """The provider's id of a call's response; None if unknown, or if it is not a call."""
    request_id: str | None = None
    """The provider's id of a call's last request; None as above."""


def span_ref(span: ScopeSpanHandle, place: Place) -> SpanRef:
    """Return where the span of a scope is."""
    return SpanRef(trace_id=span.trace_id, span_id=span.span_id, sampled=span.sampled, place=place)


class SpanStarter(Protocol):
    """Starts the spans of sessions, timesteps and tools from their first records."""

    def start(
        self,
        processed: Processed[Record],
        *,
        parent: Context | None,
        link: ScopeSpanHandle | None = None,
        root: bool = False,
        workflow: str | None = None,
    ) -> ScopeSpanHandle:
        """Start the span of a session, timestep or tool event, linked to `link` if that is in another trace.

        `parent` None means the current context; `root` starts a new trace; `workflow` is the processed name of a
        step's session.
        """

    def joined(self, trace_id: str, span_id: str, *, sampled: bool = True) -> ScopeSpanHandle:
        """Return a handle for a span of another process, used only as a parent; ending it does nothing."""

    def evaluated(self, processed: Processed[Record], of: SpanRef | None) -> Processed[Record]:
        """Emit a reward given by id as a child of its target span; None: the span is unknown.

        Return the record, with the ids of that span.
        """


def not_measured(processed: Processed[Record], start_ns: int) -> None:
    """Measure nothing."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What `callspan.instrument()` provides to the session API."""

    write: Callable[[Processed[Record]], None]
    """Stores and measures a record; never raises."""
    write_unmeasured: Callable[[Processed[Record]], None] | None = None
    """Stores a record whose times the application gives; None: `write` does."""
    writes_starts: Callable[[], object] = partial(bool, True)
    """Returns something true where the record that announces a tool is wanted."""
    spans: SpanStarter
    processors: Callable[[Content], Processors]
    """Returns what each record goes through once, by the stricter one of the content level that the record belongs to
    and that of the running code."""
    content: Content = "full"
    """The setting."""
    trace_per_timestep: bool = False
    service: str | None = None
    session_ended: Callable[[Processed[Record], int], None] = not_measured
    """Measures a session that has ended, given the start of its span in Unix nanoseconds; never raises."""
    run_again: Callable[[Callable[[], object]], object] = bool
    """Called with an end that was interrupted: runs it soon, on another thread."""

    def process(self, record: Record, level: Content, point: Point | None = None) -> Processed[Record]:
        """Return the record with only what may be exported and stored, see `Processors.process`.

        `level` is that of the scope or call which it belongs to.
        """
        return self.processors(level).process(record, point)

    def without_callbacks(self, record: Record, level: Content) -> Processed[Record]:
        """Return the record processed without callbacks, for records that are exported but not stored."""
        return self.processors(level).without_callbacks(record)


def install(runtime: Runtime) -> None:
    """Make `runtime` the current one; open sessions keep the one they started with."""
    _decided[:] = [True]
    _installed[:] = [runtime]


def remove() -> None:
    """Remove the runtime: sessions that start from now on emit nothing."""
    _decided[:] = [True]
    _installed.clear()


def installed() -> Runtime | None:
    """Return the current runtime, or None if nothing is instrumented."""
    return _installed[0] if _installed else None


def never_instrumented() -> bool:
    """Return True while neither `instrument()` nor `uninstrument()` has run in this process."""
    return not _decided


def forget() -> None:
    """Return to the state of a new process. For tests."""
    _decided.clear()
    _installed.clear()
