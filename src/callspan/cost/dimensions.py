"""Price dimensions: what a price depends on besides the model and the counts, as asked for or as the answer states it.

All of them are parameters of the request, its host or its model, or stand beside the counts in the answer's usage, so
that a record has them at every content level (`callspan.record.parameters`). A cost that leaves one of them out is
estimated, and says which.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from callspan.cost.regions import BEDROCK, GLOBAL, region_of
from callspan.record.call import CallRecord
from callspan.record.usage import Cost

PROCESSING: Final = "processing"
BATCH: Final = "batch"
"""Value of `processing`: a line of a batch."""
SERVICE_TIER: Final = "service_tier"
CACHE_TTL: Final = "cache_ttl"
REGION: Final = "region"
_LONG_TTL: Final = "12h"
WEB_SEARCH: Final = "web_search"
_SEARCH_OPTIONS: Final = "web_search_options"
_SEARCH_MODEL: Final = "-search-"
"""In the names of models that always search the web."""


class Dimension(NamedTuple):
    """One dimension; of its two values the answer's counts."""

    name: str
    asked: tuple[str, ...]
    """Path in the request."""
    stated: tuple[str, ...]
    """Path in the answer's usage; empty: it is not stated."""
    usual: frozenset[str]
    """The values that plain prices are for."""


def _usual(text: str) -> frozenset[str]:
    return frozenset(text.split())


DIMENSIONS: Final = (
    Dimension(
        SERVICE_TIER, ("service_tier",), ("service_tier",),
        _usual("default standard auto scale standard_only on_demand"),
    ),
    Dimension("speed", ("speed",), ("speed",), _usual("standard")),
    Dimension("inference_geo", ("inference_geo",), ("inference_geo",), _usual("global not_available")),
    Dimension("completion_window", ("background_options", "completion_window"), (), _usual("soonest")),
    Dimension("bill_to", ("billing_policy", "bill_to"), (), _usual("self")),
    Dimension("fallback_credit", (), ("fallback_credit", "status", "type"), _usual("not_applied")),
    Dimension("search_type", ("web_search_options", "search_type"), (), _usual("web auto")),
    Dimension("route", ("provider", "only"), (), _usual("")),
)  # fmt: skip
_KEYED: Final = [(one, frozenset((*one.asked[:1], *one.stated[:1]))) for one in DIMENSIONS]
"""With the first keys of the paths: a record has few of them."""


def dimensions(record: CallRecord) -> dict[str, str]:
    """Return the dimensions whose values are not the usual ones."""
    usage, params = record.usage, record.request.params
    raw = usage.raw if usage is not None else None
    found: dict[str, str] = {}
    given = params.keys() | (raw or {}).keys()
    for one, keys in _KEYED:
        value = None if keys.isdisjoint(given) else _word(raw, one.stated) or _word(params, one.asked)
        if one.name == SERVICE_TIER and record.response is not None:
            value = record.response.service_tier or value
        if value is not None and value not in one.usual:
            found[one.name] = value
    if record.batch_id is not None or found.get(SERVICE_TIER) == BATCH:
        found.pop(SERVICE_TIER, None)
        found[PROCESSING] = BATCH
    if usage is not None and usage.cache_write_tokens and _kept_long(usage.cache_write_12h_tokens, params):
        found[CACHE_TTL] = _LONG_TTL
    region = region_of(record)
    if region not in (None, GLOBAL):
        found[REGION] = str(region)
    if "request.params" in _removed(record):
        found["parameters"] = "withheld"
    return found


def models_of(record: CallRecord) -> list[str]:
    """Return the models of response and request; on Azure the latter is the name of a deployment.

    On Bedrock the request's comes first: its id has the region, which the response leaves out.
    """
    names = [record.response.model if record.response else None, record.request.model]
    return [name for name in dict.fromkeys(names[::-1] if record.provider == BEDROCK else names) if name]


def _removed(record: CallRecord) -> set[str]:
    return {one.what for one in record.redactions}


def _kept_long(counted: int | None, params: dict[str, object]) -> bool:
    return bool(counted) if counted is not None else _word(params, ("prompt_cache_options", "ttl")) == _LONG_TTL


def _searches(record: CallRecord) -> bool:
    """Return whether chat searches the web: its answers do not count how often."""
    request = record.request
    asked = _SEARCH_OPTIONS in request.params or f"request.params.{_SEARCH_OPTIONS}" in _removed(record)
    return asked or _SEARCH_MODEL in (request.model or "")


def tool_runs(record: CallRecord) -> dict[str, int | None]:
    """Return the runs of the provider's tools that it charges by run or by time; None: an unknown number."""
    usage = record.usage
    runs: dict[str, int | None] = {} if usage is None else dict(usage.hosted_tools)
    searches = None if usage is None else usage.web_search_requests
    if searches is not None:
        runs[WEB_SEARCH] = searches
    elif WEB_SEARCH in runs or _searches(record):
        runs[WEB_SEARCH] = None
    return {tool: count for tool, count in runs.items() if count != 0}


def marked(usd: Decimal, source: str, reasons: Iterable[str]) -> Cost:
    """Return a cost, estimated for these reasons; exact where there is none."""
    reason = "; ".join(dict.fromkeys(reasons))
    return Cost(usd=usd, source=source, estimated=bool(reason), reason=reason or None)


def without_price(names: Iterable[str]) -> list[str]:
    """Return the reasons of a cost that leaves out these dimensions or tools."""
    return [f"no price for {name}" for name in names]


def _word(value: object, path: tuple[str, ...]) -> str | None:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if path and isinstance(value, str) else None
