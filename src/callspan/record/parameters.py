"""Parameters: the request parameters that are kept when content is not.

Kept are numbers, flags, the providers' keywords and the ids of templates, each under the names listed here, at any
depth. Any other value might be text of the application, so it is removed; the record's redactions name the parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS: Final = _words(
    "background best_of budget_tokens dimensions disable_parallel_tool_use echo frequency_penalty include_obfuscation "
    "include_usage logprobs max_completion_tokens max_num_results max_output_tokens max_tokens max_tokens_to_sample "
    "max_tool_calls n output_compression parallel_tool_calls partial_images presence_penalty prewarm rewrite_query "
    "score_threshold seed speed store stream temperature top_k top_logprobs top_p"
)
"""Parameters that are numbers or flags."""
CHOICES: Final = _words(
    "background bill_to effort encoding_format format generate_summary input_fidelity modalities mode moderation "
    "output_format prompt_cache_retention quality reasoning_effort response_format search_context_size search_type "
    "service_tier speed stream_format style summary timestamp_granularities tool_choice truncation type verbosity voice"
)
"""Parameters whose value is one of `KEYWORDS`, or a list of them."""
KEYWORDS: Final = _words(
    "24h aac adaptive all allowed_tools alloy any ash audio auto b64_json ballad base64 batch billing_policy cedar "
    "concise content coral custom default detailed diarized_json disabled echo enabled ephemeral explicit fable fast "
    "file_search flac flex float function grammar hd high image implicit in-memory in_memory jpeg json json_object "
    "json_schema low marin max mcp medium minimal mp3 natural none nova on_demand onyx opaque opus pcm pcm16 "
    "performance png priority pro python required reserved sage scale segment self shimmer srt sse standard "
    "standard_only text tool transparent ultrafast url user_profile verbose_json verse vivid vtt wav web web_search "
    "webp word xhigh"
)
OBJECTS: Final = _words(
    "audio background_options billing_policy cache_control format output_config prediction prompt prompt_cache_options "
    "provider reasoning response_format stream_options text thinking tool_choice web_search_options"
)
"""Parameters that are objects; their members are listed here too."""
_PERIOD: Final = re.compile("soonest|[0-9]{1,3}[mhd]")
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "background_options.completion_window": _PERIOD,
    "cache_control.ttl": _PERIOD,
    "inference_geo": re.compile("[a-z]{2,14}(?:[_-][a-z0-9]{1,14}){0,3}"),
    "previous_response_id": re.compile("resp_[0-9A-Za-z]{1,128}"),
    "prompt.id": re.compile("pmpt_[0-9a-f]{8,96}"),
    "prompt.version": re.compile("[0-9]{1,6}"),
    "prompt_cache_options.ttl": _PERIOD,
    "provider.only": re.compile("[a-z0-9-]{1,32}(?:/[a-z0-9-]{1,32})?"),
    "size": re.compile("auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"),
}
"""Parameters that are ids, places or sizes of the provider; a list of several is removed."""


def allowed_params(params: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the allowed part of the parameters, and the names of those from which something was removed."""
    kept = _allowed_members("", params)
    return kept, [name for name, value in params.items() if kept.get(name) != value]


def _allowed_members(prefix: str, values: Mapping[str, object]) -> dict[str, object]:
    found = {name: _allowed_part(prefix, name, value) for name, value in values.items()}
    return {name: part for name, part in found.items() if part is not None}


def _allowed_part(prefix: str, name: str, value: object) -> object:
    """Return the allowed part of a value, or None; `prefix` is the object around it, with a dot."""
    if isinstance(value, dict):
        return (_allowed_members(f"{name}.", value) or None) if name in OBJECTS else None
    if isinstance(value, bool | int | float):
        return value if name in NUMBERS else None
    words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
    if not words or (isinstance(value, list) and len(words) < len(value)):
        return None
    pattern = PATTERNS.get(prefix + name)
    if pattern is not None:
        return value if len(words) == 1 and pattern.fullmatch(words[0]) else None
    return value if name in CHOICES and KEYWORDS.issuperset(words) else None
