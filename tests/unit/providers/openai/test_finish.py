"""Finish reasons in our words."""

from __future__ import annotations

import pytest

from callspan.providers.finish import normalised_finish_reason


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("eos", "stop"),
        ("completed", "stop"),
        ("STOP", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("max_output_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_calls", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
    ],
)
def test_known_words_have_one_meaning(reason: str, meaning: str) -> None:
    assert normalised_finish_reason(reason) == meaning


@pytest.mark.parametrize("reason", ["error", "failed", "incomplete", "Something_New", ""])
def test_unknown_words_stay_as_they_came(reason: str) -> None:
    assert normalised_finish_reason(reason) == reason
