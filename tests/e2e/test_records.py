"""The normalised record: the same parts for every API, joined to its span, with correct times."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from callspan import Handle
from callspan.testing import Captured
from tests.e2e.ask import APIS, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.mark.parametrize("api", APIS)
def test_the_bodies_are_those_of_the_wire(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """The request to the byte, the answer value for value."""
    run(lambda: response_of(mode, api, extra_body={"zzz": [1, {"é": None}], "aaa": 1}))
    record = the_call(seen)
    assert bytes(record.request.body) == mode.provider.requests[0].content
    assert record.response is not None
    assert json.loads(bytes(record.response.body))["id"] == record.response.id
    assert record.request.body_bytes == len(mode.provider.requests[0].content)


@pytest.mark.parametrize("api", APIS)
def test_times_are_utc_and_agree_with_the_latency(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Aware times, start before end, and their difference is the latency within a millisecond."""
    mode.provider.reply(text="well", delay_s=0.03)
    before = datetime.now(timezone.utc)
    run(lambda: response_of(mode, api))
    after = datetime.now(timezone.utc)
    timing = the_call(seen).timing
    assert timing.duration_ns is not None
    started = datetime.fromtimestamp(timing.start_ns / 1e9, timezone.utc)
    ended = datetime.fromtimestamp((timing.start_ns + timing.duration_ns) / 1e9, timezone.utc)
    slack = timedelta(milliseconds=5)
    assert before - slack <= started < ended <= after + slack
    latency = shown(seen)["llm.total_latency"]
    assert abs((ended - started) / timedelta(milliseconds=1) - latency) <= 1
    (span,) = seen.spans
    assert span.start_time == timing.start_ns


@pytest.mark.parametrize("sampled", [True, False])
def test_every_call_is_a_line_and_a_span_and_without_sampling_still_a_line(
    sampled: bool, mode: Mode, run: Run, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    """Five calls: five JSON lines, each with the ids of its span; sampled out there are lines all the same."""
    exporter = InMemorySpanExporter()
    own = TracerProvider() if sampled else TracerProvider(sampler=ALWAYS_OFF)
    own.add_span_processor(SimpleSpanProcessor(exporter))
    handle = instrumented(tracer_provider=own, stores=f"jsonl:///{tmp_path}/calls.jsonl")
    for api in (*APIS, *APIS[:2]):
        run(lambda api=api: response_of(mode, api))  # type: ignore[misc]
    assert handle.force_flush(60_000)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_bytes().splitlines()]
    assert len({line["call_id"] for line in lines}) == 5
    spans = {f"{span.context.span_id:016x}" for span in exporter.get_finished_spans() if span.context is not None}
    assert len(spans) == (5 if sampled else 0)
    if sampled:
        assert {line["span_id"] for line in lines} == spans
    assert all(line["request"]["body"] for line in lines)
