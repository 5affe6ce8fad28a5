"""Attempts: each HTTP request a call makes, seen at the HTTP client's `send`.

`send` belongs to every user of the HTTP library: anything but an SDK's own request for the call that runs
in this context goes straight through. Requests that are no attempts (token exchange, middleware) lack
the SDKs' `x-stainless-lang` header.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import msgspec
from opentelemetry import propagate

from callspan.fail_open import fail_open
from callspan.intercept.engine import CURRENT_CALL
from callspan.intercept.request import OpenCall
from callspan.observe.live_call import LiveCall
from callspan.providers.rate_limits import stated_headers

_ATTEMPT: Final = fail_open("observe an attempt")
_MARK: Final = b"x-stainless-lang"
_COUNT: Final = b"x-stainless-retry-count"


def observe_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `Client.send` with the attempts of calls observed."""

    @wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - httpx or httpx2
        opened = _begin(request)
        if opened is None:
            return original(self, request, **kwargs)
        try:
            response = original(self, request, **kwargs)
        except BaseException as error:
            _failed(opened.call, error)
            raise
        _answered(opened, response)
        return response

    return send


def observe_async_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `AsyncClient.send` with the attempts of calls observed."""

    @wraps(original)
    async def send(self: Any, request: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - httpx or httpx2
        opened = _begin(request)
        if opened is None:
            return await original(self, request, **kwargs)
        try:
            response = await original(self, request, **kwargs)
        except BaseException as error:
            _failed(opened.call, error)
            raise
        _answered(opened, response)
        return response

    return send


def _begin(request: Any) -> OpenCall | None:  # noqa: ANN401
    opened: OpenCall | None = CURRENT_CALL.get()
    if opened is None:
        return None
    with _ATTEMPT:
        attempts = opened.call.attempts
        if request is opened.built and opened.built_retries is not None:
            attempts.started(opened.call.offset_ns())
            attempts.told_retries(opened.built_retries)
        else:
            # Headers are read once, raw: asking httpx for one by its name decodes all of them, several times.
            sent = {name.lower(): value for name, value in request.headers.raw}
            if _MARK not in sent:
                return None
            attempts.started(opened.call.offset_ns())
            count = sent.get(_COUNT)
            attempts.sent_retries(None if count is None else count.decode("latin-1"))
        if opened.inject:
            propagate.inject(request.headers, context=opened.context)
        if not opened.body_seen:
            opened.body_seen = True
            opened.call.sent(request.content, msgspec.json.decode(request.content))
        if opened.replaced is not None:
            opened.replaced.sending(request)
        return opened
    return None


def _failed(call: LiveCall, error: BaseException) -> None:
    with _ATTEMPT:
        call.attempts.failed(call.offset_ns(), type(error).__name__)


def _answered(opened: OpenCall, response: Any) -> None:  # noqa: ANN401
    with _ATTEMPT:
        call = opened.call
        offset_ns = call.offset_ns()
        headers = stated_headers(response.headers.raw)
        call.attempts.answered(offset_ns, response.status_code, headers, lambda: response.content)
        if opened.replaced is not None:
            opened.replaced.answered(response)
