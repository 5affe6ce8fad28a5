"""Usage: the provider's counts of tokens and media for a call, and their cost. Unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from callspan.record.vocabulary import WIRE, CostSource, HostedTool, own_words

ADDITIVE_COUNTERS: Final = (
    "input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "reasoning_tokens", "web_search_requests", "web_fetch_requests",
)  # fmt: skip
"""Counters of `Usage` that are summed over the models that took part in a call."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Exact money: a decimal, in JSON as text."""

    usd: Decimal
    source: Annotated[str, own_words(CostSource)]
    """`provider`, or the name and version of the price table."""
    estimated: bool = False
    """True if counts or prices are uncertain."""
    reason: str | None = None


class UsageIteration(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One model run inside the provider's server that the provider's own totals omit.

    `input_tokens` is inclusive, as in `Usage`. The counters of `Usage` include every iteration.
    """

    kind: str
    """The provider's name for it: `compaction` or `advisor_message`."""
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    cost: Cost | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Token counts of one call, or the provider's other counters for media.

    `None` means unknown; 0 means the provider counted zero.

    `input_tokens` and `output_tokens` are inclusive: the other counters are parts of them. Anthropic reports input
    without the cached part, so `input_tokens` is its input + cache read + cache write.
    """

    input_tokens: int | None = None
    """All input tokens, cached ones included."""
    output_tokens: int | None = None
    """All output tokens, reasoning included."""
    total_tokens: int | None = None
    """The provider's own total, else the sum of input and output if both are known."""
    cache_read_tokens: int | None = None
    cache_read_text_tokens: int | None = None
    cache_read_image_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    cache_write_12h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    """Predicted tokens that the answer contains."""
    rejected_prediction_tokens: int | None = None
    """Predicted tokens that it does not contain, counted as output."""
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    hosted_tools: dict[HostedTool, int | None] = {}
    """Runs of hosted tools that appear in the answer but not in its usage, such as `file_search`; None for an unknown
    number."""
    output_images: int | None = None
    input_audio_seconds: float | None = None
    """Seconds of audio, where the provider counts no tokens; of a live session its billable seconds."""
    cost_usd: Decimal | None = None
    cost_estimated: bool = False
    """Whether the stated cost is an estimate; without one, whether a counter that has a price of its own is unknown, as
    is the cached input of some spans of other instrumentations."""
    estimated: bool = False
    """Whether a counter was estimated from the text (`estimate_usage`), derived from the total, contradicted by another
    counter, or lacks the tokens of a model that declined."""
    iterations: list[UsageIteration] = []
    raw: Annotated[dict[str, object], WIRE] | None = None
    """The provider's usage object of the last attempt, as received."""


def usage_of_iteration(iteration: UsageIteration) -> Usage:
    """Return the usage of one iteration; its total is unknown unless input and output are both known."""
    has_both = iteration.input_tokens is not None and iteration.output_tokens is not None
    return Usage(
        input_tokens=iteration.input_tokens,
        output_tokens=iteration.output_tokens,
        total_tokens=(iteration.input_tokens or 0) + (iteration.output_tokens or 0) if has_both else None,
        cache_read_tokens=iteration.cache_read_tokens,
        cache_write_tokens=iteration.cache_write_tokens,
        cache_write_5m_tokens=iteration.cache_write_5m_tokens,
        cache_write_1h_tokens=iteration.cache_write_1h_tokens,
    )


def contradicts_itself(usage: Usage) -> bool:
    """Return whether a counter is smaller than a part of it, or cache writes are not the sum of their parts.

    An answer to 0 input tokens also contradicts itself; the streams of some servers state that. The last event of a
    stream states the writes anew, but not how long they are kept.
    """
    inputs, output, writes = usage.input_tokens, usage.output_tokens, usage.cache_write_tokens
    short, long, total = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.total_tokens
    return (
        (total is not None and total < (inputs or 0) + (output or 0))
        or (inputs == 0 and bool(output))
        or _is_exceeded(
            inputs, usage.cache_read_tokens, writes, usage.input_text_tokens, usage.input_image_tokens,
            usage.input_audio_tokens,
        )
        or _is_exceeded(
            output, usage.reasoning_tokens, usage.output_text_tokens, usage.output_image_tokens,
            usage.output_audio_tokens, usage.accepted_prediction_tokens, usage.rejected_prediction_tokens,
        )
        or (writes is not None and (
            _is_exceeded(writes, short, long, usage.cache_write_12h_tokens)
            or (short is not None and long is not None and short + long != writes)
        ))
    )  # fmt: skip


def checked_usage(usage: Usage) -> Usage:
    """Return a usage, marked as estimated if it contradicts itself."""
    return msgspec.structs.replace(usage, estimated=True) if contradicts_itself(usage) else usage


def _is_exceeded(total: int | None, *parts: int | None) -> bool:
    """Return whether a counter is smaller than a part of it."""
    if total is not None:
        for part in parts:
            if part is not None and part > total:
                return True
    return False


def with_added(usage: Usage, additions: Iterable[Usage]) -> Usage:
    """Return the sum of `usage` and `additions`; unknown counters add nothing."""
    additions = list(additions)
    if not additions:
        return usage
    sums: dict[str, int | None] = {}
    for name in ADDITIVE_COUNTERS:
        values = [value for summand in (usage, *additions) if (value := getattr(summand, name)) is not None]
        sums[name] = sum(values) if values else None
    return msgspec.structs.replace(usage, **sums)
