"""Sessions, timesteps, tools, environments: spans and rows, parents, times, metadata, callbacks and carriers."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgspec
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, use_span
from tests.sessions.conftest import Seen, merged_versions, parent_of
from tests.support.calls import ask
from tests.support.programs import REMOTE
from tests.support.records import SECOND

from callspan import add_callback, current_session, current_timestep, feedback, metadata, reward, session, tool
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Tree,
    links_of,
)
from callspan.testing import capture


def test_user_spans_are_nested_between_session_spans(seen: Seen) -> None:
    mine = TracerProvider().get_tracer("app")
    with session("gridworld") as episode, mine.start_as_current_span("mine") as between:
        for number in range(3):
            with episode.timestep(step_id=f"turn-{number}"):
                pass
    steps = seen.named("timestep")
    assert [parent_of(step) for step in steps] == [between.get_span_context().span_id] * 3
    assert parent_of(between) == seen.the("invoke_workflow gridworld").context.span_id
    assert [step.attributes["callspan.step.index"] for step in steps] == [0, 1, 2]


def test_what_runs_in_spans_of_the_application_stands_below_the_nearest_scope(
    seen: Seen, client: openai.OpenAI
) -> None:
    """An agent, not its timestep; the spans themselves keep their parents."""
    mine = TracerProvider().get_tracer("app").start_as_current_span
    with session("s") as episode, episode.timestep() as step:
        with step.invoke_agent("planner") as agent, mine("outer"), mine("between") as between:
            ask(client)
            with step.tool("x") as run, mine("within"):
                ask(client)
            list(ask(client, stream=True))
        ask(client)
        with mine("around an agent"), step.invoke_agent("critic") as critic:
            ask(client)
    ended = [call for call in seen.of(CallRecord) if call.part == "ended"]
    runs = [run for run in seen.of(EventRecord) if run.span_id is not None]
    records = [*seen.ended(TimestepRecord), *ended, *runs]
    tree = Tree(map(links_of, records))
    above = [tree.parent_id(number) for number, record in enumerate(records) if isinstance(record, CallRecord)]
    assert above == [agent.id, run.id, agent.id, step.id, critic.id]
    assert {tree.parent_id(number) for number, record in enumerate(records) if record in runs} == {agent.id, step.id}
    assert ended[0].parent_span_id == f"{between.get_span_context().span_id:016x}"
    assert [record.trace is None for record in ended] == [False, False, False, True, True]


def test_row_is_written_at_the_start_and_updated(seen: Seen) -> None:
    """So that a killed process leaves it."""
    with session("s", metadata={"a": 1, "b": 1}) as episode:
        with episode.timestep("look", turn=4, metadata={"a": 1}) as step:
            (first,) = seen.of(TimestepRecord)
            assert (first.timestep_id, first.turn, first.metadata, first.end_ns) == (step.id, 4, {"a": 1}, None)
            step.update(metadata={"b": 2, "a": None})
        episode.timestep("forgotten").start()
        episode.update(status="waiting", metadata={"b": 2, "c": None})
        assert seen.of(SessionRecord)[-1].outcome == "waiting"
        episode.update(status="skipped")
    last, forgotten = seen.ended(TimestepRecord)
    assert (last.metadata, last.outcome, last.seen_ns > first.seen_ns) == ({"a": 1, "b": 2}, "success", True)
    assert (forgotten.name, len(seen.named("timestep forgotten"))) == ("forgotten", 1)
    (whole,) = seen.ended(SessionRecord)
    assert (whole.outcome, whole.metadata) == ("skipped", {"a": 1, "b": 2})
    assert current_session() is current_timestep() is None


def test_session_accepts_labels_during_and_after_it_runs(seen: Seen) -> None:
    """None leaves one as it is; its span has those that it has at its end."""
    with session("s", experiment="first", task_id="t") as episode:
        episode.update(experiment="second", group_id="g")
    assert seen.the("invoke_workflow s").attributes["callspan.experiment"] == "second"
    episode.update(user_id="u", experiment=None)
    last = seen.of(SessionRecord)[-1]
    assert (last.experiment, last.task_id, last.group_id, last.user_id) == ("second", "t", "g", "u")


class Scalar:
    """An array or tensor of one element, which is no number by itself."""

    def item(self) -> float:
        return 0.5

    def __bool__(self) -> bool:
        return True


def test_reward_and_flag_accept_one_element_arrays(seen: Seen) -> None:
    scalar: Any = Scalar()
    with session("s") as episode, episode.timestep() as step:
        result = {"at": [1, 2]}, scalar, scalar, False, {"lives": 3}  # as `env.step` returns it
        step.environment(*result)
    (environment,) = seen.of(EventRecord)
    assert (environment.reward, environment.terminated) == (0.5, True)
    assert environment.data == {"after": {"at": [1, 2]}, "info": {"lives": 3}}
    assert seen.ended(TimestepRecord)[0].terminated is True


CALLS = {
    "chat dict": {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
    "chat object": SimpleNamespace(id="c1", function=SimpleNamespace(name="add", arguments='{"a": 1}')),
    "chat custom": {"id": "c1", "type": "custom", "custom": {"name": "add", "input": '{"a": 1}'}},
    "anthropic dict": {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
    "anthropic object": SimpleNamespace(type="tool_use", id="c1", name="add", input={"a": 1}),
    "responses dict": {"type": "function_call", "id": "item", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
    "responses action": {"type": "shell_call", "call_id": "c1", "name": "add", "action": {"a": 1}},
    "responses object": SimpleNamespace(id="item", call_id="c1", name="add", arguments='{"a": 1}'),
}


@pytest.mark.parametrize("shape", CALLS)
def test_tool_reads_the_request_of_any_provider(seen: Seen, shape: str) -> None:
    with session("s") as episode, episode.timestep() as step, step.tool(call=CALLS[shape]) as run:
        run.result = {"sum": 2}
    (event,) = seen.of(EventRecord)
    assert (event.event_type, event.name, event.tool_call_id) == ("tool", "add", "c1")
    assert event.data == {"arguments": {"a": 1}, "result": {"sum": 2}}
    assert event.duration_ns > 0
    assert seen.the("execute_tool add").attributes["gen_ai.tool.call.id"] == "c1"
    assert seen.ended(TimestepRecord)[0].totals.tools == 1


def test_session_runs_while_it_was_begun_again_whatever_the_clock_says(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back by an hour between its turns: no earlier end stands, and each new one does."""
    real = time.time_ns

    def merged() -> set[tuple[bool, bool]]:
        """Whether it has an end, after its start: by the versions so far, in several orders."""
        versions = seen.of(SessionRecord)
        orders = versions, versions[::-1], versions[1::2] + versions[::2]
        wholes = map(merged_versions, orders)
        return {(whole.end_ns is not None, (whole.end_ns or 0) >= (whole.start_ns or 0)) for whole in wholes}

    for turn in range(4):
        monkeypatch.setattr(time, "time_ns", lambda back=turn: real() - back * 3600 * SECOND)
        with session("s", session_id="s") as own:
            own.update(status=None, metadata={"turn": turn})
            if turn == 2:
                with session("s", session_id="s"):
                    assert merged() == {(False, False)}
            assert merged() == {(False, False)}
        assert merged() == {(True, True)}
        own.update(metadata={"ended": turn})
        assert merged() == {(True, True)}


