"""Span references: the spans of recent sessions, timesteps and calls by id, for rewards given after their end.

Also writes and reads carriers, which pass a session's ids to another process as short texts.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from callspan.agent.runtime import Runtime, ScopeSpanHandle, SpanRef
from callspan.background import LRUCache
from callspan.fail_open import value_of
from callspan.record.call import CallRecord, Place

SPAN_REFS: Final[Mapping[str, LRUCache[str, SpanRef]]] = {
    "session": LRUCache(4096), "timestep": LRUCache(1024), "call": LRUCache(4096),
}  # fmt: skip


def remember(kind: str, identity: str, span: ScopeSpanHandle, place: Place, scope: object) -> None:
    """Store the place and span of a session or timestep, with a weak reference to the scope itself."""
    where = SpanRef(
        trace_id=span.trace_id,
        span_id=span.span_id,
        sampled=span.sampled,
        place=place,
        scope=weakref.ref(scope),
    )
    SPAN_REFS[kind].put(identity, where)


def remember_call(record: CallRecord) -> None:
    """Store the place and span of a call."""
    where = SpanRef(
        trace_id=record.trace_id,
        span_id=record.span_id,
        sampled=record.sampled is not False,
        place=record.place,
        response_id=record.response.id if record.response is not None else None,
    )
    SPAN_REFS["call"].put(record.call_id, where)


def found(runtime: Runtime | None, **ids: str | None) -> SpanRef | None:
    """Return the span reference of the first known id, in this process or in the runtime; else None."""
    for kind, identity in ids.items():
        if identity is not None:
            where = SPAN_REFS[kind].get(identity) or (runtime.find(kind, identity) if runtime is not None else None)
            if where is not None:
                return where
    return None


Carrier: TypeAlias = dict[str, str]
"""Text for another process, valid as HTTP headers; holds no secrets."""

_TRACE: Final = "traceparent"
_ID: Final = "callspan-session"
_NAME: Final = "callspan-session-name"
_NEXT: Final = "callspan-next-step"
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Carried(NamedTuple):
    """The fields of a carrier; None (0 for the next step) if absent."""

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
    """Parse a carrier. Keys are case-insensitive, invalid fields are absent.

    Accepts any mapping, such as the headers of a request; anything else is an empty carrier.
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
