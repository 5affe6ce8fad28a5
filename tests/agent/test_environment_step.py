"""Environment steps: recorded afterwards, or timed by a span."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from tests.processed import processed

from callspan import current_timestep, session, tool
from callspan.agent.scope import current_scope
from callspan.records import CallRecord, EventRecord, TimestepRecord, Timing

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


def test_calls_inside_the_environment_count_in_its_timestep(seen: Seen) -> None:
    """A simulated user or a judge is a model too."""
    with session("s") as own, own.timestep() as step, step.environment_step() as world:
        assert current_timestep() is step
        assert current_scope() is world
        current_scope()._call_ended(processed(CallRecord(call_id="c", timing=Timing(start_ns=1, duration_ns=5))))
        world.set_result("said")
    (ended,) = seen.ended(TimestepRecord)
    assert (ended.totals.calls, ended.totals.model_ns) == (1, 5)


def test_an_environment_that_raises_is_an_error_of_its_span(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        with pytest.raises(KeyError), step.environment_step():
            raise KeyError("hole")
        step.environment("after", reward=1)
    failed, reported = seen.of(EventRecord)
    assert (failed.error.type, failed.data, failed.reward) == ("KeyError", None, None)
    assert reported.error is None
    assert [span.status.status_code for span in seen.named("environment")] == [StatusCode.ERROR]
    assert seen.named("timestep")[0].status.status_code == StatusCode.UNSET


def test_a_timed_step_of_a_session_belongs_to_the_step_the_code_is_in(seen: Seen) -> None:
    with session("s") as own:
        with own.environment_step() as world:
            world.set_result("reset")
        with own.timestep() as step, own.environment_step() as world:
            world.set_result("moved")
    assert [event.timestep_id for event in seen.of(EventRecord)] == [None, step.id]


def test_the_last_result_of_the_environment_counts(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step, step.environment_step() as world:
        world.set_result("first", reward=1)
        world.set_result("last", reward=2, truncated=True)
    (event,) = seen.of(EventRecord)
    assert (event.data, event.reward, event.truncated) == ({"after": "last"}, 2.0, True)


def test_without_a_runtime_a_timed_step_just_runs(no_runtime: None) -> None:
    with session("s") as own, own.timestep() as step, step.environment_step() as world:
        world.set_result("x", reward=1)
        assert world.session is own
        assert world._step is step
