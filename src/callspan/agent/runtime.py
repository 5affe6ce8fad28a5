"""Runtime: the slot through which the session API reaches spans and records, filled by the wiring.

Empty until `callspan.instrument()`; then the session API runs and emits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec
from opentelemetry.context import Context

from callspan.process.callbacks import Point
from callspan.process.processors import Processors
from callspan.record.call import Place
from callspan.record.events import Record
from callspan.record.span_handle import NoSpan, SpanHandle
from callspan.semconv.exchange import Exchange

AttributeValue: TypeAlias = str | bool | int | float | list[str] | list[int] | list[float]
Attributes: TypeAlias = Mapping[str, AttributeValue]


class ScopeSpanHandle(SpanHandle[Record, BaseException | None], Protocol):
    """The span of a session, timestep or operation, which ends with the exception that left it, if any."""

    sampled: bool
    """Whether the span is kept; travels in carriers, so that other processes decide alike."""
    exchange: Exchange | None
    """What went in and came out, shown at the end; None where this span does not show it."""

    def within(self, context: Context) -> Context:
        """Return `context` with this span as the current one."""

    def event(self, record: Record) -> None:
        """Add the record (event, message, reward) as a span event at its own time; a reward also after the end."""


class _NoScopeSpan(NoSpan):
    sampled: bool = False
    exchange: Exchange | None = None

    def within(self, context: Context) -> Context:
        return context

    def event(self, record: Record) -> None:
        """Show nothing."""


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
    scope: Callable[[], object] | None = None
    """A weak reference to the session or timestep itself; None if it is of another process, or a call."""


class SpanStarter(Protocol):
    """Starts the spans of sessions, timesteps and tools out of their first records."""

    def start(
        self, record: Record, *, parent: Context | None, link: ScopeSpanHandle | None = None, root: bool = False
    ) -> ScopeSpanHandle:
        """Start the span of a session, timestep or tool event, linked to `link` where that is in another trace.

        `parent` None means the current context; `root` starts a new trace.
        """

    def joined(self, trace_id: str, span_id: str, *, sampled: bool = True) -> ScopeSpanHandle:
        """Return a handle of a span of another process, to be a parent only; ending it does nothing."""

    def evaluated(self, record: Record, of: SpanRef | None) -> None:
        """Show a reward given by id, below the span it is for; None: unknown."""


def no_span_ref(kind: str, identity: str) -> SpanRef | None:
    """Return None: no span is known."""
    del kind, identity
    return None


def run_now(work: Callable[[], object]) -> None:
    """Run the work on the calling thread."""
    work()


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What `callspan.instrument()` puts behind the session API."""

    write: Callable[[Record], None]
    """Stores a processed record; never raises."""
    spans: SpanStarter
    """Shows processed records."""
    processors: Callable[[], Processors] = Processors
    """Returns what each record goes through once, by the content setting of the running code."""
    strict: bool = False
    """A wrong use of the API raises instead of being flagged."""
    trace_per_timestep: bool = False
    find: Callable[[str, str], SpanRef | None] = no_span_ref
    """Looks a span up, of a kind (`session`, `timestep`, `call`) and an id this process does not know. Never raises."""
    service: str | None = None
    put_off: Callable[[Callable[[], object]], None] = run_now
    """Has what an interrupt has left undone done soon, on another thread."""

    def process(self, record: Record, point: Point | None = None) -> Record:
        """Return what of the record may be shown and stored, see `Processors.process`."""
        return self.processors().process(record, point)

    def without_callbacks(self, record: Record) -> Record:
        """Return what of a record may be shown that is not stored."""
        return self.processors().without_callbacks(record)


_installed: list[Runtime] = []
_decided: list[bool] = []
"""Not empty once `instrument()` or `uninstrument()` has run in this process, whatever it decided."""


def install(runtime: Runtime) -> None:
    """Make `runtime` the one in use; sessions that are open keep the one they started with."""
    _decided[:] = [True]
    _installed[:] = [runtime]


def remove() -> None:
    """Empty the slot: sessions that start from now on emit nothing."""
    _decided[:] = [True]
    _installed.clear()


def installed() -> Runtime | None:
    """Return the runtime in use, or None where nothing is instrumented."""
    return _installed[0] if _installed else None


def never_instrumented() -> bool:
    """Return True while neither `instrument()` nor `uninstrument()` has run in this process."""
    return not _decided


def forget() -> None:
    """Return to the state of a new process. For tests."""
    _decided.clear()
    _installed.clear()
