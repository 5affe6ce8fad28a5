"""Rate limits: the last ones a call received, in successful and failed responses."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from callspan.records import RateLimit
from callspan.testing import Captured
from tests.attempts.caller import Caller, Run, the_record

_UNITS = ("requests", "tokens")
_WHAT = ("limit", "remaining", "reset")
NONE_OF_OURS = dict.fromkeys(
    [f"x-ratelimit-{what}-{unit}" for what in _WHAT for unit in _UNITS]
    + [f"anthropic-ratelimit-{unit}-{what}" for what in _WHAT for unit in (*_UNITS, "input-tokens", "output-tokens")]
)
"""Takes away what the scripted provider states by itself."""
OPENAI = {
    "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "29000", "x-ratelimit-reset-tokens": "1m2s",
}  # fmt: skip


def test_rate_limits_of_a_failed_response_are_recorded(plain: Caller, run: Run, seen: Captured) -> None:
    headers = {**NONE_OF_OURS, **OPENAI, "x-ratelimit-remaining-requests": "0"}
    plain.script({"status": 429, "headers": headers})
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        run(plain.call)
    limits = the_record(seen).rate_limits
    assert limits is not None
    assert limits.requests == RateLimit(limit=500, remaining=0, reset_s=0.12)


@pytest.mark.parametrize(("last", "remaining"), [({}, 3), ({"x-ratelimit-remaining-requests": "9"}, 9)])
def test_the_last_response_that_had_them_counts(
    plain: Caller, run: Run, seen: Captured, last: dict[str, Any], remaining: int
) -> None:
    plain.script(
        {"status": 500, "headers": {**NONE_OF_OURS, "x-ratelimit-remaining-requests": "3", "retry-after-ms": "1"}},
        {"text": "well", "headers": {**NONE_OF_OURS, **last}},
    )
    run(lambda: plain.call(max_retries=1))
    limits = the_record(seen).rate_limits
    assert limits is not None
    assert limits.requests == RateLimit(remaining=remaining)


def test_without_headers_no_rate_limits_are_recorded(plain: Caller, run: Run, seen: Captured) -> None:
    plain.script({"text": "well", "headers": NONE_OF_OURS})
    run(plain.call)
    assert the_record(seen).rate_limits is None
    assert not any("rate_limiting" in name for name in seen.spans[0].attributes or {})
