"""The `callspan.*` attributes of calls, events and enclosing scopes: one case each, unknown ones absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from callspan.records import (
    Attempt,
    CallRecord,
    EventRecord,
    MessageRecord,
    Place,
    Record,
    RewardRecord,
    Timing,
    Usage,
)
from callspan.semconv import call, events
from callspan.semconv.content_attributes import Attributes, ByteBudget


def record(**fields: Any) -> CallRecord:
    return CallRecord(**({"call_id": "c", "timing": Timing(start_ns=1)} | fields))


def room(size: int = 1_000) -> ByteBudget:
    return ByteBudget(size, size)


@pytest.mark.parametrize(
    ("number", "fields", "attributes"),
    [
        (1, {}, {}),
        (3, {}, {"http.request.resend_count": 2}),
        (1, {"server_address": "h", "server_port": 1, "place": Place(session_id="s")},
         {"server.address": "h", "server.port": 1, "session.id": "s"}),
    ],
)  # fmt: skip
def test_an_attempt_as_a_span(number: int, fields: dict[str, Any], attributes: dict[str, Any]) -> None:
    found = call.attempt_span_attributes(record(**fields), Attempt(number=number, start_ns=0, status=500))
    base = {"llm.attempt.number": number, "http.request.method": "POST", "http.response.status_code": 500}
    assert found == base | attributes


@pytest.mark.parametrize(
    ("tokens", "times_s", "rate"),
    [
        (5, {"answer": 1, "duration": 3}, 2.5),
        (5, {"answer": 1, "last_chunk": 2, "duration": 9}, 5.0),
        (5, {"answer": 3, "duration": 3}, None),
        (5, {"answer": 1}, None),
        (5, {"duration": 3}, None),
        (0, {"answer": 1, "duration": 3}, None),
        (None, {"answer": 1, "duration": 3}, None),
    ],
)
def test_tokens_per_second_are_those_of_the_successful_attempt(
    project: Callable[..., Attributes], tokens: int | None, times_s: dict[str, int], rate: float | None
) -> None:
    times = {f"{name}_ns": seconds * 1_000_000_000 for name, seconds in times_s.items()}
    of = record(usage=Usage(output_tokens=tokens), timing=Timing(start_ns=1, **times))
    assert project(of, None).get("callspan.output_tokens_per_second") == rate


TOOL = EventRecord(event_id="e", event_type="tool", time_ns=1)
WORLD = EventRecord(event_id="e", event_type="environment", time_ns=1)
MESSAGE = MessageRecord(message_id="m", message_type="x", time_ns=1)
REWARD = RewardRecord(reward_id="r", time_ns=1)


def with_(one: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(one, **fields)


@pytest.mark.parametrize(
    ("one", "name", "attributes", "content"),
    [
        (WORLD, "callspan.environment", {"callspan.event.id": "e"}, {}),
        (with_(WORLD, data={"after": [1], "before": None, "info": "i"}, reward=0.0), "callspan.environment",
         {"callspan.event.id": "e", "callspan.reward": 0.0},
         {"callspan.observation": "[1]", "callspan.observation.before": "null", "callspan.info": '"i"'}),
        (with_(TOOL, event_type="action", data=None), "callspan.action", {"callspan.event.id": "e"},
         {}),
        (with_(TOOL, event_type="mine", data=0), "callspan.mine",
         {"callspan.event.id": "e"}, {"callspan.event.data": "0"}),
        (MESSAGE, "callspan.message", {"callspan.message.id": "m", "callspan.message.type": "x"},
         {}),
        (with_(REWARD, value=0.0, annotation="why"), "gen_ai.evaluation.result",
         {"gen_ai.evaluation.name": "reward", "gen_ai.evaluation.score.value": 0.0, "callspan.reward.id": "r",
          "callspan.reward.scope": "event"}, {"gen_ai.evaluation.explanation": "why"}),
    ],
)  # fmt: skip
def test_events_messages_and_rewards_as_span_events(
    one: Record, name: str, attributes: dict[str, Any], content: dict[str, Any]
) -> None:
    assert events.event_name(one) == name
    assert events.event_attributes(one) == attributes
    assert events.event_content(one, room()) == content
    assert events.event_content(one, room(0)) == {}
