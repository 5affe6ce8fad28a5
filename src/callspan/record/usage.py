"""Usage: what a provider says it counted, in one shape for all of them."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Token counts of one call. `None` means unknown; 0 means the provider counted zero.

    `input_tokens` and `output_tokens` are inclusive: the other counters are parts of them. Anthropic
    reports its input without the cached part, so there the total is input + cache read + cache write.
    """

    input_tokens: int | None = None
    """All input tokens, cached ones included."""
    output_tokens: int | None = None
    """All output tokens, reasoning included."""
    total_tokens: int | None = None
    """The provider's own total, else the sum when both parts are known."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    cost_usd: Decimal | None = None
    """What the provider itself states it charged (OpenRouter's `usage.cost`)."""
    estimated: bool = False
    """True where a count is not the provider's alone: estimated from the text (`estimate_usage`), taken from its total
    where the total is more than its parts, or contradicted by another counter."""
    raw: dict[str, object] | None = None
    """The provider's usage object as it came, detached from the caller's objects."""
