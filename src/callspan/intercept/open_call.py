"""Open call: a call while its request is sent, with its retries, and the observer of its response."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from callspan.agent.call_ids import remember_call, remember_result
from callspan.intercept import raw_streams
from callspan.intercept.body_parsers import file_body_of, read_file
from callspan.intercept.responses import (
    CURRENT_CALL,
    OBSERVERS,
    Reading,
    ResponseObserver,
    body_error,
    body_of,
)
from callspan.observe.call import Call
from callspan.record.call import ErrorInfo
from callspan.runtime.fail_open import fail_open

_ATTACH: Final = fail_open("make a call's span the current one")
_CLOSE: Final = fail_open("finish observing a call")
ATTACH_RESPONSE: Final = fail_open("observe a response")


class OpenCall:
    """A call while the SDK's `request` runs: attaches its context and reports its failure."""

    is_sent_by_http_library: ClassVar[bool] = True
    """Whether the hooks of the HTTP library see its attempts, instead of one of the SDK."""
    is_whole: ClassVar[bool] = False
    """Whether nothing below it is a call: what its transport sends is how it is sent."""
    shared_path: str = ""
    """Its path, if its answer must show that it is a call. Until then a request below it is one too, unless it is the
    same as another HTTP library sends it."""
    __slots__ = (
        "_outer", "_outer_call", "body_seen", "built", "built_retries", "call", "context", "inject", "is_sending",
        "observer", "on_data", "received", "response",
    )  # fmt: skip

    def __init__(self, call: Call, outer: Context, *, inject: bool) -> None:
        self.built: object = None
        """The last request built by the SDK."""
        self.built_retries: int | None = None
        """The SDK's retry count it was built for; None if this version does not provide it."""
        self.body_seen = False
        """Whether `_build_request` has provided the body; else the HTTP request does."""
        self.call = call
        self.on_data = call.take_body
        """Takes the parsed body of `response`."""
        self.inject = inject
        """Whether to send `traceparent` with each attempt."""
        self._outer = outer
        self.context = call.span.within(outer)
        self.is_sending = False
        """False once its request has returned, which a task sees that it has started."""
        self.observer: ResponseObserver | None = None
        self._outer_call: OpenCall | None = None
        self.received = 0
        """`id()` of the last response of an attempt; a middleware may return another one."""
        self.response: object = None
        """The last response, if already read when attached; a middleware may replace it."""

    def enter(self) -> None:
        """Make the call current. Raises only interrupts."""
        try:
            self.is_sending = True
            self._outer_call = CURRENT_CALL.get()
            CURRENT_CALL.set(self)
            if self.call.has_span_from_start:
                remember_call(self._outer, self.call.id_cell)
            otel_context.attach(self.context)
        except Exception as error:
            _ATTACH.report(error)

    def leave(self) -> None:
        """Undo `enter`, even an interrupted one. May be repeated."""
        self.is_sending = False
        # Attaches instead of detaching, which swallows and logs exceptions that a signal handler raises in it.
        if CURRENT_CALL.get() is self:
            try:
                otel_context.attach(self._outer)
                CURRENT_CALL.set(self._outer_call)
            except Exception as error:
                _CLOSE.report(error)
                CURRENT_CALL.set(self._outer_call)

    def fail(self, error: BaseException) -> None:
        """End the call with the exception raised by `request`, or with an interrupt. May be repeated."""
        self.leave()
        with _CLOSE:
            if self.response is not None and not (self.call.has_body or self.call.streaming):
                self._take(body_of(None, self.response))  # parsed in a context without this call
            self.call.fail(error, in_stream=False)

    def abandon(self, error: BaseException | None) -> None:
        """End the call without what callspan has failed to observe of its answer or exception. May be repeated."""
        self.leave()
        self.call.abandon(error)

    def attach_response(self, response: Any) -> None:
        """Attach an observer to a response, so that its readers find the call; the last attached response counts.

        A middleware may send twice or return another response than the received one.
        """
        observer = OBSERVERS.get(id(response))
        if (observer is not None and observer is self.observer) or response is self.response:
            return
        if self.observer is not None or self.response is not None:
            self._forget_response()
        # Mocks may lack `is_closed`.
        is_open = getattr(response, "is_closed", False) is not True
        self.response = None if is_open else response
        if (
            observer is not None
            or is_open
            or self.call.is_raw
            or not self.call.has_span_from_start
            or self.call.streaming
        ):
            self.observer = ResponseObserver(self.call, response, is_open=is_open)
            if is_open:
                raw_streams.observe(response, self.observer)
            if is_open and id(response) != self.received:
                self.observer.reading = Reading(self)
        # Otherwise it has no later events, and its JSON reaches `on_data` while this is the current call.

    def _forget_response(self) -> None:
        if self.observer is not None:
            self.observer.detach()
            self.observer = None
        self.call.forget_response()

    def finish(self, result: object) -> None:
        """Process the result of `request`: a plain call has ended, a stream or unread response has not."""
        self.leave()
        if is_call := self.call.has_span_from_start:
            remember_result(result, self.call.id_cell)
        error: ErrorInfo | None = None
        # If the body was received, the response is not needed: looking up a missing field of a pydantic model raises
        # an exception that is as expensive as a span.
        if not self.call.has_body:
            with ATTACH_RESPONSE:
                response = _response_of(result)
                if is_call:
                    remember_result(response, self.call.id_cell)
                if self._is_unfinished(result, response):
                    return
                is_file = file_body_of(self.call.endpoint, self.response if response is None else response) is not None
                error = None if is_file else body_error(result, response)
        try:
            self.call.end(how=None, error=error)
        except Exception as error:
            _CLOSE.report(error)

    def _take(self, body: object) -> None:
        if body is None:  # no JSON, or the caller has yet to parse it
            self.call.mark_partly_unobserved()
        self.call.take_body(body)

    def _is_unfinished(self, result: object, response: Any) -> bool:
        call = self.call
        if hasattr(response, "headers") and (call.streaming or not getattr(response, "is_closed", True)):
            self.attach_response(response)
        received: Any = response if response is not None else self.response
        response = response if response is not None else result
        if call.byte_reader is not None and getattr(received, "is_closed", False):
            call.byte_reader.take_body(received.content)
            return False
        awaited = not call.streaming and not call.has_body
        if awaited and (self.observer is None or getattr(response, "is_closed", True)):
            answer = response if received is None else received
            file = read_file(self.call.endpoint, result, answer)
            self._take(body_of(result, answer) if file is None else file)
        if call.has_body or self.observer is None:
            return False
        self.observer.release()
        return True


def _response_of(result: object) -> Any:
    return getattr(result, "response", None) or getattr(result, "http_response", None)
