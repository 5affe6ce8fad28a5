"""JSON readers are total: a value of another type is absent, nothing raises."""

from __future__ import annotations

import time

import pytest

from callspan.providers import wire_json
from callspan.providers.anthropic.messages import response_info
from callspan.providers.openai.chat import choices_info

ODD: list[object] = [None, "x", True, False, [], {}, [1], {"a": 1}]


@pytest.mark.parametrize("odd", ODD)
def test_a_value_that_is_not_a_number_is_absent(odd: object) -> None:
    assert wire_json.number({"a": odd}, "a") is None
    assert wire_json.number(odd, "b") is None


@pytest.mark.parametrize(("found", "number"), [(3, 3.0), (0, 0.0), (-1.5, -1.5)])
def test_numbers_are_read_as_they_are(found: object, number: float) -> None:
    assert wire_json.number({"a": {"b": found}}, "a", "b") == number


@pytest.mark.parametrize("odd", ODD)
def test_a_value_that_is_not_an_integer_is_absent(odd: object) -> None:
    assert wire_json.integer({"a": odd}, "a") is None


@pytest.mark.parametrize(
    ("value", "whole"), [("1" * 19, int("1" * 19)), ("1" * 20, None), ("", None), ("-1", None), ("\u0663", None)]
)
def test_up_to_nineteen_digits_are_read_as_an_integer(value: str, whole: int | None) -> None:
    assert wire_json.integer({"a": value}, "a") == whole


@pytest.mark.parametrize("value", [0, 1, "true", None, [], {}])
def test_only_a_boolean_is_a_flag(value: object) -> None:
    assert wire_json.flag({"a": value}, "a") is None
    assert wire_json.flag({"a": True}, "a") is True


HALF = "a\ud800b"
DEEP: object = [[]]
for _ in range(5000):
    DEEP = [DEEP]
POISONS: list[dict[str, object]] = [{HALF: 1}, {"note": HALF}, {"note": DEEP}, {HALF: {HALF: HALF}}]


@pytest.mark.parametrize("poison", POISONS, ids=["name", "text", "depth", "everywhere"])
@pytest.mark.parametrize("within", ["usage", "details", "body", "choice"])
def test_a_lone_surrogate_does_not_lose_usage_model_or_id(within: str, poison: dict[str, object]) -> None:
    """JSON can hold half a surrogate pair, as a name too, and no encoder takes it."""
    details = {"cached_tokens": 1, **(poison if within == "details" else {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": details}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    chat: dict[str, object] = {
        "id": "c1", "model": "gpt-x",
        "choices": [{**choice, **(poison if within == "choice" else {})}],
        "usage": {**usage, **(poison if within == "usage" else {})},
        **(poison if within == "body" else {}),
    }  # fmt: skip
    facts = choices_info(chat)
    assert (facts.response.id, facts.response.model, facts.response.finish_reasons) == ("c1", "gpt-x", ["stop"])
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.usage.cache_read_tokens) == (3, 4, 1)


@pytest.mark.parametrize("poison", POISONS, ids=["name", "text", "depth", "everywhere"])
@pytest.mark.parametrize("within", ["usage", "server_tool_use", "body"])
def test_a_lone_surrogate_loses_nothing_of_a_message(within: str, poison: dict[str, object]) -> None:
    ran = {"web_search_requests": 2, **(poison if within == "server_tool_use" else {})}
    usage = {"input_tokens": 3, "output_tokens": 4, "server_tool_use": ran, **(poison if within == "usage" else {})}
    message: dict[str, object] = {
        "id": "m1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hi"}], "usage": usage, **(poison if within == "body" else {}),
    }  # fmt: skip
    found = response_info(message)
    assert (found.response.id, found.response.model) == ("m1", "claude-x")
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.web_search_requests) == (3, 4, 2)


NOON_NS = 1_763_640_000_000_000_000


@pytest.mark.parametrize(
    ("written", "at_ns"),
    [
        (1_763_640_000, NOON_NS),
        ("2025-11-20T12:00:00Z", NOON_NS),
        ("2025-11-20T13:30:00.25+01:30", NOON_NS + 250_000_000),
        ("2025-11-20T12:00:00", NOON_NS),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("noon", None),
        (True, None),
        (0, None),
        (2**70, None),
    ],
)
def test_a_time_is_read_in_either_form(written: object, at_ns: int | None) -> None:
    assert wire_json.time_ns({"ended_at": written}, "completed_at", "ended_at") == at_ns


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones by TZ")
def test_a_time_without_an_offset_is_utc_in_any_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert wire_json.time_ns({"at": "2025-11-20T12:00:00"}, "at") == NOON_NS
    finally:
        monkeypatch.undo()
        time.tzset()
