"""Attempts: the HTTP requests within one call, as they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from callspan.fail_open import ours, value_of
from callspan.process.secrets import masked_error
from callspan.providers import errors, rate_limits
from callspan.record.call import Attempt, ErrorInfo, RateLimits

_TOO_MANY_REQUESTS: Final = 429
_FIRST_ERROR: Final = 400
_MAX_BODY_BYTES: Final = 64 << 10
_BROKEN: Final = ("connection", "timeout")


class _Open:
    """One attempt while it runs: plain fields, made into an `Attempt` at the end of the call."""

    __slots__ = ("body", "end_ns", "exception", "headers", "headers_ns", "planned_wait_s", "start_ns", "status")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.headers_ns: int | None = None
        self.end_ns: int | None = None
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: Callable[[], bytes] | None = None
        self.exception: str | None = None
        self.planned_wait_s: float | None = None


class AttemptLog:
    """Collects the attempts of one call. Used by the thread or task that sends; read at the end.

    Offsets are nanoseconds since the start of the call.
    """

    __slots__ = ("_attempts", "_sdk_retries", "rate_limited")

    def __init__(self) -> None:
        self.rate_limited = False
        """True once any attempt got a 429."""
        self._attempts: list[_Open] = []
        self._sdk_retries: int | None = None

    def started(self, offset_ns: int) -> None:
        """Note that a request is about to be sent."""
        self._attempts.append(_Open(offset_ns))

    def headers_received(
        self, offset_ns: int, status: int, headers: Mapping[str, str], body: Callable[[], bytes] | None = None
    ) -> None:
        """Note the response headers (names in lower case) of the request sent last.

        `body` returns the body of an error, once it is read; it is called at the end of the call and may raise.
        """
        if self._attempts:
            last = self._attempts[-1]
            last.headers_ns, last.status, last.headers = offset_ns, status, headers
            if status >= _FIRST_ERROR:
                last.end_ns, last.body = offset_ns, body
                self.rate_limited = self.rate_limited or status == _TOO_MANY_REQUESTS

    def failed(self, offset_ns: int, exception: str) -> None:
        """Note that the request sent last raised an exception of this class."""
        if self._attempts:
            self._attempts[-1].end_ns, self._attempts[-1].exception = offset_ns, exception

    def will_wait(self, seconds: float) -> None:
        """Note how long the SDK has decided to wait before the next request."""
        if self._attempts:
            self._attempts[-1].planned_wait_s = seconds

    def set_retries(self, count: int) -> None:
        """Set the number of retries by the SDK's own count."""
        self._sdk_retries = count

    def sent_retries(self, text: str | None) -> None:
        """Note the count of retries in the request sent last, which the application may have put there itself."""
        if text is not None and text.isdecimal() and int(text) < len(self._attempts):
            self._sdk_retries = int(text)

    @property
    def retries(self) -> int | None:
        """Attempts minus one, by the SDK's own count or as observed; None when nothing was observed."""
        if self._sdk_retries is not None:
            return self._sdk_retries
        return len(self._attempts) - 1 if self._attempts else None

    @property
    def answer_start_ns(self) -> int | None:
        """Offset of the start of the attempt that got a response, even an error; None when none did."""
        last = self._attempts[-1] if self._attempts else None
        return None if last is None or last.status is None else last.start_ns

    @property
    def last_headers_ns(self) -> int | None:
        """Offset at which the last attempt's headers were here."""
        return self._attempts[-1].headers_ns if self._attempts else None

    def records(self, now_s: float, end_ns: int, error: ErrorInfo | None = None) -> list[Attempt]:
        """Return the attempts as records of a call that ended at the offset `end_ns`, perhaps with an error.

        `now_s` (Unix) turns reset stamps into seconds. Bodies of errors are read now and let go. A connection
        that broke while the response was read is a failure of the attempt that got it.
        """
        records: list[Attempt] = []
        for number, attempt in enumerate(self._attempts, start=1):
            after = self._attempts[number] if number < len(self._attempts) else None
            records.append(_record(number, attempt, after, now_s, end_ns))
        if records and error is not None and error.kind in _BROKEN and records[-1].error_kind is None:
            records[-1] = msgspec.structs.replace(records[-1], error_kind=error.kind, error_type=error.type)
        return records


def last_limits(attempts: list[Attempt]) -> RateLimits | None:
    """Return the rate limits of the last response that has any."""
    for attempt in reversed(attempts):
        if attempt.rate_limits is not None:
            return attempt.rate_limits
    return None


def _record(number: int, attempt: _Open, after: _Open | None, now_s: float, call_end_ns: int) -> Attempt:
    headers, end_ns = attempt.headers, attempt.end_ns
    failed = attempt.exception is not None or (attempt.status or 0) >= _FIRST_ERROR
    error = _error(attempt) if failed else None
    if end_ns is None:
        end_ns = call_end_ns if after is None else attempt.headers_ns
    return Attempt(
        number=number,
        start_ns=attempt.start_ns,
        headers_ns=attempt.headers_ns,
        end_ns=end_ns,
        status=attempt.status,
        error_kind=error and error[0],
        error_type=error and error[1],
        request_id=rate_limits.request_id(headers) if headers else None,
        retry_after_s=rate_limits.retry_after_s(headers, now_s) if error and headers else None,
        planned_wait_s=attempt.planned_wait_s,
        wait_s=None if after is None or end_ns is None else (after.start_ns - end_ns) / 1e9,
        rate_limits=rate_limits.rate_limits(headers, now_s) if headers else None,
    )


def _error(attempt: _Open) -> tuple[str, str]:
    """Our kind and the `error.type` of a failed attempt."""
    if attempt.exception is not None:
        return errors.classify(attempt.status, None, None, None, attempt.exception)[0], attempt.exception
    content = value_of(attempt.body) if attempt.body is not None else None
    attempt.body = None
    info = masked_error(
        errors.error_info(status=attempt.status, body=_json(content), exception=None, message=None, request_id=None)
    )
    return info.kind, info.type


def _json(content: bytes | None) -> object:
    if not content or len(content) > _MAX_BODY_BYTES:
        return None
    try:
        return msgspec.json.decode(content)
    except ours(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
