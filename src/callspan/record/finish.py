"""Finish reasons in one set of words: why the model stopped, whatever its provider calls it."""

from __future__ import annotations

from typing import Final

STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"

_WORDS: Final[dict[str, str]] = {
    "stop": STOP,
    "completed": STOP,
    "complete": STOP,
    "end": STOP,
    "end_turn": STOP,
    "stop_sequence": STOP,
    "eos": STOP,
    "eos_token": STOP,
    "end_of_turn": STOP,
    "finish_reason_stop": STOP,
    "length": LENGTH,
    "max_tokens": LENGTH,
    "max_output_tokens": LENGTH,
    "max_completion_tokens": LENGTH,
    "max_length": LENGTH,
    "model_length": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "tool_calls": TOOL_CALLS,
    "tool_call": TOOL_CALLS,
    "tool_use": TOOL_CALLS,
    "function_call": TOOL_CALLS,
    "content_filter": CONTENT_FILTER,
    "content_filtered": CONTENT_FILTER,
    "refusal": CONTENT_FILTER,
    "safety": CONTENT_FILTER,
    "recitation": CONTENT_FILTER,
    "guardrail_intervened": CONTENT_FILTER,
}


def normalised(reason: str) -> str:
    """Return `stop`, `length`, `tool_calls` or `content_filter` for the words known to mean these.

    Any other text is returned as it is. Capitals do not matter.
    """
    return _WORDS.get(reason) or _WORDS.get(reason.lower(), reason)
