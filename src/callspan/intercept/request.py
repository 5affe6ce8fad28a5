"""Requests: where a call begins and where a plain one ends, in the SDKs' engine.

`APIClient.request` is the one door every method, helper and raw call of both SDKs goes through; inside it
the body is built, the response processed, retries planned. Two thin drivers, one logic.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from functools import wraps
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace

from callspan.fail_open import fail_open
from callspan.intercept import native_tracing, stream_usage, streams
from callspan.intercept.client_facts import facts_of
from callspan.intercept.engine import CURRENT_CALL, Engine
from callspan.intercept.failures import error_of, outcome_of
from callspan.intercept.raw_responses import body_of, flaw_of, wants_raw
from callspan.intercept.streams import watch_for_loss
from callspan.intercept.watch import KEY, Watch, watch_of
from callspan.observe.live_call import LiveCall
from callspan.providers import registry
from callspan.record.call import ErrorInfo

_OPEN: Final = fail_open("start observing a call")
_CLOSE: Final = fail_open("finish observing a call")
_BIND: Final = fail_open("follow a response")
_BODY: Final = fail_open("read a request body")
_WAIT: Final = fail_open("note a planned wait")


class OpenCall:
    """A call while the SDK's `request` runs: its context is attached, its failure is reported."""

    __slots__ = (
        "_asked_usage",
        "_context_token",
        "_current_token",
        "body_seen",
        "built",
        "built_retries",
        "call",
        "context",
        "engine",
        "inject",
        "raw",
        "replaced",
        "watch",
    )

    def __init__(self, engine: Engine, call: LiveCall, *, raw: bool, inject: bool, asked_usage: bool) -> None:
        self._asked_usage = asked_usage
        self.built: object = None
        """The request the SDK built last."""
        self.built_retries: int | None = None
        """Which retry of its own the SDK built it for."""
        self.body_seen = False
        """Whether `_build_request` has shown the body; else the HTTP request does."""
        self.engine = engine
        self.call = call
        self.raw = raw
        self.inject = inject
        """Whether `traceparent` goes out with each attempt."""
        self.replaced: native_tracing.Replaced | None = None
        """The SDK's own span that this call's stands in for, where there would be one."""
        self.context = engine.context_of(call)
        self.watch: Watch | None = None
        self._context_token: object = None
        self._current_token: Token[OpenCall | None] | None = None

    def __enter__(self) -> None:
        self._context_token = otel_context.attach(self.context)
        self._current_token = CURRENT_CALL.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _CLOSE:
            if self._current_token is not None:
                CURRENT_CALL.reset(self._current_token)
            otel_context.detach(self._context_token)  # type: ignore[arg-type] # a token of attach above
            if error is not None:
                info = error_of(error)
                self.call.end(how=None, outcome=outcome_of(error, info), error=info)

    def follow(self, response: Any) -> None:  # noqa: ANN401 - httpx or httpx2
        """Put the watch on a response, so that its reading finds the call; the last one followed counts.

        A middleware may ask twice, or return another response than the one that came.
        """
        watch = watch_of(response)
        if watch is not None and watch is self.watch:
            return
        if self.watch is not None:
            self.watch.retire()
            self.call.forget_answer()
        if watch is not None and watch.call is self.call:
            watch.data = self.call.data
        else:
            watch = response.extensions[KEY] = Watch(self.call, self.engine.late_ends, self.raw)
            watch.hides_usage = self._asked_usage
            watch.reads_items = self._lacks("_process_response_data")
            # Tests hand over mocks, which may know nothing of being closed.
            if getattr(response, "is_closed", False) is not True:
                self.engine.late_ends.follow(self.call)
                watch_for_loss(response, watch)
        self.watch = watch

    def returned(self, result: object) -> None:
        """Take what `request` returned: a plain call has ended, a stream or an unread response has not."""
        flaw: ErrorInfo | None = None
        with _BIND:
            # Where the body has come, nobody needs the response: a pydantic model that is asked for fields it lacks
            # raises, with messages that cost as much as a span.
            if not self.call.has_body:
                response = _response_of(result)
                if self._goes_on(result, response):
                    return
                flaw = flaw_of(result if response is None else response)
        with _CLOSE:
            self.call.end(how=None, error=flaw)

    def _lacks(self, name: str) -> bool:
        missing = self.engine.missing
        return bool(missing) and ((self.call.record.sdk or "").partition("/")[0], name) in missing

    def _goes_on(self, result: object, response: Any) -> bool:  # noqa: ANN401 - httpx, httpx2 or anything else
        call = self.call
        if hasattr(response, "extensions") and (call.streaming or not getattr(response, "is_closed", True)):
            self.follow(response)
            if self._lacks("__stream__"):
                streams.observe_iterator(result)
        if not call.streaming and not call.has_body:
            response = response if response is not None else result
            if self.watch is None or getattr(response, "is_closed", True):
                call.data(body_of(result, response))
        if call.has_body or self.watch is None:
            return False
        self.watch.begin()
        return True


