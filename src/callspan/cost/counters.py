"""Counters: which fields of a provider's usage object have a price, and which are known to have none.

A field in neither table has no price that is known: the cost is an estimate, and its reason names the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callspan.cost.dimensions import DIMENSIONS
from callspan.providers.openai.usage import INPUT_DETAILS, OF_CACHE, PLACES
from callspan.record.usage import Usage

COUNTED: Final[Mapping[str, str]] = {
    **{".".join(path): field for field, paths in PLACES.items() for path in paths},
    **{f"{group}.{holder}.{name}": field for group in INPUT_DETAILS for field, holder, name in OF_CACHE},
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "output_tokens_details.thinking_tokens": "reasoning_tokens",
    "billed_units.image_tokens": "input_image_tokens",
    **{f"billed_units.{name}": "hosted_tools" for name in ("search_units", "classifications", "images")},
    # Gemini
    "promptTokenCount": "input_tokens",
    "toolUsePromptTokenCount": "input_tokens",
    **dict.fromkeys(("candidatesTokenCount", "responseTokenCount"), "output_tokens"),
    "thoughtsTokenCount": "reasoning_tokens",
    "cachedContentTokenCount": "cache_read_tokens",
    "totalTokenCount": "total_tokens",
    # its interactions
    "total_input_tokens": "input_tokens",
    "total_tool_use_tokens": "input_tokens",
    "total_output_tokens": "output_tokens",
    "total_thought_tokens": "reasoning_tokens",
    "total_cached_tokens": "cache_read_tokens",
    **dict.fromkeys(("grounding_tool_count.type", "grounding_tool_count.count"), "hosted_tools"),
    # Hugging Face
    "generated_tokens": "output_tokens",
    "input_length": "input_tokens",
    # Bedrock
    **{
        f"{name}{suffix}": field
        for name, field in (
            ("cacheReadInputToken", "cache_read_tokens"),
            ("cacheWriteInputToken", "cache_write_tokens"),
        )
        for suffix in ("s", "Count")
    },
    "inputTokenCount": "input_tokens",
    "outputTokenCount": "output_tokens",
    "prompt_audio_seconds": "input_audio_seconds",
    "seconds": "input_audio_seconds",
    "server_tool_use.web_fetch_requests": "web_fetch_requests",
    **{
        f"iterations.{name}": "raw"
        for name in (
            "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
            "cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens", "type", "model",
        )
    },
}  # fmt: skip
"""Fields that are read, each with the counter of `Usage` that has it. One of an iteration is read with the whole."""
FREE: Final[Mapping[str, str]] = {
    # console.groq.com/docs/api-reference: seconds in the queue and of each phase
    **dict.fromkeys(("queue_time", "prompt_time", "completion_time", "total_time"), "a time"),
    # Groq: where the cached tokens were kept; `cached_tokens` has them
    **dict.fromkeys(("dram_cached_tokens", "sram_cached_tokens"), "part of the cached input"),
    # api-docs.deepseek.com: `prompt_tokens` less the hits
    "prompt_cache_miss_tokens": "part of the input",
    # OpenAI: tokens that are kept for the usual time have the usual price of a write
    **dict.fromkeys(
        (f"{group}.cache_write_tokens_details.ttl_30m_tokens" for group in INPUT_DETAILS), "part of the writes"
    ),
    # ai.google.dev/api/generate-content: the same tokens by modality; only images and sound are read
    **{
        f"{name}.{field}": "part of the tokens"
        for name in (
            "promptTokensDetails",
            "promptTokenDetails",
            "toolUsePromptTokensDetails",
            "candidatesTokensDetails",
            "responseTokensDetails",
            "cacheTokensDetails",
        )
        for field in ("modality", "tokenCount")
    },
    **{
        f"{name}_tokens_by_modality.{field}": "part of the tokens"
        for name in ("input", "output", "cached", "tool_use")
        for field in ("modality", "tokens")
    },
    # google-genai `Usage`: the input of the first of several turns
    "initial_input_tokens": "part of the input",
    **dict.fromkeys(("trafficType", "serviceTier"), "a dimension"),
    # Bedrock: the writes by lifetime, and times in milliseconds
    **dict.fromkeys(("cacheDetails.ttl", "cacheDetails.inputTokens"), "part of the writes"),
    **dict.fromkeys(("invocationLatency", "firstByteLatency"), "a time"),
    # openai `SessionUsage`: part of the billable `seconds`
    "active_seconds": "part of the seconds",
    # openai: whether a transcript is counted in tokens or in seconds
    "type": "the unit",
    # anthropic `BetaFallbackCreditUsage`: why a credit was not applied; its type is a dimension
    **dict.fromkeys(("fallback_credit.status.reason", "fallback_credit.status.remove_to_redeem"), "a text"),
    # docs.ollama.com/api/usage
    **dict.fromkeys(("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"), "a time"),
    # Pydantic's gateway: its own estimate of the same tokens
    "pydantic_ai_gateway.cost_estimate": "no counter",
    **{".".join(dimension.stated): "a dimension" for dimension in DIMENSIONS if dimension.stated},
}
"""Fields without a price of their own, and the reason."""
_BILLED: Final = "billed_units"
"""Cohere's object with all that is charged, beside other counts of the same tokens."""
_MOST_NAMED: Final = 8
_ZERO: Final = "0"


def bills_units_alone(usage: Usage) -> bool:
    """Return whether an answer states everything that is charged and charges no tokens, such as a Cohere ranking."""
    charged = (usage.raw or {}).get(_BILLED)
    return bool(usage.hosted_tools) and isinstance(charged, dict) and not any("tokens" in name for name in charged)


def unpriced_fields(usage: Usage) -> list[str]:
    """Return the fields of the usage object that state something with an unknown price."""
    raw = usage.raw
    if raw is None:
        return []
    charged = {_BILLED: raw[_BILLED]} if _BILLED in raw else raw
    names = [path for path in _stated(charged) if not _is_read(path, usage)]
    return names if len(names) <= _MOST_NAMED else [*names[:_MOST_NAMED], "others"]


def _stated(fields: dict[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the path of each value that is more than nothing: a number, a flag that is set, a word."""
    for name, value in fields.items():
        if not value or value == _ZERO:  # a truth value is checked sooner than membership in a tuple
            continue
        if isinstance(value, dict):
            yield from _stated(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from _stated_in_list(value, prefix + name)
        else:
            yield prefix + name


def _stated_in_list(values: list[object], path: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict):
            yield from _stated(value, f"{path}.")
        elif isinstance(value, list):
            yield from _stated_in_list(value, path)
        elif value and value != _ZERO:
            yield path


def _is_read(path: str, usage: Usage) -> bool:
    field = COUNTED.get(path)
    return path in FREE if field is None else getattr(usage, field) is not None
