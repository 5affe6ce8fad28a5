"""Span attributes: sets many attributes on a span or event in one step, with the same result as the SDK.

The SDK checks type, length and name of every value: for the forty attributes of a call this is as much work as the
rest of its span. Values from a vocabulary have plain types, unless a callback has put something else into the record;
if they certainly fit, one check of all types is enough.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span

from callspan import private_names as names
from callspan.fail_open import fail_open, reported
from callspan.semconv.budgets import Attributes, AttributeValue

_SHORT: Final = fail_open("put attributes on a span in one step")
_ABSENT: Final = object()
_SDK: Final = "opentelemetry.sdk.trace"
_SCALARS: Final = frozenset({str, bool, int, float})


def put(span: Span, attributes: Attributes) -> None:
    """Set `attributes`; no name may be empty. Falls back to the span's own method, as for spans with limits."""
    try:
        room = _room(getattr(span, names.ATTRIBUTES.name, None), attributes)
        if room is not None and span.is_recording():
            # One step under the GIL: another thread sets its attribute before or after it.
            room.update(attributes)
            return
    except reported(_SHORT):
        room = None
    span.set_attributes(attributes)


def add_event(span: Span, name: str, attributes: Attributes, time_ns: int | None) -> None:
    """Add an event with `attributes` at a time, None: now; no name may be empty."""
    with _SHORT:
        if _added(span, name, attributes, time_ns):
            return
    span.add_event(name, attributes, time_ns)


def _added(span: Span, name: str, attributes: Attributes, time_ns: int | None) -> bool:
    """Add an event as the SDK does; False without adding it if the SDK would change the attributes."""
    # If the SDK was never imported, no span is one of its spans.
    sdk = sys.modules.get(_SDK)
    make: Any = getattr(sdk, names.EVENT.name, None)
    add: Any = getattr(span, names.ADD_EVENT.name, None)
    if add is None or not isinstance(make, type):
        return False
    if getattr(type(span), "add_event", None) is not getattr(getattr(sdk, "Span", None), "add_event", _ABSENT):
        return False
    limits: Any = getattr(span, names.LIMITS.name, None)
    if type(limits) is not getattr(sdk, names.SPAN_LIMITS.name, _ABSENT):
        return False
    kept = BoundedAttributes(limits.max_event_attributes, None, True, limits.max_attribute_length)
    room = _room(kept, attributes)
    if room is None:
        return False
    room.update(attributes)
    add(make(name, kept, time_ns))
    return True


def _room(bounded: object, attributes: Attributes) -> dict[str, AttributeValue] | None:
    """Return the dictionary of the SDK's span, if the SDK would store these attributes unchanged."""
    if type(bounded) is not BoundedAttributes or getattr(bounded, names.MAX_VALUE_LEN.name, _ABSENT) is not None:
        return None
    room = getattr(bounded, names.BOUNDED_DICT.name, None)
    most = getattr(bounded, names.MAXLEN.name, _ABSENT)
    if type(room) is not dict:
        return None
    if most is not None and not (isinstance(most, int) and len(room) + len(attributes) <= most):
        return None
    return room if _are_plain(attributes) else None


def _are_plain(attributes: Attributes) -> bool:
    kinds = set(map(type, attributes.values()))
    if tuple in kinds:
        kinds.remove(tuple)
        for value in attributes.values():
            if type(value) is tuple:
                kinds.update(map(type, value))
    return kinds <= _SCALARS
