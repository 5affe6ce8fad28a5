"""Decoding: the log events and spans of OTLP requests, in JSON or protobuf.

A protobuf body is converted to the JSON form first, so that one set of total readers serves both. They skip what has
another type; only a body that is no request at all raises.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from callspan.forks import late_attribute
from callspan.providers.wire_json import integer, items, mapping, objects, text
from callspan.semconv.records_from_spans import ForeignSpan

Signal: TypeAlias = Literal["logs", "traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("logs", "traces", "metrics")
_REQUESTS: Final[Mapping[Signal, str]] = {
    "logs": "opentelemetry.proto.collector.logs.v1.logs_service_pb2:ExportLogsServiceRequest",
    "traces": "opentelemetry.proto.collector.trace.v1.trace_service_pb2:ExportTraceServiceRequest",
}
"""The class of each protobuf request. Metrics are accepted unread."""
_PROTOBUF: Final = ("google.protobuf.json_format:MessageToDict", "google.protobuf.message:DecodeError")
_ERROR_CODES: Final = (2, "STATUS_CODE_ERROR")
_ID_LENGTHS: Final = (16, 32)
"""Hexadecimal digits of a span id and a trace id. In JSON they are not base64, unlike other bytes."""
_MAX_DEPTH: Final = 16
Attributes: TypeAlias = Mapping[str, object]


class LogEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One log record that names an event."""

    name: str
    time_ns: int
    attributes: Attributes
    resource: Attributes
    """The attributes of the program that sent it."""


class UndecodableError(ValueError):
    """A body is no OTLP request."""


def decoded_request(signal: Signal, body: bytes, *, is_protobuf: bool) -> dict[str, object]:
    """Return an OTLP request as JSON objects. Raises UndecodableError, ImportError without opentelemetry-proto."""
    if signal == "metrics":
        return {}
    if is_protobuf:
        return _from_protobuf(signal, body)
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError("the body is not JSON") from error
    if not isinstance(tree, dict):
        raise UndecodableError("the body is not a JSON object")
    return tree


def _from_protobuf(signal: Signal, body: bytes) -> dict[str, object]:
    request = late_attribute(_REQUESTS[signal])()
    to_dict, decode_error = (late_attribute(name) for name in _PROTOBUF)
    try:
        request.ParseFromString(body)
        tree: dict[str, object] = to_dict(request)
    except (decode_error, ValueError, RecursionError) as error:
        raise UndecodableError("the body is not an OTLP request") from error
    return tree


def log_events(request: Mapping[str, object]) -> Iterator[LogEvent]:
    """Yield the log records of a request that have a name and a time."""
    for group in objects(request, "resourceLogs"):
        resource = _attributes(mapping(group, "resource"))
        for scope in objects(group, "scopeLogs"):
            for log in objects(scope, "logRecords"):
                attributes = _attributes(log)
                name = text(attributes, "event.name") or text(log, "eventName")
                time_ns = integer(log, "timeUnixNano") or integer(log, "observedTimeUnixNano")
                if name and time_ns:
                    yield LogEvent(name=name, time_ns=time_ns, attributes=attributes, resource=resource)


def spans(request: Mapping[str, object]) -> Iterator[ForeignSpan]:
    """Yield the spans of a request that have ids and a start."""
    for group in objects(request, "resourceSpans"):
        resource = _attributes(mapping(group, "resource"))
        for scope_spans in objects(group, "scopeSpans"):
            scope = text(scope_spans, "scope", "name")
            for span in objects(scope_spans, "spans"):
                trace_id, span_id = _hex_id(span, "traceId"), _hex_id(span, "spanId")
                start_ns = integer(span, "startTimeUnixNano")
                if trace_id and span_id and start_ns:
                    yield ForeignSpan(
                        attributes=_attributes(span),
                        trace_id=trace_id,
                        span_id=span_id,
                        parent_span_id=_hex_id(span, "parentSpanId"),
                        start_ns=start_ns,
                        end_ns=integer(span, "endTimeUnixNano") or None,
                        failed=(mapping(span, "status") or {}).get("code") in _ERROR_CODES,
                        scope=scope,
                        service=text(resource, "service.name"),
                    )


def _hex_id(span: Mapping[str, object], name: str) -> str | None:
    """Return an id in hexadecimal digits; None for a missing or invalid one."""
    value = text(span, name) or ""
    try:
        digits = value if len(value) in _ID_LENGTHS else base64.b64decode(value, validate=True).hex()
        bytes.fromhex(digits)
    except (ValueError, binascii.Error):
        return None
    return digits.lower() if len(digits) in _ID_LENGTHS and digits.strip("0") else None


def _attributes(holder: Mapping[str, object] | None) -> dict[str, object]:
    return _pairs(holder, "attributes", 0)


def _pairs(holder: object, name: str, depth: int) -> dict[str, object]:
    return {
        key: _value(pair.get("value"), depth)
        for pair in objects(holder, name)
        if (key := text(pair, "key")) is not None
    }


def _value(value: object, depth: int) -> object:
    """Return an attribute's value as plain JSON; None for an absent or unknown kind, and below 16 levels."""
    if not isinstance(value, dict) or len(value) != 1 or depth > _MAX_DEPTH:
        return None
    ((kind, member),) = value.items()
    match kind:
        case "stringValue":
            return text(value, kind)
        case "intValue":
            return integer(value, kind)
        case "boolValue" | "doubleValue":
            return member if isinstance(member, bool | int | float) else None
        case "arrayValue":
            return [_value(item, depth + 1) for item in items(member, "values")]
        case "kvlistValue":
            return _pairs(member, "values", depth + 1)
        case _:
            return None
