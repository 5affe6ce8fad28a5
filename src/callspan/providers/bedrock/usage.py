"""Usage of Bedrock: the counters of Converse and of invoked models, as inclusive counters.

`inputTokens` excludes tokens that were read from or written to the cache; the total includes them. If the total is the
sum of input and output alone, the model's input includes them. A version of botocore that is older than the counters of
the cache drops them: then the total shows how many tokens the input had, but not which were cached.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.providers.wire_json import Json, count, detached_object, mapping, objects, text
from callspan.record.usage import Usage, checked_usage

METRICS: Final = "amazon-bedrock-invocationMetrics"
"""The field of the last event of a model's stream with the counts that the headers of a plain answer state."""


def usage(counters: Json | None) -> Usage | None:
    """Return a `usage` of Converse; None if it has no counts."""
    if not counters:
        return None
    fresh, output, total = (count(counters, name) for name in ("inputTokens", "outputTokens", "totalTokens"))
    read = _cached(counters, "cacheReadInputToken")
    write = _cached(counters, "cacheWriteInputToken")
    lifetimes = {text(detail, "ttl"): count(detail, "inputTokens") for detail in objects(counters, "cacheDetails")}
    total_input, is_derived = _total_input(fresh, (read, write), output, total)
    tokens = Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=_sum(total_input, output) if total is None else total,
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_5m_tokens=lifetimes.get("5m"),
        cache_write_1h_tokens=lifetimes.get("1h"),
        estimated=is_derived,
        raw=detached_object(counters),
    )
    return checked_usage(tokens)


def usage_of_openai(counters: Json | None) -> Usage | None:
    """Return a `usage` of one of OpenAI's models. Its total counts the cached tokens of the input once more.

    Input that is not smaller than what was cached includes it, as was seen in streams; the usage is marked, since the
    counters do not say so.
    """
    tokens, fresh = usage(counters), count(counters, "inputTokens")
    cached = 0 if tokens is None else (tokens.cache_read_tokens or 0) + (tokens.cache_write_tokens or 0)
    if tokens is None or fresh is None or not cached or fresh < cached or tokens.input_tokens == fresh:
        return tokens
    return msgspec.structs.replace(
        tokens, input_tokens=fresh, total_tokens=_sum(fresh, tokens.output_tokens), estimated=True
    )


def _cached(counters: Json, name: str) -> int | None:
    """Return a counter of the cache, by either of its two names."""
    tokens = count(counters, f"{name}s")
    return count(counters, f"{name}Count") if tokens is None else tokens


def _total_input(
    fresh: int | None, cached: tuple[int | None, int | None], output: int | None, total: int | None
) -> tuple[int | None, bool]:
    """Return all input tokens, and whether they were derived from the total."""
    if fresh is None:
        return None, False
    read, write = cached
    with_cache = fresh + (read or 0) + (write or 0)
    from_total = None if total is None or output is None else total - output
    if from_total == fresh:
        return fresh, False
    is_derived = cached == (None, None) and from_total is not None and from_total > fresh
    return (from_total if is_derived else with_cache), is_derived


def invoked_usage(body: object, answers: list[Json]) -> Usage | None:
    """Return the counts in the body of an invoked model, by its vendor or by Bedrock; None without counts."""
    metrics = mapping(body, METRICS) or {}
    stated_input = _first_count(body, "inputTextTokenCount", "prompt_token_count")
    by_answer = [number for answer in answers if (number := count(answer, "tokenCount")) is not None]
    output = _first_count(body, "totalOutputTextTokenCount", "generation_token_count")
    output = sum(by_answer) if output is None and by_answer else output
    counters: Json = {
        "inputTokens": count(metrics, "inputTokenCount") if stated_input is None else stated_input,
        "outputTokens": count(metrics, "outputTokenCount") if output is None else output,
        "cacheReadInputTokens": count(metrics, "cacheReadInputTokenCount"),
        "cacheWriteInputTokens": count(metrics, "cacheWriteInputTokenCount"),
    }
    tokens = usage({name: number for name, number in counters.items() if number is not None})
    return None if tokens is None else msgspec.structs.replace(tokens, raw=detached_object(metrics) or None)


def _first_count(body: object, *names: str) -> int | None:
    return next((tokens for name in names if (tokens := count(body, name)) is not None), None)


def _sum(total_input: int | None, output: int | None) -> int | None:
    return None if total_input is None or output is None else total_input + output
