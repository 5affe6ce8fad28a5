"""A long session: what it keeps does not grow with its steps."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from opentelemetry.sdk.trace import TracerProvider

from callspan.agent.api import session, tool
from callspan.agent.context import current_scope
from callspan.agent.runtime import Runtime, install, remove
from callspan.agent.sessions import Session
from callspan.record.call import CallRecord, Timing
from callspan.spans.hierarchy import TracedHierarchy

CALL = CallRecord(call_id="c", timing=Timing(start_ns=1))


@pytest.mark.parametrize("trace_per_timestep", [False, True])
def test_memory_stays_flat_however_many_steps_a_session_has(trace_per_timestep: bool) -> None:
    hierarchy = TracedHierarchy(TracerProvider().get_tracer("tests"))
    install(Runtime(write=lambda record: None, spans=hierarchy, trace_per_timestep=trace_per_timestep))
    tracemalloc.start()
    try:
        with session("endless") as own:
            play(own, 1000)
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
            current_scope().call_ended(CALL)
            run.result = index
            step.environment({"index": index}, reward=1.0)


def measured() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
