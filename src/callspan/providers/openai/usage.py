"""Usage of OpenAI's endpoints and of everyone who speaks like them: wire counters to `Usage`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from callspan.providers.openai.detach import detached
from callspan.providers.wire import dig, integer, mapping
from callspan.record.usage import Usage

_LARGEST: Final = 2**63 - 1

_IN: Final = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details")
_OUT: Final = ("completion_tokens_details", "output_tokens_details")

_Path = tuple[str, ...]
_Rows = dict[str, tuple[str, int]]


def _within(groups: tuple[str, ...], name: str) -> tuple[_Path, ...]:
    return tuple((group, name) for group in groups)


# The first place that states a counter wins; where providers differ, the inclusive one comes first.
_PLACES: Final[dict[str, tuple[_Path, ...]]] = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "total_tokens": (("total_tokens",),),
    "cache_read_tokens": (
        *_within(_IN, "cached_tokens"),
        # DeepSeek, Moonshot, Mistral, LiteLLM
        ("prompt_cache_hit_tokens",),
        ("cached_tokens",),
        ("num_cached_tokens",),
        ("cache_read_input_tokens",),
    ),
    "cache_write_tokens": (*_within(_IN, "cache_write_tokens"), ("cache_creation_input_tokens",)),
    "reasoning_tokens": (*_within(_OUT, "reasoning_tokens"), ("reasoning_tokens",)),
    "input_audio_tokens": _within(_IN, "audio_tokens"),
    "input_text_tokens": _within(_IN, "text_tokens"),
    "input_image_tokens": _within(_IN, "image_tokens"),
    "output_audio_tokens": _within(_OUT, "audio_tokens"),
    "output_text_tokens": _within(_OUT, "text_tokens"),
    "output_image_tokens": _within(_OUT, "image_tokens"),
    "accepted_prediction_tokens": _within(_OUT, "accepted_prediction_tokens"),
    "rejected_prediction_tokens": _within(_OUT, "rejected_prediction_tokens"),
    "web_search_requests": (
        ("server_tool_use_details", "web_search_requests"),
        ("server_tool_use", "web_search_requests"),
    ),
}

_NO_RANK: Final = 1000


def _by_group() -> dict[str, _Rows]:
    """The same by group ("": outside of any) and name: whose counter it is, and how far behind the first."""
    groups: dict[str, _Rows] = {}
    for field, places in _PLACES.items():
        for rank, (*group, name) in enumerate(places):
            groups.setdefault("".join(group), {})[name] = (field, rank)
    return groups


_GROUPS: Final = _by_group()
_OUTSIDE: Final = _GROUPS.pop("")
_SEARCHES: Final = ("tool_usage", "web_search", "num_requests")


def usage_of(body: object) -> Usage | None:
    """Return the usage an answer states (`usage`, else `x_groq.usage`), or None where it states none."""
    raw = mapping(body, "usage") or mapping(body, "x_groq", "usage")
    if not raw:
        return None
    counts = _counts(raw)
    given, spent = counts.get("input_tokens"), counts.get("output_tokens")
    if "total_tokens" not in counts and given is not None and spent is not None:
        counts["total_tokens"] = given + spent
    if "web_search_requests" not in counts and (searches := _count(dig(body, *_SEARCHES))) is not None:
        counts["web_search_requests"] = searches
    fields: dict[str, Any] = counts
    return Usage(cost_usd=_cost(raw), raw=_copied(raw), **fields)


def _copied(raw: dict[str, object]) -> dict[str, object]:
    try:
        copy: dict[str, object] = msgspec.to_builtins(raw)
    except (TypeError, ValueError, RecursionError):
        return detached(raw)
    return copy


def _counts(raw: dict[str, object]) -> dict[str, int]:
    """Field -> counter. One pass over what is there: looking every place up costs ten times as much."""
    counts: dict[str, int] = {}
    ranks: dict[str, int] = {}
    _add(counts, ranks, raw, _OUTSIDE)
    for group, stated in raw.items():
        if isinstance(stated, dict) and (rows := _GROUPS.get(group)) is not None:
            _add(counts, ranks, stated, rows)
    return counts


def _add(counts: dict[str, int], ranks: dict[str, int], stated: dict[str, object], rows: _Rows) -> None:
    for name, value in stated.items():
        row = rows.get(name)
        if row is not None:
            field, rank = row
            count = value if type(value) is int and 0 <= value <= _LARGEST else _count(value)
            if count is not None and rank < ranks.get(field, _NO_RANK):
                counts[field], ranks[field] = count, rank


def _count(value: object) -> int | None:
    found = integer(value)
    return found if found is not None and 0 <= found <= _LARGEST else None


def _cost(raw: dict[str, object]) -> Decimal | None:
    stated = raw.get("cost")
    if isinstance(stated, dict):
        stated = stated.get("total_cost")
    return _exact(stated) if isinstance(stated, int | float | str) and not isinstance(stated, bool) else None


def _exact(stated: float | str) -> Decimal | None:
    """Money as written: the shortest text of a float is the number that stood in the JSON."""
    try:
        money = Decimal(str(stated))
    except InvalidOperation:
        return None
    return money if money.is_finite() and money >= 0 else None
