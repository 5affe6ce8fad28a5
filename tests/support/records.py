"""Records made by hand, of which nothing is known but what is given, and stores that keep them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from callspan.records import CallRecord, Record, Request, SessionRecord, Timing, decode, encode
from callspan.stores import find_store

START_NS = 1_795_000_000_000_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def made(call_id: str = "call-1", *, at_ns: int = START_NS, took_ns: int | None = SECOND, **fields: Any) -> CallRecord:
    """A call of gpt-5 of which nothing else is known unless it is given."""
    timing = Timing(start_ns=at_ns, duration_ns=took_ns)
    return CallRecord(**({"call_id": call_id, "timing": timing, "request": Request(model="gpt-5")} | fields))


def session(session_id: str = "session-1", **fields: Any) -> SessionRecord:
    """A session of which nothing is known unless it is given."""
    return SessionRecord(**({"session_id": session_id, "seen_ns": 1} | fields))


def raw(value: object) -> msgspec.Raw:
    """JSON as the SDKs send it."""
    return msgspec.Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def keep(url: str, *records: Record) -> str:
    """Deliver records to a store as a shipper does; return its URL."""
    sink = find_store(url).sink()
    sink.open()
    sink.deliver([decode(encode(record)) for record in records])
    sink.close()
    return url
