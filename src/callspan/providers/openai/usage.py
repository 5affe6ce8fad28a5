"""Usage in OpenAI's form from all servers: counters at any known location."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from callspan.providers.stated_cost import stated_cost
from callspan.providers.tool_runs import runs_in
from callspan.providers.wire_json import (
    LARGEST_COUNT,
    count,
    detached,
    mapping,
    number,
    objects,
)
from callspan.record.usage import Usage, checked_usage

INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details", "input_token_details")
_OUT: Final = ("completion_tokens_details", "output_tokens_details", "completion_token_details", "output_token_details")

_Path = tuple[str, ...]
_Shape = tuple[str | tuple[str, ...], ...]
_MAX_SHAPES: Final = 256

OF_CACHE: Final = (
    ("cache_read_text_tokens", "cached_tokens_details", "text_tokens"),
    ("cache_read_image_tokens", "cached_tokens_details", "image_tokens"),
    ("cache_read_audio_tokens", "cached_tokens_details", "audio_tokens"),
    ("cache_write_12h_tokens", "cache_write_tokens_details", "ttl_12h_tokens"),
    # DashScope
    ("cache_write_5m_tokens", "cache_creation", "ephemeral_5m_input_tokens"),
    ("cache_write_1h_tokens", "cache_creation", "ephemeral_1h_input_tokens"),
    # LiteLLM
    ("cache_write_5m_tokens", "cache_creation_token_details", "ephemeral_5m_input_tokens"),
    ("cache_write_1h_tokens", "cache_creation_token_details", "ephemeral_1h_input_tokens"),
)
"""Counters of cached input by kind and lifetime, in the details of the input."""
_AUDIO_SECONDS: Final = "prompt_audio_seconds"
"""Mistral's count of audio, beside its tokens."""
_ANTHROPIC: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})
_TIMINGS: Final = "timings"
"""llama.cpp's counts of the tokens that it processed. Cached tokens are not part of the input."""
_ELSEWHERE: Final = (
    ("x_groq", "usage"),
    # Cloudflare, Vertex AI, Cohere
    ("result", "usage"),
    ("usage_metadata",),
    ("meta",),
)
"""Where bodies without `usage` state counters."""
_BARE: Final = ("prompt_eval_count", "eval_count", "tokens_evaluated", "tokens_predicted")
"""Counters of Ollama and llama.cpp in the body itself."""


def _within(groups: tuple[str, ...], name: str) -> tuple[_Path, ...]:
    return tuple((group, name) for group in groups)


# The first location with a counter wins; if providers differ, the inclusive one comes first.
PLACES: Final[dict[str, tuple[_Path, ...]]] = {
    "input_tokens": (
        ("prompt_tokens",),
        ("input_tokens",),
        # Cohere; its other counters are not charged
        ("billed_units", "input_tokens"),
        ("tokens", "input_tokens"),
        # Ollama, llama.cpp, Vertex AI, watsonx and Bedrock, gateways in JavaScript
        ("prompt_eval_count",),
        ("tokens_evaluated",),
        ("prompt_token_count",),
        ("input_token_count",),
        ("promptTokens",),
        ("inputTokens",),
    ),
    "output_tokens": (
        ("completion_tokens",),
        ("output_tokens",),
        ("billed_units", "output_tokens"),
        ("tokens", "output_tokens"),
        ("eval_count",),
        ("tokens_predicted",),
        ("candidates_token_count",),
        ("generated_token_count",),
        ("generation_token_count",),
        # TGI
        ("generated_tokens",),
        ("completionTokens",),
        ("outputTokens",),
    ),
    "total_tokens": (("total_tokens",), ("total_token_count",), ("totalTokens",)),
    "cache_read_tokens": (
        *_within(INPUT_DETAILS, "cached_tokens"),
        *_within(INPUT_DETAILS, "cache_read_tokens"),
        *_within(INPUT_DETAILS, "cache_read_input_tokens"),
        # DeepSeek and SiliconFlow, Moonshot and Together, Mistral, xAI, LiteLLM
        ("prompt_cache_hit_tokens",),
        ("cached_tokens",),
        ("num_cached_tokens",),
        ("cached_prompt_text_tokens",),
        ("cache_read_input_tokens",),
        # gateways
        ("cache_read_tokens",),
        ("cached_input_tokens",),
        ("cached_prompt_tokens",),
        ("cachedInputTokens",),
    ),
    "cache_write_tokens": (
        *_within(INPUT_DETAILS, "cache_write_tokens"),
        # DashScope, LiteLLM
        *_within(INPUT_DETAILS, "cache_creation_input_tokens"),
        *_within(INPUT_DETAILS, "cache_creation_tokens"),
        ("cache_creation_input_tokens",),
        ("cache_write_tokens",),
    ),
    "reasoning_tokens": (
        *_within(_OUT, "reasoning_tokens"),
        *_within(_OUT, "thinking_tokens"),
        ("reasoning_tokens",),
        # LM Studio, gateways in JavaScript, Vertex AI
        ("reasoning_output_tokens",),
        ("reasoningTokens",),
        ("thoughts_token_count",),
    ),
    "input_audio_tokens": _within(INPUT_DETAILS, "audio_tokens"),
    "input_text_tokens": _within(INPUT_DETAILS, "text_tokens"),
    "input_image_tokens": _within(INPUT_DETAILS, "image_tokens"),
    "output_audio_tokens": _within(_OUT, "audio_tokens"),
    "output_text_tokens": _within(_OUT, "text_tokens"),
    "output_image_tokens": _within(_OUT, "image_tokens"),
    "accepted_prediction_tokens": _within(_OUT, "accepted_prediction_tokens"),
    "rejected_prediction_tokens": _within(_OUT, "rejected_prediction_tokens"),
    "web_search_requests": (
        ("server_tool_use_details", "web_search_requests"),
        ("server_tool_use", "web_search_requests"),
        # Perplexity
        ("num_search_queries",),
    ),
}


