"""Finish reasons: what a provider's word for the end of an answer means in ours."""

from __future__ import annotations

from typing import Final

_MEANINGS: Final = {
    "stop": ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "end", "completed", "complete", "pause_turn"),
    "length": (
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "model_length",
        "model_context_window_exceeded",
    ),
    "tool_calls": ("tool_calls", "tool_use", "tool_call", "function_call"),
    "content_filter": ("content_filter", "content_filtered", "refusal", "safety", "guardrail_intervened"),
}

_NORMALISED: Final = {word: meaning for meaning, words in _MEANINGS.items() for word in words}


def normalised_finish_reason(reason: str) -> str:
    """Return `stop`, `length`, `tool_calls` or `content_filter` for a provider's word, else the word itself.

    Case does not matter for the known words; an unknown word is returned as it came.
    """
    return _NORMALISED.get(reason.lower(), reason)
