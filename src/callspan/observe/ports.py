"""Ports: the protocols and callbacks through which observation uses telemetry, agent and stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from callspan.background import AtomicFlag, LRUCache
from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.record.call import CallRecord, Place
from callspan.record.messages import Conversation
from callspan.record.span_handle import NoSpan, SpanHandle

if TYPE_CHECKING:
    from callspan.observe.exchange import Exchange

_MOST_ENDS: Final = 16_384
_MOST_RESULTS: Final = 1024

CallEnded: TypeAlias = Callable[[Processed[CallRecord], Conversation | None], None]
"""Adds a call to the totals of its session and timestep, and its messages, None if they may not be exported."""
Exchanged: TypeAlias = Callable[[Conversation, CallRecord], None]
"""Takes what a call of a tool loop has sent and received, as the wire has it, and its processed record."""


class Clock(msgspec.Struct, frozen=True):
    """The clocks, in nanoseconds; replaceable in tests."""

    wall_ns: Callable[[], int] = time.time_ns
    """Unix time; may jump."""
    monotonic_ns: Callable[[], int] = time.perf_counter_ns
    """Monotonic; only differences have a meaning."""


SYSTEM_CLOCK: Final = Clock()


class Timeline:
    """The time of one call: stands at that of what is read or given, else it goes."""

    __slots__ = ("_wall_ns", "at_ns")

    def __init__(self, at_ns: int, wall_ns: int | None = None) -> None:
        """The call begins at the monotonic time `at_ns`, in Unix time `wall_ns`; None: at the same moment."""
        self.at_ns: int | None = at_ns
        self._wall_ns = time.time_ns() - (time.perf_counter_ns() - at_ns) if wall_ns is None else wall_ns

    def clock(self) -> Clock:
        """Return it as the clock of the call."""
        return Clock(wall_ns=self._wall, monotonic_ns=self._monotonic)

    def _wall(self) -> int:
        return self._wall_ns

    def _monotonic(self) -> int:
        return time.perf_counter_ns() if self.at_ns is None else self.at_ns


class CallSpanHandle(SpanHandle[Processed[CallRecord], Conversation | None], Protocol):
    """The span of a call; `end` takes its messages, None if they may not be exported."""

    wants_content: bool
    """False if the span would not have the messages: it is not recording, or content is off for spans."""


class _NoCallSpan(NoSpan):
    wants_content: bool = False


NO_SPAN: Final[CallSpanHandle] = _NoCallSpan()


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call before anything is sent."""

    provider: str
    sdk: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    model: str | None = None
    stream: bool | None = None
    """None if only the body or the response shows it."""


def _uncounted(record: Processed[CallRecord]) -> Callable[[], object]:
    """Count nothing."""
    del record
    return bool


def nothing(*about: object) -> None:
    """Do nothing, for a port that nobody waits for."""
    del about


def _unknown_request(call_id: str) -> tuple[Place, None]:
    """Know no request."""
    del call_id
    return Place(), None


class SeenLines(msgspec.Struct, eq=False):
    """How many lines of a batch's results this process has read; shared by all its readers."""

    lines: int = 0


class AlreadySeen:
    """Which ends and lines this process has recorded: the next one who reads them makes no span and measures nothing.

    What is forgotten is recorded once more, as a version of the same record. Safe from any thread.
    """

    def __init__(self) -> None:
        self._ends: LRUCache[str, object] = LRUCache(_MOST_ENDS)
        self._lines: LRUCache[str, SeenLines] = LRUCache(_MOST_RESULTS)

    def is_first(self, end: str) -> bool:
        """Return whether an end has not been recorded yet; it is from now on."""
        return self._ends.claim(end, object())

    def lines_of(self, results: str) -> SeenLines:
        """Return how many lines of results have been read."""
        fresh = SeenLines()
        return fresh if self._lines.claim(results, fresh) else self._lines.get(results) or fresh


class ExchangePorts(msgspec.Struct, frozen=True, kw_only=True):
    """The ports of an observed request. Safe from any thread."""

    ambient: Callable[[], tuple[Place | None, CallEnded | None, dict[str, object]]]
    """Returns the ids of the session and timestep around the running code, what takes the ended call, the metadata."""
    clock: Clock = SYSTEM_CLOCK
    service: str | None = None
    host: str | None = None
    forked: AtomicFlag = AtomicFlag()
    """Set in a forked child until its first call."""
    on_first_call_after_fork: Callable[[], object] = bool
    """Called with the first call of a forked child. Never raises."""
    submit_end: Callable[[Exchange], None] = nothing
    """Called with an exchange whose end was not reported: calls `end` soon, on another thread."""
    run_again: Callable[[Callable[[], object]], object] = nothing
    """Called with an end that was interrupted: runs it soon, on another thread."""


class CallPorts(ExchangePorts, frozen=True, kw_only=True):
    """The ports of a call. Safe from any thread."""

    start_span: Callable[[Processed[CallRecord]], CallSpanHandle]
    processors: Processors
    """What each record goes through before it is shown, stored or measured."""
    write: Callable[[Processed[CallRecord]], None]
    """Stores a record; never raises."""
    are_measured: Callable[[], object] = partial(bool, True)
    """Returns something true where metrics are wanted now; in no frame of Python, as it is called for each call."""
    observed: Callable[[Processed[CallRecord]], None]
    """Called with every finished record, for metrics. Never raises."""
    begun: Callable[[Processed[CallRecord]], Callable[[], object]] = _uncounted
    """Called with every call that begins; the returned function is called at the call's end. Neither raises.

    Either may be called again for the same call after an interrupt; that counts once.
    """
    writes_starts: Callable[[], object] = partial(bool, True)
    """Returns something true where the record of a stream that was sent is wanted."""
    keep: Callable[[CallRecord], object] = bool
    """Called with the record of a call that was sent or has ended, for what refers to the call later. Never raises."""
    seen: AlreadySeen = msgspec.field(default_factory=AlreadySeen)
    """The ends that other requests than the calls' own have told of."""
    requested_in: Callable[[str], tuple[Place, Any]] = _unknown_request
    """Returns the session and step of a call, and the context of its span, where this process knows them."""
    start_later: Callable[[Processed[CallRecord], Any, Any], CallSpanHandle | None] = nothing
    """Starts the span of a call that is over, in a context, linked to that of its request; None: it cannot."""
    tools_ran: Exchanged = nothing
    """Called with the messages and the record of a call in which tools of the provider have run. Never raises."""
    estimates: bool = False
    """Estimate tokens that the provider does not return."""
    chunk_log: int = 0
    """Number of chunks of a stream to record individually."""
