"""Ports: what observation needs of telemetry, agent and stores around a call, as protocols and callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from callspan.record.call import CallRecord, ErrorInfo, Outcome, Place, StreamEnd
from callspan.record.events import Record
from callspan.record.messages import Conversation
from callspan.record.span_handle import NoSpan, SpanHandle


class Clock(msgspec.Struct, frozen=True):
    """Two sources of nanoseconds, so that tests can say what time it is."""

    wall_ns: Callable[[], int] = time.time_ns
    """Unix time; may jump."""
    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    """Never goes back; of no meaning by itself."""


SYSTEM_CLOCK: Final = Clock()


class CallSpanHandle(SpanHandle[CallRecord, Conversation | None], Protocol):
    """The span of a call, which ends with its messages; None: they may not be shown."""

    parent_span_id: str | None
    wants_content: bool
    """False if the messages would not be shown: the span is not recording, or content is off for spans."""


class _NoCallSpan(NoSpan):
    parent_span_id: str | None = None
    wants_content: bool = False


NO_SPAN: Final[CallSpanHandle] = _NoCallSpan()


def span_ids(span: CallSpanHandle) -> dict[str, Any]:
    """Return the fields of a record that say where its span is."""
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "sampled": span.sampled,
    }


class CallScope(Protocol):
    """The session and timestep a call belongs to."""

    @property
    def place(self) -> Place:
        """Ids of the session and timestep."""

    def call_ended(self, record: CallRecord, conversation: Conversation | None) -> None:
        """Add the call to the totals, and its conversation (None: may not be shown) to the input and output."""


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What interception knows before anything is sent."""

    provider: str
    sdk: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    model: str | None = None
    stream: bool | None = None
    """None where only the body, or what comes, will tell."""


class UnfinishedCall(Protocol):
    """A call whose end something else has to report, see `LiveCall`."""

    record: CallRecord

    @property
    def ended(self) -> bool:
        """True once the call has ended, or is being ended."""

    @property
    def stream_complete(self) -> bool:
        """True once the stream has signalled its end."""

    def offset_ns(self) -> int:
        """Return the monotonic time since the start of the call."""

    def end(
        self, *, how: StreamEnd | None = ..., outcome: Outcome = ..., error: ErrorInfo | None = ...,
        at_ns: int | None = ...,
    ) -> None:  # fmt: skip
        """End the call."""


def _nothing() -> None:
    """Count nothing."""


def _left(call: UnfinishedCall) -> None:
    """Leave an interrupted call as it is."""
    del call


def _always(record: CallRecord) -> bool:
    """Want every record."""
    del record
    return True


def _uncounted(record: CallRecord) -> Callable[[], None]:
    """Count nothing at the start of a call either."""
    del record
    return _nothing


class CallPorts(msgspec.Struct, frozen=True, kw_only=True):
    """What every call needs around it. Safe from any thread."""

    start_span: Callable[[CallRecord], CallSpanHandle]
    process: Callable[[CallRecord], CallRecord]
    """Returns what of a record may be shown and stored, see `Processors.process`. Raises nothing but interrupts."""
    write: Callable[[Record], None]
    """Stores a processed record; never raises."""
    observed: Callable[[CallRecord], None]
    """Called with every finished record: metrics. Never raises."""
    begun: Callable[[CallRecord], Callable[[], None]] = _uncounted
    """Called with every call that begins; what it returns is called when the call is over. Neither raises.

    Either may be called again for the same call, after an interrupt: that counts once.
    """
    put_off: Callable[[UnfinishedCall], None] = _left
    """Called with a call whose end was not reported, or was interrupted: has `end` called soon, on another thread."""
    under_way: Callable[[CallRecord], bool] = _always
    """Called with the unprocessed record of a stream that is sent; False: do not write it. Never raises."""
    scope: Callable[[], CallScope | None]
    metadata: Callable[[], dict[str, object]]
    clock: Clock = SYSTEM_CLOCK
    service: str | None = None
    host: str | None = None
    process_id: Callable[[], int]
    estimates: bool = False
    """Estimate tokens where the provider states none."""
    chunk_log: int = 0
    """How many chunks of a stream are noted one by one."""
