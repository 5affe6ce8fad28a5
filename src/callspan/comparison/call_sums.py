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
    duration_ns: int | None
    """Sum over the successful calls."""
    mean_duration_ns: float | None
    """Mean over the successful calls."""
    input_tokens: int | None
    """Including cached tokens."""
    output_tokens: int | None
    """Including reasoning tokens."""
    reasoning_tokens: int | None
    total_tokens: int | None
    mean_input_tokens: float | None
    """Mean over the calls with a known number."""
    mean_output_tokens: float | None
    """Mean over the calls with a known number."""
    cost_usd: Decimal | None
    tool_calls: int | None
    """Tool calls requested by the models; None if no record has content."""
    providers: dict[str, int]
    """Number of calls of each, the most frequent first."""
    models: dict[str, int]
    """Number of calls of each requested, or else responding, model, the most frequent first."""


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
    durations = [
        call.timing.duration_ns for call in calls if call.outcome == "success" and call.timing.duration_ns is not None
    ]
    usages = [call.usage for call in calls if call.usage is not None]
    inputs, outputs = [usage.input_tokens for usage in usages], [usage.output_tokens for usage in usages]
    input_tokens, output_tokens = known_sum(inputs), known_sum(outputs)
    return CallSums(
        calls=len(calls),
        successes=sum(call.outcome == "success" for call in calls),
        errors=sum(is_error(call.outcome) for call in calls),
        duration_ns=known_sum(durations),
        mean_duration_ns=fmean(durations) if durations else None,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=known_sum(usage.reasoning_tokens for usage in usages),
        total_tokens=known_sum((input_tokens, output_tokens)),
        mean_input_tokens=_mean(inputs),
        mean_output_tokens=_mean(outputs),
        cost_usd=exact_sum(call.cost.usd if call.cost else None for call in calls),
        tool_calls=known_sum(map(_tool_call_count, calls)),
        providers=dict(Counter(call.provider for call in calls).most_common()),
        models=dict(Counter(call.model for call in calls if call.model is not None).most_common()),
    )


def _mean(counts: Iterable[int | None]) -> float | None:
    """Return the mean of the counts that `known_sum` adds; None without any."""
    known_counts = [count for count in counts if known_sum([count]) is not None]
    return None if not known_counts else sum(filter(None, known_counts)) / len(known_counts)


def _tool_call_count(call: CallRecord) -> int | None:
    if call.conversation is None:
        return None
    return sum(isinstance(part, ToolCall) for message in call.conversation.output for part in message.parts)
