"""Sessions, timesteps, tools and environment steps as spans and rows: parents, attributes, own ids, given times."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

import callspan
from callspan import Handle, current_session, current_timestep, feedback, reward, session, tool
from callspan.records import (
    EventRecord,
    MessageRecord,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
)

if TYPE_CHECKING:
    from tests.agent.conftest import Seen


def test_an_episode_becomes_a_tree_of_spans(seen: Seen, parent_of: Callable[[ReadableSpan], int | None]) -> None:
    with session("gridworld", session_id="s1", user_id="u1", metadata={"seed": 7}) as episode:
        for _ in range(3):
            with episode.timestep() as step, step.tool("move", call="t1", arguments={"to": 3}) as moved:
                moved.result = "ok"
    (root,) = seen.named("invoke_workflow gridworld")
    steps = seen.named("timestep")
    tools = seen.named("execute_tool move")
    assert [parent_of(step) for step in steps] == [root.context.span_id] * 3
    assert [parent_of(run) for run in tools] == [step.context.span_id for step in steps]
    assert [step.attributes["callspan.step.index"] for step in steps] == [0, 1, 2]
    assert {span.kind for span in seen.spans} == {SpanKind.INTERNAL}
    assert {span.attributes["session.id"] for span in seen.spans} == {"s1"}
    assert {span.attributes["gen_ai.conversation.id"] for span in seen.spans} == {"s1"}
    assert root.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert root.attributes["gen_ai.workflow.name"] == "gridworld"
    assert root.attributes["openinference.span.kind"] == "CHAIN"
    assert json.loads(root.attributes["callspan.metadata"]) == {"seed": 7}
    assert root.attributes["callspan.totals.tools"] == 3
    assert not [name for name in root.attributes if name.startswith("gen_ai.usage")]


def test_a_timestep_is_written_at_its_start_so_that_a_killed_process_leaves_it(seen: Seen) -> None:
    with session("s") as episode, episode.timestep("look", turn=4, metadata={"a": 1}) as step:
        (first,) = seen.of(TimestepRecord)
        assert (first.timestep_id, first.session_id, first.index) == (step.id, episode.id, 0)
        assert (first.name, first.turn, first.metadata, first.end_ns) == ("look", 4, {"a": 1}, None)
        step.update(metadata={"b": 2, "a": None})
    last = seen.of(TimestepRecord)[-1]
    assert last.metadata == {"a": 1, "b": 2}
    assert last.outcome == "success"
    assert last.seen_ns > first.seen_ns


def test_an_environment_step_is_a_row_a_span_event_and_an_evaluation(seen: Seen) -> None:
    with session("s") as episode, episode.timestep() as step:
        step.action([3])
        step.environment({"at": [1, 2]}, reward=0.5, terminated=True, truncated=False, before={"at": [0, 2]})
    action, environment = seen.of(EventRecord)
    assert (action.event_type, action.data, action.sequence) == ("action", [3], 0)
    assert (environment.reward, environment.terminated, environment.truncated) == (0.5, True, False)
    assert environment.data == {"before": {"at": [0, 2]}, "after": {"at": [1, 2]}}
    (span,) = seen.named("timestep")
    events = {event.name: event for event in span.events}
    assert json.loads(events["callspan.action"].attributes["callspan.action"]) == [3]
    assert json.loads(events["callspan.environment"].attributes["callspan.observation"]) == {"at": [1, 2]}
    assert events["callspan.environment"].timestamp == environment.time_ns
    assert events["gen_ai.evaluation.result"].attributes["gen_ai.evaluation.score.value"] == 0.5
    assert span.attributes["callspan.reward"] == 0.5
    assert span.attributes["callspan.terminated"] is True
    assert seen.of(RewardRecord) == []
    assert seen.ended(TimestepRecord)[0].terminated is True


def test_messages_record_sender_and_receiver(seen: Seen) -> None:
    with session("s") as episode:
        first = episode.observation("a wall")
        with episode.timestep():
            episode.message({"go": "north"}, "action", "agent", "env", call="c1", causal_influence=[first])
    seen_first, second = seen.of(MessageRecord)
    assert (seen_first.message_type, seen_first.sender, seen_first.receiver) == ("observation", "env", "agent")
    assert seen_first.timestep_id is None
    assert (second.content, second.call_id, second.causal_influence) == ({"go": "north"}, "c1", [first])
    assert second.timestep == 0
    (event,) = seen.named("timestep")[0].events
    assert event.name == "callspan.message"
    assert json.loads(event.attributes["callspan.message.content"]) == {"go": "north"}


CALLS = {
    "chat dict": {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
    "chat object": SimpleNamespace(id="c1", function=SimpleNamespace(name="add", arguments='{"a": 1}')),
    "chat custom": {"id": "c1", "type": "custom", "custom": {"name": "add", "input": '{"a": 1}'}},
    "anthropic dict": {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
    "anthropic object": SimpleNamespace(type="tool_use", id="c1", name="add", input={"a": 1}),
    "responses dict": {"type": "function_call", "id": "item", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
    "responses object": SimpleNamespace(id="item", call_id="c1", name="add", arguments='{"a": 1}'),
}


@pytest.mark.parametrize("shape", CALLS)
def test_a_tool_reads_the_models_request_of_any_provider(seen: Seen, shape: str) -> None:
    with session("s") as episode, episode.timestep() as step, step.tool(call=CALLS[shape]) as run:
        run.result = {"sum": 2}
    (event,) = seen.of(EventRecord)
    assert (event.event_type, event.name, event.tool_call_id) == ("tool", "add", "c1")
    assert event.data == {"arguments": {"a": 1}, "result": {"sum": 2}}
    assert event.duration_ns > 0
    (span,) = seen.named("execute_tool add")
    assert span.attributes["gen_ai.tool.call.id"] == "c1"
    assert json.loads(span.attributes["gen_ai.tool.call.arguments"]) == {"a": 1}
    assert json.loads(span.attributes["gen_ai.tool.call.result"]) == {"sum": 2}
    assert span.attributes["gen_ai.tool.type"] == "function"
    assert span.attributes["gen_ai.operation.name"] == "execute_tool"
    assert seen.ended(TimestepRecord)[0].totals.tools == 1


def test_spans_of_the_user_are_between_step_and_call(
    seen: Seen, parent_of: Callable[[ReadableSpan], int | None]
) -> None:
    with session("s") as episode, seen.tracer.start_as_current_span("mine"), episode.timestep():
        pass
    (step,), (mine,), (root,) = seen.named("timestep"), seen.named("mine"), seen.named("invoke_workflow s")
    assert parent_of(step) == mine.context.span_id
    assert parent_of(mine) == root.context.span_id


def test_a_nested_session_knows_its_parent_and_restores_it(
    seen: Seen, parent_of: Callable[[ReadableSpan], int | None]
) -> None:
    with session("outer") as outer:
        with outer.timestep() as step:
            with session("inner") as inner:
                assert current_session() is inner
                assert current_timestep() is None
            assert current_timestep() is step
        assert current_session() is outer
        assert current_timestep() is None
    assert current_session() is None
    records = {record.name: record for record in seen.ended(SessionRecord)}
    assert records["inner"].parent_session_id == outer.id
    assert records["outer"].parent_session_id is None
    assert parent_of(seen.named("invoke_workflow inner")[0]) == seen.named("timestep")[0].context.span_id


def test_a_parent_may_be_given_as_session_or_id(seen: Seen, parent_of: Callable[[ReadableSpan], int | None]) -> None:
    outer = session("outer").start(current=False)
    with session("inner", parent=outer):
        pass
    with session("other", parent="s9"):
        pass
    outer.end()
    records = {record.name: record for record in seen.ended(SessionRecord)}
    assert records["inner"].parent_session_id == outer.id
    assert records["other"].parent_session_id == "s9"
    assert parent_of(seen.named("invoke_workflow inner")[0]) == seen.named("invoke_workflow outer")[0].context.span_id


def test_an_exception_marks_step_and_session_and_passes_unchanged(seen: Seen) -> None:
    error = RuntimeError("boom")
    with pytest.raises(RuntimeError) as caught, session("s") as episode, episode.timestep():
        raise error
    assert caught.value is error
    for record in (seen.ended(TimestepRecord)[0], seen.ended(SessionRecord)[0]):
        assert record.outcome == "error"
        assert (record.error.type, record.error.message) == ("RuntimeError", "boom")
    for span in seen.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RuntimeError"
        (event,) = [event for event in span.events if event.name == "exception"]
        assert event.attributes["exception.message"] == "boom"
        assert "test_hierarchy" in event.attributes["exception.stacktrace"]
    assert current_session() is current_timestep() is None


def test_an_interrupt_is_a_cancellation_not_an_error(seen: Seen) -> None:
    with pytest.raises(KeyboardInterrupt), session("s"):
        raise KeyboardInterrupt
    assert seen.ended(SessionRecord)[0].outcome == "cancelled"
    assert seen.spans[0].status.status_code is StatusCode.UNSET


def test_forgotten_steps_are_closed_with_their_session(seen: Seen) -> None:
    with session("s") as episode:
        forgotten = episode.timestep("forgotten").start()
    assert forgotten.state == "ended"
    assert len(seen.named("timestep forgotten")) == 1
    assert current_session() is current_timestep() is None


def test_the_inner_of_two_sessions_of_one_id_is_an_update_of_its_row(seen: Seen) -> None:
    with session("chat", session_id="both"):
        with session("chat", session_id="both") as again:
            again.observation("x")
        assert current_session() is not None
    inner, outer = seen.ended(SessionRecord)
    assert (inner.start_ns, inner.parent_session_id, outer.parent_session_id) == (None, None, None)
    assert inner.seen_ns < outer.seen_ns


def test_numpy_like_rewards_and_flags_are_read(seen: Seen) -> None:
    class Scalar:
        def __float__(self) -> float:
            return 0.5

        def __bool__(self) -> bool:
            return True

    with session("s") as episode, episode.timestep() as step:
        step.environment(reward=Scalar(), terminated=Scalar())
    (event,) = seen.of(EventRecord)
    assert (event.reward, event.terminated, event.data) == (0.5, True, None)


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


def test_a_step_keeps_the_applications_id_next_to_callspans(seen: Seen) -> None:
    with session("grid") as episode, episode.timestep(step_id="turn-1") as step:
        assert step.step_id == "turn-1"
        assert step.id != "turn-1"
    assert {record.user_step_id for record in seen.of(TimestepRecord)} == {"turn-1"}
    (span,) = seen.named("timestep")
    assert span.attributes["callspan.step.user_id"] == "turn-1"
    assert span.attributes["callspan.step.id"] == step.id


T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def test_every_recording_function_takes_a_time(seen: Seen) -> None:
    with session("s", at=T0) as own:
        with own.timestep(at=T0 + SECOND) as step:
            step.observation("x", at=T0 + 2)
            step.action(1, at=T0 + 3)
            step.environment("y", reward=1, at=T0 + 4)
            step.event("other", at=T0 + 5)
            step.reward(1, at=T0 + 6)
            step.end(at=T0 + 3 * SECOND)
        own.outcome(reward=1, at=T0 + 7)
        own.end(at=T0 + 4 * SECOND)
    reward(1, session_id=own.id, at=T0 + 8)
    feedback("c", 1, at=T0 + 9)
    assert [one.time_ns - T0 for one in seen.of(MessageRecord) + seen.of(EventRecord)] == [2, 3, 4, 5]
    assert [one.time_ns - T0 for one in seen.of(RewardRecord)] == [6, 7, 8, 9]
    (whole,), (turn,) = seen.ended(SessionRecord), seen.ended(TimestepRecord)
    assert (whole.start_ns, whole.end_ns) == (T0, T0 + 4 * SECOND)
    assert (turn.start_ns, turn.end_ns) == (T0 + SECOND, T0 + 3 * SECOND)
    (span,), (above,) = seen.named("timestep"), seen.named("invoke_workflow s")
    assert (span.start_time, span.end_time) == (turn.start_ns, turn.end_ns)
    assert (above.start_time, above.end_time) == (whole.start_ns, whole.end_ns)
    assert [event.timestamp - T0 for event in span.events] == [2, 3, 4, 4, 5, 6]
    late = [one for one in seen.spans if one.name.startswith("evaluation")]
    assert [(one.start_time - T0, one.end_time - T0) for one in late] == [(8, 1008), (9, 1009)]


@pytest.mark.parametrize(
    "given",
    [
        T0,
        T0 / SECOND,
        datetime.fromtimestamp(T0 // SECOND, tz=timezone.utc),
        datetime.fromtimestamp(T0 // SECOND, tz=timezone(timedelta(hours=-8))),
    ],
)
def test_nanoseconds_seconds_and_datetimes_mean_the_same(seen: Seen, given: Any) -> None:
    with session("s") as own:
        own.event("x", at=given)
    (event,) = seen.of(EventRecord)
    assert event.time_ns == T0


@pytest.mark.parametrize(
    "given",
    [
        datetime(2023, 11, 14, 22, 13, 20),  # noqa: DTZ001 - the zone is what it lacks
        1_700_000_000, 10**17 - 1, -1, 2**63, float("nan"), float("inf"), -0.5, "2026-11-20",
    ],
)  # fmt: skip
def test_with_an_invalid_time_nothing_is_recorded(seen: Seen, given: Any) -> None:
    with session("s") as own:
        own.event("x", at=given)
    assert seen.of(EventRecord) == []


def test_tools_and_steps_of_the_environment_may_be_recorded_afterwards(seen: Seen) -> None:
    with session("s") as own, own.timestep() as step:
        tool = step.tool("dig").start(at=T0)
        tool.result = "gold"
        tool.end(at=T0 + SECOND)
        world = step.environment_step().start(at=T0 + SECOND)
        world.set_result("wall", reward=1)
        world.end(at=T0 + 3 * SECOND)
    dug, moved = seen.of(EventRecord)
    assert (dug.time_ns, dug.duration_ns) == (T0, SECOND)
    assert (moved.time_ns, moved.duration_ns) == (T0 + SECOND, 2 * SECOND)
    assert seen.named("environment")[0].end_time == T0 + 3 * SECOND
    assert seen.ended(TimestepRecord)[0].totals.tool_ns == SECOND


def test_a_session_may_end_with_a_custom_outcome(seen: Seen) -> None:
    with session("s", metadata={"a": 1, "b": 1}) as episode:
        episode.update(status="waiting", metadata={"b": 2, "c": None})
        assert seen.of(SessionRecord)[-1].outcome == "waiting"
        episode.update(status="skipped")
    last = seen.ended(SessionRecord)[0]
    assert last.outcome == "skipped"
    assert last.metadata == {"a": 1, "b": 2}


def test_rewards_have_objectives_and_add_up(seen: Seen) -> None:
    with session("s") as episode:
        with episode.timestep() as step:
            step.reward(1, source="environment")
            step.reward(0.25, "style", "judge", "neat", label="good")
        episode.outcome(reward=2.0, success=True)
    first, second, whole = seen.of(RewardRecord)
    assert (first.value, first.scope, first.timestep_id) == (1.0, "event", step.id)
    assert (second.objective, second.source, second.annotation, second.label) == ("style", "judge", "neat", "good")
    assert (whole.scope, whole.value) == ("session", 2.0)
    event = seen.named("timestep")[0].events[1]
    assert event.name == "gen_ai.evaluation.result"
    assert event.attributes["gen_ai.evaluation.name"] == "style"
    assert event.attributes["gen_ai.evaluation.explanation"] == "neat"
    last = seen.ended(SessionRecord)[-1]
    assert (last.totals.reward, last.success, last.outcome) == (2.0, True, "success")
    step_totals = seen.ended(TimestepRecord)[0].totals
    assert (step_totals.reward, step_totals.rewards) == (1.0, {"style": 0.25})


def test_a_tool_that_fails_is_an_error_of_the_tool_only_where_it_is_caught(seen: Seen) -> None:
    with session("s") as episode, episode.timestep() as step:
        with pytest.raises(KeyError), step.tool("open"):
            raise KeyError("door")
        with step.tool("close") as run:
            run.error = "no door"
    first, second = seen.of(EventRecord)
    assert (first.error.type, second.error.message) == ("KeyError", "no door")
    assert seen.named("execute_tool open")[0].status.status_code is StatusCode.ERROR
    assert seen.named("execute_tool close")[0].status.status_code is StatusCode.ERROR
    assert seen.named("timestep")[0].status.status_code is StatusCode.UNSET


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Handle, str]]:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    handle = callspan.instrument(stores=url)
    yield handle, url
    handle.uninstrument()


def test_a_store_orders_events_by_the_given_times_not_by_writing(stored: tuple[Handle, str]) -> None:
    """Written backwards, read forwards; at equal times in the order of writing."""
    with callspan.session("log", at=T0) as own:
        with own.timestep("second", at=T0 + 2 * SECOND) as step:
            step.event("d", at=T0 + 3 * SECOND)
            step.event("c", at=T0 + 2 * SECOND)
            step.end(at=T0 + 4 * SECOND)
        with own.timestep("first", at=T0) as step:
            step.event("a", at=T0)
            step.event("b", at=T0)
            step.end(at=T0 + SECOND)
        own.end(at=T0 + 5 * SECOND)
    handle, url = stored
    assert handle.force_flush(30_000)
    with closing(callspan.open_store(url)) as reader:
        events: list[Any] = list(reader.events(own.id))
        assert [one.event_type for one in events] == ["a", "b", "c", "d"]
        assert [step.name for step in reader.timesteps(own.id)] == ["first", "second"]
        summary = reader.session(own.id)
    assert summary is not None
    assert (summary.session.start_ns, summary.session.end_ns) == (T0, T0 + 5 * SECOND)
