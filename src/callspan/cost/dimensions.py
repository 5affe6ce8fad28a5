"""Price dimensions: the properties that a price depends on besides model and counts, such as the service tier.

They are parameters of the request, its host or its model, or fields of the answer's usage, so that records have them at
every content level (see `record.content_level`). A cost without a price for one of them is marked as an estimate, with
the reason. Some providers charge about a tenth more for regional endpoints than for global ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from callspan.record.call import CallRecord, Request, removed_from
from callspan.record.messages import Media
from callspan.record.usage import Cost, Usage

PROCESSING: Final = "processing"
BATCH: Final = "batch"
"""Value of `processing` for a batch line."""
SERVICE_TIER: Final = "service_tier"
CACHE_TTL: Final = "cache_ttl"
REGION: Final = "region"
_LONG_TTL: Final = "12h"
_HOUR: Final = "1h"
MODALITIES: Final = ("audio", "image")
_MODALITIES: Final = (
    *(
        (modality, f"{side}_tokens", tuple(f"{name}_{modality}_tokens" for name in (side, *cached)))
        for modality in MODALITIES
        for side, cached in (("input", ("cache_read",)), ("output", ()))
    ),
    ("audio", "", ("input_audio_seconds",)),
)
"""Modalities which mostly have another price than text, each with the counter of all tokens, if any, and its own."""
_counts_of_modalities: Final = attrgetter(*(names[0] for _, _, names in _MODALITIES))

GLOBAL: Final = "global"
UNKNOWN: Final = "unknown"
"""Region of a host that is not the provider's, such as a proxy, and of a custom inference profile."""
BEDROCK: Final = "aws.bedrock"
_OPENAI: Final = "openai"
_PROFILE: Final = re.compile(r"(?:^|/)(global|apac|us-gov|[a-z]{2})\.[a-z]")
"""The region in the id of an inference profile, which may be an ARN."""
_CUSTOM_PROFILE: Final = re.compile("arn:.+(?:application-inference-profile|provisioned-model|custom-model[a-z-]*)/")
_IN_HOST: Final = {
    BEDROCK: re.compile(r"^[a-z-]+\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
    "gcp.vertex_ai": re.compile(
        r"^(?:(?P<one>[a-z]+-[a-z]+[0-9]+)-)?aiplatform(?:\.(?P<several>[a-z]+)\.rep)?\.googleapis\.com"
    ),
    _OPENAI: re.compile(r"^(?:([a-z]{2})\.)?api\.openai\.com"),
}
"""The region in the host, for providers with regional prices; a host without one is global."""


class Dimension(NamedTuple):
    """One dimension; its value in the answer takes precedence over that in the request."""

    name: str
    requested: tuple[str, ...]
    """Path in the request."""
    stated: tuple[str, ...]
    """Path in the answer's usage; empty if it is never stated there."""
    standard: frozenset[str]
    """The values at standard prices."""


def _standard(text: str) -> frozenset[str]:
    return frozenset(text.split())


DIMENSIONS: Final = (
    Dimension(
        SERVICE_TIER, ("service_tier",), ("service_tier",),
        _standard("default standard auto scale standard_only on_demand ON_DEMAND"),
    ),
    Dimension("latency", ("performance_config", "latency"), (), _standard("standard")),
    Dimension("speed", ("speed",), ("speed",), _standard("standard")),
    Dimension("inference_geo", ("inference_geo",), ("inference_geo",), _standard("global not_available")),
    Dimension("completion_window", ("background_options", "completion_window"), (), _standard("soonest")),
    Dimension("bill_to", ("billing_policy", "bill_to"), (), _standard("self")),
    Dimension("fallback_credit", (), ("fallback_credit", "status", "type"), _standard("not_applied")),
    Dimension("search_context_size", (), ("search_context_size",), _standard("high")),
    Dimension("disable_search", ("disable_search",), (), _standard("")),
    Dimension("traffic_type", (), ("extra_properties", "google", "traffic_type"), _standard("ON_DEMAND")),
    Dimension("cache_type", (), ("prompt_tokens_details", "cache_type"), _standard("implicit")),
    Dimension("search_type", ("web_search_options", "search_type"), (), _standard("web auto")),
    Dimension("route", ("provider", "only"), (), _standard("")),
)  # fmt: skip
_STANDARD: Final = {dimension.name: dimension.standard for dimension in DIMENSIONS}
_FIRST_KEYS: Final = frozenset(
    path[0] for dimension in DIMENSIONS for path in (dimension.requested, dimension.stated) if path
)
_OF_KEY: Final = {
    key: [dimension for dimension in DIMENSIONS if key in (*dimension.requested[:1], *dimension.stated[:1])]
    for key in sorted(_FIRST_KEYS)
}
"""The dimensions by the first keys of their paths: most calls have one or two of these keys."""


def dimensions(record: CallRecord) -> dict[str, str]:
    """Return the dimensions with values other than the standard ones."""
    usage, params = record.usage, record.request.params
    raw = usage.raw if usage is not None else None
    tier = None if record.response is None else record.response.service_tier
    values = {SERVICE_TIER: tier} if tier else {}
    for key in _FIRST_KEYS.intersection((*params, *(raw or ()))):
        for dimension in _OF_KEY[key]:
            value = _word(raw, dimension.stated) or _word(params, dimension.requested)
            if value is not None:
                values.setdefault(dimension.name, value)
    result = {name: values[name] for name in sorted(values) if values[name] not in _STANDARD[name]}
    if record.batch_id is not None or result.get(SERVICE_TIER) == BATCH:
        result.pop(SERVICE_TIER, None)
        result[PROCESSING] = BATCH
    if usage is not None and usage.cache_write_tokens and (ttl := _unusual_ttl(record.request, usage)) is not None:
        result[CACHE_TTL] = ttl
    region = region_of(record)
    if region not in (None, GLOBAL):
        result[REGION] = str(region)
    if record.redactions and "request.params" in removed_from(record):
        result["parameters"] = "withheld"
    return result


def models_of(record: CallRecord) -> list[str]:
    """Return the models of response and request; on Azure the latter is the name of a deployment.

    On Bedrock the request's comes first, because only its id has the region.
    """
    names = [record.response.model if record.response else None, record.request.model]
    return [name for name in dict.fromkeys(names[::-1] if record.provider == BEDROCK else names) if name]


def _unusual_ttl(request: Request, usage: Usage) -> str | None:
    """Return how long some of the writes are kept, if that time has its own price and the counts do not tell it."""
    long, params = usage.cache_write_12h_tokens, request.params
    if long if long is not None else _word(params, ("prompt_cache_options", "ttl")) == _LONG_TTL:
        return _LONG_TTL
    is_split = usage.cache_write_5m_tokens is not None or usage.cache_write_1h_tokens is not None
    is_hour = _HOUR in (request.cache_ttl, _word(params, ("cache_control", "ttl")))
    return _HOUR if is_hour and not is_split else None


def as_text(usage: Usage) -> list[tuple[str, Usage]]:
    """Return each modality of some of the tokens, with a usage that counts these as text.

    If all tokens are of one modality, the model has one price for them, such as for speech.
    """
    if not any(_counts_of_modalities(usage)):  # saves 5 of 1,090 thousand instructions of storing a record
        return []
    return [
        (modality, msgspec.structs.replace(usage, **dict.fromkeys(names, 0)))
        for modality, total_name, names in _MODALITIES
        if getattr(usage, names[0]) not in (None, 0, getattr(usage, total_name, None))
    ]


TOKENS_OF_SIDES: Final = tuple(
    (side, attrgetter(f"{side}_tokens"), attrgetter(*(f"{side}_{kind}_tokens" for kind in ("text", *MODALITIES))))
    for side in ("input", "output")
)
"""How to read the tokens of input and output: all of them, and those of each kind; these are None where they are
counted with all others."""


def may_have_media(record: CallRecord, side: str, modality: str) -> bool:
    """Return whether the input or output of a call has sound or images. A video has sound.

    Where the messages are not kept, a model that draws is taken to have drawn: most of its answers are images.
    """
    conversation = record.conversation
    if conversation is None:
        return (side, modality) == ("output", "image")
    kinds = (modality, "video") if modality == "audio" else (modality,)
    messages = conversation.input if side == "input" else conversation.output
    return any(type(part) is Media and part.modality in kinds for message in messages for part in message.parts)


def cost_with_reasons(usd: Decimal, source: str, reasons: Iterable[str]) -> Cost:
    """Return a cost that is an estimate for these reasons; without reasons it is exact."""
    reason = "; ".join(dict.fromkeys(reasons))
    return Cost(usd=usd, source=source, estimated=bool(reason), reason=reason or None)


def missing_prices(names: Iterable[str]) -> list[str]:
    """Return the reasons of a cost without prices for these dimensions or tools."""
    return [f"no price for {name}" for name in names]


def _word(value: object, path: tuple[str, ...]) -> str | None:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is True:
        value = "true"
    return value if path and isinstance(value, str) else None


def region_of(record: CallRecord) -> str | None:
    """Return the region, such as `us` or `us-east5`; None if prices do not depend on it or the host is unknown."""
    if record.provider == BEDROCK and (model := record.request.model):
        profile = _PROFILE.search(model)
        if profile is not None:
            return profile[1]
        if _CUSTOM_PROFILE.match(model):
            return UNKNOWN
    return _region_in_host(record.provider, record.server_address)


def in_global_region(model: str) -> str:
    """Return the id of Bedrock's global profile for the model."""
    path, slash, name = model.rpartition("/")
    return f"{path}{slash}{GLOBAL}.{_PROFILE.sub(lambda match: match[0][-1], name)}"


def _region_in_host(provider: str, host: str | None) -> str | None:
    pattern = _IN_HOST.get(provider)
    if pattern is None or host is None:
        return None
    match = pattern.fullmatch(host)
    if match is None:
        return None if provider == _OPENAI else UNKNOWN
    return next(filter(None, match.groups()), GLOBAL)
