"""Finish reasons of all providers in common words."""

from __future__ import annotations

import pytest

from callspan.record.messages import normalised
from callspan.semconv.content_attributes import finish_word


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("completed", "stop"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("max_output_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("SAFETY", "content_filter"),
        ("pause_turn", "pause_turn"),
        ("Something_New", "Something_New"),
        ("", ""),
    ],
)
def test_known_finish_reasons_are_normalised_and_others_kept(word: str, meaning: str) -> None:
    assert normalised(word) == meaning


def test_conventions_say_tool_call_in_the_singular() -> None:
    assert finish_word("tool_use") == finish_word("tool_calls") == "tool_call"
    assert finish_word("end_turn") == "stop"
