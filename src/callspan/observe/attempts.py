"""Attempts: the HTTP requests within one call, as they happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callspan.providers import errors, rate_limits
from callspan.record.call import Attempt, RateLimits

_TOO_MANY_REQUESTS: Final = 429
_FIRST_ERROR: Final = 400


class _Open:
    """One attempt while it runs: plain fields, made into an `Attempt` at the end of the call."""

    __slots__ = ("exception", "headers", "headers_ns", "planned_wait_s", "start_ns", "status")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.headers_ns: int | None = None
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.exception: str | None = None
        self.planned_wait_s: float | None = None


class AttemptLog:
    """Collects the attempts of one call. Used by the thread or task that sends; read at the end.

    Offsets are nanoseconds since the start of the call.
    """

    __slots__ = ("_attempts", "_told_retries")

    def __init__(self) -> None:
        self._attempts: list[_Open] = []
        self._told_retries: int | None = None

    def started(self, offset_ns: int) -> None:
        """Note that a request is about to be sent."""
        self._attempts.append(_Open(offset_ns))

    def answered(self, offset_ns: int, status: int, headers: Mapping[str, str]) -> None:
        """Note the response headers (names in lower case) of the request sent last."""
        if self._attempts:
            last = self._attempts[-1]
            last.headers_ns, last.status, last.headers = offset_ns, status, headers

    def failed(self, exception: str) -> None:
        """Note that the request sent last raised an exception of this class."""
        if self._attempts:
            self._attempts[-1].exception = exception

    def will_wait(self, seconds: float) -> None:
        """Note how long the SDK has decided to wait before the next request."""
        if self._attempts:
            self._attempts[-1].planned_wait_s = seconds

    def told_retries(self, count: int) -> None:
        """Note the number of retries the SDK itself states."""
        self._told_retries = count

    @property
    def retries(self) -> int | None:
        """Attempts minus one, as the SDK states it or as seen; None when nothing was seen."""
        if self._told_retries is not None:
            return self._told_retries
        return len(self._attempts) - 1 if self._attempts else None

    @property
    def last_status(self) -> int | None:
        """HTTP status of the last response, or None."""
        return next((attempt.status for attempt in reversed(self._attempts) if attempt.status is not None), None)

    @property
    def last_start_ns(self) -> int | None:
        """Offset of the start of the last attempt: the one that answered, if any did."""
        return self._attempts[-1].start_ns if self._attempts else None

    @property
    def last_headers_ns(self) -> int | None:
        """Offset at which the last attempt's headers were here."""
        return self._attempts[-1].headers_ns if self._attempts else None

    @property
    def rate_limited(self) -> bool:
        """True once any attempt was answered 429."""
        return any(attempt.status == _TOO_MANY_REQUESTS for attempt in self._attempts)

    @property
    def request_id(self) -> str | None:
        """The provider's id of the last request it answered."""
        return next((rate_limits.request_id(a.headers) for a in reversed(self._attempts) if a.headers), None)

    def records(self, now_s: float) -> list[Attempt]:
        """Return the attempts as records; `now_s` (Unix) turns reset stamps into seconds."""
        return [_record(number, attempt, now_s) for number, attempt in enumerate(self._attempts, start=1)]


def last_limits(attempts: list[Attempt]) -> RateLimits | None:
    """Return the rate limits of the last response that stated any."""
    return next((attempt.rate_limits for attempt in reversed(attempts) if attempt.rate_limits is not None), None)


def _record(number: int, attempt: _Open, now_s: float) -> Attempt:
    failed = attempt.exception is not None or (attempt.status or 0) >= _FIRST_ERROR
    headers = attempt.headers
    return Attempt(
        number=number,
        start_ns=attempt.start_ns,
        headers_ns=attempt.headers_ns,
        status=attempt.status,
        error_kind=errors.classify(attempt.status, None, None, None, attempt.exception)[0] if failed else None,
        error_type=(attempt.exception or str(attempt.status)) if failed else None,
        request_id=rate_limits.request_id(headers) if headers else None,
        retry_after_s=rate_limits.retry_after_s(headers, now_s) if failed and headers else None,
        planned_wait_s=attempt.planned_wait_s,
        rate_limits=rate_limits.rate_limits(headers, now_s) if headers else None,
    )
