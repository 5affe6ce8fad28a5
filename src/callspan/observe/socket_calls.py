"""Calls over a websocket: the responses of one connection, each a `Call`.

Calls are begun where their create is sent. All else is done on the thread that reads frames, see `frames`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from callspan.errors import call_error, outcome_of, qualified_name
from callspan.fail_open import fail_open, value_of
from callspan.frames import FRAMES, Read, WaitingBytes
from callspan.observe.call import Call
from callspan.observe.ports import CallFactory, CallInfo, Timeline
from callspan.providers import rate_limits, registry
from callspan.providers.base import Endpoint
from callspan.providers.error_kinds import error_info
from callspan.providers.openai.lanes import Lanes, Step, body_of
from callspan.providers.wire_json import integer, mapping, text
from callspan.record.call import ErrorInfo
from callspan.record.codec import encode_json

_END: Final = fail_open("end the calls of a websocket")
_FIRST_ERROR: Final = 400

Start: TypeAlias = Callable[[Timeline, dict[str, Any]], "Call | None"]
"""Begins the call of a successor: takes its times and the body of its request."""


class TimedCall(msgspec.Struct, eq=False):
    """A call and its clock."""

    call: Call
    clock: Timeline


_Step: TypeAlias = Step[TimedCall | None]


class Create:
    """A create that is being sent. What is received meanwhile waits for `is_done`."""

    __slots__ = ("clock", "frame", "is_done", "is_sent", "observed")

    def __init__(self, frame: dict[str, Any]) -> None:
        self.frame = frame
        self.clock = Timeline(time.perf_counter_ns())
        self.observed: TimedCall | None = None
        """None: it is not to be observed."""
        self.is_sent = False
        """Whether it was sent, or may have been."""
        self.is_done = False

    def body(self) -> dict[str, Any]:
        """Return the body of the request that it stands for."""
        return body_of(self.frame)

    def observe(self, call: Call | None) -> None:
        """Set its call."""
        self.observed = None if call is None else TimedCall(call, self.clock)


class Sending:
    """Held by the frame that sends a create: an interrupt that ends it anywhere lets what is received go on."""

    __slots__ = ("_read", "create")

    def __init__(self, create: Create, read: Read) -> None:
        self.create = create
        self._read = read

    def done(self) -> None:
        """Let what was received meanwhile be read."""
        self.create.is_done = True
        FRAMES.put(self._read, None)

    def __del__(self) -> None:
        if not self.create.is_done:
            self.done()


class Ended(msgspec.Struct, eq=False):
    """The end of a connection."""

    how: str
    """`cut_off` or `closed`."""
    error: BaseException | None = None
    is_proper: bool = False
    """Whether the provider closed it without an error."""


class SocketCalls:
    """The calls of one connection. What is `read` comes in the order in which it was sent or received."""

    def __init__(self, start: Start) -> None:
        self.waiting_bytes = WaitingBytes()
        self.has_lost = False
        """Whether messages of it could not wait to be read, since that was noted last."""
        self.is_closing = False
        """Whether the application closes it."""
        self._start = start
        self._lanes: Lanes[TimedCall | None] = Lanes(None)
        self._held: deque[tuple[Any, int]] = deque()
        self._pid = os.getpid()
        self._inherited = False

    def read(self, item: object, at_ns: int) -> None:
        """Take a message (`str` or `bytes`), a `Create`, a frame that was sent, an `Ended`; None: look again."""
        held = self._held
        held.append((item, at_ns))
        while held:
            first, first_ns = held[0]
            if type(first) is Create and not first.is_done:
                return
            held.popleft()
            self._take(first, first_ns)

    def lose(self, message: str | bytes) -> None:
        """Take note of a message that could not wait to be read."""
        self.waiting_bytes.taken += len(message)

    def _take(self, item: object, at_ns: int) -> None:
        if self._pid != os.getpid():
            # A connection of the parent of a fork: its calls continue there.
            self._pid, self._inherited = os.getpid(), True
            self._lanes = Lanes(None)
        if isinstance(item, str | bytes):
            self._received(item, at_ns)
        elif type(item) is Create:
            if item.is_sent:
                self._lanes.create(item.frame, item.observed)
        elif isinstance(item, dict):
            self._lanes.steer(item)
        elif type(item) is Ended:
            self._end(item, at_ns)
        elif item is LOST:
            self._lost()

    def _received(self, message: str | bytes, at_ns: int) -> None:
        self.waiting_bytes.taken += len(message)
        event = decoded(message)
        for step in [] if event is None else self._lanes.received(event):
            self._do(step, at_ns)

    def _lost(self) -> None:
        self.has_lost = False
        for turn in self._lanes.lost():
            if turn.call is not None:
                turn.call.call.mark_partially_observed()

    def _do(self, step: _Step, at_ns: int) -> None:
        action, turn, event = step
        if action == "begin":
            turn.call = self._begin(Timeline(at_ns), event)
        observed = turn.call
        if observed is None:
            return
        call, observed.clock.at_ns = observed.call, at_ns
        if action == "chunk":
            call.chunk(event)
        elif action == "end":
            turn.call = None
            call.end()
        elif action == "fail":
            turn.call = None
            _fail(call, event)
        observed.clock.at_ns = None

    def _begin(self, clock: Timeline, body: dict[str, Any]) -> TimedCall | None:
        """Begin the call of a successor."""
        call = None if self._inherited else self._start(clock, body)
        return None if call is None else TimedCall(call, clock)

    def _end(self, ended: Ended, at_ns: int) -> None:
        lanes, self._lanes = self._lanes, Lanes(None)
        for turn in lanes.open():
            if turn.call is not None:
                turn.call.clock.at_ns = at_ns
                with _END:
                    _abandon(turn.call.call, ended)


LOST: Final = object()
"""Stands for messages that could not wait to be read."""


def start(
    factory: CallFactory, endpoint: Endpoint, info: CallInfo, clock: Timeline, body: dict[str, Any]
) -> Call:  # fmt: skip
    """Start a call in the current context, at the time where its clock stands; then its clock goes."""
    info = msgspec.structs.replace(info, model=text(body, "model"), stream=True)
    call = Call(factory, endpoint, info, timeline=clock)
    clock.at_ns = None
    return call


def sent(call: Call, body: dict[str, Any]) -> None:
    """Give a call the body of its request."""
    if body:
        content = encode_json(body)
        call.sent(content, body, len(content))


def decoded(message: str | bytes | bytearray | memoryview) -> dict[str, Any] | None:
    """Return a message as JSON; None if it is no JSON object."""
    return mapping(registry.decoded(message if isinstance(message, str) else bytes(message)))


def _fail(call: Call, event: dict[str, Any]) -> None:
    """End a call by an error event: status, code and headers are in it."""
    error = mapping(event, "error") or event
    given = mapping(error, "headers") or {}
    headers = {name.lower(): value for name, value in given.items() if isinstance(value, str)}
    status = integer(event, "status")
    call.attempts.limits = rate_limits.rate_limits(headers, time.time())
    info = error_info(
        status=status if status is not None and status >= _FIRST_ERROR else None,
        body={"error": {key: value for key, value in error.items() if key != "headers"}},
        exception=None,
        message=None,
        request_id=rate_limits.request_id(headers),
    )
    call.end(how="error", outcome="timeout" if info.kind == "timeout" else "error", error=info)


def refusal(error: BaseException) -> ErrorInfo:
    """Return the error of a connection that could not be opened, with the provider's answer if there was one."""
    answer: Any = getattr(error, "response", None)
    status, body = getattr(answer, "status_code", None), getattr(answer, "body", None)
    if not isinstance(status, int):
        return call_error(error)
    headers = {str(name).lower(): str(value) for name, value in getattr(answer, "headers", {}).items()}
    return error_info(
        status=status,
        body=decoded(body) if isinstance(body, bytes) and body else None,
        exception=qualified_name(type(error)),
        message=value_of(lambda: str(error)),
        request_id=rate_limits.request_id(headers),
    )


def _abandon(call: Call, ended: Ended) -> None:
    if ended.how != "cut_off":
        call.leave()
        return
    # A connection that is closed properly is as a stream that just stops, unless nothing came at all.
    error = None if ended.is_proper and call.chunks else ended.error
    info: ErrorInfo | None = None if error is None else value_of(lambda: call_error(error))
    call.end(how="cut_off", outcome=outcome_of(error, info), error=info)
