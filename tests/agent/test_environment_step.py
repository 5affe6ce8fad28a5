"""Environment steps: recorded afterwards, or timed by a span."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan

from callspan import session, tool
from callspan.records import EventRecord, TimestepRecord

if TYPE_CHECKING:
    from tests.agent.conftest import Seen

ParentOf = Callable[[ReadableSpan], "int | None"]


def test_a_timed_step_is_a_span_and_one_row_with_its_duration(seen: Seen, parent_of: ParentOf) -> None:
    with session("s") as own, own.timestep() as step:
        with step.environment_step(before={"x": 0}) as world:
            time.sleep(0.002)
            world.set_result({"x": 1}, reward=0.5, terminated=True, truncated=False, info={"lives": 3})
        with tool("t"):
            pass
    (event, _) = seen.of(EventRecord)
    assert event.event_type == "environment"
    assert event.data == {"before": {"x": 0}, "after": {"x": 1}, "info": {"lives": 3}}
    assert (event.reward, event.terminated, event.truncated) == (0.5, True, False)
    assert (event.session_id, event.timestep_id, event.timestep) == (own.id, step.id, 0)
    assert event.duration_ns >= 2_000_000
    (span,) = seen.named("environment")
    (above,) = seen.named("timestep")
    assert parent_of(span) == above.context.span_id
    assert span.end_time - span.start_time == event.duration_ns
    assert span.attributes["callspan.reward"] == 0.5
    assert span.attributes["callspan.terminated"] is True
    assert span.attributes["callspan.observation"] == '{"x":1}'
    assert span.attributes["callspan.step.id"] == step.id
    assert [found.name for found in span.events] == ["gen_ai.evaluation.result"]
    assert seen.ended(TimestepRecord)[0].terminated is True
    assert seen.ended(TimestepRecord)[0].totals.reward == 0.5


def test_without_a_runtime_a_timed_step_just_runs(no_runtime: None) -> None:
    with session("s") as own, own.timestep() as step, step.environment_step() as world:
        world.set_result("x", reward=1)
        assert world.session is own
        assert world._step is step
