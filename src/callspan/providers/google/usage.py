"""Usage of Gemini: `usageMetadata` of its answers as inclusive counters.

`totalTokenCount` is the sum of `promptTokenCount`, `candidatesTokenCount`, `thoughtsTokenCount` and
`toolUsePromptTokenCount`: the prompt includes cached tokens and excludes those of hosted tools, the candidates exclude
thoughts. Some gateways count the thoughts among the candidates, which the total shows. A counter of zero may be absent.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.providers.wire_json import count, detached_object, objects, text
from callspan.record.usage import Usage, contradicts_itself

_MODALITIES: Final = {"TEXT": "text", "IMAGE": "image", "AUDIO": "audio", 1: "text", 2: "image", 4: "audio"}
"""The modalities with counters of their own, also by the numbers of Google's protobuf clients."""
_INPUT_DETAILS: Final = ("promptTokensDetails", "promptTokenDetails", "toolUsePromptTokensDetails")
"""`promptTokenDetails` is the name in answers with embeddings."""


def usage(counted: object) -> Usage | None:
    """Return a `usageMetadata`; None if there is none."""
    if not isinstance(counted, dict) or not counted:
        return None
    prompt, total = count(counted, "promptTokenCount"), count(counted, "totalTokenCount")
    sent = None if prompt is None else prompt + (count(counted, "toolUsePromptTokenCount") or 0)
    output = _output(counted, sent, total)
    is_derived = output is None and total is not None and sent is not None
    rest = max(total - sent, 0) if total is not None and sent is not None else None
    tokens = Usage(
        input_tokens=sent,
        output_tokens=rest if is_derived else output,
        total_tokens=total,
        cache_read_tokens=count(counted, "cachedContentTokenCount"),
        reasoning_tokens=count(counted, "thoughtsTokenCount"),
        estimated=is_derived and bool(rest),
        raw=detached_object(counted),
        **_by_modality(counted, "input", _INPUT_DETAILS),
        **_by_modality(counted, "output", ("candidatesTokensDetails",)),
        **_by_modality(counted, "cache_read", ("cacheTokensDetails",)),
    )
    return estimated(tokens) if contradicts_itself(tokens) else tokens


def estimated(tokens: Usage) -> Usage:
    """Return a usage whose counters are no exact ones, such as the lower bound of a stream that was cut."""
    return msgspec.structs.replace(tokens, estimated=True)


def input_usage(counted: object) -> Usage | None:
    """Return the usage of an operation without output."""
    tokens = usage(counted)
    return None if tokens is None else msgspec.structs.replace(tokens, output_tokens=None)


def _output(counted: dict[str, object], sent: int | None, total: int | None) -> int | None:
    """Return the tokens of the answer with its thoughts; None if neither is stated."""
    written, thoughts = count(counted, "candidatesTokenCount"), count(counted, "thoughtsTokenCount")
    if written is None and thoughts is None:
        return None
    includes_thoughts = bool(written and thoughts and sent is not None and total == sent + written)
    return written if includes_thoughts else (written or 0) + (thoughts or 0)


def _by_modality(counted: dict[str, object], prefix: str, lists: tuple[str, ...]) -> dict[str, Any]:
    counters: dict[str, Any] = {}
    for name in lists:
        for detail in objects(counted, name):
            kind, number = detail.get("modality"), count(detail, "tokenCount")
            modality = _MODALITIES.get(kind) if isinstance(kind, str | int) else None
            if modality is not None and number is not None:
                counter = f"{prefix}_{modality}_tokens"
                counters[counter] = counters.get(counter, 0) + number
    return counters


def service_tier(counted: object) -> str | None:
    """Return the tier that served an answer: of Gemini's API, or of Vertex."""
    return text(counted, "serviceTier") or text(counted, "trafficType") or None
