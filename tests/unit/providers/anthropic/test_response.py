"""Info of a message: identity, finish reason, usage, errors."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.anthropic.messages import response_info, usage
from callspan.records import Response, Usage


def message(**fields: object) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn", **fields}


def counted(**counters: Any) -> Usage:
    found = usage(counters)
    assert found is not None
    return found


def test_a_message_states_the_model_and_why_it_ended() -> None:
    info = response_info(message(id="msg_1", model="claude-x", usage={"service_tier": "priority"}))

    assert info.response == Response(id="msg_1", model="claude-x", finish_reasons=["end_turn"], service_tier="priority")
    assert info.error is None
    assert not info.truncated
    assert not info.refused


def test_a_message_that_did_not_end_has_an_empty_reason() -> None:
    assert response_info(message(stop_reason=None)).response.finish_reasons == [None]


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_a_length_limit_is_a_truncation(reason: str) -> None:
    info = response_info(message(stop_reason=reason))

    assert info.truncated
    assert info.response.finish_reasons == [reason]


def test_a_refusal_is_marked_as_a_refusal() -> None:
    assert response_info(message(stop_reason="refusal")).refused


def test_input_includes_what_the_cache_served_and_took() -> None:
    found = counted(
        input_tokens=3, cache_read_input_tokens=7, cache_creation_input_tokens=5, output_tokens=2, new_counter={"x": 1}
    )

    assert found == Usage(
        input_tokens=15,
        output_tokens=2,
        total_tokens=17,
        cache_read_tokens=7,
        cache_write_tokens=5,
        raw={
            "input_tokens": 3,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 5,
            "output_tokens": 2,
            "new_counter": {"x": 1},
        },
    )


def test_zero_is_not_unknown() -> None:
    found = counted(input_tokens=3, cache_read_input_tokens=0, output_tokens=0)

    assert (found.cache_read_tokens, found.cache_write_tokens) == (0, None)
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (3, 0, 3)


def test_a_missing_input_is_unknown_and_so_is_the_total() -> None:
    found = counted(cache_read_input_tokens=7, output_tokens=2)

    assert (found.input_tokens, found.total_tokens, found.cache_read_tokens, found.output_tokens) == (None, None, 7, 2)


def test_details_are_read() -> None:
    found = counted(
        input_tokens=1,
        cache_creation={"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        output_tokens=9,
        output_tokens_details={"thinking_tokens": 4},
        server_tool_use={"web_search_requests": 5, "web_fetch_requests": 6},
    )

    assert (found.cache_write_5m_tokens, found.cache_write_1h_tokens, found.cache_write_tokens) == (2, 3, 5)
    assert (found.input_tokens, found.reasoning_tokens) == (6, 4)
    assert (found.web_search_requests, found.web_fetch_requests) == (5, 6)


def test_the_reported_cache_total_beats_the_sum_of_its_parts() -> None:
    found = counted(input_tokens=1, cache_creation_input_tokens=10, cache_creation={"ephemeral_5m_input_tokens": 2})

    assert (found.cache_write_tokens, found.input_tokens) == (10, 11)


@pytest.mark.parametrize("given", [None, {}])
def test_no_counters_give_no_usage(given: dict[str, object] | None) -> None:
    assert usage(given) is None
    assert response_info(message(usage=given)).usage is None


@pytest.mark.parametrize("value", ["many", None, True, [1], {"n": 1}, 1.5])
def test_a_counter_of_another_type_is_absent(value: object) -> None:
    assert counted(input_tokens=value, output_tokens=value).total_tokens is None


def test_the_raw_counters_are_a_copy() -> None:
    given: dict[str, object] = {"input_tokens": 1, "server_tool_use": {"web_search_requests": 1}}
    found = usage(given)
    assert found is not None
    assert found.raw == given

    found.raw["server_tool_use"]["web_search_requests"] = 2  # type: ignore[index]

    assert given["server_tool_use"] == {"web_search_requests": 1}


ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}


def test_an_error_body_is_an_error_without_finish_reasons() -> None:
    info = response_info(ERROR)

    assert info.error is not None
    assert (info.error.kind, info.error.type, info.error.message, info.error.request_id) == (
        "overloaded",
        "overloaded_error",
        "Overloaded",
        "req_1",
    )
    assert info.response.finish_reasons == []


def test_an_error_beside_part_of_a_message_keeps_both() -> None:
    info = response_info({**message(id="msg_1", stop_reason=None), "error": ERROR["error"]})

    assert info.error is not None
    assert info.error.type == "overloaded_error"
    assert info.response.id == "msg_1"


def test_an_error_of_no_known_shape_is_still_one() -> None:
    info = response_info({"type": "error", "reason": "?"})

    assert info.error is not None
    assert info.error.kind == "unknown"


def test_a_null_error_is_not_an_error() -> None:
    assert response_info(message(error=None)).error is None


@pytest.mark.parametrize("body", [None, [], "text", 3, {}, {"usage": [], "error": None}])
def test_a_body_that_is_not_a_message_has_no_info(body: object) -> None:
    info = response_info(body)

    assert info.response == Response()
    assert info.usage is None
    assert info.error is None


@pytest.mark.parametrize(("body", "reasons"), [({"content": []}, [None]), ({"stop_reason": None}, [None]), ({}, [])])
def test_what_has_content_or_a_reason_is_a_message(body: dict[str, object], reasons: list[None]) -> None:
    assert response_info(body).response.finish_reasons == reasons


def test_an_error_beside_a_message_is_described_as_the_api_does() -> None:
    error = response_info(message(error={"type": "overloaded_error", "message": "no"}, request_id="req_1")).error

    assert error is not None
    assert (error.kind, error.request_id) == ("overloaded", "req_1")
    assert error.body == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "no"},
        "request_id": "req_1",
    }


def test_an_error_without_an_envelope_is_read() -> None:
    error = response_info({"type": "error", "message": "no", "request_id": "req_1"}).error

    assert error is not None
    assert (error.message, error.request_id) == ("no", "req_1")