def test_nested_session_has_and_restores_its_parent(seen: Seen) -> None:
    """The parent may be given, as session or id; a session of the same id is an update of its row."""
    with session("outer") as outer:
        with outer.timestep() as step:
            with session("inner") as inner:
                assert current_session() is inner
                assert current_timestep() is None
            assert current_timestep() is step
        with session("again", session_id=outer.id):
            pass
        assert current_session() is outer
        assert current_timestep() is None
    assert current_session() is None
    apart = session("apart").start(current=False)
    for name, parent in (("by object", apart), ("by id", 9)):
        with session(name, parent=parent):
            pass
    apart.end()
    records = {record.name: record for record in seen.of(SessionRecord)}
    parents = {name: record.parent_session_id for name, record in records.items()}
    assert parents == {
        "inner": outer.id, "again": None, "outer": None, "by object": apart.id, "by id": "9", "apart": None,
    }  # fmt: skip
    assert (records["again"].start_ns, records["again"].end_ns) == (None, None)
    assert records["again"].seen_ns < records["outer"].seen_ns
    assert parent_of(seen.the("invoke_workflow inner")) == seen.the("timestep").context.span_id
    assert parent_of(seen.the("invoke_workflow by object")) == seen.the("invoke_workflow apart").context.span_id


def test_continued_session_repeats_its_start(seen: Seen) -> None:
    for _ in range(2):
        with session("chat", session_id="c"):
            pass
    first, second = seen.ended(SessionRecord)
    assert second.start_ns >= first.end_ns


