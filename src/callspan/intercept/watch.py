"""Watch: the one thing put on an HTTP response, joining the hooks that see parts of one call.

It lies in `response.extensions`, a plain dictionary that pickling drops; nothing is put on objects the
caller sees. It holds the response and its iterators weakly, or they could never be collected.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, Protocol

from callspan.fail_open import fail_open
from callspan.intercept.failures import error_of, outcome_of
from callspan.observe.late_ends import LateEnds
from callspan.observe.live_call import LiveCall
from callspan.record.call import StreamEnd

_END: Final = fail_open("end a call")
KEY: Final = "callspan"
OBSERVED: Final = "callspan_observed"
"""Marks a function as hooked; `functools.wraps` and wrapt hand the mark on to whoever wraps it once more."""
READER: Final = "callspan.reader"
"""Where a response has a weak reference to what reads its stream."""


class HttpResponse(Protocol):
    """What is used of an httpx or httpx2 response."""

    extensions: dict[str, object]

    @property
    def is_closed(self) -> bool:
        """True once the body was read or given up."""

    @property
    def content(self) -> bytes:
        """The body, once read."""


class Watch:
    """One call's hold on its response. Methods never raise."""

    __slots__ = (
        "_begun",
        "_early",
        "call",
        "data",
        "direct",
        "hides_usage",
        "iterated",
        "late_ends",
        "pulling",
        "raw",
        "reads_items",
        "source",
    )

    def __init__(self, call: LiveCall, late_ends: LateEnds, raw: bool) -> None:
        self.call = call
        self.data: Callable[[object], None] = call.data
        """Takes each parsed body or chunk; bound once, since it runs for every chunk."""
        self.late_ends = late_ends
        self.raw = raw
        """The caller asked for the raw response and may read its bytes himself."""
        self.direct = False
        """The SDK's own reader is the caller's, and tells its end by closing the response."""
        self.hides_usage = False
        """The last chunk of the stream was asked for by us, and is not for the caller."""
        self.reads_items = False
        """The SDK's parsed JSON cannot be seen; what its stream yields is read instead."""
        self.iterated = False
        """An SDK stream reads the response, so its bytes need no reading of ours."""
        self.source: weakref.ref[Iterator[bytes] | AsyncIterator[bytes]] | None = None
        """The bytes the SDK's own reader reads, of those that are `direct`."""
        self.pulling = False
        """A reader of ours is in the middle of reading bytes."""
        self._begun = False
        self._early: Callable[[], None] | None = None

    def begin(self) -> None:
        """The response is the caller's now: from here on its end is the call's, also one that has come before."""
        self._begun = True
        if self._early is not None:
            self._end(self._early)

    def retire(self) -> None:
        """Another response has taken this one's place; what is read of it belongs to no call."""
        self.data = _nothing

    def at_bytes(self) -> bool:
        """True while the SDK's own reader waits for bytes."""
        return self.source is not None and is_running(self.source())

    def finished(self) -> None:
        """The stream came to its normal end."""
        self._end(self.call.end)

    def failed(self, error: BaseException) -> None:
        """Reading ended with an exception, cancellation among them."""
        info = error_of(error)
        outcome = outcome_of(error, info)
        how: StreamEnd = "cancelled" if outcome == "cancelled" else "error"
        self._end(partial(self.call.end, how=how, outcome=outcome, error=info))

    def closed(self) -> None:
        """The caller closed the response: a normal end if the stream had said all, else a stop."""
        if self.call.stream_complete:
            self._end(self.call.end)
        else:
            self._end(partial(self.call.end, how="closed", outcome="cancelled"))

    def dropped(self) -> None:
        """The reader or the response was collected; safe in a finalizer."""
        self._end(partial(self.late_ends.note, self.call, "dropped"))

    def let_go(self) -> None:
        """The reader was closed or collected: nobody can tell which in here; safe in a finalizer."""
        self._end(partial(self.late_ends.note, self.call, "closed"))

    def _end(self, end: Callable[[], None]) -> None:
        """Within the SDK's `request` a response may come and go (middleware): only the caller's own ends the call."""
        if self._begun:
            with _END:
                end()
        elif self._early is None:
            self._early = end


def _nothing(data: object) -> None:
    """Stand in for the call of a response that was replaced."""


def watch_of(response: object) -> Watch | None:
    """Return the watch of a response, or None."""
    extensions = getattr(response, "extensions", None)
    watch = extensions.get(KEY) if isinstance(extensions, dict) else None
    return watch if isinstance(watch, Watch) else None


def is_running(reader: object) -> bool:
    """True while a generator, or a reader of ours, is executing: it will report its true end itself."""
    return any(getattr(reader, name, False) for name in ("gi_running", "ag_running", "running"))


def is_being_read(response: HttpResponse) -> bool:
    """True while the SDK's own reader of the response is executing."""
    reader = response.extensions.get(READER)
    return isinstance(reader, weakref.ref) and is_running(reader())
