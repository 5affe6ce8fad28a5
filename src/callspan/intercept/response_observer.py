"""Response observer: connects an HTTP response to its call, and executes the actions of the state table.

Nothing is attached to objects the caller sees: observers are found by `id()` of the response while that exists. They
refer to the response and its readers weakly, so that these can be collected.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from callspan.errors import call_error, outcome_of
from callspan.fail_open import fail_open, value_of
from callspan.intercept.response_state import STREAM_ENDS, TABLE, Action, Event, State
from callspan.intercept.sdk_readers import StreamReader
from callspan.observe.deferred_ends import DeferredEnds, end_abandoned
from callspan.observe.exchange import Exchange
from callspan.providers.base import Endpoint
from callspan.record.call import ErrorInfo, Outcome

_END: Final = fail_open("end a call")
_ENDS: Final = (Action.END, Action.DEFER)
OBSERVERS: Final[dict[int, ResponseObserver]] = {}
"""The observers by `id()` of their response; changed only by `attach`."""
_EVENT_STARTS: Final = (b"data:", b"event:", b":")


class HttpResponse(Protocol):
    """The members used of an httpx or httpx2 response."""

    @property
    def is_closed(self) -> bool:
        """True once the body was read or abandoned."""

    @property
    def content(self) -> bytes:
        """The body, once it was read."""


class CapturePath(msgspec.Struct, frozen=True, gc=False):
    """How the content of a response reaches its call; the same for every response of the call."""

    raw: bool = False
    """The caller requested the raw response and may read its bytes directly."""
    read_later: bool = False
    """A response that was received whole may still be read after `request` has returned."""
    hides_usage: bool = False
    """callspan requested the last chunk of the stream and hides it from the caller."""
    endpoint: Endpoint | None = None
    """The adapter of the call."""
    reads_items: bool = False
    """The SDK's parsed JSON cannot be observed; the items its stream yields are read instead."""


class Failure(NamedTuple):
    """The error of an event."""

    error: ErrorInfo
    outcome: Outcome


class ResponseObserver:
    """Observes one response of a call. Methods never raise unless documented."""

    __slots__ = (
        "_deferred_ends",
        "_is_held",
        "_place",
        "_remembered",
        "_was_open",
        "before",
        "call",
        "data",
        "pass_rest",
        "path",
        "pulling",
        "reader",
        "state",
    )

    def __init__(self, call: Exchange, deferred_ends: DeferredEnds, path: CapturePath) -> None:
        self.call = call
        self.data: Callable[[object], None] = call.chunk if call.streaming else call.whole
        """Takes each parsed body or chunk; bound once, because it is called for every chunk."""
        self.path = path
        self.reader: StreamReader | None = None
        """The reader of the response's stream."""
        self.pulling = False
        """True while callspan's copying reader is reading bytes."""
        self.pass_rest: Callable[[], None] | None = None
        """Passes on what a copying reader has read and not passed on yet: a call may end while the reader waits."""
        self.state = State.AWAITED
        self._deferred_ends = deferred_ends
        self._remembered: tuple[Event, Failure | None] | None = None
        self._is_held = False
        self._place: _Place | None = None
        self._was_open = True
        self.before: ResponseObserver | None = None
        """The observer of an earlier call with the same response."""

    def attach(self, response: object, *, is_open: bool = True) -> None:
        """Register as the observer of the response until it is collected.

        A closed response was already read: its collection is not an event. Raises TypeError for an object without
        support for weak references.
        """
        self._was_open = is_open
        identity = id(response)
        before = OBSERVERS.get(identity)
        if before is None:
            self._place = _Place(response, _collected)
            self._place.identity = identity
        else:
            # A transport may return one response for several calls.
            self._place, self.before = before._place, before.before if before.call.ended else before
        OBSERVERS[identity] = self

    def response(self) -> object:
        """Return the response; None if it was collected."""
        return None if self._place is None else self._place()

    def collected(self) -> None:
        """Report RESPONSE_GONE; for a finalizer."""
        if self._was_open:
            self.on(Event.RESPONSE_GONE)
        if self.before is not None:
            self.before.collected()

    def detach(self) -> None:
        """Let neither data nor the end of the response reach the call: another one has replaced it."""
        self.state, self.data = State.ENDED, _ignored

    def is_read_by_sdk(self) -> bool:
        """Return whether an SDK's stream reads the response, so that its bytes need not be observed."""
        return self.reader is not None and self.reader.has_source

    def hold(self) -> None:
        """Let the normal end of the stream wait for `release`, or for a failure."""
        self._is_held = True

    def release(self) -> None:
        """Report the normal end that came since `hold`, if it came."""
        self._is_held = False
        if self._remembered is not None:
            self.on(*self._remembered)

    def completed(self, error: ErrorInfo | None = None) -> None:
        """Report COMPLETED; `error` is the error of a completely read body, such as invalid JSON."""
        self.on(Event.COMPLETED, None if error is None else Failure(error, "success"))

    def failed(self, error: BaseException) -> None:
        """Report FAILED with the exception."""
        self._is_held = False
        info = call_error(error)
        self.on(Event.FAILED, Failure(info, outcome_of(error, info)))

    def on(self, event: Event, failure: Failure | None = None) -> None:
        """Report an event. Safe in a finalizer for READER_GONE and RESPONSE_GONE."""
        if self._is_held and (event is Event.COMPLETED or self._remembered is not None):
            self._remembered = self._remembered or (event, failure)
            return
        while True:
            before = self.state
            changes = TABLE.get((before, event))
            if changes is None:
                return
            state, action = changes
            if action is not Action.NOTHING:
                with _END:
                    self._act(action, event, failure)
            # A finalizer may have reported an end since the state was read: look up the event in the new state.
            # Not before the action, because an interrupted end does not count as ended.
            if state is State.ENDED or self.state is before:
                self.state = state
                return

    def _act(self, action: Action, event: Event, failure: Failure | None) -> None:
        if action in _ENDS and self.pass_rest is not None:
            self.pass_rest()
            self.pass_rest = None
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

    def _end(self, event: Event, failure: Failure | None) -> None:
        if event is Event.CLOSED:
            end_abandoned(self.call, STREAM_ENDS[event])
        elif failure is None:
            self.call.end(how=STREAM_ENDS[event])
        else:
            how = "cancelled" if failure.outcome == "cancelled" else STREAM_ENDS[event]
            self.call.end(how=how, outcome=failure.outcome, error=failure.error)


