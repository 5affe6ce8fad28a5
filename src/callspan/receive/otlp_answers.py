"""OTLP answers: the bodies of the answers to requests, which tell a sender whether to send again.

Senders repeat a request only after 429, 502, 503 or 504, not what an answer with 200 rejects, nor after other errors.
"""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.receive.decoding import Signal

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
RETRYABLE: Final = 503
_REJECTED: Final = {"logs": "rejectedLogRecords", "traces": "rejectedSpans", "metrics": "rejectedDataPoints"}
_UNAVAILABLE, _INVALID_ARGUMENT = 14, 3
"""Status codes of gRPC."""
_VARINT, _BYTES = 0, 2
_BYTE: Final = 0x7F


def acknowledged(content_type: str, signal: Signal, rejected: int = 0, message: str = "") -> bytes:
    """Return the body for a request that is kept, but for a number of `rejected` spans or log records.

    With 0 of them, a `message` is a warning.
    """
    if not (rejected or message):
        return b"" if content_type == PROTOBUF else b"{}"
    if content_type == PROTOBUF:
        return _field(1, _number(1, rejected) + _field(2, message.encode()))
    return msgspec.json.encode({"partialSuccess": {_REJECTED[signal]: str(rejected), "errorMessage": message}})


def refused(content_type: str, status: int, message: str) -> bytes:
    """Return the body for a request that is not kept: a `google.rpc.Status`."""
    code = _UNAVAILABLE if status == RETRYABLE else _INVALID_ARGUMENT
    if content_type == PROTOBUF:
        return _number(1, code) + _field(2, message.encode())
    return msgspec.json.encode({"code": code, "message": message})


def _number(field: int, number: int) -> bytes:
    return bytes([field << 3 | _VARINT]) + _varint(number)


def _field(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | _BYTES]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number > _BYTE:
        groups.append(number & _BYTE | _BYTE + 1)
        number >>= 7
    return bytes([*groups, number])
