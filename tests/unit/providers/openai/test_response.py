"""Info of responses with choices: names, reasons, errors, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.base import ResponseInfo
from callspan.providers.openai.chat import ChatCompletions


def facts(*reasons: Any, **body: Any) -> ResponseInfo:
    choices = [{"index": n, "message": {"content": "x"}, "finish_reason": reason} for n, reason in enumerate(reasons)]
    return ChatCompletions().response_info({"id": "c1", "model": "m", "created": 17, "choices": choices, **body})


def test_names_are_those_of_the_answer() -> None:
    response = facts("stop", service_tier="flex", system_fingerprint="fp").response
    assert (response.id, response.model, response.created) == ("c1", "m", 17)
    assert (response.service_tier, response.system_fingerprint) == ("flex", "fp")
    assert response.status is None


@pytest.mark.parametrize("empty", [None, ""])
def test_empty_names_are_unknown(empty: str | None) -> None:
    response = facts("stop", id=empty, model=empty, service_tier=empty, system_fingerprint=empty).response
    assert (response.id, response.model, response.service_tier, response.system_fingerprint) == (None,) * 4


@pytest.mark.parametrize("created", [None, 0, -3, "soon", True, 10**30])
def test_a_time_that_is_none_is_unknown(created: object) -> None:
    assert facts("stop", created=created).response.created is None


def test_each_choice_has_its_own_reason_in_the_providers_word() -> None:
    assert facts("stop", "max_tokens", None, "", "eos").response.finish_reasons == [
        "stop",
        "max_tokens",
        None,
        None,
        "eos",
    ]


def test_reasons_are_in_the_order_of_the_indices() -> None:
    choices = [{"index": 1, "finish_reason": "b"}, {"index": 0, "finish_reason": "a"}, {"finish_reason": "c"}]
    assert facts(choices=choices).response.finish_reasons == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("reason", "truncated", "refused"),
    [
        ("stop", False, False),
        ("length", True, False),
        ("max_tokens", True, False),
        ("content_filter", False, True),
        ("refusal", False, True),
        ("tool_calls", False, False),
        (None, False, False),
    ],
)
def test_truncation_and_refusal_are_derived_from_the_reason(reason: str | None, truncated: bool, refused: bool) -> None:
    found = facts("stop", reason)
    assert (found.truncated, found.refused) == (truncated, refused)


def test_the_text_of_a_refusal_is_a_refusal_part() -> None:
    assert facts(choices=[{"message": {"refusal": "no"}, "finish_reason": "stop"}]).refused
    assert not facts(choices=[{"message": {"refusal": ""}, "finish_reason": "stop"}]).refused


@pytest.mark.parametrize("nothing", [None, {}, "", [], False, 0])
def test_an_empty_error_is_not_an_error(nothing: object) -> None:
    assert facts("stop", error=nothing).error is None


@pytest.mark.parametrize(
    ("body", "kind", "error_type", "status"),
    [
        ({"error": {"message": "m", "type": "invalid_request_error", "code": "bad"}}, "bad_input", "bad", None),
        ({"error": {"message": "m", "code": 429}}, "rate_limit", "429", 429),
        ({"error": {"message": "m", "status_code": 503}}, "overloaded", "503", 503),
        ({"error": {"message": "m", "type": "server_error", "status": 500}}, "server", "server_error", 500),
        ({"error": "it broke"}, "unknown", "_OTHER", None),
        ({"object": "error", "message": "m", "code": "model_not_found"}, "not_found", "model_not_found", None),
        ({"choices": [{"error": {"message": "m", "code": 502}, "finish_reason": "error"}]}, "server", "502", 502),
    ],
)
def test_an_error_in_a_body_is_an_error(body: dict[str, Any], kind: str, error_type: str, status: int | None) -> None:
    error = ChatCompletions().response_info(body).error
    assert error is not None
    assert (error.kind, error.type, error.status) == (kind, error_type, status)
    assert error.exception is None


def test_an_error_in_a_list_is_an_error() -> None:
    error = (
        ChatCompletions().response_info([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}]).error
    )
    assert error is not None
    assert (error.kind, error.message, error.status) == ("bad_input", "m", 400)


def test_an_error_shares_nothing_with_the_body() -> None:
    stated = {"message": "m", "metadata": {"raw": ["a"]}}
    error = facts(error=stated).error
    stated["metadata"]["raw"].append("b")  # type: ignore[index]
    assert error is not None
    assert error.body == {"message": "m", "metadata": {"raw": ["a"]}}


@pytest.mark.parametrize("odd", [None, [], 3, "x", {}, {"choices": None}, {"choices": [None, "x"]}])
def test_a_body_without_known_fields_has_no_info(odd: object) -> None:
    found = ChatCompletions().response_info(odd)
    assert found.response.finish_reasons == []
    assert found.usage is None
    assert found.error is None
