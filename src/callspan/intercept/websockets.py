"""Websockets: observes the calls on connections of the `websockets` library.

The hook of `handshake` checks each new connection. If an SDK opened it, or its host is a known provider's, a known path
makes callspan replace `send`, `recv` and `close` of that object; connections to other paths are only counted. The SDK,
else the path, decides: messages of an SDK that was left out pass untouched. Messages that an SDK queues, resends after
a reconnect or multiplexes pass here once, as sent.

The application gets the identical messages and exceptions, in order. Each message is read on its thread as it passes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import MethodType
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from opentelemetry import context as otel_context

from callspan import private_names as names
from callspan.agent.call_ids import remember_call
from callspan.agent.context import block_of, content_of, with_block
from callspan.intercept.generated_sdks.other_requests import path_template
from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.hooks import HOOK_CONTEXT, Function, HookSteps, Reads, bound_like
from callspan.intercept.sdk_versions import sdk_of
from callspan.observe.call import Call
from callspan.observe.factory import CallInfo
from callspan.observe.socket_calls import SocketCalls, start
from callspan.providers import registry
from callspan.providers.hosts import known_provider, provider_of, provider_of_server
from callspan.providers.sockets import SocketKind, Turn
from callspan.runtime.fail_open import fail_open
from callspan.sdk_profiles import PROFILES, SdkProfile
from callspan.settings import strictest

_OPEN: Final = fail_open("observe a websocket")
_SEND: Final = fail_open("observe a message sent over a websocket")
_RECEIVE: Final = fail_open("observe a message received over a websocket")
_CLOSE: Final = fail_open("observe the end of a websocket")
_METHOD: Final = "WEBSOCKET"
"""The method under which connections are counted."""
_MODELS: Final = ("model", "deployment")
"""Query parameters that name the model."""
_AGENT: Final = "/Python "
"""Follows the class name in the user agent of openai's client."""
_GOOGLE: Final = "google-genai-sdk/"
"""Begins the user agent of google-genai."""
_LIVE: Final = "bidi_generate_content"
"""The API of its sessions."""
_IS_OPEN: Final = "OPEN"
"""The name of the state of a connection that is neither closed nor being closed."""


def observe_handshake(original: Function, reads: Reads, *, is_async: bool = False) -> Function:
    """Return a replacement of `ClientConnection.handshake` that observes known paths and counts others."""

    def opened(connection: Any, _: object) -> None:
        info = _info(connection)
        kind = None if info is None else _kind(connection)
        if info is not None and kind is not None:
            calls = SocketCalls(kind, info.provider, partial(_start_call, info, connection.request), _where_opened())
            _observe(connection, calls, is_async=is_async)
        elif info is not None and HOOK_CONTEXT.factory() is not None:
            HOOK_CONTEXT.unrecorded(f"{_METHOD} {path_template(_uri(connection).path)}")

    def opening(_args: object, connection: object, _kwargs: object) -> object:
        return connection if HOOK_CONTEXT.factories else None

    return HookSteps(step=_OPEN, before=opening, on_return=opened).around(original, reads, is_async=is_async)


def _info(connection: Any) -> CallInfo | None:
    """Return the provider and server of a connection; None if neither an SDK nor a known host is involved.

    None also if the API belongs to an SDK that was left out.
    """
    uri, (sender, client) = _uri(connection), _sender(connection)
    profile = sender or PROFILES[registry.socket_wire(uri.path) or "openai"]
    if profile.name not in HOOK_CONTEXT.sources:
        return None
    provider = known_provider(uri.host, profile)
    if sender is not None and sender.name == "google":
        provider = provider_of_server(uri.host, uri.port, _LIVE, sender.wire, uri.path, None)
    elif sender is not None:
        provider = provider_of((client,), f"{uri.host}:{uri.port}", profile)
    if provider is None:
        return None
    sdk = None if sender is None else sdk_of(profile.distribution)
    return CallInfo(provider=provider, sdk=sdk, server_address=uri.host, server_port=uri.port, stream=True)


def _sender(connection: Any) -> tuple[SdkProfile | None, str]:
    """Return the SDK that has opened a connection, or None, and the name of its client's class."""
    headers = getattr(connection.request, "headers", None) or {}
    agent = headers.get("User-Agent") or ""
    if agent.startswith(_GOOGLE):
        return PROFILES["google"], ""
    client, _, version = agent.partition(_AGENT)
    is_sdk = client.isidentifier() and version[:1].isdigit()
    return PROFILES["openai"] if is_sdk else None, client


