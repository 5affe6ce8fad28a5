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
    """Return the usage of an answer, with the tokens of its headers where its body leaves out a direction."""
    stated = usage or Usage()
    fresh, output = count(headers, INPUT), count(headers, OUTPUT)
    if stated.input_tokens is None and fresh is not None:
        read, write = count(headers, CACHE_READ), count(headers, CACHE_WRITE)
        total = fresh + (read or 0) + (write or 0)
        stated = msgspec.structs.replace(stated, input_tokens=total, cache_read_tokens=read, cache_write_tokens=write)
    if stated.output_tokens is None and output is not None:
        stated = msgspec.structs.replace(stated, output_tokens=output)
    if stated in (usage, Usage()):
        return usage
    both = (stated.input_tokens, stated.output_tokens)
    return msgspec.structs.replace(stated, total_tokens=None if None in both else sum(filter(None, both)))
