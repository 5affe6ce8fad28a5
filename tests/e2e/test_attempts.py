"""Latency, retries and rate limits of calls."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import Captured
from tests.e2e.ask import APIS, chat, shown
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
LIMITS = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
          "x-ratelimit-reset-requests": "1s", "x-ratelimit-limit-tokens": "1000",
          "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "6m0s"}  # fmt: skip


@pytest.mark.parametrize("status", [200, 429])
def test_six_attributes_say_what_is_left_of_the_limits(status: int, mode: Mode, run: Run, seen: Captured) -> None:
    """Limit, remaining and reset of requests and of tokens, with an answer and with a refusal."""
    mode.provider.reply(status=status, headers=LIMITS)
    if status == 200:
        run(lambda: mode.wait(chat(mode)))
    else:
        with pytest.raises(openai.RateLimitError):
            run(lambda: mode.wait(chat(mode)))
    found = {name: value for name, value in shown(seen).items() if name.startswith("llm.rate_limiting.")}
    assert found == {
        "llm.rate_limiting.requests.limit": 60, "llm.rate_limiting.requests.remaining": 59,
        "llm.rate_limiting.requests.reset": 1.0, "llm.rate_limiting.tokens.limit": 1000,
        "llm.rate_limiting.tokens.remaining": 900, "llm.rate_limiting.tokens.reset": 360.0,
    }  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_a_clock_set_back_during_a_call_makes_no_duration_negative(
    api: str, mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock goes back an hour while a stream is read: every duration is still one."""
    mode.provider.reply(text="one two three")
    real = time.time_ns

    async def body() -> None:
        with callspan.session("s") as session, session.timestep():
            stream = await mode.wait(stream_of(mode, api))
            monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
            await mode.all(stream)

    run(body)
    (record,) = seen.records
    timing = record.timing
    offsets = [0, timing.answer_ns, timing.headers_ns, timing.first_chunk_ns, timing.last_chunk_ns, timing.duration_ns]
    known = [offset for offset in offsets if offset is not None]
    assert len(known) == 6
    assert known == sorted(known)
    for span in seen.spans:
        assert (span.end_time or 0) >= (span.start_time or 0) > 0, span.name
    for scope in [*seen.sessions, *seen.timesteps]:
        assert scope.end_ns is None or scope.end_ns >= (scope.start_ns or 0)


def stream_of(mode: Mode, api: str) -> Any:
    from tests.e2e.ask import ASK

    return ASK[api](mode, stream=True)
