"""Response headers: rate limits, the requested wait, and the provider's request id.

Header names are in lower case, as from `relevant_headers` and `httpx.Headers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Final, TypeAlias

from callspan.providers import cached_answers, stated_cost, token_headers
from callspan.providers.wire_json import integer, objects, text
from callspan.record.call import RateLimit, RateLimits
from callspan.runtime.forks import late_import

_Triple: TypeAlias = tuple[str, str, str]
SERVER_TIME: Final = "openai-processing-ms"
SERVER_TIMING: Final = "server-timing"
"""Google's header with the same, under the name of its front end; other servers' header has other times."""
INVOCATION_LATENCY: Final = "x-amzn-bedrock-invocation-latency"
"""Bedrock's header with the time of the model, in milliseconds."""
SERVER_TIMES: Final = (SERVER_TIME, SERVER_TIMING, INVOCATION_LATENCY)
ORGANIZATION: Final = "anthropic-organization-id"
WORKSPACE: Final = "anthropic-workspace-id"
_REQUEST_IDS: Final = (
    "request-id",
    "x-request-id",
    "apim-request-id",
    "x-amzn-requestid",
    "mistral-correlation-id",
)
"""Anthropic's is the first, because proxies such as Envoy add one of the name that OpenAI uses."""
_AZURE: Final = ("x-ratelimit-renewalperiod-requests", "x-ratelimit-renewalperiod-tokens")

_MAX_COUNT_LENGTH: Final = 19
_ABSENT: Final = (None, False)
_FRACTION: Final = re.compile(r"\.(\d+)")
_NUMBER: Final = re.compile(r"[0-9]{1,18}(\.[0-9]*)?")
_SERVER_MS: Final = re.compile(r"(?:gfet4t7; ?dur=)?([0-9]{1,18}(?:\.[0-9]*)?)")
_GO_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h|d)")
_MAX_KNOWN: Final = 256
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12


def _openai(unit: str) -> _Triple:
    return f"x-ratelimit-limit{unit}", f"x-ratelimit-remaining{unit}", f"x-ratelimit-reset{unit}"


def _anthropic(unit: str) -> _Triple:
    start = f"anthropic-ratelimit-{unit}-"
    return start + "limit", start + "remaining", start + "reset"


def _cohere(unit: str) -> _Triple:
    start = f"x-trial-endpoint-{unit}-"
    return start + "limit", start + "remaining", start + "reset"


_FAMILIES: Final[tuple[tuple[tuple[str, _Triple], ...], ...]] = (
    (("requests", _openai("-requests")), ("tokens", _openai("-tokens"))),
    (
        ("requests", _anthropic("requests")),
        ("tokens", _anthropic("tokens")),
        ("input_tokens", _anthropic("input-tokens")),
        ("output_tokens", _anthropic("output-tokens")),
    ),
    (
        ("requests", _openai("-req-10-second")),
        ("requests", _openai("-req-minute")),
        ("tokens", _openai("-tokens-minute")),
    ),
    (("requests", _openai("")),),
    (("requests", _cohere("call")),),
)
"""Header names by family, most common first: OpenAI and compatible, Anthropic, Mistral, general gateways, Cohere."""
_LIMITS: Final = frozenset(name for family in _FAMILIES for _, names in family for name in names)

_FIELDS: Final = {
    name.encode(): name
    for name in (
        *_LIMITS,
        *_REQUEST_IDS,
        *_AZURE,
        "retry-after",
        "retry-after-ms",
        SERVER_TIME,
        SERVER_TIMING,
        *stated_cost.HEADERS,
        *cached_answers.HEADERS,
        *token_headers.HEADERS,
        INVOCATION_LATENCY,
        ORGANIZATION,
        WORKSPACE,
    )
}
"""Every header read here, in lower case, as bytes and as text."""
_NAMES: Final = frozenset(_FIELDS.values())


def relevant_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of a response that are read here, by lower-case name. Safe from any thread.

    A repeated header has its last value.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        field = _FIELDS.get(name.lower())
        if field is not None:
            headers[field] = value.decode("latin-1")
    return headers


def relevant_text_headers(headers: Any) -> dict[str, str]:
    """Return the same of headers that an HTTP library has as text; empty for an object without headers."""
    relevant: dict[str, str] = {}
    for name, value in headers.items() if hasattr(headers, "items") else ():
        field = str(name).lower()
        if field in _NAMES:
            relevant[field] = str(value).encode("latin-1", "replace").decode("latin-1")
    return relevant


