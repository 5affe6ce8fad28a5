"""Attributes of sessions, steps and operations: names, absent values, and which are content."""

from __future__ import annotations

import json

import pytest

from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord, Totals
from callspan.semconv import events as events_of
from callspan.semconv import session as names
from callspan.semconv.content_attributes import ByteBudget

SESSION = SessionRecord(session_id="s", seen_ns=1, name="gridworld", user_id="u", group_id="g", task_id="t")
STEP = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0, name="look", turn=2)
TOOL = EventRecord(
    event_id="e", event_type="tool", name="move", time_ns=1, data={"arguments": {"to": 1}, "result": None}
)


def budget() -> ByteBudget:
    return ByteBudget(1000, 1000)


def test_span_names_have_few_values() -> None:
    assert names.span_name(SESSION) == "invoke_workflow gridworld"
    assert names.span_name(SessionRecord(session_id="s", seen_ns=1)) == "invoke_workflow"
    assert names.span_name(STEP) == "timestep look"
    assert names.span_name(TOOL) == "execute_tool move"


def test_the_index_of_the_first_step_is_zero_and_shown() -> None:
    assert names.start_attributes(STEP)["callspan.step.index"] == 0


def test_the_kind_that_phoenix_reads_is_there() -> None:
    kinds = [names.start_attributes(record)["openinference.span.kind"] for record in (SESSION, STEP, TOOL)]
    assert kinds == ["CHAIN", "CHAIN", "TOOL"]


def test_arguments_and_results_are_json_text_and_null_is_a_result() -> None:
    content = names.span_content(TOOL, budget())
    assert json.loads(str(content["gen_ai.tool.call.arguments"])) == {"to": 1}
    assert content["gen_ai.tool.call.result"] == "null"


def test_the_label_of_an_environments_reward_says_whether_the_episode_continues() -> None:
    def label(**end: bool) -> object:
        record = EventRecord(event_id="e", event_type="environment", time_ns=1, reward=1.0, **end)  # type: ignore[arg-type]
        return (events_of.evaluation_attributes(record) or {}).get("gen_ai.evaluation.score.label")

    assert label() == label(terminated=False, truncated=False) == "continue"
    assert label(terminated=True) == "terminated"
    assert label(truncated=True) == "truncated"
    assert events_of.evaluation_attributes(TOOL) is None


def test_content_is_only_in_the_content_functions() -> None:
    secret = "xyzzy"
    events: list[Record] = [
        EventRecord(event_id="e", event_type="action", time_ns=1, data=secret),
        EventRecord(event_id="e", event_type="environment", time_ns=1, data={"after": secret, "before": secret}),
        EventRecord(event_id="e", event_type="mine", time_ns=1, data=[secret]),
        MessageRecord(message_id="m", message_type="observation", time_ns=1, content=secret),
        RewardRecord(reward_id="r", time_ns=1, annotation=secret),
    ]
    for record in events:
        assert secret not in str(events_of.event_attributes(record))
        assert secret in str(events_of.event_content(record, budget()))
    assert [events_of.event_name(record) for record in events] == [
        "callspan.action",
        "callspan.environment",
        "callspan.mine",
        "callspan.message",
        "gen_ai.evaluation.result",
    ]
    assert events_of.event_attributes(SESSION) == {}
    assert names.start_attributes(events[-1]) == {}


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "model_ns", "tool_ns", "rest_s"),
    [
        (10, 10_000_010, 4_000_000, 1_000_000, 0.005),
        (10, 10_000_010, 4_000_000, 0, 0.006),
        (10, 10_000_010, 0, 4_000_000, 0.006),
        (10, 10_000_010, 8_000_000, 4_000_000, 0.0),
        (10, 10_000_010, 0, 0, None),
        (10, None, 1, 0, None),
        (None, 10, 1, 0, None),
    ],
)
def test_a_steps_rest_is_its_time_outside_calls_and_tools(
    start_ns: int | None, end_ns: int | None, model_ns: int, tool_ns: int, rest_s: float | None
) -> None:
    """Never less than nothing, as calls may run side by side; and only where there was one of them."""
    ended = TimestepRecord(
        timestep_id="t", session_id="s", seen_ns=1, index=0, start_ns=start_ns, end_ns=end_ns,
        totals=Totals(model_ns=model_ns, tool_ns=tool_ns),
    )  # fmt: skip
    assert names.end_attributes(ended).get("callspan.totals.rest_s") == rest_s
    assert "callspan.totals.rest_s" not in names.end_attributes(SessionRecord(session_id="s", seen_ns=1))
