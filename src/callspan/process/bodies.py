"""Wire bodies as plain JSON and back, for processors that change them."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encode_json

UNREADABLE: Final = object()
"""What `decoded` gives for a body that is no JSON."""


def decoded(body: msgspec.Raw) -> object:
    """Return the body as plain JSON that belongs to the caller alone; None for no body, else UNREADABLE."""
    if not is_kept(body):
        return None
    try:
        return _decode(body)
    except ours(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE


def encoded(value: object) -> msgspec.Raw:
    """Return plain JSON as a body; None as no body, a body as itself."""
    if value is None:
        return NO_BODY
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(encode_json(value))


def is_kept(body: msgspec.Raw) -> bool:
    """Return whether there is a body at all."""
    return body is not NO_BODY and len(memoryview(body)) > 0


def with_bodies(record: CallRecord, request: msgspec.Raw | None, response: msgspec.Raw | None) -> CallRecord:
    """Return the record with other bodies; None leaves a body as it is."""
    if request is not None:
        record = msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, body=request))
    if response is not None and record.response is not None:
        record = msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=response))
    return record


_decode = msgspec.json.Decoder().decode