def _response_of(result: object) -> Any:  # noqa: ANN401 - httpx, httpx2 or None
    return getattr(result, "response", None) or getattr(result, "http_response", None)


def request(engine: Engine) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes `SyncAPIClient.request` one that is observed."""

    def observed(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own
            opened = _open(engine, self, args, kwargs)
            if opened is None:
                return original(self, *args, **kwargs)
            with opened:
                result = original(self, *args, **kwargs)
            opened.returned(result)
            return result

        return request

    return observed


def async_request(engine: Engine) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes `AsyncAPIClient.request` one that is observed."""

    def observed(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def request(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own
            opened = _open(engine, self, args, kwargs)
            if opened is None:
                return await original(self, *args, **kwargs)
            with opened:
                result = await original(self, *args, **kwargs)
            opened.returned(result)
            return result

        return request

    return observed


def process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `_process_response`, sync and async alike, that is seen: it gets the final HTTP response."""

    @wraps(original)
    def _process_response(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own
        opened = CURRENT_CALL.get()
        if opened is not None:
            with _BIND:
                retries = kwargs.get("retries_taken")
                if isinstance(retries, int):
                    opened.call.attempts.told_retries(retries)
                opened.follow(kwargs["response"])
        return original(self, *args, **kwargs)

    return _process_response


def process_response_data(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `_process_response_data` that shows each parsed body or chunk to its call first."""

    def _process_response_data(self: Any, *, data: Any, cast_to: Any, response: Any) -> Any:  # noqa: ANN401
        watch = response.extensions.get(KEY)
        if watch is not None:
            # Taken out first: what is kept in a slot and called there is looked up like a method, by CPython 3.11.
            show = watch.data
            show(data)
        return original(self, data=data, cast_to=cast_to, response=response)

    return _process_response_data


def build_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `_build_request` that shows the body, exactly as it is sent."""

    @wraps(original)
    def _build_request(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own
        built = original(self, *args, **kwargs)
        opened = CURRENT_CALL.get()
        if opened is not None:
            with _BODY:
                opened.built, opened.built_retries = built, kwargs.get("retries_taken")
                options = args[0] if args else kwargs["options"]
                extra = getattr(options, "extra_json", None)
                body = options.json_data
                if extra and isinstance(body, dict | None):
                    body = {**(body or {}), **extra}
                opened.call.sent(built.content, body)
                opened.body_seen = True
        return built

    return _build_request


def calculate_retry_timeout(original: Callable[..., float]) -> Callable[..., float]:
    """Return `_calculate_retry_timeout` that notes the wait the SDK decided on, in seconds."""

    @wraps(original)
    def _calculate_retry_timeout(self: Any, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - the SDK's own
        seconds = original(self, *args, **kwargs)
        opened = CURRENT_CALL.get()
        if opened is not None:
            with _WAIT:
                opened.call.attempts.will_wait(float(seconds))
        return seconds

    return _calculate_retry_timeout


def _open(engine: Engine, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:  # noqa: ANN401
    """Start observing, or return None where there is nothing to observe."""
    with _OPEN:
        line = engine.line()
        if line is None:
            return None
        options = args[1] if len(args) > 1 else kwargs["options"]
        endpoint = registry.endpoint_for(options.method, options.url)
        if endpoint is None:
            return None
        stream = bool(kwargs.get("stream", False))
        arrangement = native_tracing.arrange(
            line.factory, client, options, native=engine.native, propagate=engine.propagate, start_with=line.start_with
        )
        if not engine.looked_around:
            engine.look_around()
        raw = wants_raw(options)
        asked = engine.stream_usage and stream and not raw and stream_usage.ask(endpoint, options)
        call = arrangement.factory.start(endpoint, facts_of(client, options, stream))
        opened = OpenCall(engine, call, raw=raw, inject=arrangement.inject, asked_usage=asked)
        if arrangement.replaced is not None:
            opened.replaced = native_tracing.replaced_by(
                trace.get_current_span(opened.context), arrangement, in_session=call.record.place.session_id is not None
            )
        return opened
    return None
