"""Attempts: the requests of a call, their answers and the waits between them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from callspan.observe.sending import was_sent
from callspan.process.known_keys import fields_without_known_keys, remember
from callspan.process.secrets import masked_error
from callspan.process.sent_keys import remember_request, sent_keys, without_sent_keys
from callspan.providers import rate_limits, registry
from callspan.providers.error_kinds import FIRST_ERROR, classify, error_info, known_base
from callspan.providers.stated_cost import cost_of_attempt
from callspan.record.billing import may_be_billed
from callspan.record.call import Attempt, ErrorInfo, RateLimits, Timing
from callspan.runtime.fail_open import fail_open, value_of

TOO_MANY_REQUESTS: Final = 429
_now_ns: Final = time.perf_counter_ns
_MAX_BODY_BYTES: Final = 64 << 10
_BROKEN: Final = ("connection", "timeout")
_READ: Final = fail_open("read the attempts of a call")
_CONNECTION: Final = "network_stream"
"""The extension with which httpcore names the connection of a response."""
_OWN_ID: Final = re.compile("req_(?:[0-9a-f]{32}|01[0-9A-Za-z]{22})")
"""OpenAI's and Anthropic's ids of requests, which repeat no key."""
_SHORTEST_KEY: Final = 8
"""Characters of the shortest word that is taken for a key, see `is_key`."""
_FROM_CACHE: Final = frozenset({"from_cache", "hishel_from_cache"})
"""hishel's extension; its version 1.0 renamed it."""


class _OpenAttempt(msgspec.Struct, eq=False):
    """A running attempt: plain fields, converted to an `Attempt` at the end of the call."""

    start_ns: int
    headers_ns: int | None = None
    end_ns: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = {}
    body: Callable[[], bytes] | None = None
    exception: type[BaseException] | None = None
    is_sent: bool = True
    """Whether the request had been sent when it failed."""


