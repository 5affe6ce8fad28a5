"""Merging: orders the versions of a record, and merges those of a call into one record.

The answer to a background response or a batch line is read by another request, possibly in another process, so its call
has several versions. They merge by the rank of their `part`, then by `seen_ns`; a field that is absent from the later
version is kept. The result is independent of arrival order and of duplicates, with one exception that no provider is
known to cause: when two versions state different usage and a later one states none, the last arrival wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, Final, TypeAlias

import msgspec

from callspan.record.call import NO_BODY, PARTS, CallRecord, Part, Redaction, Request, Response, Timing
from callspan.record.content_level import at_level
from callspan.record.events import Record
from callspan.record.usage import Cost
from callspan.settings import strictest

RANKS: Final[dict[Part, int]] = {part: rank for rank, part in enumerate(PARTS)}
Order: TypeAlias = tuple[int, int]
"""The rank of a version's part, then its `seen_ns`; the higher version wins."""
_REQUEST_PARTS: Final = frozenset({"started", "requested"})
_FIELDS_WITH_RULES: Final = frozenset(
    {"part", "seen_in", "seen_ns", "first_seen_ns", "request", "response", "usage", "cost", "content_level"}
)
_END_FIELDS: Final = ("call_id", "schema_version", "outcome", "error", "timing", "redactions")
_DERIVED: Final = "conversation"
_replaced: Final = msgspec.structs.replace
_DEFAULTS: Final[dict[str, object]] = {
    field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(CallRecord)
    if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
}
_REQUEST_FIELDS: Final = tuple(name for name in _DEFAULTS if name not in {*_FIELDS_WITH_RULES, *_END_FIELDS, _DERIVED})


def order(part: Part = "ended", seen_ns: int | None = None) -> Order:
    """Return the sort key of a version."""
    return RANKS[part], seen_ns or 0


def order_of(record: Record) -> Order:
    """Return the sort key of a version of a record; events, messages and rewards have only one version."""
    if isinstance(record, CallRecord):
        return order(record.part, record.seen_ns)
    return order(seen_ns=getattr(record, "seen_ns", None))


def merged(versions: Iterable[CallRecord]) -> CallRecord:
    """Merge the versions of one call; the strictest content level of any of them applies to the result.

    Raises TypeError if there are none.
    """
    return reduce(_within_level, versions)


def _within_level(one: CallRecord, other: CallRecord) -> CallRecord:
    return at_level(_merged(one, other), strictest(one.content_level, other.content_level))


def first_seen(record: CallRecord) -> int | None:
    """Return the Unix time (ns) at which the end of a call was first read; None if unknown."""
    if record.part in _REQUEST_PARTS:
        return None
    return record.seen_ns if record.first_seen_ns is None else record.first_seen_ns


def _merged(one: CallRecord, other: CallRecord) -> CallRecord:
    lower, higher = sorted((one, other), key=order_of)
    first_ns = _earlier(first_seen(one), first_seen(other))
    first_seen_ns = None if first_ns == higher.seen_ns else first_ns
    if order_of(lower) == order_of(higher):
        return _replaced(one, first_seen_ns=first_seen_ns)
    if not higher.is_merged or (higher.part in _REQUEST_PARTS and not lower.is_merged):
        return higher
    created, other_version = _creator_first(lower, higher)
    fields = {name: _first_set(name, created, other_version) for name in _REQUEST_FIELDS}
    fields |= {
        "request": _request(created.request, other_version.request),
        "response": _response(higher.response, lower.response),
        "usage": _first_set("usage", higher, lower),
        "cost": _cost(higher, lower),
        "content_level": strictest(higher.content_level, lower.content_level),
        "first_seen_ns": first_seen_ns,
        "timing": _timing(created, higher),
        "conversation": None,
    }
    whole = _replaced(higher, **fields)
    return _replaced(whole, redactions=_redactions(lower, whole))


def _redactions(lower: CallRecord, whole: CallRecord) -> list[Redaction]:
    """Return the redactions of both versions, without that of the lower version's error, which the merge drops."""
    kept = [one for one in lower.redactions if one.what != "error"]
    return [*kept, *(one for one in whole.redactions if one not in kept)]


def _creator_first(lower: CallRecord, higher: CallRecord) -> tuple[CallRecord, CallRecord]:
    """Return both versions, first the one written by the call's own request, which has a process id."""
    begun_only = lower.part == "started" and higher.pid is not None
    return (higher, lower) if lower.pid is None or begun_only else (lower, higher)


def _first_set(name: str, first: CallRecord, second: CallRecord) -> Any:
    """Return the field of the first record unless it holds its default, else that of the second."""
    value = getattr(first, name)
    return getattr(second, name) if value == _DEFAULTS[name] else value


def _earlier(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


def _cost(higher: CallRecord, lower: CallRecord) -> Cost | None:
    if higher.usage is None or higher.usage == lower.usage:
        return higher.cost if higher.cost is not None else lower.cost
    return higher.cost


def _request(first: Request, second: Request) -> Request:
    """Return the first request, or the second if only that has a body; a missing model comes from the other."""
    if first == Request() or (first.body is NO_BODY and second.body is not NO_BODY):
        return msgspec.structs.replace(second, model=first.model or second.model)
    return first if first.model is not None else msgspec.structs.replace(first, model=second.model)


def _response(newer: Response | None, older: Response | None) -> Response | None:
    """Return the newer response, with the body of the older one if the newer has none."""
    if newer is None or older is None or newer.body is not NO_BODY or older.body is NO_BODY:
        return newer or older
    return msgspec.structs.replace(newer, body=older.body, body_bytes=older.body_bytes)


def _timing(created: CallRecord, higher: CallRecord) -> Timing:
    start, end = created.timing, higher.timing
    if end.duration_ns is None:  # providers do not state how long a batch line took
        return start
    lasted_ns = end.start_ns + (end.duration_ns or 0) - start.start_ns
    # The provider's clock differs from ours and has a resolution of one second: the call lasted at least as long as
    # measured here. The request's own duration is not used: an earlier merge may have overwritten it.
    measured = (start.headers_ns, start.last_chunk_ns, *(one.end_ns for one in created.attempts))
    return msgspec.structs.replace(start, duration_ns=max(lasted_ns, *(ns for ns in measured if ns is not None), 0))
