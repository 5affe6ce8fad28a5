"""Usage in OpenAI's form from all its servers: each counter; missing ones stay unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from callspan.providers.registry import by_api
from callspan.records import Usage


def read(usage: Any, **body: Any) -> Usage:
    return used("chat_completions", usage, **body)


def used(api: str, usage: Any, **body: Any) -> Usage:
    endpoint = by_api(api)
    assert endpoint is not None
    found = endpoint.response_info({"choices": [], "content": [], "usage": usage, **body}).usage
    assert found is not None
    return found


def counted(usage: Any, **body: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(read(usage, **body))
    names = ("raw", "estimated", "iterations", "hosted_tools", "cost_estimated")
    return {key: value for key, value in fields.items() if value is not None and key not in names}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        ),
        ({"prompt_tokens": 3, "completion_tokens": 2}, {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}),
        ({"prompt_tokens": 3}, {"input_tokens": 3}),
        ({"prompt_tokens": 3, "total_tokens": 9}, {"input_tokens": 3, "total_tokens": 9}),
        ({"input_tokens": 3, "output_tokens": 0}, {"input_tokens": 3, "output_tokens": 0, "total_tokens": 3}),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 7}},
            {"input_tokens": 9, "cache_read_tokens": 7},
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}},
            {"input_tokens": 9, "cache_read_tokens": 0},
        ),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, {"input_tokens": 9}),
        (
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 7}},
            {"input_tokens": 9, "cache_read_tokens": 7},
        ),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 7}, {"input_tokens": 9, "cache_read_tokens": 7}),
        ({"prompt_tokens": 9, "cached_tokens": 7}, {"input_tokens": 9, "cache_read_tokens": 7}),
        ({"prompt_tokens": 9, "num_cached_tokens": 7}, {"input_tokens": 9, "cache_read_tokens": 7}),
        ({"prompt_tokens_details": {"cache_write_tokens": 4}}, {"cache_write_tokens": 4}),
        ({"completion_tokens_details": {"reasoning_tokens": 4}}, {"reasoning_tokens": 4}),
        ({"output_tokens_details": {"reasoning_tokens": 0}}, {"reasoning_tokens": 0}),
        (
            {
                "prompt_tokens": 15,
                "completion_tokens": 6,
                "total_tokens": 21,
                "prompt_tokens_details": {"audio_tokens": 4, "text_tokens": 5, "image_tokens": 6},
                "completion_tokens_details": {"audio_tokens": 1, "text_tokens": 2, "image_tokens": 3},
            },
            {
                "input_tokens": 15,
                "output_tokens": 6,
                "total_tokens": 21,
                "input_audio_tokens": 4,
                "input_text_tokens": 5,
                "input_image_tokens": 6,
                "output_audio_tokens": 1,
                "output_text_tokens": 2,
                "output_image_tokens": 3,
            },
        ),
        (
            {"prompt_tokens_details": {"audio_tokens": 1, "text_tokens": 2, "image_tokens": 3}},
            {"input_audio_tokens": 1, "input_text_tokens": 2, "input_image_tokens": 3},
        ),
        (
            {"completion_tokens_details": {"audio_tokens": 1, "text_tokens": 2, "image_tokens": 3}},
            {"output_audio_tokens": 1, "output_text_tokens": 2, "output_image_tokens": 3},
        ),
        (
            {"completion_tokens_details": {"accepted_prediction_tokens": 1, "rejected_prediction_tokens": 2}},
            {"accepted_prediction_tokens": 1, "rejected_prediction_tokens": 2},
        ),
        (
            {
                "input_token_details": {
                    "cached_tokens": 6,
                    "cached_tokens_details": {"text_tokens": 1, "image_tokens": 2, "audio_tokens": 3},
                }
            },
            {
                "cache_read_tokens": 6,
                "cache_read_text_tokens": 1,
                "cache_read_image_tokens": 2,
                "cache_read_audio_tokens": 3,
            },
        ),
        ({"server_tool_use_details": {"web_search_requests": 2}}, {"web_search_requests": 2}),
        ({"server_tool_use": {"web_search_requests": 2}}, {"web_search_requests": 2}),
        ({"cache_read_input_tokens": 2}, {"cache_read_tokens": 2}),
        ({"cache_creation_input_tokens": 2}, {"cache_write_tokens": 2}),
        ({"reasoning_tokens": 2}, {"reasoning_tokens": 2}),
        ({"prompt_token_details": {"cached_tokens": 2}}, {"cache_read_tokens": 2}),
        ({"input_tokens_details": {"cache_write_tokens": 2}}, {"cache_write_tokens": 2}),
        ({"input_tokens_details": {"audio_tokens": 1}}, {"input_audio_tokens": 1}),
        (
            {"output_tokens_details": {"audio_tokens": 1, "text_tokens": 2}},
            {"output_audio_tokens": 1, "output_text_tokens": 2},
        ),
        ({"prompt_tokens": "0", "completion_tokens": 0.0}, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}),
        ({"prompt_tokens": 2**63 - 1}, {"input_tokens": 2**63 - 1}),
        ({"prompt_tokens": 2**63, "input_tokens": 3}, {"input_tokens": 3}),
        ({"prompt_tokens": "12"}, {"input_tokens": 12}),
        ({"prompt_tokens": 12.0}, {"input_tokens": 12}),
        ({"prompt_tokens": True, "completion_tokens": -1, "total_tokens": 10**30}, {}),
        ({"prompt_tokens": None, "input_tokens": 4}, {"input_tokens": 4}),
    ],
)
def test_each_counter_is_read(usage: dict[str, Any], expected: dict[str, int]) -> None:
    assert counted(usage) == expected


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.00014575, "0.00014575"),
        (0.1, "0.1"),
        (0.29, "0.29"),
        (1, "1"),
        (0, "0"),
        (1e-07, "1E-7"),
        ("0.003", "0.003"),
        ({"total_cost": 0.006}, "0.006"),
    ],
)
def test_the_cost_a_provider_states_is_exact(cost: object, expected: str) -> None:
    assert read({"prompt_tokens": 1, "cost": cost}).cost_usd == Decimal(expected)


@pytest.mark.parametrize("cost", [None, True, "free", "", -1, float("nan"), float("inf"), [], {}, {"total_cost": None}])
def test_an_invalid_amount_is_unknown(cost: object) -> None:
    assert read({"prompt_tokens": 1, "cost": cost}).cost_usd is None


def test_values_in_raw_usage_that_are_not_json_are_converted() -> None:
    raw = read({"prompt_tokens": 1, "odd": object()}).raw
    assert raw is not None
    assert raw["prompt_tokens"] == 1
    assert isinstance(raw["odd"], str)


@pytest.mark.parametrize(
    ("usage", "counts", "estimated"),
    [
        # Gemini 2.5 Pro, as recorded: thoughts are in the total alone.
        ((35, 12, 109), (35, 74, 109), True),
        # The same with its thoughts stated; Grok.
        ((35, 12, 109, {"completion_tokens_details": {"reasoning_tokens": 62}}), (35, 74, 109), False),
        ((35, 62, 97, {"completion_tokens_details": {"reasoning_tokens": 62}}), (35, 62, 97), False),
        ((35, 12, None, {"completion_tokens_details": {"reasoning_tokens": 62}}), (35, 74, 109), False),
        ((35, 12, 47, {"completion_tokens_details": {"reasoning_tokens": 62}}), (35, 12, 47), True),
        ((35, 12, 60, {"completion_tokens_details": {"reasoning_tokens": 62}}), (35, 25, 60), True),
        # Bedrock behind a gateway: what was cached is in the total alone.
        ((35, 12, 1047, {"cache_read_input_tokens": 1000}), (1035, 12, 1047), False),
        ((1035, 12, 1047, {"cache_read_input_tokens": 1000}), (1035, 12, 1047), False),
        # The same with a total that is only of the rest, or none.
        ((35, 12, 47, {"cache_read_input_tokens": 1000}), (1035, 12, 1047), False),
        ((35, 12, None, {"cache_read_input_tokens": 600, "cache_creation_input_tokens": 400}), (1035, 12, 1047), False),
        # More cached tokens than there are: nothing says which count is wrong.
        ((3, 12, 15, {"prompt_tokens_details": {"cached_tokens": 4000}}), (3, 12, 15), True),
        ((3, 12, 4015, {"prompt_tokens_details": {"cached_tokens": 4000}}), (4003, 12, 4015), False),
        ((3, 12, 15, {"prompt_tokens_details": {"audio_tokens": 4}}), (3, 12, 15), True),
        ((3, 12, 15, {"completion_tokens_details": {"text_tokens": 13}}), (3, 12, 15), True),
        # A total below its parts, and one without parts, explain nothing.
        ((35, 12, 40), (35, 12, 40), True),
        ((0, 0, 40), (0, 0, 40), True),
    ],
)
def test_output_includes_what_the_total_does_or_is_marked_as_estimated(
    usage: tuple[Any, ...], counts: tuple[int, int, int], estimated: bool
) -> None:
    sent, out, total, *details = usage
    stated = {"prompt_tokens": sent, "completion_tokens": out, **({} if total is None else {"total_tokens": total})}
    for detail in details:
        stated.update(detail)
    for found in (read(stated), read({**stated, "queue_time": 0.1})):
        assert (found.input_tokens, found.output_tokens, found.total_tokens) == counts
        assert found.estimated is estimated
        assert found.raw is not None
        assert found.raw["completion_tokens"] == out


@pytest.mark.parametrize(
    ("counted", "estimated"),
    [
        ({"input_tokens": 3, "cache_read_input_tokens": 4000, "output_tokens": 5}, False),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 6}}, True),
        ({"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}, True),
    ],
)
def test_counts_of_anthropic_that_contradict_each_other_are_estimated(counted: Any, estimated: bool) -> None:
    assert used("messages", counted).estimated is estimated
