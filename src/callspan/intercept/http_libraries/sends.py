"""HTTP hooks: observe the attempts of a call and the closing of its responses.

All users of the HTTP library call `send`. Within a call, anything but the SDK's request for it passes straight through;
outside of one, a request to a model is a call itself (`wire_calls`), which the outer of two hooks begins and ends.
A request that the SDK has not built, such as a middleware's, is an attempt if it asks a model or has the same address;
an exchange of tokens is none.
"""

from __future__ import annotations

from typing import Any, Final

from callspan.errors import error_status
from callspan.intercept.hooks import Function, HookSteps, Reads
from callspan.intercept.http_libraries import wire_calls
from callspan.intercept.open_call import OpenCall
from callspan.intercept.responses import CURRENT_CALL, OBSERVERS, READING, Reading, ResponseObserver, send_trace
from callspan.observe.attempts import AttemptLog
from callspan.providers import registry
from callspan.providers.error_kinds import FIRST_ERROR
from callspan.providers.rate_limits import relevant_headers
from callspan.runtime.fail_open import fail_open

_ATTEMPT: Final = fail_open("observe an attempt")
_FIRST_REDIRECT: Final = 300
_CLOSED: Final = fail_open("detect the close of a response")


def _sending(_args: object, request: Any, _kwargs: object) -> OpenCall | Reading | None:
    """Record the start of an attempt; return None for requests that are none."""
    open_call = CURRENT_CALL.get() or READING.get()
    if open_call is None or not open_call.is_sent_by_http_library:
        return None
    if request is not open_call.built and not _is_attempt(open_call, request):
        return None
    open_call.call.attempts.started(open_call.built_retries, request)
    # The attempt has started even if the following code fails.
    try:
        if open_call.inject:
            send_trace(open_call, request.headers)
        if not open_call.body_seen:
            open_call.body_seen = True
            open_call.call.sent(request.content, registry.decoded(request.content))
    except Exception as error:
        _ATTEMPT.report(error)
    return open_call


def _is_attempt(open_call: OpenCall | Reading, request: Any) -> bool:
    built: Any = open_call.built
    return wire_calls.may_be_call(request) or (built is not None and request.url == built.url)


def _received(open_call: OpenCall | Reading, response: Any) -> None:
    open_call.received = id(response)
    headers = relevant_headers(response.headers.raw)
    open_call.call.attempts.headers_received(
        response.status_code, headers, lambda: response.content, response.extensions
    )  # fmt: skip


def _failed(open_call: OpenCall | Reading, error: BaseException) -> None:
    open_call.call.attempts.failed(error, error_status(error))


def _repeating(_args: object, request: Any, _kwargs: object) -> AttemptLog | None:
    """Record the last answer if it is followed by another request of its call; return None for requests of others."""
    opened = CURRENT_CALL.get()
    if opened is None or not opened.is_sending or not (opened.is_sent_by_http_library or opened.is_whole):
        return None
    attempts = opened.call.attempts
    if request is not attempts.request and not wire_calls.may_be_call(request):
        return None
    if (answer := attempts.answer) is not None:
        attempts.answer = None
        if not _FIRST_REDIRECT <= answer.status_code < FIRST_ERROR:
            attempts.headers_received(answer.status_code, relevant_headers(answer.headers.raw))
    if attempts.is_over:
        attempts.started(request=request)
    return attempts


def _note_answer(attempts: AttemptLog, answer: Any) -> None:
    if attempts.is_over:  # a transport answers after it has failed to send
        attempts.started(request=attempts.request)
    attempts.answer = answer


def _note_failure(attempts: AttemptLog, error: BaseException) -> None:
    attempts.failed(error)


def _observer(_args: object, response: object, _kwargs: object) -> ResponseObserver | None:
    return OBSERVERS.get(id(response))


def _report_close(observer: ResponseObserver, outcome: object) -> None:
    del outcome
    observer.closed()


_ATTEMPTS: Final = HookSteps(step=_ATTEMPT, before=_sending, on_return=_received, on_error=_failed)


def calls_and_attempts(original: Function, reads: Reads, *, is_async: bool = False) -> Function:
    """Return a function that does the same as `Client.send`, and observes the attempts of calls, and other calls."""
    attempts = _ATTEMPTS.around(original, reads, is_async=is_async)
    return wire_calls.CALL.around(attempts, reads, is_async=is_async)


SENT_AGAIN: Final = wire_calls.within_call(
    HookSteps(step=_ATTEMPT, before=_repeating, on_return=_note_answer, on_error=_note_failure)
)
"""Observes what authentication and transports send again, around `handle_request` of the library's own transports."""
CLOSE: Final = HookSteps(step=_CLOSED, before=_observer, on_return=_report_close, on_error=_report_close)
"""Reports the end of an observed call around `Response.close`."""
