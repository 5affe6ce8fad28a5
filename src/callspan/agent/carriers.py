"""Carriers: a session's ids as short texts, to send to another process and to be read there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from callspan.agent.runtime import ScopeSpanHandle, SpanRef
from callspan.fail_open import value_of
from callspan.record.call import Place

Carrier: TypeAlias = dict[str, str]
"""Text to send to another process, fit for HTTP headers; nothing secret in it."""

_TRACE: Final = "traceparent"
_ID: Final = "callspan-session"
_NAME: Final = "callspan-session-name"
_NEXT: Final = "callspan-next-step"
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Carried(NamedTuple):
    """What a carrier says; None, and 0 for the next step, where it does not."""

    session_id: str | None = None
    name: str | None = None
    next_index: int = 0
    span: SpanRef | None = None


def carrier_of(session_id: str, name: str | None, next_index: int, span: ScopeSpanHandle) -> Carrier:
    """Return the carrier of a session."""
    carrier = {_ID: session_id, _NEXT: str(next_index)}
    if name is not None:
        carrier[_NAME] = quote(name)
    if span.trace_id is not None and span.span_id is not None:
        carrier[_TRACE] = f"00-{span.trace_id}-{span.span_id}-{span.sampled:02x}"
    return carrier


def carried(carrier: Mapping[str, str] | None) -> Carried:
    """Return what a carrier says, whatever the case of its keys; a broken part of it is absent.

    Any mapping will do, such as the headers of a request; what is none says nothing.
    """
    items: dict[object, object] = value_of(partial(dict, carrier)) or {} if carrier is not None else {}
    fields = {str(key).lower(): str(value) for key, value in items.items()}
    following, name = fields.get(_NEXT, ""), fields.get(_NAME)
    place = Place(session_id=fields.get(_ID), session_name=None if name is None else unquote(name))
    trace = _TRACEPARENT.fullmatch(fields.get(_TRACE, ""))
    return Carried(
        session_id=place.session_id,
        name=place.session_name,
        next_index=int(following) if following.isdecimal() else 0,
        span=trace and SpanRef(trace_id=trace[1], span_id=trace[2], sampled=bool(int(trace[3], 16) & 1), place=place),
    )
