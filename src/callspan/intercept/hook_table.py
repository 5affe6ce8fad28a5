"""Hook table: each function of the SDKs and the HTTP library that is wrapped, and what makes its wrapper.

The names, and what is lost without them, stand in `private_names`. They exist in openai 1.40 to 3.x and anthropic
0.34 to 2.x; one that is missing costs what its row says, never a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from callspan import private_names as names
from callspan.intercept import attempts, raw_responses, request, streams
from callspan.intercept.guarded import Function
from callspan.intercept.hook_context import HookContext
from callspan.private_names import PrivateName

Module: TypeAlias = Literal["_base_client", "_streaming", "http"]


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One name and its replacement."""

    module: Module
    """A module of the SDK, or the HTTP library the SDK uses."""
    owner: str
    attribute: str
    make: Callable[[HookContext, Function], Function]
    """Makes the replacement of the original; see `guarded`."""
    outlasts: bool = True
    """Left in place, where callspan is switched off, for the calls that are under way then."""
    reads: tuple[str, ...] = ()
    """Parameters the hook reads."""
    ignores: tuple[str, ...] = ()
    """Parameters that versions of the original have besides; any other is new to this table."""
    without: str
    """What is lost where the name is missing."""


_CAST: Final = ("cast_to", "stream_cls")
_PROCESSING: Final = (*_CAST, "options", "stream", "retries_taken")
_RETRIES: Final = "remaining_retries"
_SENDING: Final = ("stream", "auth", "follow_redirects")


def _hook(
    name: PrivateName, make: Callable[[HookContext, Function], Function], *, reads: tuple[str, ...] = (),
    ignores: tuple[str, ...] = (), outlasts: bool = True,
) -> Hook:  # fmt: skip
    module, _, owner = name.where[0].partition(":")
    part = module.partition(".")[2]
    return Hook(
        module="_base_client" if part == "_base_client" else "_streaming" if part == "_streaming" else "http",
        owner=owner, attribute=name.name, make=make, reads=reads, ignores=ignores, outlasts=outlasts,
        without=name.lost,
    )  # fmt: skip


HOOKS: Final[tuple[Hook, ...]] = (
    _hook(
        names.REQUEST, request.observe_request, reads=("options", "stream"), ignores=(*_CAST, _RETRIES),
        outlasts=False,
    ),
    _hook(
        names.ASYNC_REQUEST, partial(request.observe_request, is_async=True), reads=("options", "stream"),
        ignores=(*_CAST, _RETRIES), outlasts=False,
    ),
    _hook(names.PROCESS_RESPONSE, request.observe_response, reads=("response",), ignores=_PROCESSING),
    _hook(names.ASYNC_PROCESS_RESPONSE, request.observe_response, reads=("response",), ignores=_PROCESSING),
    _hook(names.PROCESS_RESPONSE_DATA, request.observe_data, reads=("data", "response"), ignores=("cast_to",)),
    _hook(names.BUILD_REQUEST, request.observe_build, reads=("options",), ignores=("retries_taken",)),
    _hook(names.RETRY_TIMEOUT, request.observe_wait, ignores=(_RETRIES, "options", "response_headers")),
    _hook(names.STREAM, streams.observe_reader),
    _hook(names.ASYNC_STREAM, streams.observe_reader),
    _hook(names.CLOSE, streams.observe_close),
    _hook(names.ACLOSE, partial(streams.observe_close, is_async=True)),
    _hook(names.ITER_BYTES, raw_responses.observe_bytes, ignores=("chunk_size",)),
    _hook(names.AITER_BYTES, raw_responses.observe_bytes, ignores=("chunk_size",)),
    _hook(names.SEND, attempts.observe_send, reads=("request",), ignores=_SENDING),
    _hook(names.ASYNC_SEND, partial(attempts.observe_send, is_async=True), reads=("request",), ignores=_SENDING),
)  # fmt: skip
