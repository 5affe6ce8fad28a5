"""Calls of the past: recorded with the times that the application states, priced as of their day, in no metric."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import callspan
from callspan import UsageError
from callspan.records import CallRecord, Timing
from callspan.testing import Captured, capture

S = 1_000_000_000
T0 = 1_735_732_800 * S
"""New Year's Day of 2025, at noon."""
BODY: dict[str, Any] = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}
MILLION: dict[str, Any] = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
ANSWER: dict[str, Any] = {"model": "o3", "choices": [{"message": {"content": "Hello!"}}], "usage": MILLION}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo!"}, "finish_reason": "stop"}]},
]


def imported(at: Any = T0, first: Any = None, end: Any = None) -> None:
    with callspan.record_call(provider="openai", model="o3", at=at) as call:
        call.request(BODY)
        call.attempt_started()
        call.response_headers(200, {"x-request-id": "r1", "openai-processing-ms": "70"})
        call.response(ANSWER)
        if first is not None:
            call.first_token(at=first)
        if end is not None:
            call.end(at=end)


def only(seen: Captured) -> CallRecord:
    (record,) = seen.records
    return record


@pytest.mark.parametrize(
    ("at", "first", "end"),
    [
        (T0, T0 + S, T0 + 3 * S),
        (T0 / S, T0 / S + 1, T0 / S + 3),
        *([tuple(datetime.fromtimestamp(T0 // S + after, tz=timezone.utc) for after in (0, 1, 3))]),
    ],
)
def test_record_and_span_have_the_stated_times(at: Any, first: Any, end: Any) -> None:
    with capture() as seen, callspan.session("s") as session:
        imported(at, first, end)
    record, span = only(seen), next(span for span in seen.spans if span.name == "chat o3")
    assert record.timing == Timing(start_ns=T0, duration_ns=3 * S, first_token_ns=S, server_ns=70_000_000)
    assert (span.start_time, span.end_time) == (T0, T0 + 3 * S)
    assert [event.timestamp for event in span.events] == [T0 + S]
    (attempt,) = record.attempts
    assert (attempt.status, attempt.request_id, attempt.headers_ns, attempt.end_ns) == (200, "r1", None, None)
    assert (record.seen_in, record.is_merged, record.text) == ("import", False, "Hello!")
    assert record.place.session_id == session.id
    totals = seen.sessions[-1].totals
    assert totals is not None
    assert (totals.calls, totals.model_ns) == (1, 3 * S)


def test_a_call_of_today_may_have_its_first_token_and_end_stated() -> None:
    """Its other times are those that were observed."""
    with capture() as seen, callspan.record_call(provider="openai") as call:
        call.request(BODY)
        call.chunk(CHUNKS[0])
        now_ns = time.time_ns()
        call.first_token(at=now_ns + 2 * S)
        call.first_token(at=now_ns + 3 * S)
        call.end(at=now_ns + 4 * S)
        call.end(at=now_ns + 9 * S)
        call.first_token(at=now_ns + S)
        assert callspan.trace_id() is None
    record = only(seen)
    timing = record.timing
    assert timing.first_chunk_ns is not None
    assert (timing.first_chunk_ns < S, record.seen_in) == (True, "import")
    assert 2 * S <= (timing.first_token_ns or 0) < 3 * S
    assert 4 * S <= (timing.duration_ns or 0) < 5 * S


def test_without_a_time_they_are_of_now() -> None:
    """A client that does not stream to callspan says when its first token came."""
    with capture() as seen, callspan.record_call(provider="openai") as call:
        call.first_token()
        call.response(ANSWER)
        call.end()
        time.sleep(0.05)
    timing = only(seen).timing
    assert 0 < (timing.first_token_ns or 0) <= (timing.duration_ns or 0) < 50_000_000
    assert only(seen).seen_in == "call"


def test_misuse_raises_before_anything_is_changed() -> None:
    odd: Any = "noon"
    with capture() as seen:
        with pytest.raises(UsageError), callspan.record_call(provider="openai", at=odd):
            pass
        assert seen.records == []
        with callspan.record_call(provider="openai", at=T0) as call:
            for wrong in (call.first_token, call.end):
                with pytest.raises(UsageError, match="not before the start"):
                    wrong(at=T0 - 1)
            call.end(at=T0 + S)
    assert only(seen).timing == Timing(start_ns=T0, duration_ns=S)
    assert only(seen).metadata == {}


def test_it_is_priced_as_of_its_day_and_in_no_metric(tmp_path: Path) -> None:
    """The price of o3 fell to a fifth in June 2025. Sessions, steps and tools of the past are measured no more."""
    pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    handle = callspan.instrument(stores=tmp_path / "calls.db", meter_provider=provider)
    imported(T0, T0 + S, T0 + 3 * S)
    imported(T0 + 365 * 24 * 3600 * S)
    with callspan.record_call(provider="openai", at=T0) as call:
        for chunk in CHUNKS:
            call.chunk(chunk)
    with callspan.session("s", at=T0) as session, session.timestep(at=T0) as step:
        step.tool("t").start(at=T0).end(at=T0 + S)
        step.invoke_agent("a").start(at=T0).end(at=T0 + S)
        step.end(at=T0 + S)
    with callspan.timestep(at=T0):
        pass
    assert handle.force_flush()
    found = _measured(reader)
    assert {name for name in found if not name.startswith("callspan.delivery") and "spool" not in name} == set()
    with closing(callspan.open_store(str(tmp_path / "calls.db"))) as store:
        costs = {call.timing.start_ns: call.cost and call.cost.usd for call in store.calls() if call.usage}
        (summary,) = [one for one in store.sessions() if one.session.session_id == session.id]
    assert costs == {T0: Decimal(10), T0 + 365 * 24 * 3600 * S: Decimal(2)}
    assert summary.session.start_ns == T0
    with callspan.session("now"), callspan.tool("t"), callspan.record_call(provider="openai") as call:
        call.response(ANSWER)
    assert handle.force_flush()
    assert {"gen_ai.client.operation.duration", "callspan.client.cost"} <= _measured(reader)
    handle.uninstrument()
    reader.shutdown()


def _measured(reader: InMemoryMetricReader) -> set[str]:
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {one.name for scope in scopes for one in scope.metrics if list(one.data.data_points)}
