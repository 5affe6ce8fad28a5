"""Hooks: the table of every name of the SDKs that callspan wraps, and what is lost without it.

Private names of the SDKs appear here and nowhere else. They exist in openai 1.40 to 3.x and anthropic
0.34 to 2.x; one that is missing costs what its row says, never a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.intercept import attempts, raw_responses, request, streams
from callspan.intercept.engine import Engine
from callspan.intercept.guarded import Function

Module: TypeAlias = Literal["_base_client", "_streaming", "http"]


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One name and its replacement."""

    module: Module
    """A module of the SDK, or the HTTP library the SDK uses."""
    owner: str
    attribute: str
    make: Callable[[Engine, Function], Function]
    """Makes the replacement of the original; see `guarded`."""
    outlasts: bool = False
    """Left in place, where callspan is switched off, for the streams that are being read then."""
    reads: tuple[str, ...] = ()
    """Parameters the hook reads."""
    ignores: tuple[str, ...] = ()
    """Parameters that versions of the original have besides; any other is new to this table."""
    without: str
    """What is lost where the name is missing."""


_CAST: Final = ("cast_to", "stream_cls")
_RETRIES: Final = "remaining_retries"
_SENDING: Final = ("stream", "auth", "follow_redirects")

HOOKS: Final[tuple[Hook, ...]] = (
    Hook(
        module="_base_client", owner="SyncAPIClient", attribute="request", make=request.observe_request,
        reads=("options", "stream"), ignores=(*_CAST, _RETRIES), without="all sync calls",
    ),
    Hook(
        module="_base_client", owner="AsyncAPIClient", attribute="request",
        make=partial(request.observe_request, is_async=True),
        reads=("options", "stream"), ignores=(*_CAST, _RETRIES), without="all async calls",
    ),
    Hook(
        module="_base_client", owner="SyncAPIClient", attribute="_process_response", make=request.observe_response,
        reads=("response",), ignores=(*_CAST, "options", "stream", "retries_taken"), without="content of sync calls",
    ),
    Hook(
        module="_base_client", owner="AsyncAPIClient", attribute="_process_response", make=request.observe_response,
        reads=("response",), ignores=(*_CAST, "options", "stream", "retries_taken"), without="content of async calls",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_process_response_data", make=request.observe_data,
        reads=("data", "response"), ignores=("cast_to",),
        without="content of streams; plain calls are read from their result",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_build_request", make=request.observe_build,
        reads=("options",), ignores=("retries_taken",), without="request bodies",
    ),
    Hook(
        module="_base_client", owner="BaseClient", attribute="_calculate_retry_timeout", make=request.observe_wait,
        ignores=(_RETRIES, "options", "response_headers"), without="planned waits between attempts",
    ),
    Hook(
        module="_streaming", owner="Stream", attribute="__stream__", make=streams.observe_reader,
        without="normal ends and errors of sync streams; they end when closed or dropped",
    ),
    Hook(
        module="_streaming", owner="AsyncStream", attribute="__stream__", make=streams.observe_reader,
        without="normal ends and errors of async streams; they end when closed or dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="close", make=streams.observe_close, outlasts=True,
        without="early closes of sync streams; they end when dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="aclose", make=partial(streams.observe_close, is_async=True),
        outlasts=True, without="early closes of async streams; they end when dropped",
    ),
    Hook(
        module="http", owner="Response", attribute="iter_bytes", make=raw_responses.observe_bytes,
        ignores=("chunk_size",), without="content of sync streaming raw responses",
    ),
    Hook(
        module="http", owner="Response", attribute="aiter_bytes", make=raw_responses.observe_bytes,
        ignores=("chunk_size",), without="content of async streaming raw responses",
    ),
    Hook(
        module="http", owner="Client", attribute="send", make=attempts.observe_send,
        reads=("request",), ignores=_SENDING, without="attempts of sync calls",
    ),
    Hook(
        module="http", owner="AsyncClient", attribute="send", make=partial(attempts.observe_send, is_async=True),
        reads=("request",), ignores=_SENDING, without="attempts of async calls",
    ),
)  # fmt: skip
