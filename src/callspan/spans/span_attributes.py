"""Span attributes: many of them put on a span, or on an event of it, in one step, to the result the SDK gives.

The SDK asks of every value what it is, whether it fits and whether its name is taken: for the forty attributes of a
call that is as much work as the rest of its span. What a vocabulary gives is plain, unless a hook has put something
else into the record; where it is, and surely fits, one look at the types of all is enough.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span

from callspan.vocabulary.values import Attributes, AttributeValue

_SDK: Final = "opentelemetry.sdk.trace"
_SCALARS: Final = frozenset({str, bool, int, float})


def put(span: Span, attributes: Attributes) -> None:
    """Set `attributes`, none of them nameless. A span that is not the SDK's, or has limits, does it itself."""
    room = _room(getattr(span, "_attributes", None), attributes)
    if room is None or not span.is_recording():
        span.set_attributes(attributes)
        return
    # One step under the interpreter's lock: whoever sets another attribute meanwhile comes before or after it.
    room.update(attributes)


def add_event(span: Span, name: str, attributes: Attributes, time_ns: int | None) -> None:
    """Add an event with `attributes`, none of them nameless; None is now."""
    kept = _kept(span, attributes)
    if kept is None:
        span.add_event(name, attributes, time_ns)
    else:
        added: Any = span
        added._add_event(sys.modules[_SDK].Event(name, kept, time_ns))


def _kept(span: Any, attributes: Attributes) -> BoundedAttributes | None:  # noqa: ANN401 - of any make
    """The attributes as an event of the SDK keeps them, if it keeps them just as they are."""
    # Where the SDK was never imported, no span is of its make.
    sdk: Any = sys.modules.get(_SDK)
    if sdk is None or getattr(type(span), "add_event", None) is not sdk.Span.add_event:
        return None
    limits: Any = getattr(span, "_limits", None)
    if type(limits) is not sdk.SpanLimits or not hasattr(span, "_add_event"):
        return None
    kept = BoundedAttributes(limits.max_event_attributes, None, True, limits.max_attribute_length)
    room = _room(kept, attributes)
    if room is None:
        return None
    room.update(attributes)
    return kept


def _room(bounded: object, attributes: Attributes) -> dict[str, AttributeValue] | None:
    """The dictionary in which the SDK keeps attributes, if it takes these just as they are."""
    if type(bounded) is not BoundedAttributes or bounded.max_value_len is not None:
        return None
    room = getattr(bounded, "_dict", None)
    if type(room) is not dict or (bounded.maxlen is not None and len(room) + len(attributes) > bounded.maxlen):
        return None
    return room if _are_plain(attributes) else None


def _are_plain(attributes: Attributes) -> bool:
    kinds = set(map(type, attributes.values()))
    if tuple in kinds:
        kinds.remove(tuple)
        kinds.update(*(map(type, value) for value in attributes.values() if type(value) is tuple))
    return kinds <= _SCALARS
