"""A long session: its memory does not grow with the number of steps."""

from __future__ import annotations

import gc
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import callspan
from callspan import Session

STATM = Path("/proc/self/statm")


@pytest.mark.timeout(900)
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident size from /proc")
@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_a_very_long_session_takes_no_more_memory_than_a_long_one(trace_per: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    handle = callspan.instrument(tracer_provider=provider, trace_per=trace_per)
    try:
        with callspan.session("endless") as own:
            walk(own, 10_000)
            before = resident_mib()
            walk(own, 30_000)
            grown = resident_mib() - before
    finally:
        handle.uninstrument()
        provider.shutdown()
    assert grown < 1.5, "MiB: 50 bytes a step would be an object that is kept"


def walk(own: Session, steps: int) -> None:
    for index in range(steps):
        own.observation(index)
        with own.timestep() as step, callspan.tool("move") as run:
            run.result = index
            step.environment(index, reward=1.0)


def resident_mib() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS
