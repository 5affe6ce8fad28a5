"""Attempts: observes each HTTP request of a call at the HTTP client's `send`.

All users of the HTTP library call `send`: anything but the SDK's request for the current call passes straight through.
Requests that are not attempts (token exchange, middleware) lack the SDKs' `x-stainless-lang` header.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import propagate

from callspan.fail_open import fail_open, reported
from callspan.intercept.hooks import Function, HookContext, HookSteps, guarded, reader
from callspan.intercept.request import CURRENT_CALL, OpenCall
from callspan.providers import registry
from callspan.providers.rate_limits import relevant_headers

_ATTEMPT: Final = fail_open("observe an attempt")
_MARK: Final = b"x-stainless-lang"
_COUNT: Final = b"x-stainless-retry-count"


def observe_send(hook_context: HookContext, original: Function, *, is_async: bool = False) -> Function:
    """Return a replacement of `Client.send` or `AsyncClient.send` that observes the attempts of calls."""
    del hook_context
    request_of = reader(original, "request", 1)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        opened = CURRENT_CALL.get()
        return None if opened is None else _begun(opened, request_of(args, kwargs))

    return guarded(
        original, HookSteps(step=_ATTEMPT, begin=begin, returned=_response_received, raised=_failed), is_async=is_async
    )


def _begun(opened: OpenCall, request: Any) -> OpenCall | None:  # noqa: ANN401 - httpx or httpx2
    """Record the start of an attempt; return None for a request that does not belong to the call."""
    attempts = opened.call.attempts
    if request is opened.built and opened.built_retries is not None:
        attempts.started(opened.call.offset_ns())
        attempts.sdk_retries = opened.built_retries
    else:
        # Raw headers are read once, because httpx decodes all of them for each lookup by name.
        sent = {name.lower(): value for name, value in request.headers.raw}
        if _MARK not in sent:
            return None
        attempts.started(opened.call.offset_ns())
        count = sent.get(_COUNT)
        attempts.sent_retries(None if count is None else count.decode("latin-1"))
    # The attempt has started even if the following code fails.
    try:
        if opened.inject:
            propagate.inject(request.headers, context=opened.context)
        if not opened.body_seen:
            opened.body_seen = True
            opened.call.sent(request.content, registry.decoded(request.content))
        if opened.replaced is not None:
            opened.replaced.sending(request)
    except reported(_ATTEMPT):
        return opened
    return opened


def _failed(opened: OpenCall, error: BaseException) -> None:
    opened.call.attempts.failed(opened.call.offset_ns(), type(error).__name__)


def _response_received(opened: OpenCall, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
    call = opened.call
    offset_ns = call.offset_ns()
    headers = relevant_headers(response.headers.raw)
    call.attempts.headers_received(offset_ns, response.status_code, headers, lambda: response.content)
    if opened.replaced is not None:
        opened.replaced.response_received(response)
