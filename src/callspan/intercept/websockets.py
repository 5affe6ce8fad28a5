"""Websockets: observes the connections on which responses are requested, at the connection itself.

The hook of `handshake` looks at each connection that the `websockets` library opens. Where its path is a known one, and
an SDK opened it or its host is a known provider's, `send`, `recv` and `close` of that one object are replaced; a
connection to any other path there is counted, and stays as it is. What an SDK queues, flushes after a reconnect or
multiplexes passes here once, as sent.

The application gets the very messages and exceptions, in their order. What is received is only put into `frames`; what
ends a call is read there before the application has it, so that its record survives a `kill -9`.
"""

from __future__ import annotations

import contextvars
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry import context as otel_context

from callspan import private_names as names
from callspan.agent.call_ids import call_begun
from callspan.errors import outcome_of
from callspan.fail_open import fail_open, report, reported
from callspan.frames import FRAMES, SMALL_BYTES
from callspan.intercept.client_info import call_info, sdk_of
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded
from callspan.intercept.other_requests import path_template
from callspan.observe.call import Call
from callspan.observe.ports import CallInfo, Timeline
from callspan.observe.socket_calls import (
    LOST,
    Create,
    Ended,
    Sending,
    SocketCalls,
    decoded,
    refusal,
    sent,
    start,
)
from callspan.providers import registry
from callspan.providers.base import Endpoint
from callspan.providers.hosts import known_provider, provider_of
from callspan.providers.openai.lanes import CREATE, STEER, body_of, may_end
from callspan.sdk_profiles import PROFILES

_OPEN: Final = fail_open("observe a websocket")
_CONNECT: Final = fail_open("record what waited for a websocket")
_SEND: Final = fail_open("observe what is sent over a websocket")
_RECEIVE: Final = fail_open("observe what is received over a websocket")
_BEGIN: Final = fail_open("begin a call over a websocket")
_LOSE: Final = fail_open("keep all messages of a websocket until they are read")
_TYPE: Final = 20
_R, _DOT, _SECOND = b"r"[0], b"."[0], tuple(b"ue")
"""Bytes of the types of most messages, at fixed places: `response.output_`, `.function_`, `.reasoning_`."""
_END_S: Final = 1.0
"""How long the application waits, at most, until the record of a call that has ended is written."""
_REDIRECTION: Final = 3
METHOD: Final = "WEBSOCKET"
"""The method of a path in `routes` that is a websocket's."""
_AGENT: Final = "/Python "
"""Follows the name of the class in the user agent of an SDK's client."""