class AttemptLog:
    """Collects the attempts of one call. Used by the sending thread or task; read at the end.

    Offsets are nanoseconds since the start of the call.
    """

    __slots__ = (
        "_attempts", "_rate_limited", "_sdk_retries", "_zero_ns", "answer", "has_connection", "headers",
        "is_from_cache", "is_over", "limits", "request", "sent_by_sdk",
    )  # fmt: skip

    def __init__(self, zero_ns: int) -> None:
        """`zero_ns` is the monotonic time of the call's start."""
        self._zero_ns = zero_ns
        self._attempts: list[_OpenAttempt] = []
        self._rate_limited = False
        self.is_over = False
        """Whether the last request was answered, or has failed."""
        self._sdk_retries: int | None = None
        self.answer: Any = None
        """What httpx has received for the last request while it may send again; not recorded yet."""
        self.headers: Mapping[str, str] = {}
        """The relevant headers of the last response."""
        self.has_connection: bool | None = None
        """Whether the last response came over a connection; None if no HTTP library says so."""
        self.is_from_cache = False
        """Whether the client's cache says that it served the last response."""
        self.request: object = None
        """The last request, of any HTTP library, for its keys; released at the end of the call."""
        self.sent_by_sdk: object = None
        """The request of httpx that an SDK with hooks has sent last; released at the end of the call."""
        self.limits: RateLimits | None = None
        """Rate limits from an event, if there are no HTTP responses."""

    def started(self, sdk_retries: int | None = None, request: object = None) -> None:
        """Record that a request is about to be sent; `sdk_retries`: the SDK's own retry count, if known."""
        if self.request is not None and self.request is not request:
            remember(sent_keys(self.request))  # its answer was an error; the next key may be another
        self._sdk_retries, self.request, self.is_over = sdk_retries, request, False
        self._attempts.append(_OpenAttempt(_now_ns() - self._zero_ns))
        self.headers = {}

    def headers_received(
        self,
        status: int,
        headers: Mapping[str, str],
        body: Callable[[], bytes] | None = None,
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        """Record the response headers (names in lower case) of the last request.

        `body` returns the body of an error response after it was read; called at the end of the call, may raise.
        `extensions` is what the HTTP library says of the response: its connection, and hishel whether it is from a
        cache, which may keep the extensions of the response that it stored, so its word counts.
        """
        last, offset_ns = self._unanswered(), _now_ns() - self._zero_ns
        last.headers_ns, last.status, last.headers = offset_ns, status, headers
        self.headers, self.answer, self.is_over = headers, None, True
        if status >= FIRST_ERROR:
            last.end_ns, last.body = offset_ns, body
            self._rate_limited = self._rate_limited or status == TOO_MANY_REQUESTS
        if extensions is not None:
            self.has_connection = _CONNECTION in extensions
            self.is_from_cache = not _FROM_CACHE.isdisjoint(extensions) and _is_from_cache(extensions)

    @property
    def last_status(self) -> int | None:
        """The status of the last request's answer; None if it has none yet."""
        return self._attempts[-1].status if self._attempts else None

    def _unanswered(self) -> _OpenAttempt:
        """Return the last attempt, or a new one if it has an answer: manual calls may not report starts."""
        last = self._attempts[-1] if self._attempts else None
        if last is None or last.status is not None:
            last = _OpenAttempt(0 if last is None else last.headers_ns or 0)
            self._attempts.append(last)
        return last

    def failed(self, error: BaseException, status: int | None = None) -> None:
        """Record that the last request raised an exception, which may state the status of its answer."""
        last, self.answer, self.is_over = self._attempts[-1], None, True
        last.end_ns, last.exception, last.status = _now_ns() - self._zero_ns, type(error), status or last.status
        last.is_sent = last.status is not None or was_sent(error)
        self._rate_limited = self._rate_limited or status == TOO_MANY_REQUESTS

    def remember_keys(self, body: msgspec.Raw) -> None:
        """Mask the keys of the last request, and those in its body, in errors."""
        remember_request(self.request, body)

    def fields(
        self, start_ns: int, duration_ns: int, error: ErrorInfo | None, *, is_last: bool = True
    ) -> dict[str, Any]:
        """Return the fields that the attempts add to the record of a call that began at `start_ns` (Unix nanoseconds).

        Retries are the SDK's own count, else the observed number; None if nothing was observed. Error bodies are read
        now, and released if `is_last`. A connection error while reading the response is a failure of its attempt.
        """
        timing, opened = Timing(start_ns=start_ns, duration_ns=duration_ns), self._attempts
        if not opened:
            return {
                "timing": timing, "retries": None, "rate_limited": None, "attempts": [],
                "rate_limits": self.limits,
            }  # fmt: skip
        last = opened[-1]
        if last.status is not None:
            server = next(filter(None, map(last.headers.get, rate_limits.SERVER_TIMES)), None)
            timing = Timing(
                start_ns=start_ns,
                duration_ns=duration_ns,
                answer_ns=last.start_ns,
                headers_ns=last.headers_ns,
                server_ns=None if server is None else rate_limits.server_ns(server),
            )
        records: list[Attempt] = []
        limits, now_s = self.limits, (start_ns + duration_ns) / 1e9
        try:
            for number, attempt in enumerate(opened, start=1):
                after = opened[number] if number < len(opened) else None
                is_broken = after is None and error is not None
                record = _record(number, attempt, after, now_s, duration_ns, is_broken=is_broken)
                if is_last:
                    attempt.body = None
                limits = record.rate_limits or limits
                ident = record.request_id
                if record.error_type is not None:
                    record = fields_without_known_keys(record)
                elif ident is not None and len(ident) >= _SHORTEST_KEY and not _OWN_ID.fullmatch(ident):
                    # A gateway may repeat a key as the id of the request.
                    record = msgspec.structs.replace(record, request_id=without_sent_keys(ident, self.request))
                records.append(record)
            if error is not None and error.kind in _BROKEN and records[-1].error_kind is None:
                records[-1] = msgspec.structs.replace(records[-1], error_kind=error.kind, error_type=error.type)
        except Exception as failure:
            _READ.report(failure)
            limits = self.limits
        return {
            "timing": timing,
            "retries": len(opened) - 1 if self._sdk_retries is None else self._sdk_retries,
            "rate_limited": self._rate_limited,
            "attempts": records,
            "rate_limits": limits,
        }


def _is_from_cache(extensions: Mapping[str, object]) -> bool:
    return any(extensions.get(key) is True for key in _FROM_CACHE)


def _record(
    number: int, attempt: _OpenAttempt, after: _OpenAttempt | None, now_s: float, call_end_ns: int, *, is_broken: bool
) -> Attempt:
    """Return the record of an attempt; `after` is the next one, `is_broken` whether the call has ended in its place."""
    headers, end_ns = attempt.headers, attempt.end_ns
    has_failed = attempt.exception is not None or (attempt.status or 0) >= FIRST_ERROR
    body = _body(attempt) if has_failed else None
    error = _error(attempt, body) if has_failed else None
    if end_ns is None:
        end_ns = call_end_ns if after is None else attempt.headers_ns
    cost = None if after is None else cost_of_attempt(headers, body)
    is_discarded = after is not None and cost is None
    return Attempt(
        number=number,
        start_ns=attempt.start_ns,
        headers_ns=attempt.headers_ns,
        end_ns=end_ns,
        status=attempt.status,
        error_kind=error and error[0],
        error_type=error and error[1],
        request_id=rate_limits.request_id(headers) if headers else None,
        retry_after_s=_retry_after_s(headers, body, now_s) if error else None,
        # 0 if the start was not reported.
        wait_s=None if after is None or end_ns is None else (after.start_ns - end_ns) / 1e9 or None,
        rate_limits=rate_limits.rate_limits(headers, now_s) if headers else None,
        cost=cost,
        may_be_billed=(has_failed or is_broken or is_discarded)
        and may_be_billed(
            attempt.status, is_sent=attempt.is_sent, is_finished=attempt.exception is None, is_discarded=is_discarded
        ),
    )


def without_usage(attempts: list[Attempt]) -> list[Attempt]:
    """Return the attempts of a call whose last answer ended before the usage that was to come."""
    last = attempts[-1]
    if last.status is None:
        return attempts
    return [*attempts[:-1], msgspec.structs.replace(last, may_be_billed=may_be_billed(last.status, is_finished=False))]


def _retry_after_s(headers: Mapping[str, str], body: object, now_s: float) -> float | None:
    wait_s = rate_limits.retry_after_s(headers, now_s) if headers else None
    return rate_limits.stated_delay_s(body) if wait_s is None and body is not None else wait_s


def _body(attempt: _OpenAttempt) -> object:
    """Return the JSON of an error response; None if it is unknown, large or no JSON."""
    content = value_of(attempt.body) if attempt.body is not None else None
    return registry.decoded(content) if content and len(content) <= _MAX_BODY_BYTES else None


def _error(attempt: _OpenAttempt, body: object) -> tuple[str, str]:
    """Return callspan's error kind and the `error.type` of a failed attempt."""
    if attempt.exception is not None:
        return classify(attempt.status, None, None, None, known_base(attempt.exception)), attempt.exception.__name__
    info = masked_error(error_info(status=attempt.status, body=body))
    return info.kind, info.type
