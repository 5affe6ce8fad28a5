"""Hops: the `usage.iterations` of an answer, and which of them the top-level counters of `usage` leave out.

The types of the SDK state it for two kinds, the rest follows from the numbers:

- `compaction`: "tokens are not included in the top-level `usage` fields" (`BetaUsage.iterations`);
- `advisor_message`: another model's "sub-inference" (`BetaAdvisorMessageIterationUsage`): in recorded answers the top
  level is the sum of the `message` entries, without it;
- `message`: the turns of a loop of server tools, which the top level sums up, or hops that declined;
- `fallback_message`: "the terminal entry of a fallback-served turn", in place of the last `message`
  (`BetaFallbackMessageIterationUsage`).

Of a chain of hops the top level has either all, or the last ones: those of the hop that answered. The SDK's middleware
names of that hop only the last iteration (`_serving_iteration_entry`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.providers.json_readers import count, text
from callspan.record.usage import Hop, Usage, usage_of_hop, with_added

_SERVED: Final = "fallback_message"
_SAMPLED: Final = ("message", _SERVED)
_MOST: Final = 256
"""More entries than that are no chain of hops."""


def with_hops(usage: Usage, iterations: object) -> Usage:
    """Return the usage with its hops, and their tokens where the top level leaves them out.

    Itself where all iterations are turns of one model, which the top level sums up.
    """
    given = iterations[:_MOST] if isinstance(iterations, list) else []
    hops = [_hop(entry, kind) for entry in given if (kind := text(entry, "type"))]
    sampled = [hop for hop in hops if hop.kind in _SAMPLED]
    is_chain = any(hop.kind == _SERVED for hop in sampled) or len({hop.model for hop in sampled if hop.model}) > 1
    if len(sampled) == len(hops) and not is_chain and not _is_beside(sampled, usage):
        return usage
    beside = _declined(sampled, usage) if is_chain or _is_beside(sampled, usage) else 0
    marked = []
    for hop in hops:
        if hop.kind in _SAMPLED:
            marked.append(msgspec.structs.replace(hop, beside=beside > 0))
            beside -= 1
        else:
            marked.append(msgspec.structs.replace(hop, beside=True))
    left_out = [usage_of_hop(hop) for hop in marked if hop.beside]
    return with_added(msgspec.structs.replace(usage, hops=marked), left_out)


def _hop(entry: object, kind: str) -> Hop:
    read, write = count(entry, "cache_read_input_tokens"), count(entry, "cache_creation_input_tokens")
    fresh = count(entry, "input_tokens")
    return Hop(
        kind=kind,
        model=text(entry, "model") or None,
        input_tokens=None if fresh is None else fresh + (read or 0) + (write or 0),
        output_tokens=count(entry, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_5m_tokens=count(entry, "cache_creation", "ephemeral_5m_input_tokens"),
        cache_write_1h_tokens=count(entry, "cache_creation", "ephemeral_1h_input_tokens"),
    )


def _is_beside(sampled: list[Hop], usage: Usage) -> bool:
    """Whether hops that name their model ended in a refusal: the last of them alone is what the top level has."""
    return len(sampled) > 1 and bool(sampled[-1].model) and _sums(sampled[-1:]) == _of(usage)


def _declined(sampled: list[Hop], usage: Usage) -> int:
    """How many of the first hops the top level leaves out: those before the longest end that it equals, if any."""
    total = _of(usage)
    return next((first for first in range(len(sampled)) if _sums(sampled[first:]) == total), max(0, len(sampled) - 1))


def _of(usage: Usage) -> tuple[int, int]:
    return usage.input_tokens or 0, usage.output_tokens or 0


def _sums(hops: list[Hop]) -> tuple[int, int]:
    return sum(hop.input_tokens or 0 for hop in hops), sum(hop.output_tokens or 0 for hop in hops)
