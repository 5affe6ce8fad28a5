"""OTLP in protobuf: reads a request into the form of its JSON, as far as callspan reads that.

Protobuf's own decoders refuse a whole request for one string that is no UTF-8, and JavaScript and Go send such strings.
They also nest values 100 levels deep, and make an object of every field before anything can count them. So the few
messages are read here, from the table below. Fields that are not in it are skipped.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from callspan.record.foreign_json import BRANCHES, CHARACTERS, read_text

_MAX_DEPTH: Final = 64
"""Of messages; 16 levels of attributes, which `decoding` reads, are 48."""
_VARINT, _FIXED64, _BYTES = 0, 1, 2
_FIXED32: Final = 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
"""Sizes in bytes by wire type."""
_VARINT_BITS: Final = 70
_BYTE: Final = 0x7F
_MORE: Final = 0x80
_SIGN: Final = 1 << 63
_ALL_BITS: Final = (1 << 64) - 1
_double: Final = struct.Struct("<d").unpack


class _Field(NamedTuple):
    """A field of a message: its name in JSON, and how it is read."""

    name: str
    message: Message | None = None
    """None: it is a scalar."""
    wire_type: int = _BYTES
    read: Callable[[Any], object] | None = None
    """Makes a value of an unsigned number, or of bytes; None: it is a text."""
    is_list: bool = False


class Message(dict[int, _Field]):
    """The fields of a message that are read, by number."""

    is_one = False
    """Whether it has one field at a time, the last."""


class TooManyValuesError(ValueError):
    """A request has more values than are read."""


Tree: TypeAlias = dict[str, object]


def _signed(number: int) -> int:
    return number - (_SIGN << 1) if number & _SIGN else number


def _fixed64(name: str) -> _Field:
    return _Field(name, wire_type=_FIXED64, read=lambda data: int.from_bytes(data, "little"))


def _identifier(name: str) -> _Field:
    return _Field(name, read=bytes.hex)


def _lists(name: str, message: Message) -> _Field:
    return _Field(name, message, is_list=True)


_ANY: Final = Message()
_ANY.is_one = True
_PAIR: Final = Message({1: _Field("key"), 2: _Field("value", _ANY)})
_ANY.update(
    {
        1: _Field("stringValue"),
        2: _Field("boolValue", wire_type=_VARINT, read=bool),
        3: _Field("intValue", wire_type=_VARINT, read=_signed),
        4: _Field("doubleValue", wire_type=_FIXED64, read=lambda data: _double(data)[0]),
        5: _Field("arrayValue", Message({1: _lists("values", _ANY)})),
        6: _Field("kvlistValue", Message({1: _lists("values", _PAIR)})),
        7: _Field("bytesValue", read=bytes),
    }
)
_RESOURCE: Final = Message({1: _lists("attributes", _PAIR)})
_SCOPE: Final = Message({1: _Field("name")})
_EVENT: Final = Message({2: _Field("name"), 3: _lists("attributes", _PAIR)})
_STATUS: Final = Message({2: _Field("message"), 3: _Field("code", wire_type=_VARINT, read=int)})
_SPAN: Final = Message(
    {
        1: _identifier("traceId"),
        2: _identifier("spanId"),
        4: _identifier("parentSpanId"),
        5: _Field("name"),
        7: _fixed64("startTimeUnixNano"),
        8: _fixed64("endTimeUnixNano"),
        9: _lists("attributes", _PAIR),
        11: _lists("events", _EVENT),
        15: _Field("status", _STATUS),
        16: _Field("flags", wire_type=_FIXED32, read=lambda data: int.from_bytes(data, "little")),
    }
)
_LOG_RECORD: Final = Message(
    {
        1: _fixed64("timeUnixNano"),
        6: _lists("attributes", _PAIR),
        11: _fixed64("observedTimeUnixNano"),
        12: _Field("eventName"),
    }
)


def _request(signal: str, scoped: str, items: str, item: Message) -> Message:
    scope = Message({1: _Field("scope", _SCOPE), 2: _lists(items, item)})
    resource = Message({1: _Field("resource", _RESOURCE), 2: _lists(scoped, scope)})
    return Message({1: _lists(signal, resource)})


REQUESTS: Final[Mapping[str, Message]] = {
    "logs": _request("resourceLogs", "scopeLogs", "logRecords", _LOG_RECORD),
    "traces": _request("resourceSpans", "scopeSpans", "spans", _SPAN),
}
"""The message of each signal's requests."""


class ProtobufReader:
    """Reads one request."""

    def __init__(self, data: bytes, max_values: int) -> None:
        self._data, self._remaining = data, max_values
        self.replaced: Counter[str] = Counter()
        """Numbers of replaced parts by kind, as in `ForeignValue`."""

    def read(self, message: Message) -> Tree:
        """Return a request in the form of JSON, its ids in hexadecimal digits.

        Raises TooManyValuesError, and ValueError if it is no such message.
        """
        return self._message(message, 0, len(self._data), 0)

    def _message(self, message: Message, start: int, end: int, depth: int) -> Tree:
        tree: Tree = {}
        while start < end:
            self._remaining -= 1
            if self._remaining < 0:
                raise TooManyValuesError
            tag, start = self._varint(start, end)
            field, wire_type = message.get(tag >> 3), tag & 7
            number, first, start = self._content(wire_type, start, end)
            if start > end:
                raise ValueError("a field is longer than its message")
            if field is None or field.wire_type != wire_type:
                continue
            value = self._value(field, number, first, start, depth)
            if field.is_list:
                tree.setdefault(field.name, []).append(value)  # type: ignore[attr-defined] # made here
                continue
            if message.is_one:
                tree.clear()
            tree[field.name] = value
        return tree

    def _content(self, wire_type: int, start: int, end: int) -> tuple[int, int, int]:
        """Return the content of a field if it is a number, and where it begins and ends."""
        if wire_type == _BYTES:
            size, first = self._varint(start, end)
            return 0, first, first + size
        if wire_type == _VARINT:
            number, after = self._varint(start, end)
            return number, start, after
        if wire_type in _SIZES:
            return 0, start, start + _SIZES[wire_type]
        raise ValueError("a field of no known type")

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        if start < end and (byte := self._data[start]) < _MORE:
            return byte, start + 1
        number = shift = 0
        while start < end and shift < _VARINT_BITS:
            byte = self._data[start]
            start += 1
            number |= (byte & _BYTE) << shift
            if byte < _MORE:
                return number, start
            shift += 7
        raise ValueError("a number without an end")

    def _value(self, field: _Field, number: int, start: int, end: int, depth: int) -> object:
        if field.message is not None:
            if depth < _MAX_DEPTH:
                return self._message(field.message, start, end, depth + 1)
            self.replaced[BRANCHES] += 1
            return {}
        if field.wire_type == _VARINT:
            return number if field.read is None else field.read(number & _ALL_BITS)
        content = self._data[start:end]
        if field.read is not None:
            return field.read(content)
        text, replaced = read_text(content)
        if replaced:
            self.replaced[CHARACTERS] += replaced
        return text
