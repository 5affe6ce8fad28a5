"""Encoding: spans as OTLP's protobuf, byte for byte as OpenTelemetry's exporter encodes them.

Written by hand, because a span of a call has some forty attributes, of which the exporter makes as many objects: that
takes 110 µs, and this 22 µs. The numbers are those of `opentelemetry/proto/trace/v1/trace.proto`, whose fields never
change; fields come in their order, and what has its default is absent, as protobuf has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from callspan.record.call import SpanLink
from callspan.record.codec import encodable
from callspan.record.span_frames import SpanLimits
from callspan.semconv.call import SpanEvent
from callspan.semconv.content_attributes import Attributes, AttributeValue
from callspan.semconv.spans import Span

_fixed64: Final = struct.Struct("<Q").pack
_double: Final = struct.Struct("<d").pack
_fixed32: Final = struct.Struct("<I").pack
_LONG: Final = 0x80
_SHORT: Final = [bytes((number,)) for number in range(_LONG)]
"""Numbers of one byte."""
_SHORT_TEXT: Final = _LONG - 2
_TEXT_HEADS: Final = [_SHORT[size + 2] + b"\x0a" + _SHORT[size] for size in range(_SHORT_TEXT)]
"""What stands before a text of so many bytes, as the value of an attribute."""
_BELOW_ZERO: Final = 1 << 64
_INTERNAL, _CLIENT = b"\x30\x01", b"\x30\x03"
_ERROR: Final = b"\x18\x02"
_HAS_REMOTE, _IS_REMOTE = 0x100, 0x200
"""Flags: whether the parent is remote is known; and it is."""
_DEFAULT: Final = SpanLimits()
_FEW: Final = 128
"""What the limits allow by default."""
_T = TypeVar("_T")
_NAMES: Final = 1024
"""How many names of attributes are kept encoded."""


def encode_request(resource: bytes, resource_schema: str, scope: bytes, schema: str, spans: Iterable[bytes]) -> bytes:
    """Return a request to export `spans`, each encoded; `resource` and `scope` are encoded messages."""
    of_scope = _part(b"\x0a", scope) + b"".join([_part(b"\x12", span) for span in spans]) + _text(b"\x1a", schema)
    of_resource = _part(b"\x0a", resource) + _part(b"\x12", of_scope) + _text(b"\x1a", resource_schema)
    return _part(b"\x0a", of_resource)


def encode_resource(attributes: Attributes) -> bytes:
    """Return attributes as the message `Resource`; text that is no Unicode as far as it is, what is no value not."""
    named = {encodable(name): _unicode(value) for name, value in attributes.items()}
    return _attributes(b"\x0a", {name: value for name, value in named.items() if value is not None})


def encode_scope(name: str, version: str) -> bytes:
    """Return the message `InstrumentationScope`."""
    return _text(b"\x0a", name) + _text(b"\x12", version)


def encode_span(span: Span, limits: SpanLimits = _DEFAULT) -> bytes:
    """Return a span as the message `Span`, with at most what the limits allow: of more, the last ones."""
    parent = span.parent_span_id
    attributes, events, links = span.attributes, span.events, span.links
    dropped_attributes = dropped_events = dropped_links = b""
    is_short = len(attributes) <= _FEW and len(events) <= _FEW and len(links) <= _FEW
    if not (is_short and limits == _DEFAULT):
        attributes, dropped_attributes = _bounded(attributes, limits.attributes, limits.value_chars, b"\x50")
        events, dropped_events = _last(events, limits.events, b"\x60")
        links, dropped_links = _last(links, limits.links, b"\x70")
    return b"".join((
        b"\x0a\x10", bytes.fromhex(span.trace_id),
        b"\x12\x08", bytes.fromhex(span.span_id),
        _text(b"\x1a", span.trace_state or ""),
        b"" if parent is None else b"\x22\x08" + bytes.fromhex(parent),
        _text(b"\x2a", span.name),
        _CLIENT if span.is_client else _INTERNAL,
        b"\x39", _fixed64(span.start_ns),
        b"\x41", _fixed64(span.end_ns),
        _attributes(b"\x4a", attributes), dropped_attributes,
        _events(events, limits), dropped_events,
        _links(links), dropped_links,
        _status(span.failure),
        b"\x85\x01", _flags(span.is_parent_remote),
    ))  # fmt: skip


def _bounded(attributes: Attributes, most: int | None, value_chars: int | None, tag: bytes) -> tuple[Attributes, bytes]:
    """Return the last attributes, with short values, and the field of the number of others."""
    names, dropped = _last(list(attributes), most, tag)
    return {name: _short(attributes[name], value_chars) for name in names}, dropped


def _last(items: Sequence[_T], most: int | None, tag: bytes) -> tuple[Sequence[_T], bytes]:
    if most is None or len(items) <= most:
        return items, b""
    return items[len(items) - most :], tag + _varint(len(items) - most)


def _short(value: AttributeValue, chars: int | None) -> AttributeValue:
    if chars is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:chars]
    return [one[:chars] if isinstance(one, str) else one for one in value]  # type: ignore[return-value] # of one type


def span_id_of(span: bytes) -> str:
    """Return the id of a span that `encode_span` has encoded."""
    return span[20:28].hex()


def _unicode(value: AttributeValue) -> AttributeValue | None:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return tuple(encodable(one) if isinstance(one, str) else one for one in value)
    return None


def _events(events: Sequence[SpanEvent], limits: SpanLimits) -> bytes:
    return b"".join([_part(b"\x5a", _event(one, limits)) for one in events])


def _event(event: SpanEvent, limits: SpanLimits) -> bytes:
    attributes, dropped = event.attributes, b""
    if attributes and not (limits == _DEFAULT and len(attributes) <= _FEW):
        attributes, dropped = _bounded(attributes, limits.event_attributes, limits.event_value_chars, b"\x20")
    encoded = _attributes(b"\x1a", attributes)
    return b"\x09" + _fixed64(event.time_ns) + _text(b"\x12", event.name) + encoded + dropped


def _links(links: Sequence[SpanLink]) -> bytes:
    return b"".join([_part(b"\x6a", _link(one)) for one in links])


def _link(link: SpanLink) -> bytes:
    ids = b"\x0a\x10" + bytes.fromhex(link.trace_id) + b"\x12\x08" + bytes.fromhex(link.span_id)
    return ids + b"\x35" + _flags(link.is_remote)


def _flags(is_remote: bool) -> bytes:
    return _fixed32(_HAS_REMOTE | _IS_REMOTE if is_remote else _HAS_REMOTE)


def _status(failure: str | None) -> bytes:
    # A status that is unset is there too, and empty.
    return _part(b"\x7a", b"" if failure is None else _text(b"\x12", failure) + _ERROR)


def _attributes(tag: bytes, attributes: Attributes | None) -> bytes:
    if not attributes:
        return b""
    parts: list[bytes] = []
    for name, value in attributes.items():
        key, kind = _name(name), type(value)
        # Without a call for a short text, and joined only once: it would take as long as the rest.
        text = value.encode() if kind is str else None  # type: ignore[union-attr]
        if text is not None and len(text) < _SHORT_TEXT:
            size = len(key) + 3 + len(text)
            parts += (tag, _SHORT[size] if size < _LONG else _varint(size), key, _TEXT_HEADS[len(text)], text)
        else:
            sized = _sized_number(value) if kind is int or kind is bool else _part(b"", _value(value))
            size = len(key) + len(sized)
            parts += (tag, _SHORT[size] if size < _LONG else _varint(size), key, sized)
    return b"".join(parts)


@lru_cache(_NAMES, typed=True)
def _sized_number(value: int) -> bytes:
    return _part(b"", _value(value))


@lru_cache(_NAMES)
def _name(name: str) -> bytes:
    """Return the name of an attribute, and the tag of the value that follows."""
    return _part(b"\x0a", name.encode()) + b"\x12"


def _value(value: AttributeValue) -> bytes:
    if isinstance(value, str):
        return _part(b"\x0a", value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value if value >= 0 else value + _BELOW_ZERO)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    return _part(b"\x2a", b"".join([_part(b"\x0a", _value(item)) for item in value]))


def _text(tag: bytes, text: str) -> bytes:
    return _part(tag, text.encode()) if text else b""


def _part(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < _LONG:
        return _SHORT[number]
    if number < _LONG * _LONG:
        return bytes((number & 0x7F | 0x80, number >> 7))
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
