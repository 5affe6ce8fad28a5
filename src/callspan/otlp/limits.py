"""Limits: how much a span may have, by a provider or OpenTelemetry's environment variables."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits as SdkLimits

from callspan import private_names
from callspan.fail_open import Once, log, ours
from callspan.record.span_frames import SpanLimits

_FEW: Final = 128
"""The specification's default."""
_WARNED: Final = Once()


@lru_cache(8)
def limits_of(provider: trace.TracerProvider) -> SpanLimits:
    """Return the limits of a provider; of another implementation's those of the environment."""
    given = getattr(provider, private_names.PROVIDER_LIMITS.name, None)
    return _as_ours(given) if isinstance(given, SdkLimits) else limits_in_force()


def limits_in_force() -> SpanLimits:
    """Return the limits of OpenTelemetry's environment variables."""
    return _as_ours(sdk_limits())


def sdk_limits() -> SdkLimits:
    """Return the same as the SDK's, which raises ValueError where one is malformed; here its default is taken."""
    every, chars = _read("OTEL_ATTRIBUTE_COUNT_LIMIT", _FEW), _read("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None)
    return SdkLimits(
        max_attributes=_given(every),
        max_events=_given(_read("OTEL_SPAN_EVENT_COUNT_LIMIT", _FEW)),
        max_links=_given(_read("OTEL_SPAN_LINK_COUNT_LIMIT", _FEW)),
        max_span_attributes=_given(_read("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", every)),
        max_event_attributes=_given(_read("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", every)),
        max_link_attributes=_given(_read("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", every)),
        max_attribute_length=_given(chars),
        max_span_attribute_length=_given(_read("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", chars)),
    )


def _as_ours(given: SdkLimits) -> SpanLimits:
    return SpanLimits(
        attributes=given.max_span_attributes, events=given.max_events, links=given.max_links,
        event_attributes=given.max_event_attributes, value_chars=given.max_span_attribute_length,
        event_value_chars=given.max_attribute_length,
    )  # fmt: skip


def _given(limit: int | None) -> int:
    return SdkLimits.UNSET if limit is None else limit


def _read(variable: str, default: int | None) -> int | None:
    """Return a limit; None: none, as the SDK reads an empty text."""
    text = os.environ.get(variable)
    if text is None or not text.strip():
        return default if text is None else None
    try:
        limit = int(text)
    except ours(ValueError):
        limit = -1
    if limit >= 0:
        return limit
    if _WARNED.first(variable):
        log(logging.WARNING, "%s is no number of 0 or more: its default is taken", variable)
    return default
