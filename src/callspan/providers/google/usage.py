"""Usage of Gemini: `usageMetadata` of its answers as inclusive counters.

`totalTokenCount` is the sum of `promptTokenCount`, `candidatesTokenCount`, `thoughtsTokenCount` and
`toolUsePromptTokenCount`: the prompt includes cached tokens and excludes the tokens of hosted tools, the candidates
exclude thoughts. Some gateways count the thoughts among the candidates, which the total shows. A counter of zero may be
absent. Live sessions of Gemini's API name the candidates `responseTokenCount`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.providers.wire_json import count, detached_object, objects, text
from callspan.record.usage import Usage, checked_usage

_MODALITIES: Final = {"TEXT": "text", "IMAGE": "image", "AUDIO": "audio", 1: "text", 2: "image", 4: "audio"}
"""The modalities with counters of their own, also by the numbers of Google's protobuf clients."""
_DETAILS: Final = {
    "promptTokensDetails": "input", "promptTokenDetails": "input", "toolUsePromptTokensDetails": "input",
    "candidatesTokensDetails": "output", "responseTokensDetails": "output", "cacheTokensDetails": "cache_read",
}  # fmt: skip
"""What each list of counters by modality is part of; `promptTokenDetails` is in answers with embeddings."""
_ADDED: Final = (int, list)


def usage(metadata: object) -> Usage | None:
    """Return a `usageMetadata`; None without one."""
    if not isinstance(metadata, dict) or not metadata:
        return None
    prompt, total = count(metadata, "promptTokenCount"), count(metadata, "totalTokenCount")
    total_input = None if prompt is None else prompt + (count(metadata, "toolUsePromptTokenCount") or 0)
    output = _output(metadata, total_input, total)
    is_derived = output is None and total is not None and total_input is not None
    remainder = max(total - total_input, 0) if total is not None and total_input is not None else None
    tokens = Usage(
        input_tokens=total_input,
        output_tokens=remainder if is_derived else output,
        total_tokens=total,
        cache_read_tokens=count(metadata, "cachedContentTokenCount"),
        reasoning_tokens=count(metadata, "thoughtsTokenCount"),
        estimated=is_derived and bool(remainder),
        raw=detached_object(metadata),
        **_by_modality(metadata),
    )
    return checked_usage(tokens)


def estimated(tokens: Usage) -> Usage:
    """Return a usage, marked as not exact: for example, the lower bound of a stream that was cut."""
    return msgspec.structs.replace(tokens, estimated=True)


def added(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """Return the sum of two `usageMetadata`: counters add up, details are in one list, of other values the last counts.

    Shares the details with both.
    """
    total: dict[str, Any] = {**(first or {})}
    for name, value in second.items():
        earlier = total.get(name)
        adds_up = type(value) in _ADDED and type(earlier) is type(value)
        total[name] = earlier + value if adds_up else value
    return total


def input_usage(metadata: object) -> Usage | None:
    """Return the usage of an operation without output."""
    tokens = usage(metadata)
    return None if tokens is None else msgspec.structs.replace(tokens, output_tokens=None)


def _output(metadata: dict[str, object], total_input: int | None, total: int | None) -> int | None:
    """Return the tokens of the answer with its thoughts; None if neither is stated."""
    name = "responseTokenCount" if "responseTokenCount" in metadata else "candidatesTokenCount"
    answer_tokens, thoughts = count(metadata, name), count(metadata, "thoughtsTokenCount")
    if answer_tokens is None and thoughts is None:
        return None
    includes_thoughts = bool(
        answer_tokens and thoughts and total_input is not None and total == total_input + answer_tokens
    )
    return answer_tokens if includes_thoughts else (answer_tokens or 0) + (thoughts or 0)


def _by_modality(metadata: dict[str, object]) -> dict[str, Any]:
    counters: dict[str, Any] = {}
    for name, prefix in _DETAILS.items():
        for detail in objects(metadata, name) if name in metadata else ():
            kind, number = detail.get("modality"), count(detail, "tokenCount")
            modality = _MODALITIES.get(kind) if isinstance(kind, str | int) else None
            if modality is not None and number is not None:
                counter = f"{prefix}_{modality}_tokens"
                counters[counter] = counters.get(counter, 0) + number
    return counters


def service_tier(metadata: object) -> str | None:
    """Return the tier that served an answer: of Gemini's API, or of Vertex."""
    return text(metadata, "serviceTier") or text(metadata, "trafficType") or None
