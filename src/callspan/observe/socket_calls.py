"""Socket calls: the calls of one websocket connection, each a `Call`.

A call begins when its create is sent, in that context. Everything else happens on the receiving thread as a frame
passes, so that the end is recorded before the application has the frame.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from callspan.errors import call_error, outcome_of
from callspan.observe.call import Call
from callspan.observe.factory import CallFactory, CallInfo
from callspan.providers import rate_limits, registry
from callspan.providers.error_kinds import error_info
from callspan.providers.sockets import LONG, MESSAGES, REPEATED, SocketKind, Step, Turn
from callspan.providers.wire_json import Json, integer, mapping, text
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encode_json
from callspan.record.ids import new_id, response_call_id
from callspan.runtime.fail_open import fail_open, value_of
from callspan.runtime.forks import in_child
from callspan.runtime.lock_free import LRUCache

_END: Final = fail_open("end the calls of a websocket")
_DECODE: Final = msgspec.json.Decoder(dict[str, Any]).decode
"""Decodes most messages. An SDK may accept others."""
_HTTP_ERRORS: Final = range(400, 600)
_MAX_OPEN: Final = 64

Start: TypeAlias = Callable[[Turn, str | None], "Call | None"]
"""Starts a call, with its id if that is derived, in the current context; returns None if it must not be observed."""


class SocketCalls:
    """The calls of one connection. One thread at a time receives; any may send or end the connection."""

    def __init__(
        self, kind: SocketKind, provider: str, start: Start, where_opened: Callable[[Callable[[], None]], None]
    ) -> None:
        """`where_opened` runs a function in the context that opened the connection."""
        self.is_closing = False
        """Whether the application is closing it."""
        self.send_error: BaseException | None = None
        """The exception of a send after the connection was lost. Messages received before may still be read."""
        self._kind = kind
        self._provider = provider
        self._start = start
        self._where_opened = where_opened
        self._sent: deque[tuple[Json, Turn | None]] = deque()
        """Frames sent since the last received one. Only the receiving thread passes them to the state machine."""
        self._open: dict[Turn, Call] = {}
        self._uncounted: tuple[Turn, Call, CallRecord] | None = None
        """The call that ended last and its record, if that has no usage."""
        self._claims = _Claims(self._open)
        self._inherited = False
        """Whether it belongs to the parent of a fork, where its calls continue."""
        in_child(self, SocketCalls.leave_to_parent)

    def __del__(self) -> None:
        """Note that the connection is over, also if nobody closed it."""
        self._claims.close()

    def leave_to_parent(self) -> None:
        """Leave the connection to the parent of a fork."""
        self._inherited = True
        self._open = {}
        self._uncounted = None

    def sending(self, message: object) -> Turn | None:
        """Observe a frame about to be sent; return the call that it begins, if any."""
        if self._inherited or not isinstance(message, str | bytes | bytearray):
            return None
        frame = decoded(message) if self._kind.is_marked(message) else None
        if frame is None:
            return None
        turn = self._kind.create(frame)
        if turn is not None:
            self._begin(turn)
        self._sent.append((frame, turn))
        return turn

    def sent(self, turn: Turn, result: object = None) -> None:
        """Write the first version of the call of a sent create."""
        del result
        if (call := self._open.get(turn)) is not None:
            call.write_first_version()

    def not_sent(self, turn: Turn, error: Exception) -> None:
        """End the call of a create that could not be sent."""
        turn.is_withdrawn = True
        call = self._close(turn)
        if call is not None:
            call.fail(error, in_stream=False)

    def received(self, message: str | bytes) -> None:
        """Observe a message before the application receives it."""
        event = self._kind.short_event(message) if len(message) > LONG else None
        if event is REPEATED or self._inherited:
            return
        if event is None:
            try:
                event = _DECODE(message)
            except (ValueError, RecursionError):
                event = decoded(message)
        if event is not None and self._kind.accepts(event):
            while self._sent:
                self._kind.sent(*self._sent.popleft())
            while (repeated_event := self._kind.repeated()) is not None:
                self._take(repeated_event)
            self._take(event)

    def _take(self, event: Json) -> None:
        for step in self._kind.received(event, time.perf_counter_ns()):
            self._do(step)

    def ended(self, error: BaseException | None = None, *, is_proper: bool = False) -> None:
        """End what is open, by the exception of a lost connection; `is_proper`: the provider closed without an error.

        Calls are `closed` if the application closes a connection that was not lost before, else `cut_off`.
        """
        while (repeated_event := self._kind.repeated()) is not None:
            self._take(repeated_event)
        self._claims.close()
        is_closed, error = self.is_closing and self.send_error is None, error or self.send_error
        for turn in list(self._open):
            call = self._close(turn)
            if call is not None:
                with _END:
                    if is_closed:
                        call.leave()
                    else:
                        _cut_off(call, error, is_proper=is_proper)

    def _do(self, step: Step) -> None:
        action, turn, event, outcome = step
        if action == "usage":
            self._count_later(turn, event)
            return
        if action == "begin":
            call_id = self._claimed(turn)
            if call_id is not None or turn.identity is None:
                self._where_opened(partial(self._begin, turn, call_id))
        call = self._open.get(turn)
        if call is None:
            return
        if action == "begin":
            call.write_first_version()
        elif action == "name":
            self._name(turn, call)
        elif action == "chunk" and MESSAGES in event:
            call.counted_chunks(event, event[MESSAGES])
        elif action == "chunk":
            call.chunk(event)
        else:
            self._close(turn)
            if action == "fail":
                _fail(call, event)
            else:
                record = call.end(outcome=outcome)
                has_no_usage = record is not None and record.usage is None
                self._uncounted = (turn, call, _without_bodies(record)) if record and has_no_usage else None

    def _count_later(self, turn: Turn, body: Json) -> None:
        """Write the usage of the call that ended last."""
        uncounted, self._uncounted = self._uncounted, None
        if uncounted is not None and uncounted[0] is turn:
            uncounted[1].count_later(uncounted[2], body)

    def _name(self, turn: Turn, call: Call) -> None:
        """Name the call of a create, or withdraw it if another connection has recorded it."""
        call_id = self._claimed(turn)
        if call_id is not None:
            call.name(call_id)
        elif (withdrawn := self._open.pop(turn, None)) is not None:
            withdrawn.withdraw()

    def _claimed(self, turn: Turn) -> str | None:
        """Return the id of a call that the provider has named; None without a name, and if another connection has it.

        The connection that has sent the create takes the call from one that only sees it.
        """
        if turn.identity is None:
            return None
        own_claims, key = self._claims, response_call_id(self._provider, turn.identity)
        claim = _CLAIMS.setdefault(key, _Claim(key, own_claims, weakref.ref(turn)))
        holder = claim.of
        if holder is own_claims:
            return claim.call_id
        is_repeated = holder.closed_ns is not None and holder.closed_ns < own_claims.opened_ns
        if is_repeated or (turn.awaits_name and holder.withdraw(claim.turn())):
            call_id = new_id() if is_repeated else claim.call_id
            _CLAIMS.put(key, _Claim(call_id, own_claims, weakref.ref(turn)))
            return call_id
        return None

    def _begin(self, turn: Turn, call_id: str | None = None) -> None:
        call = self._start(turn, call_id)
        if call is None:
            return
        self._open[turn] = call
        if turn.awaits_name:
            call.await_name()
        _take_body(call, turn)
        if len(self._open) > _MAX_OPEN and (oldest := self._close(next(iter(self._open)))) is not None:
            oldest.end(how="cut_off")

    def _close(self, turn: Turn) -> Call | None:
        """Return the call, if open, with its complete request."""
        call = self._open.pop(turn, None)
        if call is not None:
            _take_body(call, turn)
        return call


class _Claims:
    """What a connection records of the calls that several connections may see."""

    def __init__(self, running: dict[Turn, Call]) -> None:
        self._running = running
        self.opened_ns = time.monotonic_ns()
        self.closed_ns: int | None = None

    def close(self) -> None:
        """Note the end of the connection."""
        self.closed_ns = self.closed_ns or time.monotonic_ns()

    def withdraw(self, turn: Turn | None) -> bool:
        """Give up a call that another connection records; return False if it has ended."""
        call = None if turn is None else self._running.pop(turn, None)
        return call is not None and call.withdraw()


class _Claim(NamedTuple):
    call_id: str
    """Not the derived one if an earlier connection has that: servers repeat ids."""
    of: _Claims
    turn: weakref.ref[Turn]


_CLAIMS: Final[LRUCache[str, _Claim]] = LRUCache(4096)
"""By the derived id of a call that the provider has named."""


def start(factory: CallFactory, info: CallInfo, turn: Turn, call_id: str | None) -> Call | None:
    """Start a call in the current context, as of now or its stated start. Returns None for an unknown API."""
    endpoint = registry.by_api(turn.api)
    if endpoint is None:
        return None
    info = msgspec.structs.replace(info, model=text(turn.body, "model"), stream=True)
    return Call(factory, endpoint, info, began_ns=turn.begun_ns, call_id=call_id)


def _take_body(call: Call, turn: Turn) -> None:
    """Record the request body so far."""
    body, turn.body = turn.body, {}
    if body:
        content = encode_json(body)
        call.forget_request()
        call.sent(content, body, len(content), write_version=False)


def decoded(message: str | bytes | bytearray) -> dict[str, Any] | None:
    """Return a message as JSON; None if it is no JSON object."""
    return mapping(registry.decoded(message if isinstance(message, str) else bytes(message)))


def _without_bodies(record: CallRecord) -> CallRecord:
    """Return a record that a version of it can be made of, without what is large."""
    response = record.response and msgspec.structs.replace(record.response, body=NO_BODY)
    request = msgspec.structs.replace(record.request, body=NO_BODY)
    return msgspec.structs.replace(record, request=request, response=response, conversation=None)


def _fail(call: Call, event: Json) -> None:
    """End a call with an error event, which has status, code and headers."""
    error, status = mapping(event, "error") or event, integer(event, "status")
    raw_headers = mapping(error, "headers") or {}
    headers = {str(name).lower(): value for name, value in raw_headers.items() if isinstance(value, str)}
    call.attempts.limits = rate_limits.rate_limits(headers, time.time())
    body = {"error": {key: value for key, value in error.items() if key != "headers"}}
    http_status = status if status in _HTTP_ERRORS else None
    info = error_info(status=http_status, body=body, request_id=rate_limits.request_id(headers))
    call.end(how="error", error=info)


def _cut_off(call: Call, error: BaseException | None, *, is_proper: bool) -> None:
    # A properly closed connection is like a stream that just stops, unless nothing was received.
    cause = None if is_proper and call.chunks else error
    info = None if cause is None else value_of(lambda: call_error(cause))
    call.end(how="cut_off", outcome=outcome_of(cause, info), error=info)
