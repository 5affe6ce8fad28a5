"""Stated cost: reads the cost from an answer, in the field and unit of each server.

A partial fee is no cost: if users bring their own key, the gateway charges little or nothing and the provider behind it
charges the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

import msgspec

from callspan.providers.wire_json import dig, flag, mapping, text
from callspan.record.usage import Cost, Usage
from callspan.runtime.amounts import EXACT, is_amount


class StatedCost(NamedTuple):
    """A charge in US dollars."""

    usd: Decimal
    estimated: bool = False
    """Whether the server calls it an estimate or computes it from its own prices."""


class _CostPath(NamedTuple):
    path: tuple[str, ...]
    per_usd: int = 1
    """Units per dollar."""
    estimated: bool = False


_IN_USAGE: Final = (
    _CostPath(("cost",)),  # OpenRouter, in credits that are dollars; gateways that follow it
    _CostPath(("cost", "total_cost")),  # Perplexity
    _CostPath(("cost_usd_total",)),  # LLM Gateway
    _CostPath(("cost_in_usd_ticks",), per_usd=10**10),  # xAI
    _CostPath(("estimated_cost",), estimated=True),  # DeepInfra
)
_IN_USAGE_NAMES: Final = frozenset(row.path[0] for row in _IN_USAGE)
_UPSTREAM: Final = ("cost_details", "upstream_inference_cost")
_SNAKE: Final = "provider_metadata"
_CAMEL: Final = "providerMetadata"
"""Key under which Vercel's gateway states costs, in the answer or a message."""
_PROVIDER: Final = "provider"
HEADERS: Final = {"x-litellm-response-cost": True, "x-aimlapi-usd-spent": False}
"""Response headers with dollars, and whether they are estimates."""


def stated_cost(usage: Mapping[str, object], body: object) -> StatedCost | None:
    """Return the cost stated in the usage of an answer or beside it; None if it is absent or partial."""
    if not _IN_USAGE_NAMES.isdisjoint(usage) and text(usage, "cost", "currency") in (None, "USD"):
        for path, per_usd, estimated in _IN_USAGE:
            if (usd := _exact(dig(usage, *path))) is not None:
                return _with_upstream(StatedCost(EXACT.divide(usd, Decimal(per_usd)), estimated), usage)
    return _of_gateway(body) if isinstance(body, dict) else None


def with_header_cost(usage: Usage | None, headers: Mapping[str, str]) -> Usage | None:
    """Return the usage with the cost in a response header, unless the body states one. 0 means unknown."""
    if usage is None or usage.cost_usd is None:
        for name, estimated in HEADERS.items():
            if name in headers and (usd := _exact(headers[name])):
                return msgspec.structs.replace(usage or Usage(), cost_usd=usd, cost_estimated=estimated)
    return usage


def cost_of_attempt(headers: Mapping[str, str], body: object) -> Cost | None:
    """Return the cost that the response of one attempt states in its headers, else in its body."""
    for name, estimated in HEADERS.items():
        if name in headers and (usd := _exact(headers[name])):
            return Cost(usd=usd, source=_PROVIDER, estimated=estimated)
    cost = stated_cost(mapping(body, "usage") or {}, body)
    return None if cost is None else Cost(usd=cost.usd, source=_PROVIDER, estimated=cost.estimated)


def states_zero(usage: Usage | None, headers: Mapping[str, str]) -> bool:
    """Return whether the usage or a response header states a cost of 0."""
    costs = (None if usage is None else usage.cost_usd, *(_exact(headers.get(name)) for name in HEADERS))
    return 0 in costs


def _with_upstream(cost: StatedCost, usage: Mapping[str, object]) -> StatedCost | None:
    if flag(usage, "is_byok") is not True:
        return cost
    upstream = _exact(dig(usage, *_UPSTREAM))
    return StatedCost(EXACT.add(cost.usd, upstream), cost.estimated) if upstream else None


def _of_gateway(body: dict[str, object]) -> StatedCost | None:
    choices = body.get("choices")
    for part in (body, *(choices if isinstance(choices, list) else ())):
        holder = part.get("message") if isinstance(part, dict) and part is not body else part
        # Called for every answer, although few have metadata.
        if isinstance(holder, dict) and (_SNAKE in holder or _CAMEL in holder):
            metadata = dig(holder.get(_SNAKE) or holder.get(_CAMEL), "gateway")
            usd, market = _exact(dig(metadata, "cost")), _exact(dig(metadata, "marketCost"))
            if usd is not None:
                return StatedCost(usd) if usd or not market else None
    return None


def _exact(amount: object) -> Decimal | None:
    """Return an amount as written: the shortest text of a float is the number in the JSON."""
    if not isinstance(amount, int | float | str) or isinstance(amount, bool):
        return None
    try:
        money = Decimal(str(amount))
    except InvalidOperation:
        return None
    return money if is_amount(money) and money >= 0 else None