def _ignored(data: object) -> None:
    """Receive the data of a replaced response and drop it."""


class _Place(weakref.ref):  # type: ignore[type-arg] # of any object
    """A weak reference to a response that keeps its `id()` after it is collected."""

    __slots__ = ("identity",)
    identity: int


def _collected(place: Any, observers: dict[int, ResponseObserver] = OBSERVERS) -> None:  # noqa: ANN401 - a _Place
    # The argument keeps a reference to the observers for interpreter shutdown, when module globals are cleared.
    observer = observers.pop(place.identity, None)
    if observer is not None:
        observer.collected()


def observer_of(response: object) -> ResponseObserver | None:
    """Return the observer of a response, or None."""
    return OBSERVERS.get(id(response))


def body_of(result: object, response: Any) -> object:  # noqa: ANN401 - httpx, httpx2 or anything else
    """Return the JSON of a finished call whose body the SDK has not parsed: from the response, else from the result."""
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
    """Return the error of a body that was read and is not JSON; None: it is valid, or was not read.

    The SDKs return such a body as text if its content type is not JSON; the caller of a raw response sees it later.
    """
    if isinstance(result, str):
        return parsing_error(_encoded(result))
    response = result if response is None else response
    content = value_of(lambda: response.content) if getattr(response, "is_closed", False) else None
    return parsing_error(content) if isinstance(content, bytes) else None


def _encoded(text: str) -> bytes:
    """Return the bytes of a text, because the standard library accepts a byte order mark only in bytes."""
    return text.encode("utf-8", "surrogatepass")


def parsing_error(content: bytes) -> ErrorInfo | None:
    """Return the error of a body that is not JSON; None for JSON, an empty body, and server-sent events.

    Events are text if a stream was requested by `extra_body` in a call that is plain for the SDK.
    """
    if not content or content.startswith(_EVENT_STARTS):
        return None
    try:
        json.loads(content)
    except ValueError as error:
        return ErrorInfo(kind="parsing", type=type(error).__name__)
    except RecursionError:
        return None
    return None
