"""Headers: rate limits of every family, waits, request ids."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers.rate_limits import rate_limits, request_id, retry_after_s
from callspan.records import RateLimit, RateLimits

httpx = import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")

NOW_S = 1_754_136_040.0  # 2025-08-02T12:00:40Z

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-limit-tokens": "4000000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-remaining-tokens": "3999970",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-reset-tokens": "6m0s",
}


def reset_s(value: str) -> float | None:
    limits = rate_limits({"x-ratelimit-reset-requests": value}, NOW_S)
    assert limits is not None
    assert limits.requests is not None
    return limits.requests.reset_s


ANTHROPIC = {
    f"anthropic-ratelimit-{unit}-{what}": value
    for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    for what, value in (("limit", "100"), ("remaining", "0"), ("reset", "2025-08-02T12:00:45Z"))
}
MISTRAL = {
    "x-ratelimit-limit-req-10-second": "60",
    "x-ratelimit-remaining-req-10-second": "59",
    "x-ratelimit-limit-tokens-minute": "2000000",
    "x-ratelimit-remaining-tokens-minute": "1999893",
    "x-ratelimit-limit-tokens-month": "10000000000",
}


def test_rate_limits_of_each_family() -> None:
    """OpenAI's are of requests and tokens, Anthropic's four, Mistral's per ten seconds and per minute."""
    assert rate_limits(OPENAI, NOW_S) == RateLimits(
        requests=RateLimit(limit=5000, remaining=4999, reset_s=0.012),
        tokens=RateLimit(limit=4000000, remaining=3999970, reset_s=360.0),
    )
    limit = RateLimit(limit=100, remaining=0, reset_s=5.0)
    assert rate_limits(ANTHROPIC, NOW_S) == RateLimits(
        requests=limit, tokens=limit, input_tokens=limit, output_tokens=limit
    )
    assert rate_limits(MISTRAL, NOW_S) == RateLimits(
        requests=RateLimit(limit=60, remaining=59), tokens=RateLimit(limit=2000000, remaining=1999893)
    )
    repeated = rate_limits({"x-ratelimit-remaining-requests": "4999, 4999"}, NOW_S)
    assert repeated == RateLimits(requests=RateLimit(remaining=4999))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0s", 0.0), ("500ns", 5e-7), ("5us", 5e-6), ("250µs", 0.00025), ("12ms", 0.012), ("1s", 1.0), ("5m", 300.0),
        ("5h", 18000.0), ("1d", 86400.0), ("1m30.5s", 90.5), ("1h0m0s", 3600.0), ("1h5ns", 3600.000000005),
        ("1d2h3m4.5s", 93784.5), ("7", 7.0), ("0.25", 0.25), (" 7 ", 7.0),
        # A large number is a moment, in seconds or milliseconds.
        ("999999999", 999_999_999.0), ("1000000000", 0.0), ("1754136050", 10.0), ("1754136050500", 10.5),
        ("1754130000000", 0.0), ("2025-08-02T12:00:41.5+00:00", 1.5), ("2025-08-02T14:00:45+02:00", 5.0),
        ("2025-08-02T12:00:45", 5.0),
        *((other, None) for other in (
            "", "soon", "-5", "1x", "5y", "5 s", "1h 5m", "nan", "inf", "T", "2025-99-99T00:00:00Z", "s", "1m!",
        )),
    ],
)  # fmt: skip
def test_each_form_of_a_reset_is_seconds_and_another_is_absent(value: str, seconds: float | None) -> None:
    assert reset_s(value) == (None if seconds is None else pytest.approx(seconds, rel=1e-9))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "41"}, 41.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "41"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "41"}, 41.0),
        ({"retry-after": "Sat, 02 Aug 2025 12:00:50 GMT"}, 10.0),
        ({"retry-after": "Sat, 02 Aug 2025 12:00:50 -0000"}, 10.0),
        ({"retry-after": "Sat, 02 Aug 2025 11:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_the_wait_requested(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "req_1", "cf-ray": "r"}, "req_1"),
        ({"request-id": "req_2"}, "req_2"),
        ({"x-request-id": "", "apim-request-id": "a"}, "a"),
        ({"x-amzn-requestid": "z"}, "z"),
        ({"cf-ray": "r"}, None),
        (httpx.Headers({"Request-Id": "req_3"}), "req_3"),
    ],
)
def test_the_provider_s_id_of_the_request(headers: Mapping[str, str], expected: str | None) -> None:
    assert request_id(headers) == expected


@given(st.dictionaries(st.sampled_from([*OPENAI, "retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text()))
def test_any_header_values_are_read(headers: dict[str, str]) -> None:
    limits = rate_limits(headers, NOW_S)
    wait_s = retry_after_s(headers, NOW_S)

    assert wait_s is None or wait_s >= 0
    for limit in (limits and limits.requests, limits and limits.tokens):
        assert limit is None or limit.reset_s is None or limit.reset_s >= 0
