"""Call sums: sums over call records in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from statistics import fmean

import msgspec

from callspan.records import CallRecord, ToolCall
from callspan.stores import exact_sum, is_error, known_sum


class CallSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls. A sum is None, not 0, if it is unknown for all calls."""

    calls: int
    successes: int
    errors: int
    """Number of calls with the outcome error or timeout."""
    mean_latency_ms: float | None
    """Mean duration of the successful calls, in milliseconds."""
    input_tokens: int | None
    """Including cached tokens."""
    output_tokens: int | None
    """Including reasoning tokens."""
    total_tokens: int | None
    cost_usd: Decimal | None
    tool_calls: int | None
    """Tool calls requested by the models; None if no record has content."""
    providers: dict[str, int]


def summary(records: Iterable[object]) -> CallSums:
    """Return the sums over the calls among these records, for example from `callspan.testing.capture()` or a reader.

    Of several versions of a call the last counts.

    Example:
        >>> with callspan.testing.capture() as seen:
        ...     _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> callspan.summary(seen.records).successes
        1
    """
    calls = {record.call_id: record for record in records if isinstance(record, CallRecord)}.values()
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
        tool_calls=known_sum(map(_tool_call_count, calls)),
        providers=dict(Counter(call.provider for call in calls).most_common()),
    )


def _tool_call_count(call: CallRecord) -> int | None:
    if call.conversation is None:
        return None
    return sum(isinstance(part, ToolCall) for message in call.conversation.output for part in message.parts)
