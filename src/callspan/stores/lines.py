"""Lines: a record as exactly one line of JSON, as files and sockets of lines need it."""

from __future__ import annotations

from typing import Final

from callspan.providers.registry import with_conversation
from callspan.record.call import CallRecord
from callspan.record.codec import encode
from callspan.record.events import Record

_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


def line_of(record: Record) -> bytes:
    """Return a record, a call with its conversation, as JSON without any line end.

    A body keeps its exact bytes but for line ends between its values, as pretty-printed JSON has: JSON strings hold
    none, so that spaces in their place mean the same.
    """
    data = encode(with_conversation(record) if isinstance(record, CallRecord) else record)
    return data.translate(_SPACES) if b"\n" in data or b"\r" in data else data
