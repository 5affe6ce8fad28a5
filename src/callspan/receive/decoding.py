"""Decoding: the log events and spans of OTLP requests, in JSON or protobuf.

Both become one tree, and total readers read it: they skip values of a wrong type. If a program writes a value wrongly,
only that value is lost, see `foreign_json`. A body raises only if it is no request at all, or would cost too much: its
values are counted before they are made.
"""

from __future__ import annotations

import base64
import binascii
import math
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.providers.wire_json import integer, items, mapping, number, objects, text
from callspan.receive.otlp_protobuf import REQUESTS, ProtobufReader, TooManyValuesError
from callspan.record.foreign_json import BRANCHES, CHARACTERS, NUMBERS, has_more_values, read_json, read_text
from callspan.record.plain_json import clean
from callspan.runtime.clock import monotonic_s
from callspan.semconv.records_from_spans import READ_EVENTS, ForeignSpan

Signal: TypeAlias = Literal["logs", "traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("logs", "traces", "metrics")
ENCODINGS: Final = ("", "identity", "gzip", "x-gzip", "deflate")
"""Content encodings that can be unpacked."""
_ERROR_CODES: Final = (2, "STATUS_CODE_ERROR")
_ID_LENGTHS: Final = (16, 32)
"""Hexadecimal digits of a span id and a trace id. In JSON they are not base64, unlike other bytes."""
_MAX_DEPTH: Final = 16
VALUES: Final = "values that OTLP does not define"
_URL_ALPHABET: Final = str.maketrans("-_", "+/")
_MAX_UNPACKED_BYTES: Final = 64 << 20
_MAX_MEMBERS: Final = 16
"""Most gzip files one after the other in one body."""
MAX_VALUES: Final = 4_000_000
"""512 spans, which SDKs send at once, with 128 attributes each, as many as they allow, have 600,000 values in JSON."""
_MAX_READ_S: Final = 5.0
"""CPU time for reading a request."""
_ANY_ZLIB: Final = 32 + zlib.MAX_WBITS
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_REMOTE: Final = 0x300
"""Flags of a span whose parent is another process's, as its SDK says."""
_MAX_SPAN_NS: Final = 366 * 24 * 3600 * 10**9
_NS_PER_MS: Final = 1_000_000
_MAX_ATTEMPTS: Final = 1000
Attributes: TypeAlias = Mapping[str, object]


class LogEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One log record that names an event."""

    name: str
    time_ns: int
    attributes: Attributes
    resource: Attributes
    """The attributes of the program that sent it."""
    received_s: float = msgspec.field(default_factory=monotonic_s)
    """When its request was read, by the monotonic clock."""


class UndecodableError(ValueError):
    """A body is no OTLP request."""


class TooLargeError(ValueError):
    """A body, unpacked, has more bytes or values than are read."""


def unpacked(body: bytes, encoding: str) -> bytes:
    """Return a body without its content encoding, one of `ENCODINGS`. Raises UndecodableError, TooLargeError."""
    if encoding not in _PACKED:
        return body
    parts: list[bytes] = []
    room = _MAX_UNPACKED_BYTES
    while body and len(parts) < _MAX_MEMBERS:
        unpacking = zlib.decompressobj(_ANY_ZLIB)
        try:
            parts.append(unpacking.decompress(body, room + 1))
        except zlib.error as error:
            raise UndecodableError("the body cannot be unpacked") from error
        room -= len(parts[-1])
        if room < 0:
            raise TooLargeError
        if not unpacking.eof:
            raise UndecodableError("the packed body is not whole")
        body = unpacking.unused_data.lstrip(b"\0")  # padding
    if body:
        raise TooLargeError
    return b"".join(parts)


def decoded_request(signal: Signal, body: bytes, *, is_protobuf: bool, encoding: str = "") -> OtlpRequest:
    """Return an OTLP request. Raises UndecodableError, TooLargeError."""
    if signal == "metrics":  # accepted unread
        return OtlpRequest({}, Counter())
    body = unpacked(body, encoding)
    if is_protobuf:
        reader = ProtobufReader(body, MAX_VALUES)
        try:
            return OtlpRequest(reader.read(REQUESTS[signal]), reader.replaced)
        except TooManyValuesError as error:
            raise TooLargeError from error
        except ValueError as error:
            raise UndecodableError("the body is not an OTLP request") from error
    if has_more_values(body, MAX_VALUES):
        raise TooLargeError
    reading = read_json(body)
    if reading is None or not isinstance(reading.value, dict):
        raise UndecodableError("the body is not a JSON object")
    return OtlpRequest(reading.value, reading.replaced)


def duration_ns(attributes: Attributes, name: str) -> int | None:
    """Return a duration that is stated in milliseconds; None unless it is between 0 and a year."""
    stated = number(attributes, name)
    stated_ms = integer(attributes, name) if stated is None else stated
    if stated_ms is None or not 0 <= stated_ms <= _MAX_SPAN_NS / _NS_PER_MS:
        return None
    return int(stated_ms * _NS_PER_MS)


def attempt_number(attributes: Attributes) -> int | None:
    """Return the number that an attempt states; None unless a program may have tried so often."""
    stated = integer(attributes, "attempt")
    return stated if stated is not None and 0 <= stated <= _MAX_ATTEMPTS else None


class OtlpRequest:
    """One request. Each of its readers runs once."""

    def __init__(self, tree: Mapping[str, object], replaced: Counter[str]) -> None:
        self._tree = tree
        self.replaced = replaced
        """Numbers of parts that were replaced, so far, by kind, see `ForeignValue`."""
        self.rejected = 0
        """Number of spans and log records so far that cannot be read: without ids, or of too large a request."""
        self.nameless = 0
        """Number of log records so far that name no event."""
        self._received_ns = time.time_ns()
        self._received_s = monotonic_s()
        self._end_s = time.thread_time() + _MAX_READ_S

    def log_events(self) -> Iterator[LogEvent]:
        """Yield the log records that have a name."""
        for group, scope in self._scopes("resourceLogs", "scopeLogs"):
            resource = self._attributes(mapping(group, "resource"))
            for log in objects(scope, "logRecords"):
                if time.thread_time() > self._end_s:
                    self.rejected += 1
                    continue
                attributes = self._attributes(log)
                name = text(attributes, "event.name") or self._clean(text(log, "eventName") or "")
                if not name:
                    self.nameless += 1
                    continue
                yield LogEvent(
                    name=name,
                    time_ns=self._time_ns(log, "timeUnixNano", "observedTimeUnixNano"),
                    attributes=attributes,
                    resource=resource,
                    received_s=self._received_s,
                )

    def spans(self) -> Iterator[ForeignSpan]:
        """Yield the spans that have ids."""
        for group, scope_spans in self._scopes("resourceSpans", "scopeSpans"):
            resource = self._attributes(mapping(group, "resource"))
            scope = text(scope_spans, "scope", "name")
            for span in objects(scope_spans, "spans"):
                trace_id, span_id = _hex_id(span, "traceId"), _hex_id(span, "spanId")
                if not (trace_id and span_id) or time.thread_time() > self._end_s:
                    self.rejected += 1
                    continue
                start_ns = self._time_ns(span, "startTimeUnixNano", "endTimeUnixNano")
                end_ns = integer(span, "endTimeUnixNano")
                has_end = end_ns is not None and start_ns <= end_ns <= start_ns + _MAX_SPAN_NS
                message = text(span, "status", "message")
                yield ForeignSpan(
                    attributes=self._attributes(span),
                    name=self._clean(text(span, "name") or ""),
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_span_id=_hex_id(span, "parentSpanId"),
                    is_parent_remote=(integer(span, "flags") or 0) & _REMOTE == _REMOTE,
                    start_ns=start_ns,
                    has_start=start_ns == integer(span, "startTimeUnixNano"),
                    end_ns=end_ns if has_end else None,
                    failed=(mapping(span, "status") or {}).get("code") in _ERROR_CODES,
                    status_message=None if message is None else self._clean(message),
                    events=self._events(span),
                    scope=None if scope is None else self._clean(scope),
                    service=text(resource, "service.name"),
                )

    def _events(self, span: Mapping[str, object]) -> Mapping[str, Attributes]:
        """Return the attributes of a span's events of each name that is read, together."""
        attributes: dict[str, Attributes] = {}
        for event in objects(span, "events"):
            if (name := text(event, "name")) in READ_EVENTS and name is not None:
                attributes[name] = {**attributes.get(name, {}), **self._attributes(event)}
        return attributes

    def _scopes(self, groups: str, scopes: str) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
        for group in objects(self._tree, groups):
            for scope in objects(group, scopes):
                yield group, scope

    def _time_ns(self, holder: Mapping[str, object], *names: str) -> int:
        """Return the first valid Unix time (before 2262) under these names; else the time of arrival."""
        stated = next((stated for name in names if (stated := integer(holder, name) or 0) > 0), None)
        if stated is None or (integer(holder, names[0]) is None and holder.get(names[0]) is not None):
            self.replaced[NUMBERS] += 1
        return stated or self._received_ns

    def _attributes(self, holder: Mapping[str, object] | None) -> dict[str, object]:
        return self._pairs(holder, "attributes", 0)

    def _pairs(self, holder: object, name: str, depth: int) -> dict[str, object]:
        return {
            self._clean(key): self._value(pair.get("value"), depth)
            for pair in objects(holder, name)
            if (key := text(pair, "key")) is not None
        }

    def _value(self, value: object, depth: int) -> object:
        """Return an attribute's value as plain JSON; None for an absent or unknown kind, and below 16 levels."""
        if not isinstance(value, dict):
            self._count_undefined(value)
            return None
        if depth > _MAX_DEPTH:
            self.replaced[BRANCHES] += 1
            return None
        # Some writers state all kinds, with null for those that it has not.
        kind, member = next(((kind, member) for kind, member in value.items() if member is not None), (None, None))
        match kind, member:
            case "stringValue", str():
                return self._clean(member)
            case "intValue", _:
                return self._number(member, integer(value, kind))
            case "boolValue", bool():
                return member
            case "doubleValue", _:
                return self._number(member, number(value, kind))
            case "arrayValue", _:
                return [self._value(item, depth + 1) for item in items(member, "values")]
            case "kvlistValue", _:
                return self._pairs(member, "values", depth + 1)
            case "bytesValue", str() | bytes():
                return self._text_in(member)
            case _:
                self._count_undefined(member)
                return None

    def _count_undefined(self, stated: object) -> None:
        if stated is not None:
            self.replaced[VALUES] += 1

    def _text_in(self, data: str | bytes) -> str:
        """Return bytes, in base64 or as they are, as text: U+FFFD takes the place of what is no UTF-8."""
        if isinstance(data, bytes):
            content = data
        else:
            try:
                # Without padding, and in the alphabet of URLs, too.
                content = base64.b64decode(data.translate(_URL_ALPHABET) + "=" * (-len(data) % 4), validate=True)
            except (ValueError, binascii.Error):
                return self._clean(data)  # of a writer that does not know base64
        string, replaced = read_text(content)
        if replaced:
            self.replaced[CHARACTERS] += replaced
        return self._clean(string)

    def _number(self, stated: object, value: float | None) -> float | None:
        if value is not None and math.isfinite(value):
            return value
        self.replaced[NUMBERS] += stated is not None
        return None

    def _clean(self, string: str) -> str:
        """Return a string with U+FFFD for NUL, which stores reject."""
        if "\0" not in string:
            return string
        self.replaced[CHARACTERS] += string.count("\0")
        return clean(string)


def _hex_id(span: Mapping[str, object], name: str) -> str | None:
    """Return an id in hexadecimal digits; None for a missing or invalid one."""
    value = text(span, name) or ""
    try:
        digits = value if len(value) in _ID_LENGTHS else base64.b64decode(value, validate=True).hex()
        bytes.fromhex(digits)
    except (ValueError, binascii.Error):
        return None
    return digits.lower() if len(digits) in _ID_LENGTHS and digits.strip("0") else None
