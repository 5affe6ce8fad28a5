"""Response observer: connects an HTTP response to its call, reports events to its state table and does what that says.

Nothing is put on objects the caller sees: observers are found by the identity of the response, as long as that lives.
They hold the response and its readers weakly, or these could never be collected.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from callspan.errors import call_error, outcome_of
from callspan.fail_open import fail_open, ours, value_of
from callspan.intercept.response_state import STREAM_ENDS, TABLE, Action, Event, State
from callspan.intercept.sdk_readers import StreamReader
from callspan.observe.deferred_ends import DeferredEnds, end_abandoned
from callspan.observe.live_call import LiveCall
from callspan.record.call import ErrorInfo, Outcome

_END: Final = fail_open("end a call")
OBSERVERS: Final[dict[int, ResponseObserver]] = {}
"""The observer of each response that has one, by the identity of the response; changed by `attach` alone."""


class HttpResponse(Protocol):
    """What is used of an httpx or httpx2 response."""

    @property
    def is_closed(self) -> bool:
        """True once the body was read or given up."""

    @property
    def content(self) -> bytes:
        """The body, once read."""


class CapturePath(msgspec.Struct, frozen=True, gc=False):
    """How the contents of a response reach its call; the same for every response of the call."""

    raw: bool = False
    """The caller requested the raw response and may read its bytes himself."""
    hides_usage: bool = False
    """The last chunk of the stream was requested by us, and is kept from the caller."""
    reads_items: bool = False
    """The SDK's parsed JSON cannot be seen; what its stream yields is read instead."""


class Failure(NamedTuple):
    """The error an event brings along."""

    error: ErrorInfo
    outcome: Outcome


class ResponseObserver:
    """One call's hold on one of its responses. Methods never raise, unless they say so."""

    __slots__ = (
        "_deferred_ends",
        "_place",
        "_remembered",
        "_was_open",
        "before",
        "call",
        "data",
        "path",
        "pulling",
        "reader",
        "state",
    )

    def __init__(self, call: LiveCall, deferred_ends: DeferredEnds, path: CapturePath) -> None:
        self.call = call
        self.data: Callable[[object], None] = call.data
        """Takes each parsed body or chunk; bound once, since it runs for every chunk."""
        self.path = path
        self.reader: StreamReader | None = None
        """What reads the stream of the response for the caller."""
        self.pulling = False
        """A copying reader of callspan is in the middle of reading bytes."""
        self.state = State.AWAITED
        self._deferred_ends = deferred_ends
        self._remembered: tuple[Event, Failure | None] | None = None
        self._place: _Place | None = None
        self._was_open = True
        self.before: ResponseObserver | None = None
        """The observer of an earlier call that has the same response."""

    def attach(self, response: object, *, is_open: bool = True) -> None:
        """Take the response's place among the observers, until it is collected.

        One that is not open has been read already: no caller needs it any more, and its loss is no event.
        Raises TypeError for an object that takes no weak references.
        """
        self._was_open = is_open
        identity = id(response)
        before = OBSERVERS.get(identity)
        if before is None:
            self._place = _Place(response, _collected)
            self._place.identity = identity
        else:
            # A transport may answer several calls with one response.
            self._place, self.before = before._place, before.before if before.call.ended else before
        OBSERVERS[identity] = self

    def collected(self) -> None:
        """Report RESPONSE_GONE; for a finalizer."""
        if self._was_open:
            self.on(Event.RESPONSE_GONE)
        if self.before is not None:
            self.before.collected()

    def is_read_by_sdk(self) -> bool:
        """Return whether the stream of an SDK reads the response, so that its bytes need no reading of callspan."""
        return self.reader is not None and self.reader.has_source

    def completed(self, error: ErrorInfo | None = None) -> None:
        """Report COMPLETED; `error` is what is wrong with a body that was read to its end."""
        self.on(Event.COMPLETED, None if error is None else Failure(error, "success"))

    def failed(self, error: BaseException) -> None:
        """Report FAILED with the exception."""
        info = call_error(error)
        self.on(Event.FAILED, Failure(info, outcome_of(error, info)))

    def on(self, event: Event, failure: Failure | None = None) -> None:
        """Report an event. Safe in a finalizer for READER_GONE and RESPONSE_GONE."""
        while True:
            before = self.state
            state, action = TABLE[before, event]
            if action is not Action.NOTHING:
                with _END:
                    self._act(action, event, failure)
            # A finalizer may have reported an end since the state was read: then the event is one of the new state.
            # Not before the action: an end that an interrupt has broken off is not the end yet.
            if state is State.ENDED or self.state is before:
                self.state = state
                return

    def _act(self, action: Action, event: Event, failure: Failure | None) -> None:
        if action is Action.REMEMBER:
            self._remembered = self._remembered or (event, failure)
        elif action is Action.END_REMEMBERED:
            if self._remembered is not None:
                event, failure = self._remembered
                self._act(TABLE[State.HELD, event][1], event, failure)
        elif action is Action.END:
            self._end(event, failure)
        elif action is Action.DEFER:
            self._deferred_ends.note(self.call, STREAM_ENDS[event])
        else:
            self.data = self.call.data if action is Action.ATTACH else _ignored

    def _end(self, event: Event, failure: Failure | None) -> None:
        if event is Event.CLOSED:
            end_abandoned(self.call, STREAM_ENDS[event])
        elif failure is None:
            self.call.end(how=STREAM_ENDS[event])
        else:
            how = "cancelled" if failure.outcome == "cancelled" else STREAM_ENDS[event]
            self.call.end(how=how, outcome=failure.outcome, error=failure.error)


def _ignored(data: object) -> None:
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


_EVENT_STARTS: Final = (b"data:", b"event:", b":")


def body_of(result: object, response: Any) -> object:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return the JSON of a finished call that the SDK has not parsed: of the read response, else of the result."""
    if isinstance(result, str):
        return value_of(partial(json.loads, _encoded(result)))
    if hasattr(response, "json") and getattr(response, "is_closed", False):
        return value_of(response.json)
    for name in ("to_dict", "model_dump"):
        method = getattr(result, name, None)
        if callable(method):
            dumped = value_of(method)
            return dumped if isinstance(dumped, dict) else None
    return None


def body_error(result: object, response: Any) -> ErrorInfo | None:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return what is wrong with a body that was read and is not JSON; None: nothing, or it was not read.

    The SDKs return such a body as text where its content type does not say that it is JSON; the caller of a raw
    response learns it later.
    """
    if isinstance(result, str):
        return parsing_error(_encoded(result))
    response = result if response is None else response
    content = value_of(lambda: response.content) if getattr(response, "is_closed", False) else None
    return parsing_error(content) if isinstance(content, bytes) else None


def _encoded(text: str) -> bytes:
    """The bytes of a text; the standard library reads a byte order mark only there."""
    return text.encode("utf-8", "surrogatepass")


def parsing_error(content: bytes) -> ErrorInfo | None:
    """Return the error of a body that is not JSON, however it was read; None for JSON, no body, and a stream's events.

    Events come as text where a stream was requested by `extra_body` of a call the SDK takes for a plain one.
    """
    if not content or content.startswith(_EVENT_STARTS):
        return None
    try:
        json.loads(content)
    except ours(ValueError) as error:
        return ErrorInfo(kind="parsing", type=type(error).__name__)
    except ours(RecursionError):
        return None
    return None
