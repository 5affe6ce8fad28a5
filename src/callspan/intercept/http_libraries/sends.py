"""HTTP hooks: observe the attempts of a call and the closing of its responses.

All users of the HTTP library call `send`. Within a call, anything but the SDK's request for it passes straight through;
outside of one, a request to a model is a call itself (`wire_calls`).
Requests that are no attempts (token exchange, middleware) lack the SDKs' `x-stainless-lang` header.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import propagate

from callspan.errors import error_status
from callspan.fail_open import fail_open
from callspan.intercept.hooks import HOOK_CONTEXT, HookSteps
from callspan.intercept.http_libraries import wire_calls
from callspan.intercept.http_libraries.wire_calls import WireCall
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL, OBSERVERS, READING, Reading, ResponseObserver
from callspan.providers import registry
from callspan.providers.rate_limits import relevant_headers

_ATTEMPT: Final = fail_open("observe an attempt")
_MARK: Final = b"x-stainless-lang"
_CLOSED: Final = fail_open("detect the close of a response")


def _sending(_args: object, request: Any, _kwargs: object) -> OpenCall | Reading | WireCall | None:
    """Record the start of an attempt, or of a call; return None for requests that are neither."""
    open_call = CURRENT_CALL.get() or READING.get()
    if open_call is None:
        return wire_calls.opened(request) if HOOK_CONTEXT.http_calls else None
    if not open_call.is_sent_by_http_library:
        return None
    # Raw headers, because httpx decodes all of them for a lookup by name.
    if request is not open_call.built and _MARK not in {name.lower() for name, _ in request.headers.raw}:
        return None
    open_call.call.attempts.started(open_call.built_retries, request)
    # The attempt has started even if the following code fails.
    try:
        if open_call.inject:
            propagate.inject(request.headers, context=open_call.context)
        if isinstance(open_call, OpenCall) and not open_call.body_seen:
            open_call.body_seen = True
            open_call.call.sent(request.content, registry.decoded(request.content))
    except Exception as error:
        _ATTEMPT.report(error)
    return open_call


def _enter(open_call: OpenCall | Reading | WireCall) -> None:
    if type(open_call) is WireCall:
        open_call.enter()


def _abandon(open_call: OpenCall | Reading | WireCall, error: BaseException | None) -> None:
    if isinstance(open_call, WireCall):
        open_call.abandon(error)


def _record_failure(open_call: OpenCall | Reading | WireCall, error: BaseException) -> None:
    open_call.call.attempts.failed(type(error), error_status(error))
    if isinstance(open_call, WireCall):
        open_call.fail(error)


def _received(open_call: OpenCall | Reading | WireCall, response: Any) -> None:
    if isinstance(open_call, WireCall):
        open_call.answered(response)
        return
    open_call.received = id(response)
    headers = relevant_headers(response.headers.raw)
    open_call.call.attempts.headers_received(
        response.status_code, headers, lambda: response.content, response.extensions
    )  # fmt: skip


def _observer(_args: object, response: object, _kwargs: object) -> ResponseObserver | None:
    return OBSERVERS.get(id(response))


def _report_close(observer: ResponseObserver, outcome: object) -> None:
    del outcome
    observer.closed()


SEND: Final = HookSteps(
    step=_ATTEMPT, before=_sending, enter=_enter, on_return=_received, on_error=_record_failure, on_failure=_abandon,
)  # fmt: skip
"""Observes the attempts of calls, and requests that are calls, around `Client.send`."""
CLOSE: Final = HookSteps(step=_CLOSED, before=_observer, on_return=_report_close, on_error=_report_close)
"""Reports the end of an observed call around `Response.close`."""