def rate_limits(headers: Mapping[str, str], now_s: float) -> RateLimits | None:
    """Return the rate limits in the headers, or None.

    `now_s` is Unix time in seconds, for providers that return the time of the reset. Only the first family found is
    read; an invalid value is absent. Safe from any thread.
    """
    fields = headers if type(headers) is dict else dict(headers.items())
    if _LIMITS.isdisjoint(fields):
        return None
    # Azure uses milliseconds: after 14 of 120000 tokens per minute it returns 7.
    bare_s = 1e-3 if _AZURE[0] in fields or _AZURE[1] in fields else 1.0
    for family in _FAMILIES:
        limits: dict[str, RateLimit] = {}
        for unit, (of_limit, of_rest, of_reset) in family:
            limit, remaining, reset = fields.get(of_limit), fields.get(of_rest), fields.get(of_reset)
            if not (limit is remaining is reset is None) and unit not in limits:
                is_plain = (
                    remaining is not None
                    and len(remaining) <= _MAX_COUNT_LENGTH
                    and remaining.isascii()
                    and remaining.isdigit()
                )
                reset_s, is_time = _ABSENT if reset is None else _reset(reset, bare_s)
                if is_time and reset_s is not None:
                    reset_s = reset_s - now_s if reset_s > now_s else 0.0
                limits[unit] = RateLimit(
                    limit=None if limit is None else _known_count(limit),
                    remaining=None if remaining is None else int(remaining) if is_plain else _count(remaining),
                    reset_s=reset_s,
                )
        if limits:
            return RateLimits(**limits)
    return None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds the provider asks to wait, or None. Never negative.

    Reads `retry-after-ms`, then `retry-after` as seconds or HTTP date, which counts from `now_s` (Unix time).
    """
    millis = headers.get("retry-after-ms")
    if millis and _NUMBER.fullmatch(millis):
        return float(millis) / 1000
    value = headers.get("retry-after")
    if not value:
        return None
    return float(value) if _NUMBER.fullmatch(value) else _until_http_date(value, now_s)


@lru_cache(maxsize=_MAX_KNOWN)
def server_ns(value: str) -> int | None:
    """Return the server's processing time in nanoseconds, in one of `SERVER_TIMES`; None if it has none."""
    millis = _SERVER_MS.fullmatch(value)
    return round(float(millis[1]) * 1e6) if millis is not None else None


def stated_delay_s(error_body: object) -> float | None:
    """Return the wait that Google asks for in the details of an error, in seconds, or None."""
    for detail in objects(error_body, "error", "details"):
        delay = text(detail, "retryDelay")
        if delay is not None:
            return _duration(delay)
    return None


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request, or None."""
    for name in _REQUEST_IDS:
        value = headers.get(name)
        if value:
            return value
    return None


def _count(value: str) -> int | None:
    """Return a count; the first part of a repeated header or one with a time window."""
    return integer(value.partition(",")[0].strip())


_known_count: Final = lru_cache(maxsize=_MAX_KNOWN)(_count)
"""Cached version for counts that rarely change: the limit, not the remaining count."""


@lru_cache(maxsize=_MAX_KNOWN)
def _reset(value: str, bare_s: float) -> tuple[float | None, bool]:
    """Return the seconds of a Go duration or a number, or a Unix time (as RFC 3339, s or ms); and whether it is a time.

    Cached, because few durations repeat often, and all limits of a response often have the same time.
    """
    value = value.strip()
    if "T" in value:
        return _stamp(value), True
    duration_s = _duration(value)
    if duration_s is None and _NUMBER.fullmatch(value):
        return _from_number(float(value), bare_s)
    return duration_s, False


def _duration(value: str) -> float | None:
    """Return the seconds of a Go duration."""
    parts = _GO_DURATION.findall(value)
    if not parts or sum(len(amount) + len(unit) for amount, unit in parts) != len(value):
        return None
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)


def _stamp(value: str) -> float | None:
    """Return the Unix time of an RFC 3339 time."""
    # Python 3.10 reads only fractions of three or six digits.
    value = _FRACTION.sub(lambda match: f".{match[1]:0<6.6}", value.replace("Z", "+00:00"))
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return _unix_s(moment)


def _from_number(value: float, bare_s: float) -> tuple[float, bool]:
    if value < _EPOCH_S:
        return value * bare_s, False
    return value / 1000 if value >= _EPOCH_MS else value, True


def _until_http_date(value: str, now_s: float) -> float | None:
    try:
        moment: datetime = late_import("email.utils").parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, _unix_s(moment) - now_s)


def _unix_s(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