def test_exception_marks_step_and_session_and_propagates(seen: Seen) -> None:
    error = RuntimeError("boom")
    with pytest.raises(RuntimeError) as caught, session("s") as episode, episode.timestep():
        raise error
    assert caught.value is error
    for record in (seen.ended(TimestepRecord)[0], seen.ended(SessionRecord)[0]):
        assert record.outcome == "error"
        assert (record.error.type, record.error.message) == ("RuntimeError", "boom")
    assert {span.status.status_code for span in seen.spans} == {StatusCode.ERROR}
    assert current_session() is current_timestep() is None


def test_interrupt_is_a_cancellation(seen: Seen) -> None:
    with pytest.raises(KeyboardInterrupt), session("s"):
        raise KeyboardInterrupt
    assert seen.ended(SessionRecord)[0].outcome == "cancelled"
    assert seen.spans[0].status.status_code is StatusCode.UNSET


def test_timed_step_has_equal_span_and_row_durations(seen: Seen) -> None:
    """An agent around it does not act in it."""
    with session("s") as own, own.timestep() as step, step.invoke_agent("boss"), step.environment_step() as world:
        world.set_result({"x": 1}, reward=0.5, terminated=True)
    event, _ = seen.of(EventRecord)
    assert event.system is None
    span = seen.the("environment")
    assert parent_of(span) == seen.the("invoke_agent boss").context.span_id
    assert span.end_time - span.start_time == event.duration_ns
    assert span.attributes["callspan.step.id"] == step.id
    assert span.attributes["callspan.terminated"] is True


T0 = 1_700_000_000_000_000_000


class Int64:
    """A time of a log that NumPy or pandas has read, which is no int."""

    def __index__(self) -> int:
        return T0


