"""The `callspan.*` attributes of calls, events and enclosing scopes: one case each, unknown ones absent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Place,
    RateLimit,
    RateLimits,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Stream,
    TimestepRecord,
    Timing,
    Totals,
    Usage,
)
from callspan.semconv import call, events, session
from callspan.semconv.content_attributes import ByteBudget, Shown

S = 1_000_000_000


def record(**fields: Any) -> CallRecord:
    return CallRecord(**({"call_id": "c", "timing": Timing(start_ns=1)} | fields))


def room(size: int = 1_000) -> ByteBudget:
    return ByteBudget(size, size)


@pytest.mark.parametrize(
    ("place", "attributes"),
    [
        (Place(), {}),
        (Place(session_id=""), {}),
        (Place(session_id="s"), {"session.id": "s", "gen_ai.conversation.id": "s"}),
        (Place(timestep=0), {"callspan.step.index": 0}),
    ],
)
def test_attributes_known_at_the_start(place: Place, attributes: dict[str, Any]) -> None:
    assert call.START.of(record(place=place)) == {"callspan.call_id": "c", **attributes}


@pytest.mark.parametrize(
    ("fields", "attributes"),
    [
        ({}, {}),
        ({"outcome": "cancelled"}, {"callspan.outcome": "cancelled"}),
        ({"cost": Cost(usd=Decimal("1E-7"), source="x")}, {"callspan.cost.usd": "0.0000001"}),
        ({"cost": Cost(usd=Decimal(0), source="x")}, {"callspan.cost.usd": "0"}),
        ({"usage": Usage(input_tokens=1)}, {}),
        ({"usage": Usage(estimated=True)}, {"callspan.usage.estimated": True}),
        ({"response": Response()}, {}),
        ({"response": Response(truncated=True)}, {"callspan.response.truncated": True}),
        ({"response": Response(refused=True)}, {"callspan.response.refused": True}),
        ({"attempts": [Attempt(number=1, start_ns=0, request_id="a"), Attempt(number=2, start_ns=0, request_id="b")]},
         {"callspan.request_id": "b"}),
        ({"attempts": [Attempt(number=1, start_ns=0, request_id="a"), Attempt(number=2, start_ns=0)]}, {}),
        ({"error": ErrorInfo(kind="auth", type="t")},
         {"callspan.error.kind": "auth", "callspan.error.retryable": False}),
        ({"error": ErrorInfo(kind="k", type="t", retryable=True, code="c", param="p")},
         {"callspan.error.kind": "k", "callspan.error.retryable": True, "callspan.error.code": "c",
          "callspan.error.param": "p"}),
        ({"stream": Stream(end="dropped")}, {"callspan.stream.end": "dropped", "callspan.stream.chunks": 0}),
        ({"stream": Stream(end="closed", chunks=2), "timing": Timing(start_ns=1, first_token_ns=3 * S, answer_ns=2 * S,
          largest_gap_ns=0)},
         {"callspan.stream.end": "closed", "callspan.stream.chunks": 2, "callspan.time_to_first_token_s": 3.0,
          "callspan.answer.time_to_first_token_s": 1.0, "callspan.stream.largest_gap_s": 0.0}),
        ({"timing": Timing(start_ns=1, first_token_ns=3 * S, largest_gap_ns=5)}, {}),
    ],
)  # fmt: skip
def test_attributes_known_at_the_end(fields: dict[str, Any], attributes: dict[str, Any]) -> None:
    found = call.END.of(record(**fields), Shown(Conversation(), room()))
    assert found == {"callspan.outcome": "success"} | attributes


def test_sizes_replace_content_that_is_not_exported() -> None:
    request = Request(message_count=0, roles=["user"], tool_names=["f"], body_bytes=9)
    whole = record(request=request, response=Response(body_bytes=0))
    sizes = {
        "callspan.request.messages": 0, "callspan.request.roles": ("user",), "callspan.request.tools": ("f",),
        "callspan.request.bytes": 9, "callspan.response.bytes": 0,
    }  # fmt: skip
    assert call.END.of(whole) == {"callspan.outcome": "success"} | sizes
    assert call.END.of(whole, Shown(Conversation(), room())) == {"callspan.outcome": "success"}
    assert call.END.of(record()) == {"callspan.outcome": "success"}


@pytest.mark.parametrize(
    ("tokens", "times", "rate"),
    [
        (10, {"answer_ns": 1 * S, "last_chunk_ns": 3 * S, "duration_ns": 9 * S}, 5.0),
        (10, {"answer_ns": 1 * S, "duration_ns": 3 * S}, 5.0),
        (10, {"answer_ns": 0, "duration_ns": 2 * S}, 5.0),
        (10, {"duration_ns": 3 * S}, None),
        (10, {"answer_ns": 1 * S}, None),
        (10, {"answer_ns": 3 * S, "duration_ns": 3 * S}, None),
        (10, {"answer_ns": 4 * S, "last_chunk_ns": 3 * S}, None),
        (0, {"answer_ns": 1 * S, "duration_ns": 3 * S}, None),
        (None, {"answer_ns": 1 * S, "duration_ns": 3 * S}, None),
    ],
)
def test_the_rate_of_an_answer_is_known_or_absent(
    tokens: int | None, times: dict[str, int], rate: float | None
) -> None:
    timed = record(usage=Usage(output_tokens=tokens), timing=Timing(start_ns=1, **times))
    assert call.output_tokens_per_second(timed) == rate
    assert call.END.of(timed, Shown(Conversation(), room())).get("callspan.output_tokens_per_second") == rate
    assert call.output_tokens_per_second(msgspec.structs.replace(timed, usage=None)) is None


@pytest.mark.parametrize(
    ("attempt", "attributes"),
    [
        ({}, {}),
        ({"status": 200, "headers_ns": 3 * S}, {"llm.status_code": 200, "llm.attempt.time_to_headers_s": 2.0}),
        ({"error_kind": "k", "error_type": "t"}, {"callspan.error.kind": "k", "error.type": "t"}),
        ({"retry_after_s": 0.0, "planned_wait_s": 0.5, "wait_s": 0.6, "request_id": "r"},
         {"llm.attempt.retry_after_s": 0.0, "llm.attempt.planned_wait_s": 0.5, "llm.attempt.wait_s": 0.6,
          "callspan.request_id": "r"}),
        ({"rate_limits": RateLimits(requests=RateLimit(remaining=0), input_tokens=RateLimit(limit=5, reset_s=1.5))},
         {"llm.rate_limiting.requests.remaining": 0, "llm.rate_limiting.input_tokens.limit": 5,
          "llm.rate_limiting.input_tokens.reset": 1.5}),
        ({"rate_limits": RateLimits()}, {}),
    ],
)  # fmt: skip
def test_an_attempt_as_an_event(attempt: dict[str, Any], attributes: dict[str, Any]) -> None:
    of = Attempt(**({"number": 1, "start_ns": S} | attempt))
    assert call.ATTEMPT.of(of) == {"llm.attempt.number": 1, "llm.attempt.start_s": 1.0} | attributes


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
    ("error", "attributes"),
    [
        (ErrorInfo(kind="k", type="t"), {"exception.type": "t"}),
        (ErrorInfo(kind="k", type="t", message=""), {"exception.type": "t"}),
        (
            ErrorInfo(kind="k", type="t", exception="a.B", message="m"),
            {"exception.type": "a.B", "exception.message": "m"},
        ),
    ],
)
def test_an_exception_event(error: ErrorInfo, attributes: dict[str, Any]) -> None:
    assert call.EXCEPTION.of(error) == attributes
    assert session.exception_attributes(error, content=False) == {"exception.type": attributes["exception.type"]}


SESSION = SessionRecord(session_id="s", seen_ns=1)
STEP = TimestepRecord(timestep_id="t", session_id="s", seen_ns=1, index=0)
TOOL = EventRecord(event_id="e", event_type="tool", time_ns=1)
WORLD = EventRecord(event_id="e", event_type="environment", time_ns=1)
MESSAGE = MessageRecord(message_id="m", message_type="x", time_ns=1)
REWARD = RewardRecord(reward_id="r", time_ns=1)


def with_(one: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(one, **fields)


@pytest.mark.parametrize(
    ("one", "attributes"),
    [
        (SESSION, {}),
        (with_(SESSION, outcome="success", success=False), {"callspan.outcome": "success", "callspan.success": False}),
        (with_(SESSION, totals=Totals()), {}),
        (with_(SESSION, totals=Totals(calls=2, input_tokens=0, reward=0.0, model_ns=1_500_000)),
         {"callspan.totals.calls": 2, "callspan.totals.input_tokens": 0, "callspan.reward": 0.0,
          "callspan.totals.model_s": 0.0015}),
        (with_(STEP, terminated=False, truncated=True, error=ErrorInfo(kind="k", type="E")),
         {"callspan.terminated": False, "callspan.truncated": True, "error.type": "E"}),
        (with_(WORLD, reward=0.0, terminated=True), {"callspan.reward": 0.0, "callspan.terminated": True}),
        (with_(TOOL, reward=1.0, error=ErrorInfo(kind="k", type="E")), {"error.type": "E"}),
        (MESSAGE, {}),
        (REWARD, {}),
    ],
)  # fmt: skip
def test_end_attributes_of_sessions_steps_and_operations(one: Record, attributes: dict[str, Any]) -> None:
    assert session.end_attributes(one) == attributes


@pytest.mark.parametrize(
    ("one", "name", "attributes", "content"),
    [
        (WORLD, "callspan.environment", {"callspan.event.id": "e"}, {}),
        (with_(WORLD, data={"after": [1], "before": None, "info": "i"}, reward=0.0), "callspan.environment",
         {"callspan.event.id": "e", "callspan.reward": 0.0},
         {"callspan.observation": "[1]", "callspan.observation.before": "null", "callspan.info": '"i"'}),
        (with_(TOOL, event_type="action", data=None), "callspan.action", {"callspan.event.id": "e"},
         {"callspan.action": "null"}),
        (with_(TOOL, event_type="mine", data=0), "callspan.mine",
         {"callspan.event.id": "e"}, {"callspan.event.data": "0"}),
        (MESSAGE, "callspan.message", {"callspan.message.id": "m", "callspan.message.type": "x"},
         {"callspan.message.content": "null"}),
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


@pytest.mark.parametrize(
    ("metadata", "llm", "shown"),
    [
        ({"user_id": "u", "mine": "x"}, True, {"llm.meta.user_id": "u"}),
        ({"step_index": 0, "user_id": ["u"], "purpose": None}, True, {"llm.meta.step_index": 0}),
        ({"user_id": "u"}, False, {}),
    ],
)
def test_metadata_of_known_names_and_plain_values_is_for_samplers(
    metadata: dict[str, Any], llm: bool, shown: dict[str, Any]
) -> None:
    found = session.start_attributes(with_(SESSION, metadata=metadata), llm=llm)
    assert {name: value for name, value in found.items() if name.startswith("llm.")} == shown
