"""Finish reasons: the words that providers and gateways use to say why an answer ended.

Every word has one meaning: an answer, one that was cut, a refusal, a request for tools or an approval, a failure, or
one that only its provider has. A word that is in no row is kept as it is, and marked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"
APPROVAL: Final = "waiting for approval"
"""The application must allow a tool of an MCP server before the provider runs it."""
ERROR: Final = "error"
CANCELLED: Final = "cancelled"

_SEPARATORS: Final = str.maketrans("", "", "_- ")

_MEANINGS: Final = {
    STOP: (
        "stop stopped completed complete end end_turn stop_sequence eos eos_token end_of_turn end_of_text end_id"
        " finish_reason_stop"
        # Bedrock: Titan, AI21, SDXL
        " finish stop_criteria_met endoftext success"
        # Qianfan, llama.cpp, LM Studio, TensorRT-LLM, xAI
        " normal word eos_found stop_string_found stop_words reason_stop"
        # Ollama, for requests that only load a model
        " load unload"
    ),
    LENGTH: (
        "length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_length model_length"
        " model_context_window_exceeded token_limit max_messages"
        # Cohere, llama.cpp, LM Studio, SenseNova, watsonx, vLLM
        " error_limit limit max_predicted_tokens_reached context_length_reached context time_limit repetition"
        # xAI
        " reason_max_len reason_max_context reason_time_limit"
    ),
    TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls requires_action reason_tool_calls",
    CONTENT_FILTER: (
        "content_filter content_filtered refusal refused safety recitation guardrail_intervened sensitive"
        # Gemini, Cohere
        " blocklist language prohibited_content spii image_safety image_prohibited_content image_recitation model_armor"
        " escalation pup_limited_disabled error_toxic"
        # Gemini's live turns
        " response_rejected prohibited_input_content image_prohibited_input_content input_image_celebrity input_other"
        " input_text_contain_prominent_person_prohibited input_image_photo_realistic_child_prohibited"
        " input_text_ncii_prohibited input_ip_prohibited unsafe_prompt_for_image_generation generated_image_safety"
        " generated_content_safety generated_audio_safety generated_video_safety generated_content_prohibited"
        " generated_content_blocklist generated_image_prohibited generated_image_celebrity generated_image_minors"
        " generated_image_prominent_people_detected_by_rewriter generated_image_identifiable_people generated_other"
        " output_image_ip_prohibited"
    ),
    APPROVAL: "waiting_for_approval",
    CANCELLED: (
        "cancelled canceled cancel user_cancel"
        # LM Studio
        " user_stopped"
    ),
}
"""The words of answers, by their meaning."""
_FAILURES: Final = {
    "unknown": "error errored failed failure no_image image_other reason_invalid max_regeneration_reached",
    "server": (
        "server_error internal_error internal_server_error model_error"
        # Z.ai, vLLM and SGLang, LM Studio
        " network_error abort aborted model_unloaded"
    ),
    "overloaded": (
        # DeepSeek, Moonshot
        "insufficient_system_resource engine_overloaded engine_overloaded_error overloaded overloaded_error"
        " resource_exhausted service_unavailable"
    ),
    "rate_limit": "rate_limit rate_limited rate_limit_exceeded rate_limit_error",
    "quota": "insufficient_quota",
    "timeout": "timeout timed_out deadline_exceeded",
    "parsing": (
        # Gemini, Bedrock
        "malformed_function_call malformed_response unexpected_tool_call too_many_tool_calls missing_thought_signature"
        " function_call_filter malformed_model_output malformed_tool_use"
    ),
}
"""The words of failures, by the kind of the error."""
_BARGE_IN: Final = "turn_detected interrupted"
"""The words of sessions by voice for an answer that the user interrupted."""
_OF_ONE_PROVIDER: Final = (
    # Messages, Gemini, Responses, realtime
    "pause_turn compaction continuation steered client_cancelled need_more_input incomplete in_progress queued"
    f" {_BARGE_IN}"
)
"""Words that are known and have no equivalent."""
PREFIXES: Final = {"contentfilter": CONTENT_FILTER, "filterreason": CONTENT_FILTER, "functioncallfilter": ERROR}
"""Words after which Gemini's compatible API, and Stability, state their own, as in `content_filter: SAFETY`."""


def folded(reason: str) -> str:
    """Return a reason as the table has it: in lower case, without `_`, `-` and spaces."""
    return reason.lower().translate(_SEPARATORS)


WORDS: Final = {meaning: frozenset(map(folded, words.split())) for meaning, words in _MEANINGS.items()} | {
    ERROR: frozenset(map(folded, " ".join(_FAILURES.values()).split()))
}
"""The folded words by meaning."""
_REFUSALS: Final = frozenset({"refusal", "refused"})
"""The words of `CONTENT_FILTER` that mean that the model itself refused."""
_BY_WORD: Final = {word: meaning for meaning, words in WORDS.items() for word in words}
_KINDS: Final = {folded(word): kind for kind, words in _FAILURES.items() for word in words.split()} | {
    folded(word): "cancelled" for word in _MEANINGS[CANCELLED].split()
}
_KEPT: Final = frozenset(map(folded, _OF_ONE_PROVIDER.split()))
_INTERRUPTIONS: Final = frozenset(map(folded, _BARGE_IN.split()))
_BY_NAME: Final = {folded(meaning): words for meaning, words in WORDS.items()}


@lru_cache(maxsize=64)
def normalised(reason: str) -> str:
    """Return `stop`, `length`, `tool_calls`, `content_filter`, `waiting for approval`, `error` or `cancelled`.

    Words of one provider and unknown ones are returned unchanged.
    """
    word = folded(reason)
    return _BY_WORD.get(word) or PREFIXES.get(word.partition(":")[0], reason)


def is_filtered(reason: str | None) -> bool:
    """Return whether a filter removed the answer, rather than the model refused."""
    return reason is not None and normalised(reason) == CONTENT_FILTER and folded(reason) not in _REFUSALS


def is_barge_in(reason: str | None) -> bool:
    """Return whether the user interrupted a spoken answer."""
    return reason is not None and folded(reason) in _INTERRUPTIONS


@lru_cache(maxsize=64)
def is_in_table(reason: str) -> bool:
    """Return whether the meaning of a reason is known."""
    word = folded(reason)
    return word in _BY_WORD or word in _KEPT or word.partition(":")[0] in PREFIXES


def failure_kind(reason: str) -> str | None:
    """Return the kind of the error that a reason states, see `ErrorInfo.kind`; None if it states none."""
    word = folded(reason)
    before = word.partition(":")[0]
    return _KINDS.get(before if before in PREFIXES else word)


def equivalents(name: str) -> frozenset[str]:
    """Return the folded words that mean what a normalised reason names; empty for a provider's own word."""
    return _BY_NAME.get(folded(name), frozenset())