def usage_of(body: object) -> Usage | None:
    """Return the usage in a response, or None."""
    raw = stated_counts(body)
    if not raw:
        return _of_timings(mapping(body, _TIMINGS))
    usage = _counted(raw, body)
    if not _ANTHROPIC.isdisjoint(raw):
        usage = _with_cache_beside(usage)
    usage = _reconciled(usage)
    return checked_usage(usage)


def stated_counts(body: object) -> dict[str, object] | None:
    """Return the object with counters in a response: `usage`, else another one of a compatible server; or None."""
    if not isinstance(body, dict):
        return None
    raw = body.get("usage")
    return raw if isinstance(raw, dict) and raw else _elsewhere(body)


def _elsewhere(body: dict[str, object]) -> dict[str, object] | None:
    for path in _ELSEWHERE:
        if path[0] in body and (counters := mapping(body, *path)) and _counts(counters):
            return counters
    # Moonshot's streams
    of_choice = mapping(next(objects(body, "choices"), None), "usage")
    return of_choice or {name: body[name] for name in _BARE if name in body} or None


def _of_timings(timings: dict[str, object] | None) -> Usage | None:
    """Return the usage of a body with only timings; estimated if it does not say how much came from the cache."""
    fresh, cached, out = (count(timings, name) for name in ("prompt_n", "cache_n", "predicted_n"))
    if timings is None or fresh is None:
        return None
    total_input = fresh + (cached or 0)
    return Usage(
        input_tokens=total_input, output_tokens=out, total_tokens=None if out is None else total_input + out,
        cache_read_tokens=cached, estimated=cached is None, raw=_copied(timings),
    )  # fmt: skip


def of_input_only(usage: Usage | None) -> Usage | None:
    """Return the usage of an operation without output. Its total may be its only counter."""
    if usage is None or usage.input_tokens is not None or usage.total_tokens is None:
        return usage
    return replace(usage, input_tokens=max(0, usage.total_tokens - (usage.output_tokens or 0)))


def _with_cache_beside(usage: Usage) -> Usage:
    """Return the usage with cached tokens included in the input, because Anthropic's counters exclude them."""
    inputs, outputs, total = usage.input_tokens, usage.output_tokens, usage.total_tokens
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if inputs is None or cached <= inputs:
        return usage
    if total is not None and total == inputs + (outputs or 0):
        total += cached
    return replace(usage, input_tokens=inputs + cached, total_tokens=total)


