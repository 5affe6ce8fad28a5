"""Usage merge: how the usage objects of one stream add up, which is a part of a wire's description."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from callspan.providers.wire_json import detached

UsageRule: TypeAlias = Literal["deltas", "last of each", "last whole"]
"""`deltas`: each object counts only what is new; they are summed.

`last of each`: counters are totals, and an object may leave some out: of each the last value that is not null counts.

`last whole`: each object is a snapshot. Its counters belong together: a counter that the last one leaves out does not
count. An object without a count is no snapshot.
"""

_PROMPT: Final = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
"""The counters that are the prompt together."""
_OF_PROMPT: Final = frozenset(
    {*_PROMPT, "cache_creation", "prompt_tokens_details", "input_tokens_details", "total_tokens"}
)
"""They, their parts, and the sum that has them."""


def merge_usage(usage: dict[str, Any], update: dict[str, Any], rule: UsageRule) -> dict[str, Any]:
    """Return the usage after one more object, as a new object. Zeros for all that was counted are ignored."""
    if rule != "deltas" and _is_placeholder(update, usage):
        return usage
    if rule == "last whole":
        return usage if counts_nothing(update) and not counts_nothing(usage) else detached(update)
    if rule == "last of each" and _has_lost_prompt(update, usage):
        usage = {key: value for key, value in usage.items() if key != "total_tokens"}
        update = {key: value for key, value in update.items() if key not in _OF_PROMPT}
    return _merged(usage, update, rule)


def counts_nothing(usage: dict[str, Any]) -> bool:
    """Return whether an object has no count but 0, as one that states only a kind of traffic."""
    return not any(
        (_is_count(value) and value) or (isinstance(value, dict) and not counts_nothing(value))
        for value in usage.values()
    )


def _has_lost_prompt(update: dict[str, Any], usage: dict[str, Any]) -> bool:
    """Return whether an object states that a prompt with tokens has none, as gateways do beside the output's count."""
    counts = [update[name] for name in _PROMPT if update.get(name) is not None]
    return counts != [] and not any(counts) and any(_is_count(usage.get(name)) and usage[name] for name in _PROMPT)


def _is_placeholder(update: dict[str, Any], usage: dict[str, Any]) -> bool:
    counts = [update.get(name) for name, value in usage.items() if _is_count(value) and value]
    return len(counts) > 1 and all(_is_count(count) and not count for count in counts)


def _merged(usage: dict[str, Any], update: dict[str, Any], rule: UsageRule) -> dict[str, Any]:
    merged = {**usage}
    for key, value in update.items():
        current = usage.get(key)
        if isinstance(value, dict) and isinstance(current, dict):
            merged[key] = _merged(current, value, rule)
        elif rule == "deltas" and _is_count(value) and _is_count(current):
            merged[key] = current + value
        elif value is not None or key not in merged:
            merged[key] = detached(value)
    return merged


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
