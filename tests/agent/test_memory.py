"""A long session: its memory does not grow with the number of steps."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from tests.processed import UNPROCESSED, processed

import callspan
from callspan import Session, session, tool
from callspan.agent.runtime import Runtime, install, remove
from callspan.agent.scope import current_scope
from callspan.records import CallRecord, Timing
from callspan.spans.session import SessionSpans

STATM = Path("/proc/self/statm")
CALL = CallRecord(call_id="c", timing=Timing(start_ns=1))


@pytest.mark.parametrize("trace_per_timestep", [False, True])
def test_memory_stays_flat_however_many_steps_a_session_has(trace_per_timestep: bool) -> None:
    hierarchy = SessionSpans(TracerProvider().get_tracer("tests"))
    runtime = {"write": lambda record: None, "spans": hierarchy, "trace_per_timestep": trace_per_timestep}
    install(Runtime(processors=lambda _level: UNPROCESSED, withheld=UNPROCESSED, **runtime))
    tracemalloc.start()
    try:
        with session("endless") as own:
            play(own, 2100)  # twice what is remembered
            before = measured()
            play(own, 1000)
            assert measured() - before < 15_000
    finally:
        tracemalloc.stop()
        remove()


def play(own: Session, steps: int) -> None:
    for index in range(steps):
        own.observation({"index": index})
        with own.timestep() as step, tool("move") as run:
            current_scope()._call_ended(processed(CALL))
            run.result = index
            step.environment({"index": index}, reward=1.0)


def measured() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident size from /proc")
@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_a_very_long_session_takes_no_more_memory_than_a_long_one(trace_per: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    handle = callspan.instrument(tracer_provider=provider, trace_per=trace_per)
    try:
        with callspan.session("endless") as own:
            walk(own, 15_000)
            before = resident_mib()
            walk(own, 60_000)
            grown = resident_mib() - before
    finally:
        handle.uninstrument()
        provider.shutdown()
    assert grown < 3, "MiB: 50 bytes a step would be an object that is kept"


def walk(own: Session, steps: int) -> None:
    for index in range(steps):
        with own.timestep() as step:
            step.environment(index, reward=1.0)


def resident_mib() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS
