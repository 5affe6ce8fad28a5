"""Token headers: the counts of tokens that Bedrock states in the headers of a model's answer, whatever its body has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from callspan.providers.wire_json import count
from callspan.record.usage import Usage

_PREFIX: Final = "x-amzn-bedrock-"
INPUT: Final = f"{_PREFIX}input-token-count"
"""Excludes the tokens that were read from or written to the cache."""
OUTPUT: Final = f"{_PREFIX}output-token-count"
CACHE_READ: Final = f"{_PREFIX}cache-read-input-token-count"
CACHE_WRITE: Final = f"{_PREFIX}cache-write-input-token-count"
HEADERS: Final = (INPUT, OUTPUT, CACHE_READ, CACHE_WRITE)


_COUNTS: Final = {
    "inputTokenCount": INPUT, "outputTokenCount": OUTPUT, "cacheReadInputTokenCount": CACHE_READ,
    "cacheWriteInputTokenCount": CACHE_WRITE,
}  # fmt: skip


def as_headers(counts: Mapping[str, object]) -> dict[str, str]:
    """Return the counts that the last event of a stream states as the headers of a plain answer."""
    return {header: str(tokens) for name, header in _COUNTS.items() if (tokens := count(counts, name)) is not None}


def with_header_counts(usage: Usage | None, headers: Mapping[str, str]) -> Usage | None:
    """Return the usage of an answer whose body states no input tokens, with those in its headers."""
    fresh = count(headers, INPUT)
    if fresh is None:
        return usage
    read, write = count(headers, CACHE_READ), count(headers, CACHE_WRITE)
    total_input = fresh + (read or 0) + (write or 0)
    stated_output = None if usage is None else usage.output_tokens
    output = count(headers, OUTPUT) if stated_output is None else stated_output
    return msgspec.structs.replace(
        usage or Usage(), input_tokens=total_input, output_tokens=output, total_tokens=total_input + (output or 0),
        cache_read_tokens=read, cache_write_tokens=write,
    )  # fmt: skip
