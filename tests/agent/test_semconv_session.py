"""Attributes of sessions, steps and operations: names, absent values, and which are content."""

from __future__ import annotations

from callspan.records import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord
from callspan.semconv import events as events_of
from callspan.semconv import session as names
from callspan.semconv.content_attributes import ByteBudget

SESSION = SessionRecord(session_id="s", seen_ns=1, name="gridworld", user_id="u", group_id="g", task_id="t")


def budget() -> ByteBudget:
    return ByteBudget(1000, 1000)


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