def observe_handshake(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of `ClientConnection.handshake` that observes known paths and counts others."""

    def opening(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Endpoint | None] | None:
        del kwargs
        if not hook_context.factories:
            return None
        return args[0], registry.endpoint_for(METHOD, _uri(args[0]).path)

    def opened(state: tuple[Any, Endpoint | None], result: object) -> None:
        del result
        connection, endpoint = state
        info = _info(connection)
        if info is not None and endpoint is None and hook_context.factory() is not None:
            hook_context.unrecorded(f"{METHOD} {path_template(_uri(connection).path)}")
        elif info is not None and endpoint is not None:
            socket = _Socket(hook_context, endpoint, info)
            (socket.replace_async if is_async else socket.replace)(connection)

    def failed(state: tuple[Any, Endpoint | None], error: BaseException) -> None:
        if state[1] is None:
            return
        # Those of an SDK are counted by `observe_connect`, which knows what waited.
        info, factory, refused = _info(state[0]), hook_context.factory(), refusal(error)
        is_redirected = refused.status is not None and refused.status // 100 == _REDIRECTION
        if info is not None and info.sdk is None and factory is not None and not is_redirected:
            factory.metrics.connection_failed(info, refused)

    return guarded(original, HookSteps(step=_OPEN, begin=opening, returned=opened, raised=failed), is_async=is_async)


def observe_connect(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of a manager's `_connect_ws`: where it fails, each create that waits is a failed call.

    If none waits, the failure is only counted.
    """

    def connecting(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int] | None:
        del kwargs
        return (args[0], time.perf_counter_ns()) if hook_context.factories else None

    def failed(state: tuple[Any, int], error: BaseException) -> None:
        manager, at_ns = state
        # The names begin with that of the class.
        fields = {name.rpartition("__")[2]: value for name, value in vars(manager).items()}
        factory = hook_context.factory()
        endpoint = registry.endpoint_for(METHOD, "/responses")
        if factory is None or endpoint is None:
            return
        info, refused = call_info(fields["client"], None, stream=True), refusal(error)
        # Where it connects again, it may try more often: the creates still wait.
        waiting = [] if fields.get("connection") is not None else list(_queued_creates(fields.get("send_queue")))
        for frame in waiting:
            call = start(factory, endpoint, info, Timeline(at_ns), body_of(frame))
            sent(call, body_of(frame))
            call.end(how=None, outcome=outcome_of(error, refused), error=refused)
        if not waiting and isinstance(error, Exception):
            factory.metrics.connection_failed(info, refused)

    return guarded(original, HookSteps(step=_CONNECT, begin=connecting, raised=failed), is_async=is_async)


def _queued_creates(queue: object) -> Iterator[dict[str, Any]]:
    for data, *_ in list(getattr(queue, names.QUEUED.name, ())):
        frame = decoded(data)
        if frame is not None and frame.get("type") == CREATE:
            yield frame


def _info(connection: Any) -> CallInfo | None:  # noqa: ANN401 - of websockets
    """Return whom a connection talks to; None where that is no known provider, and no SDK has opened it."""
    uri, profile = _uri(connection), PROFILES["openai"]
    headers = getattr(connection.request, "headers", None) or {}
    client, _, version = (headers.get("User-Agent") or "").partition(_AGENT)
    is_sdk = client.isidentifier() and version[:1].isdigit()
    provider = known_provider(uri.host, profile)
    if is_sdk:
        provider = provider_of(client, f"{uri.host}:{uri.port}", profile)
    if provider is None:
        return None
    sdk = sdk_of(profile.name) if is_sdk else None
    return CallInfo(provider=provider, sdk=sdk, server_address=uri.host, server_port=uri.port, stream=True)


def _uri(connection: Any) -> Any:  # noqa: ANN401 - of websockets
    protocol = connection.protocol
    return getattr(protocol, names.URI.name, None) or getattr(protocol, names.OLD_URI)


class _Socket:
    """One observed connection. Does not refer to it."""

    def __init__(self, hook_context: HookContext, endpoint: Endpoint, info: CallInfo) -> None:
        self._hook_context = hook_context
        self._endpoint = endpoint
        self._info = info
        self._opened_in = contextvars.copy_context()
        self._calls = SocketCalls(self._begin_successor)
        self._returned: list[str | bytes] = []
        """What an interrupt has kept from the application: it is received next."""

    def replace(self, connection: Any) -> None:  # noqa: ANN401 - of websockets
        """Replace the functions of a connection of threads."""
        send, close = connection.send, connection.close

        def observed_send(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            sending = self._sending(args, kwargs)
            if sending is None:
                return send(*args, **kwargs)
            sending.create.is_sent = True
            try:
                result = send(*args, **kwargs)
            except BaseException as error:
                self._sent(sending, error)
                raise
            self._sent(sending)
            return result

        def observed_close(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._calls.is_closing = True
            try:
                return close(*args, **kwargs)
            finally:
                self._end(Ended("closed"))

        self._put(connection, observed_send, self._receiver(connection.recv), observed_close)

    def _receiver(self, recv: Function) -> Function:
        size, read, append, resting = self._calls.waiting_bytes, self._calls.read, FRAMES.waiting.append, FRAMES.resting
        rouse, has_room, drain, now = FRAMES.rouse, FRAMES.has_room, FRAMES.drain, time.perf_counter_ns
        returned = self._returned

        def observed_recv(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the original's own
            if returned:
                return returned.pop()
            try:
                message = recv(*args, **kwargs)
            except BaseException as error:
                self._raised(error)
                raise
            # Inline: a call of a function is a large part of what a message costs.
            try:
                at_ns = now()
                length = len(message)
                size.added = added = size.added + length
                if added - size.taken > SMALL_BYTES and not has_room():
                    self._lose(message)
                else:
                    append((read, message, at_ns))
                if resting:
                    rouse()
                # `{"type":"response.output_text.delta"` and its like end nothing; a search would cost far more.
                is_other = length < _TYPE or message[9] != _R or message[17] != _DOT or message[19] not in _SECOND
                if is_other and may_end(message):
                    drain(_END_S)
            except reported(_RECEIVE):
                return message
            except BaseException:
                returned.append(message)
                raise
            return message

        return observed_recv

    def replace_async(self, connection: Any) -> None:  # noqa: ANN401
        """Replace the functions of a connection of asyncio."""
        send, close = connection.send, connection.close

        async def observed_send(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            sending = self._sending(args, kwargs)
            if sending is None:
                return await send(*args, **kwargs)
            sending.create.is_sent = True
            try:
                result = await send(*args, **kwargs)
            except BaseException as error:
                self._sent(sending, error)
                raise
            self._sent(sending)
            return result

        async def observed_close(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._calls.is_closing = True
            try:
                return await close(*args, **kwargs)
            finally:
                self._end(Ended("closed"))

        self._put(connection, observed_send, self._receiver_async(connection.recv), observed_close)

    def _receiver_async(self, recv: Function) -> Function:
        size, read, append, resting = self._calls.waiting_bytes, self._calls.read, FRAMES.waiting.append, FRAMES.resting
        rouse, has_room, drain, now = FRAMES.rouse, FRAMES.has_room, FRAMES.drain, time.perf_counter_ns
        returned = self._returned

        async def observed_recv(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if returned:
                return returned.pop()
            try:
                message = await recv(*args, **kwargs)
            except BaseException as error:
                self._raised(error)
                raise
            # Inline: a call of a function is a large part of what a message costs.
            try:
                at_ns = now()
                length = len(message)
                size.added = added = size.added + length
                if added - size.taken > SMALL_BYTES and not has_room():
                    self._lose(message)
                else:
                    append((read, message, at_ns))
                if resting:
                    rouse()
                # `{"type":"response.output_text.delta"` and its like end nothing; a search would cost far more.
                is_other = length < _TYPE or message[9] != _R or message[17] != _DOT or message[19] not in _SECOND
                if is_other and may_end(message):
                    drain(_END_S)
            except reported(_RECEIVE):
                return message
            except BaseException:
                returned.append(message)
                raise
            return message

        return observed_recv

    def _put(self, connection: Any, send: Function, recv: Function, close: Function) -> None:  # noqa: ANN401
        calls = self._calls
        key = id(calls.waiting_bytes)
        FRAMES.waiting_bytes[key] = calls.waiting_bytes
        gone = weakref.finalize(connection, _gone, key, calls)
        gone.atexit = False
        connection.send, connection.recv, connection.close = send, recv, close

    def _lose(self, message: str | bytes) -> None:
        calls = self._calls
        calls.lose(message)
        if not calls.has_lost:
            calls.has_lost = True
            FRAMES.put(calls.read, LOST)
        report(_LOSE.what, BufferError("more than 8 MiB wait"))

    def _sending(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sending | None:
        """Take what is about to be sent; return what is to be begun once it is."""
        try:
            message = args[0] if args else kwargs.get("message")
            if isinstance(message, str):
                is_read = '"response.' in message
            else:
                is_read = isinstance(message, bytes | bytearray) and b'"response.' in message
            frame = decoded(message) if is_read and message is not None else None
            kind = None if frame is None else frame.get("type")
            if frame is None or kind not in (CREATE, STEER):
                return None
            create = None
            if kind == CREATE:
                # Here, as for a request: an interrupt that comes meanwhile keeps it from being sent.
                create = Create(frame)
                with _BEGIN:
                    create.observe(self._started(create.clock, create.body()))
            FRAMES.put(self._calls.read, frame if create is None else create)
        except reported(_SEND):
            return None
        return None if create is None else Sending(create, self._calls.read)

    def _sent(self, sending: Sending, error: BaseException | None = None) -> None:
        """Take the end of the sending of a create."""
        create, observed = sending.create, sending.create.observed
        try:
            # What is cancelled may have been sent, what fails was not.
            create.is_sent = not isinstance(error, Exception)
            if observed is not None and create.is_sent:
                self._was_sent(observed.call, create.body())
            elif observed is not None:
                observed.call.discard()
        except reported(_BEGIN):
            return
        finally:
            sending.done()

    def _begin_successor(self, clock: Timeline, body: dict[str, Any]) -> Call | None:
        return self._opened_in.copy().run(self._succeeded, clock, body)

    def _succeeded(self, clock: Timeline, body: dict[str, Any]) -> Call | None:
        call = self._started(clock, body)
        if call is not None:
            self._was_sent(call, body)
        return call

    def _started(self, clock: Timeline, body: dict[str, Any]) -> Call | None:
        hook_context = self._hook_context
        factory = hook_context.factory()
        if factory is None:
            return None
        if not hook_context.warned_about_other_tracers:
            hook_context.warn_about_other_tracers()
        return start(factory, self._endpoint, self._info, clock, body)

    def _was_sent(self, call: Call, body: dict[str, Any]) -> None:
        call_begun(otel_context.get_current(), call.named)
        sent(call, body)

    def _raised(self, error: BaseException) -> None:
        """Take what `recv` raises: the end of the connection, or only of the wait."""
        try:
            exceptions = sys.modules["websockets.exceptions"]
            if isinstance(error, exceptions.ConnectionClosed):
                is_proper = isinstance(error, exceptions.ConnectionClosedOK)
                how = "closed" if self._calls.is_closing else "cut_off"
                self._end(Ended(how, error, is_proper=is_proper))
        except reported(_RECEIVE):
            return

    def _end(self, ended: Ended) -> None:
        try:
            FRAMES.put(self._calls.read, ended)
            FRAMES.drain(_END_S)
        except reported(_RECEIVE):
            return


def _gone(key: int, calls: SocketCalls) -> None:
    """End what is open on a connection that was collected. A finalizer: it only queues."""
    FRAMES.waiting_bytes.pop(key, None)
    FRAMES.put(calls.read, Ended("closed"))
