"""Call sums: the sums of a list of records in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from statistics import fmean

import msgspec

from callspan.record.call import CallRecord
from callspan.record.messages import ToolCall
from callspan.stores.aggregates import exact_sum, is_error, known_sum


class CallSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls. What no call knows is None, never 0."""

    calls: int
    """Number of calls."""
    successes: int
    """Calls with the outcome success."""
    errors: int
    """Calls with the outcome error or timeout."""
    mean_latency_ms: float | None
    """Mean duration of the calls that succeeded, in milliseconds."""
    input_tokens: int | None
    """Sum, cached tokens included."""
    output_tokens: int | None
    """Sum, reasoning included."""
    total_tokens: int | None
    """Both together."""
    cost_usd: Decimal | None
    """Sum in US dollars, exact."""
    tool_calls: int | None
    """Tool calls that the models requested; None if no call has the content of its answer."""
    providers: dict[str, int]
    """Number of calls of each provider."""


def summary(records: Iterable[object]) -> CallSums:
    """Return the sums over the calls among these records, such as those of `callspan.testing.capture()` or a reader.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> callspan.summary(seen.records).successes
        1
    """
    calls = [record for record in records if isinstance(record, CallRecord)]
    latencies = [
        call.timing.duration_ns / 1e6
        for call in calls
        if call.outcome == "success" and call.timing.duration_ns is not None
    ]
    input_tokens = known_sum(call.usage.input_tokens if call.usage else None for call in calls)
    output_tokens = known_sum(call.usage.output_tokens if call.usage else None for call in calls)
    return CallSums(
        calls=len(calls),
        successes=sum(call.outcome == "success" for call in calls),
        errors=sum(is_error(call.outcome) for call in calls),
        mean_latency_ms=fmean(latencies) if latencies else None,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=known_sum((input_tokens, output_tokens)),
        cost_usd=exact_sum(call.cost.usd if call.cost else None for call in calls),
        tool_calls=known_sum(map(_requested, calls)),
        providers=dict(Counter(call.provider for call in calls).most_common()),
    )


def _requested(call: CallRecord) -> int | None:
    if call.conversation is None:
        return None
    return sum(isinstance(part, ToolCall) for message in call.conversation.output for part in message.parts)