def test_recording_functions_accept_a_time(seen: Seen) -> None:
    """In nanoseconds, in seconds, or as a datetime of any zone."""
    end = datetime.fromtimestamp(T0 // SECOND + 4, tz=timezone(timedelta(hours=-8)))
    with session("s", at=Int64()) as own:
        with own.timestep(at=T0 / SECOND + 1) as step:
            step.observation("x", at=T0 + 2)
            step.action(1, at=T0 + 3)
            step.environment("y", reward=1, at=T0 + 4)
            step.event("other", at=T0 + 5)
            step.reward(1, at=T0 + 6)
            dig = step.tool("dig").start(at=T0 + 10)
            step.tool("within").start(at=T0 + 10).end(at=T0 + 15)
            dig.end(at=T0 + 20)
            world = step.environment_step().start(at=T0 + 20)
            world.set_result("wall", reward=1)
            world.end(at=T0 + 5_020)
            step.end(at=T0 + 3 * SECOND)
        own.outcome(reward=1, at=T0 + 7)
        own.end(at=end)
    reward(1, session_id=own.id, at=T0 + 8)
    feedback("c", 1, at=T0 + 9)
    assert [one.time_ns - T0 for one in seen.of(MessageRecord) + seen.of(EventRecord)] == [2, 3, 4, 5, 10, 10, 20]
    assert [one.duration_ns for one in seen.of(EventRecord)] == [None, None, None, 5, 10, 5_000]
    assert [one.time_ns - T0 for one in seen.of(RewardRecord)] == [6, 7, 8, 9]
    (whole,), (turn,) = seen.ended(SessionRecord), seen.ended(TimestepRecord)
    assert (whole.start_ns, whole.end_ns) == (T0, T0 + 4 * SECOND)
    assert (turn.start_ns, turn.end_ns) == (T0 + SECOND, T0 + 3 * SECOND)
    assert turn.totals.tool_ns == 10
    spans = {"timestep": turn, "invoke_workflow s": whole}
    for name, record in spans.items():
        assert (seen.the(name).start_time, seen.the(name).end_time) == (record.start_ns, record.end_ns)
    assert seen.the("environment").end_time == T0 + 5_020
    assert [event.timestamp - T0 for event in seen.the("timestep").events] == [2, 3, 4, 4, 5, 6]
    late = [one for one in seen.spans if one.name.startswith("evaluation")]
    assert [(one.start_time - T0, one.end_time - T0) for one in late] == [(8, 1008), (9, 1009)]


def test_innermost_metadata_wins_on_every_row(seen: Seen) -> None:
    with (
        metadata(application="shop", purpose="outer", colour="red", extra=MappingProxyType({"lr": 0.1})),
        session("s", metadata={"seed": 7}) as own,
        own.timestep(metadata={"purpose": "mine"}) as step,
    ):
        with metadata(purpose="inner"):
            step.observation("x")
            step.event("e", metadata={"own": 1})
            step.environment("y", reward=1)
            step.reward(1)
            own.outcome(reward=1)
        with tool("t"):
            pass
    around = {"application": "shop", "purpose": "outer", "extra": {"lr": 0.1, "colour": "red"}}
    inner = {**around, "purpose": "inner"}
    assert seen.ended(SessionRecord)[0].metadata == {**around, "seed": 7}
    assert seen.ended(TimestepRecord)[0].metadata == {**around, "purpose": "mine"}
    assert seen.of(MessageRecord)[0].metadata == inner
    event, world, run = seen.of(EventRecord)
    assert event.metadata == {**inner, "own": 1}
    assert (world.metadata, run.metadata) == (inner, around)
    assert [one.metadata for one in seen.of(RewardRecord)] == [inner, inner]


def test_callback_results_are_processed(seen: Seen) -> None:
    def enrich(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={"password": "hunter2"})

    with ExitStack() as added, session("s") as own:
        added.callback(add_callback("before_record", enrich, kinds=["action"]))
        own.action(1)
        own.event("other")
    assert [sorted(event.metadata) for event in seen.of(EventRecord)] == [["password"], []]
    assert "hunter2" not in repr(seen.records)


def test_callback_receives_its_record(seen: Seen) -> None:
    expected = {
        "session_start": 1,
        "session_end": 1,
        "timestep_start": 2,
        "timestep_end": 2,
        "event": 3,
        "message": 1,
        "before_record": 11,
        "after_record": 11,
    }
    called: list[str] = []
    with ExitStack() as added:
        for point in expected:
            added.callback(add_callback(point, lambda _, point=point: called.append(point)))  # type: ignore[call-overload]
        with session("s") as own:
            own.observation("x")
            own.timestep().start()  # left open: closed with its session, and its callback called
            with own.timestep() as step, step.tool("t"):
                step.action(1)
                step.handoff("billing")  # has no record at its start, but a span
    assert Counter(called) == expected
    assert len(seen.records) == 11
    with pytest.raises(ValueError, match="'nowhere'; one of session_start"):
        add_callback("nowhere", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampled", [True, False])
def test_carrier_contains_the_sampling_decision(seen: Seen, sampled: bool) -> None:
    """It may have travelled as HTTP headers."""
    above = SpanContext(REMOTE.trace_id, REMOTE.span_id, is_remote=True, trace_flags=TraceFlags(int(sampled)))
    with (
        use_span(NonRecordingSpan(above)),
        session("shared/ä", session_id="会話\n50%25", metadata={"secret": "x"}) as own,
    ):
        headers = {key.title(): value for key, value in own.carrier().items()}
    assert "secret" not in str(headers)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    with session(carrier={**headers, "Accept": "*/*"}) as again, again.timestep():
        assert (again.id, again.name) == (own.id, "shared/ä")
    with session(carrier={"callspan-session": "a%00b", "callspan-session-name": "%00"}) as hostile:
        assert "\0" not in f"{hostile.id}{hostile.name}"
    assert len(seen.named("timestep")) == int(sampled)
    assert seen.ended(TimestepRecord)[0].session_id == own.id


def test_observations_and_actions_have_the_fields_of_messages_and_events() -> None:
    with capture() as captured, session("s") as own, own.timestep() as step:
        step.observation("x", metadata={"depth": 2}, sequence=7)
        step.action("north", call="call-1", sequence=8)
    (observation,), (action,) = captured.messages, [event for event in captured.events if event.event_type == "action"]
    assert (observation.metadata, observation.external_sequence) == ({"depth": 2}, 7)
    assert (action.call_id, action.external_sequence) == ("call-1", 8)