def _reconciled(usage: Usage) -> Usage:
    """Return the usage with the tokens added that input or output lacks according to its total or reasoning.

    Grok counts reasoning separately from output, Bedrock behind gateways counts cached input separately from input,
    Mistral counts the sound of a prompt beside its text, and Gemini counts thoughts only in the total. The unexplained
    rest is counted as output and marked as estimated.
    """
    inputs, outputs, total, reasoning = (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.reasoning_tokens,
    )
    if inputs is None or outputs is None or total is None:
        return usage
    excess, exceeds_output = total - inputs - outputs, reasoning is not None and reasoning > outputs
    if excess <= 0 and not exceeds_output:
        return usage
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if reasoning and excess == reasoning:
        return replace(usage, output_tokens=outputs + reasoning)
    if cached and excess == cached:
        return replace(usage, input_tokens=inputs + cached)
    heard, seen = usage.input_audio_tokens or 0, usage.input_image_tokens or 0
    if excess > 0 and excess in (heard, seen, heard + seen):
        return replace(usage, input_tokens=inputs + excess)
    if excess > 0 and (inputs or outputs):
        return replace(usage, output_tokens=total - inputs, estimated=True)
    if reasoning and not excess and "total_tokens" not in (usage.raw or {}):
        return replace(usage, output_tokens=outputs + reasoning, total_tokens=total + reasoning)
    return replace(usage, estimated=True)


def _counted(raw: dict[str, object], body: object) -> Usage:
    """Return the usage from counters at any known location."""
    counts = _counts(raw)
    input_tokens, output_tokens = counts.get("input_tokens"), counts.get("output_tokens")
    if "total_tokens" not in counts and input_tokens is not None and output_tokens is not None:
        counts["total_tokens"] = input_tokens + output_tokens
    answer = body if isinstance(body, dict) else {}
    if "tool_usage" in answer and (searches := count(answer, "tool_usage", "web_search", "num_requests")) is not None:
        counts.setdefault("web_search_requests", searches)
    if _TIMINGS in answer and (cached := count(answer, _TIMINGS, "cache_n")) is not None:
        counts.setdefault("cache_read_tokens", cached)
    if counts.get("cache_read_tokens") or counts.get("cache_write_tokens"):
        details = next((group_counters for group in INPUT_DETAILS if (group_counters := mapping(raw, group))), {})
        for field, holder, name in OF_CACHE:
            if holder in details and (part := count(details, holder, name)) is not None:
                counts[field] = part
    fields: dict[str, Any] = {**counts, "raw": _copied(raw), "hosted_tools": runs_in(answer)}
    seconds = number(raw, _AUDIO_SECONDS) if _AUDIO_SECONDS in raw else None
    if seconds is not None and seconds >= 0:
        fields["input_audio_seconds"] = seconds
    if (cost := stated_cost(raw, body)) is not None:
        fields |= {"cost_usd": cost.usd, "cost_estimated": cost.estimated}
    return Usage(**fields)


def _copied(raw: dict[str, object]) -> dict[str, object]:
    try:
        copy: dict[str, object] = msgspec.to_builtins(raw)
    except (TypeError, ValueError, RecursionError):
        return detached(raw)
    return copy


def _counts(raw: dict[str, object]) -> dict[str, int]:
    """Return the counters by field. Their locations, the same in all responses of a server, are cached."""
    counts: dict[str, int] = {}
    shape: list[str | tuple[str, ...]] = []
    for group, value in raw.items():
        shape.append((group, *value) if type(value) is dict else group)
    for field, holder, name in _counters_in(tuple(shape)):
        raw_value: object = raw[name] if holder is None else raw[holder][name]  # type: ignore[index] # by its shape
        number = raw_value if type(raw_value) is int and 0 <= raw_value <= LARGEST_COUNT else count(raw_value)
        if number is not None:
            counts[field] = number
    return counts


@lru_cache(maxsize=_MAX_SHAPES)
def _counters_in(shape: _Shape) -> tuple[tuple[str, str | None, str], ...]:
    """Return (field, group or None, name) of the counters in a usage object of this shape, in reverse priority.

    The shape is the names outside of groups, and the name and names of each group.
    """
    present: set[_Path] = set()
    for entry in shape:
        present.update([(entry[0], name) for name in entry[1:]] if isinstance(entry, tuple) else [(entry,)])
    return tuple(
        (field, path[0] if len(path) > 1 else None, path[-1])
        for field, paths in PLACES.items()
        for path in reversed(paths)
        if path in present
    )
