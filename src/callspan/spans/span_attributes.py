"""Span attributes: many of them put on a span in one step, to the result `set_attributes` gives.

The SDK asks of every value what it is, whether it fits and whether its name is taken: for the forty attributes of a
call that is as much work as the rest of its span. What a vocabulary gives is plain; where it surely fits, none of that
is needed.
"""

from __future__ import annotations

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import Span

from callspan.vocabulary.values import Attributes, AttributeValue


def put(span: Span, attributes: Attributes) -> None:
    """Set `attributes`, none of them nameless. A span that is not the SDK's, or has limits, does it itself."""
    room = _room(span, len(attributes))
    if room is None:
        span.set_attributes(attributes)
        return
    # One step under the interpreter's lock: whoever sets another attribute meanwhile comes before or after it.
    room.update(attributes)


def _room(span: Span, count: int) -> dict[str, AttributeValue] | None:
    """The dictionary in which a span of the SDK keeps its attributes, if it takes so many more just as they are."""
    bounded = getattr(span, "_attributes", None)
    if type(bounded) is not BoundedAttributes or bounded.max_value_len is not None or not span.is_recording():
        return None
    room = getattr(bounded, "_dict", None)
    if type(room) is not dict or (bounded.maxlen is not None and len(room) + count > bounded.maxlen):
        return None
    return room
