"""The normalised record: the same parts for every API, joined to its span, with correct times."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from callspan import Handle
from tests.e2e.ask import APIS, response_of
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


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