def _kind(connection: Any) -> SocketKind | None:
    uri = _uri(connection)
    query = parse_qs(uri.query or "")
    model = next((query[name][0] for name in _MODELS if name in query), None)
    return registry.socket_kind(uri.path, model, hashes_audio=HOOK_CONTEXT.hashes_audio)


def _uri(connection: Any) -> Any:
    protocol = connection.protocol
    return getattr(protocol, names.URI.name, None) or getattr(protocol, names.OLD_URI)


def _observe(connection: Any, calls: SocketCalls, *, is_async: bool) -> None:
    """Replace the functions of a connection. Its calls must not refer to it."""
    send = HookSteps(
        step=_SEND,
        before=lambda _, message, __: calls.sending(message),
        on_return=calls.sent,
        on_error=partial(_not_sent, calls),
    )
    receive = HookSteps(step=_RECEIVE, before=lambda *_: calls, on_return=SocketCalls.received, on_error=_not_received)
    close = HookSteps(
        step=_CLOSE, before=lambda *_: _Closing(calls, connection), enter=_Closing.begin, on_return=_Closing.ended,
        on_error=_Closing.failed,
    )  # fmt: skip
    _replace(connection, "send", send, {"message": 0}, is_async=is_async)
    _replace(connection, "recv", receive, {}, is_async=is_async)
    _replace(connection, "close", close, {}, is_async=is_async)


def _replace(connection: Any, name: str, steps: HookSteps, reads: Reads, *, is_async: bool) -> None:
    """Replace a method of a connection, or what other code has put in its place."""
    method = getattr(connection, name)
    is_method = isinstance(method, MethodType) and method.__self__ is connection
    # The function of the class, so that the text of its TypeError counts the instance as well.
    original = method.__func__ if is_method else method
    replacement = bound_like(original, steps.around(original, reads, is_async=is_async), is_async=is_async)
    setattr(connection, name, MethodType(replacement, connection) if is_method else replacement)


class _Closing(NamedTuple):
    """A connection while the application closes it."""

    calls: SocketCalls
    connection: Any

    def begin(self) -> None:
        self.calls.is_closing = True

    def ended(self, _: object) -> None:
        self.calls.ended()

    def failed(self, _: BaseException) -> None:
        """End the calls, unless the connection stays open, as after an invalid code."""
        if self.connection.protocol.state.name == _IS_OPEN:
            self.calls.is_closing = False
        else:
            self.calls.ended()


def _where_opened() -> Callable[[Callable[[], None]], None]:
    """Return a function that runs another one in the present context, for calls that the provider starts.

    The content level there is the stricter one of this context and its caller's.
    """
    opened = copy_context()

    def run(function: Callable[[], None]) -> None:
        receiving = content_of(otel_context.get_current())

        def within() -> None:
            context = otel_context.get_current()
            otel_context.attach(with_block(context, strictest(block_of(context), receiving)))
            function()

        opened.copy().run(within)

    return run


def _start_call(info: CallInfo, request: object, turn: Turn, call_id: str | None) -> Call | None:
    """Start a call in the current context; None if it must not be observed."""
    factory = HOOK_CONTEXT.factory()
    if factory is None:
        return None
    if not HOOK_CONTEXT.warned_about_other_tracers:
        HOOK_CONTEXT.warn_about_other_tracers()
    call = start(factory, info, turn, call_id)
    if call is not None:
        call.attempts.request = request
        remember_call(otel_context.get_current(), call.id_cell)
    return call


def _not_sent(calls: SocketCalls, turn: Turn, error: BaseException) -> None:
    # A cancelled message may have been sent; a failed one was not.
    if isinstance(error, Exception):
        calls.not_sent(turn, error)
        if isinstance(error, sys.modules["websockets.exceptions"].ConnectionClosed):
            calls.send_error = error
    else:
        calls.sent(turn)


def _not_received(calls: SocketCalls, error: BaseException) -> None:
    """Handle an exception of `recv`: the end of the connection, or only of the wait."""
    exceptions = sys.modules["websockets.exceptions"]
    if isinstance(error, exceptions.ConnectionClosed):
        calls.ended(error, is_proper=isinstance(error, exceptions.ConnectionClosedOK))


HOOKS: Final[tuple[Hook, ...]] = tuple(
    both(
        "handshake", ("websockets.{io}.client:ClientConnection",), observe_handshake, "{sync} calls over websockets",
        awaits=True, keep_while_streaming=False, late=True,
    )
)  # fmt: skip
