"""Response observer: what follows an HTTP response, joining the hooks that see parts of one call.

Nothing is put on objects the caller sees: observers are found by the identity of the response, as long as that lives.
They hold the response and its iterators weakly, or these could never be collected.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol

from callspan import private_names as names
from callspan.errors import call_error, outcome_of
from callspan.fail_open import fail_open
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.live_call import LiveCall
from callspan.record.call import ErrorInfo, StreamEnd

_END: Final = fail_open("end a call")
OBSERVED: Final = "callspan_observed"
"""Marks a function as hooked; `functools.wraps` and wrapt hand the mark on to whoever wraps it once more."""
OBSERVERS: Final[dict[int, ResponseObserver]] = {}
"""The observer of each response that is followed, by the identity of the response; changed by `attach` alone."""


class HttpResponse(Protocol):
    """What is used of an httpx or httpx2 response."""

    @property
    def is_closed(self) -> bool:
        """True once the body was read or given up."""

    @property
    def content(self) -> bytes:
        """The body, once read."""


class ResponseObserver:
    """One call's hold on its response. Methods never raise."""

    __slots__ = (
        "_before",
        "_begun",
        "_early",
        "_place",
        "call",
        "data",
        "deferred_ends",
        "direct",
        "hides_usage",
        "iterated",
        "may_be_lost",
        "pulling",
        "raw",
        "reader",
        "reads_items",
        "source",
    )

    def __init__(self, call: LiveCall, deferred_ends: DeferredEnds, raw: bool) -> None:
        self.call = call
        self.data: Callable[[object], None] = call.data
        """Takes each parsed body or chunk; bound once, since it runs for every chunk."""
        self.deferred_ends = deferred_ends
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
        self.may_be_lost = False
        """The response was open when it was followed: it may be dropped without being closed."""
        self.reader: weakref.ref[Any] | None = None
        """What reads the stream of the response."""
        self.source: weakref.ref[Iterator[bytes] | AsyncIterator[bytes]] | None = None
        """The bytes the SDK's own reader reads, of those that are `direct`."""
        self.pulling = False
        """A reader of ours is in the middle of reading bytes."""
        self._begun = False
        self._early: Callable[[], None] | None = None
        self._place: _Place | None = None
        self._before: ResponseObserver | None = None

    def attach(self, response: object) -> None:
        """Take the response's place among the observers, until it is collected.

        Raises TypeError for an object that takes no weak references.
        """
        identity = id(response)
        before = OBSERVERS.get(identity)
        if before is None:
            self._place = _Place(response, _collected)
            self._place.identity = identity
        else:
            # A transport may answer several calls with one response.
            self._place, self._before = before._place, before._before if before.call.ended else before
        OBSERVERS[identity] = self

    def collected(self) -> None:
        """The response was collected; safe in a finalizer."""
        if self.may_be_lost:
            self.dropped()
        if self._before is not None:
            self._before.collected()

    def is_being_read(self) -> bool:
        """Return whether the SDK's own reader of the response is executing."""
        return self.reader is not None and is_running(self.reader())

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

    def finished(self, flaw: ErrorInfo | None = None) -> None:
        """The stream or body came to its normal end; `flaw` is what is wrong with a body all the same."""
        self._end(self.call.end if flaw is None else partial(self.call.end, error=flaw))

    def failed(self, error: BaseException) -> None:
        """Reading ended with an exception, cancellation among them."""
        info = call_error(error)
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
        self._end(partial(self.deferred_ends.note, self.call, "dropped"))

    def let_go(self) -> None:
        """The reader was closed or collected: nobody can tell which in here; safe in a finalizer."""
        self._end(partial(self.deferred_ends.note, self.call, "closed"))

    def _end(self, end: Callable[[], None]) -> None:
        """Within the SDK's `request` a response may come and go (middleware): only the caller's own ends the call."""
        if self._begun:
            with _END:
                end()
        elif self._early is None:
            self._early = end


def _nothing(data: object) -> None:
    """Stand in for the call of a response that was replaced."""


class _Place(weakref.ref):  # type: ignore[type-arg] # of any object
    """A weak reference to a response, which knows its identity when it is gone."""

    __slots__ = ("identity",)
    identity: int


def _collected(place: Any, observers: dict[int, ResponseObserver] = OBSERVERS) -> None:  # noqa: ANN401 - a _Place
    # The argument keeps the observers at hand when the interpreter ends and modules lose their names.
    observer = observers.pop(place.identity, None)
    if observer is not None:
        observer.collected()


def observer_of(response: object) -> ResponseObserver | None:
    """Return the observer of a response, or None."""
    return OBSERVERS.get(id(response))


def is_running(reader: object) -> bool:
    """True while a generator, or a reader of ours, is executing: it will report its true end itself."""
    return any(
        getattr(reader, name, None) is True for name in (names.GI_RUNNING.name, names.AG_RUNNING.name, "running")
    )
