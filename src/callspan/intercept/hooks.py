"""Hooks: the table of every name of the SDKs that callspan wraps, and what is lost without it.

Private names of the SDKs appear here and nowhere else. They exist in openai 1.40 to 3.x and anthropic
0.34 to 2.x; one that is missing costs what its row says, never a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from callspan.intercept import attempts, raw_responses, request, streams
from callspan.intercept.engine import Engine

Module: TypeAlias = Literal["_base_client", "_streaming", "http"]


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One name and its replacement."""

    module: Module
    """A module of the SDK, or the HTTP library the SDK uses."""
    owner: str
    attribute: str
    wrapper: Callable[[Engine], Callable[..., Any]] | None = None
    """Gives a wrapt wrapper (wrapped, instance, args, kwargs); what it wraps stays introspectable."""
    plain: Callable[[Engine], Callable[[Callable[..., Any]], Callable[..., Any]]] | None = None
    """Gives what makes a plain function of the original, where wrapt's cost would show: that is, nearly everywhere."""
    outlasts: bool = False
    """Left in place, where callspan is switched off, for the streams that are being read then."""
    expects: tuple[str, ...] = ()
    """Parameters the original must have."""
    without: str
    """What is lost where the name is missing."""


def _just(hook: Callable[..., Any]) -> Callable[[Engine], Callable[..., Any]]:
    return lambda _engine: hook


HOOKS: Final[tuple[Hook, ...]] = (
    Hook(
        module="_base_client", owner="SyncAPIClient", attribute="request", plain=request.request,
        expects=("options",), without="all sync calls",
    ),
    Hook(
        module="_base_client", owner="AsyncAPIClient", attribute="request", plain=request.async_request,
        expects=("options",), without="all async calls",
    ),
    Hook(
        module="_base_client", owner="SyncAPIClient", attribute="_process_response",
        plain=_just(request.process_response), expects=("response", "stream"), without="content of sync calls",
    ),
    Hook(
        module="_base_client", owner="AsyncAPIClient", attribute="_process_response",
        plain=_just(request.process_response), expects=("response", "stream"), without="content of async calls",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_process_response_data",
        plain=_just(request.process_response_data), expects=("data", "cast_to", "response"),
        without="content of streams; plain calls are read from their result",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_build_request", plain=_just(request.build_request),
        expects=("options",), without="request bodies",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_calculate_retry_timeout",
        plain=_just(request.calculate_retry_timeout), without="planned waits between attempts",
    ),
    Hook(
        module="_streaming", owner="Stream", attribute="__stream__", wrapper=_just(streams.observe_reader),
        without="normal ends and errors of sync streams; they end when closed or dropped",
    ),
    Hook(
        module="_streaming", owner="AsyncStream", attribute="__stream__", wrapper=_just(streams.observe_reader),
        without="normal ends and errors of async streams; they end when closed or dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="close", plain=_just(streams.observe_close), outlasts=True,
        without="early closes of sync streams; they end when dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="aclose", plain=_just(streams.observe_aclose), outlasts=True,
        without="early closes of async streams; they end when dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="iter_bytes", plain=_just(raw_responses.observe_iter_bytes),
        without="content of sync streaming raw responses",
    ),
    Hook(
        module="http", owner="Response", attribute="aiter_bytes", plain=_just(raw_responses.observe_aiter_bytes),
        without="content of async streaming raw responses",
    ),
    Hook(
        module="http", owner="Client", attribute="send", plain=_just(attempts.observe_send),
        expects=("request",), without="attempts of sync calls",
    ),
    Hook(
        module="http", owner="AsyncClient", attribute="send", plain=_just(attempts.observe_async_send),
        expects=("request",), without="attempts of async calls",
    ),
)  # fmt: skip
