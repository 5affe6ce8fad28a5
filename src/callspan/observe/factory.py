"""CallFactory: starts live calls, and holds what every call needs around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from callspan.fail_open import attempt, fail_open
from callspan.observe.clock import SYSTEM_CLOCK, Clock
from callspan.observe.live_call import LiveCall
from callspan.providers.base import Endpoint
from callspan.record.call import CallRecord, Place, Request, Timing
from callspan.record.events import Record
from callspan.record.ids import new_id
from callspan.record.messages import Conversation

_NOWHERE: Final = Place()
_START_SPAN: Final = fail_open("start a span")
_READ_SURROUNDINGS: Final = fail_open("read the session and metadata around a call")


class SpanHandle(Protocol):
    """The span of a call, as observation needs it. No method raises."""

    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    sampled: bool | None
    wants_content: bool
    """False if the messages would not be shown: the span is not recording, or content is off for spans."""

    def end(self, record: CallRecord, conversation: Conversation | None) -> None:
        """Put the record on the span and end it at the record's end."""


class _NoSpan:
    """Stands in for a span that could not be started: the record does not depend on it."""

    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None
    wants_content: bool = False

    def end(self, record: CallRecord, conversation: Conversation | None) -> None:
        """Show nothing."""


class Scope(Protocol):
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
    stream: bool = False


_NO_SPAN: Final[SpanHandle] = _NoSpan()


def _nothing() -> None:
    """Count nothing."""


def _left(call: LiveCall) -> None:
    """Leave an interrupted call as it is."""


def _always(record: CallRecord) -> bool:
    """Want every record."""
    del record
    return True


def _uncounted(record: CallRecord) -> Callable[[], None]:
    """Count nothing at the start of a call either."""
    del record
    return _nothing


class CallFactory(msgspec.Struct, frozen=True, kw_only=True):
    """Starts calls; one per `instrument()`. Safe from any thread."""

    start_span: Callable[[CallRecord], SpanHandle]
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
    put_off: Callable[[LiveCall], None] = _left
    """Called with a call whose end was not reported, or was interrupted: has `end` called soon, on another thread."""
    under_way: Callable[[CallRecord], bool] = _always
    """Called with the unprocessed record of a stream that is sent; False: do not write it. Never raises."""
    scope: Callable[[], Scope | None]
    metadata: Callable[[], dict[str, object]]
    clock: Clock = SYSTEM_CLOCK
    service: str | None = None
    host: str | None = None
    process_id: Callable[[], int]
    estimates: bool = False
    """Estimate tokens where the provider states none."""
    chunk_log: int = 0
    """How many chunks of a stream are noted one by one."""

    def start(self, endpoint: Endpoint, info: CallInfo) -> LiveCall:
        """Return a new call that has just begun, with its span started in the current context."""
        start_ns, zero_ns = self.clock.wall_ns(), self.clock.monotonic_ns()
        scope: Scope | None = None
        metadata: dict[str, object] = {}
        with _READ_SURROUNDINGS:
            scope, metadata = self.scope(), self.metadata()
        # More than fifteen keywords in one call go through a dictionary, which takes five times as long.
        record = CallRecord(
            call_id=new_id(),
            record_version=1,
            outcome="started",
            provider=info.provider,
            api=endpoint.api,
            operation=endpoint.operation,
            sdk=info.sdk,
            server_address=info.server_address,
            server_port=info.server_port,
            place=_NOWHERE if scope is None else scope.place,
            service=self.service,
            host=self.host,
            pid=self.process_id(),
            request=Request(model=info.model, stream=info.stream),
            timing=Timing(start_ns=start_ns),
        )
        if metadata:
            record = msgspec.structs.replace(record, metadata=metadata)
        span = attempt(_START_SPAN, self.start_span, record) or _NO_SPAN
        return LiveCall(self, endpoint, record, span, scope, zero_ns)
