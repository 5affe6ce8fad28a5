"""Parameters: the request parameters that are kept when content is not.

A table lists the allowed values of each parameter: numbers, flags, keywords of the provider, ids of templates. Any
other value might be text of the application, so it is removed; the record's redactions name the parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

Allowed: TypeAlias = "frozenset[str] | re.Pattern[str] | _Object | _Either | None"
"""None allows numbers and flags; a set allows its words and lists of them."""


class _Either(NamedTuple):
    """A parameter with two kinds of values."""

    one: Allowed
    other: Allowed


class _Object(dict[str, "Allowed"]):
    """The allowed members of an object."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBERS: Final = _words(
    "background best_of budget_tokens dimensions echo frequency_penalty include_obfuscation include_usage logprobs "
    "max_completion_tokens max_num_results max_output_tokens max_tokens max_tokens_to_sample max_tool_calls n "
    "output_compression parallel_tool_calls partial_images presence_penalty rewrite_query score_threshold seed speed "
    "store stream temperature top_k top_logprobs top_p"
)
_EFFORT: Final = _words("none minimal low medium high xhigh max")
_LEVELS: Final = _words("low medium high")
_SUMMARY: Final = _words("auto concise detailed")
_FORMATS: Final = _words(
    "text json json_object json_schema grammar python url b64_json srt verbose_json vtt diarized_json"
)
_SOUNDS: Final = _words("mp3 opus aac flac wav pcm pcm16")
_TIERS: Final = _words(
    "auto default flex priority scale batch standard standard_only fast ultrafast on_demand performance reserved"
)
_PERIOD: Final = re.compile("soonest|[0-9]{1,3}[mhd]")
_REGION: Final = re.compile("[a-z]{2,14}(?:[_-][a-z0-9]{1,14}){0,3}")
_ONE: Final = "only"
"""The one member that may be a list; only a list of one value is kept."""
_ROUTE: Final = re.compile("[a-z0-9-]{1,32}(?:/[a-z0-9-]{1,32})?")
_VOICES: Final = _words("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse")
_TOOL_CHOICES: Final = _words("auto none required any tool function custom allowed_tools mcp file_search web_search")
_TOKENS: Final = _Object(type=_words("enabled disabled adaptive"), budget_tokens=None)
_TEMPLATE: Final = _Object(id=re.compile("pmpt_[0-9a-f]{8,96}"), version=re.compile("[0-9]{1,6}"))

ALLOWED: Final[Mapping[str, Allowed]] = {
    **dict.fromkeys(sorted(_NUMBERS)),
    "audio": _Object(format=_SOUNDS, voice=_VOICES),
    "background": _Either(None, _words("transparent opaque auto")),
    "background_options": _Object(completion_window=_PERIOD),
    "billing_policy": _Object(type=_words("billing_policy"), bill_to=_words("self user_profile")),
    "cache_control": _Object(type=_words("ephemeral"), ttl=_PERIOD),
    "encoding_format": _words("float base64"),
    "inference_geo": _REGION,
    "input_fidelity": _words("high low"),
    "modalities": _words("text audio image"),
    "moderation": _words("auto low"),
    "output_config": _Object(effort=_EFFORT),
    "output_format": _words("png jpeg webp"),
    "previous_response_id": re.compile("resp_[0-9A-Za-z]{1,128}"),
    "prediction": _Object(type=_words("content")),
    "prompt": _TEMPLATE,
    "prompt_cache_options": _Object(mode=_words("implicit explicit"), ttl=_PERIOD, prewarm=None),
    "prompt_cache_retention": _words("in_memory in-memory 24h"),
    "provider": _Object({_ONE: _ROUTE}),
    "quality": _words("auto low medium high standard hd"),
    "reasoning": _Object(effort=_EFFORT, summary=_SUMMARY, generate_summary=_SUMMARY),
    "reasoning_effort": _EFFORT,
    "response_format": _Either(_FORMATS | _SOUNDS, _Object(type=_FORMATS)),
    "service_tier": _TIERS,
    "size": re.compile("auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}"),
    "speed": _Either(None, _words("standard fast")),
    "stream_format": _words("sse audio"),
    "stream_options": _Object(include_usage=None, include_obfuscation=None),
    "style": _words("vivid natural"),
    "text": _Object(verbosity=_LEVELS, format=_Object(type=_FORMATS)),
    "thinking": _TOKENS,
    "timestamp_granularities": _words("word segment"),
    "tool_choice": _Either(
        _TOOL_CHOICES, _Object(type=_TOOL_CHOICES, mode=_TOOL_CHOICES, disable_parallel_tool_use=None)
    ),
    "truncation": _words("auto disabled"),
    "verbosity": _LEVELS,
    "voice": _VOICES,
    "web_search_options": _Object(search_context_size=_LEVELS, search_type=_words("web auto fast pro")),
}
"""The allowed values of each parameter, for all providers."""


def allowed_params(params: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the allowed part of the parameters, and the names of those from which something was removed."""
    kept: dict[str, object] = {}
    reduced: list[str] = []
    for name, value in params.items():
        allowed = _allowed_part(ALLOWED[name], value) if name in ALLOWED else None
        if allowed is not None:
            kept[name] = allowed
        if allowed != value:
            reduced.append(name)
    return kept, reduced


def _allowed_part(allowed: Allowed, value: object) -> object:
    """Return the allowed part of a value, or None."""
    if isinstance(allowed, _Either):
        found = _allowed_part(allowed.one, value)
        return _allowed_part(allowed.other, value) if found is None else found
    if isinstance(allowed, _Object):
        items = value.items() if isinstance(value, dict) else ()
        members = [(name, one) for name, one in items if name in allowed and (type(one) is not list or name == _ONE)]
        return {name: part for name, one in members if (part := _allowed_part(allowed[name], one)) is not None} or None
    return value if _is_allowed(allowed, value) else None


def _is_allowed(allowed: frozenset[str] | re.Pattern[str] | None, value: object) -> bool:
    if allowed is None:
        return isinstance(value, bool | int | float)
    if isinstance(allowed, frozenset):
        words = value if isinstance(value, list) else [value]
        return bool(words) and all(isinstance(word, str) and word in allowed for word in words)
    word = value[0] if isinstance(value, list) and len(value) == 1 else value
    return isinstance(word, str) and allowed.fullmatch(word) is not None
