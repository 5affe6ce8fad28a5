"""Merging: the order of the versions of a record, and how those of a call become one record.

A call whose answer is read by another request than its own (a background response, a line of a batch) has versions of
several requests, and maybe processes. They merge by the rank of their `part`, then by `seen_ns`; a field that the
later version lacks is kept. The result does not depend on the order in which they come, or on
repetitions, but for one case that no provider is known to make: of two versions that state different usage before one
that states none, the last that came counts.
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
"""The rank of each part."""
Order: TypeAlias = tuple[int, int]
"""The rank of a version's part, and when it was seen: the higher version counts."""
_OF_REQUEST_PARTS: Final = frozenset({"started", "requested"})
_MERGED_APART: Final = frozenset(
    {"part", "seen_in", "seen_ns", "first_seen_ns", "request", "response", "usage", "cost", "content_level"}
)
_OF_END: Final = ("call_id", "schema_version", "outcome", "error", "timing", "redactions")
_DERIVED: Final = "conversation"
_replaced: Final = msgspec.structs.replace
_DEFAULTS: Final[dict[str, object]] = {
    field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(CallRecord)
    if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
}
_OF_REQUEST: Final = tuple(name for name in _DEFAULTS if name not in {*_MERGED_APART, *_OF_END, _DERIVED})


def order(part: Part = "ended", seen_ns: int | None = None) -> Order:
    """Return the place of a version in the order of versions."""
    return RANKS[part], seen_ns or 0


def order_of(record: Record) -> Order:
    """Return the place of a version in the order of its record's versions. Events, messages, rewards have only one."""
    if isinstance(record, CallRecord):
        return order(record.part, record.seen_ns)
    return order(seen_ns=getattr(record, "seen_ns", None))


def merged(versions: Iterable[CallRecord]) -> CallRecord:
    """Return all versions of one call merged into one record, with the strictest level of any of them.

    It has no content that this level forbids. Raises TypeError for none.
    """
    return reduce(_within_level, versions)


def _within_level(one: CallRecord, other: CallRecord) -> CallRecord:
    return at_level(_merged(one, other), strictest(one.content_level, other.content_level))


def first_seen(record: CallRecord) -> int | None:
    """Return when the end of a call was first read, Unix time; None if unknown."""
    if record.part in _OF_REQUEST_PARTS:
        return None
    return record.seen_ns if record.first_seen_ns is None else record.first_seen_ns


def _merged(one: CallRecord, other: CallRecord) -> CallRecord:
    lower, higher = sorted((one, other), key=order_of)
    first_ns = _earlier(first_seen(one), first_seen(other))
    first_seen_ns = None if first_ns == higher.seen_ns else first_ns
    if order_of(lower) == order_of(higher):
        return _replaced(one, first_seen_ns=first_seen_ns)
    if not higher.is_merged or (higher.part in _OF_REQUEST_PARTS and not lower.is_merged):
        return higher
    created, besides = _by_creation(lower, higher)
    fields = {name: _known(name, created, besides) for name in _OF_REQUEST}
    fields |= {
        "request": _request(created.request, besides.request),
        "response": _response(higher.response, lower.response),
        "usage": _known("usage", higher, lower),
        "cost": _cost(higher, lower),
        "content_level": strictest(higher.content_level, lower.content_level),
        "first_seen_ns": first_seen_ns,
        "timing": _timing(created, higher),
        "conversation": None,
    }
    whole = _replaced(higher, **fields)
    return _replaced(whole, redactions=_redactions(lower, whole))


def _redactions(lower: CallRecord, whole: CallRecord) -> list[Redaction]:
    """Return what was removed from both versions and is not in the merged record, which has those of the higher."""
    error = [one for one in lower.redactions if one.what != "error"]  # the error is the higher version's
    return [*error, *(one for one in whole.redactions if one not in error)]


def _by_creation(lower: CallRecord, higher: CallRecord) -> tuple[CallRecord, CallRecord]:
    """Return both records, first the one made by the request itself, which has a process id."""
    begun_only = lower.part == "started" and higher.pid is not None
    return (higher, lower) if lower.pid is None or begun_only else (lower, higher)


def _known(name: str, first: CallRecord, second: CallRecord) -> Any:  # noqa: ANN401 - any field
    """Return the field of the first record if it has one, else of the second."""
    value = getattr(first, name)
    return getattr(second, name) if value == _DEFAULTS[name] else value


def _earlier(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


def _cost(higher: CallRecord, lower: CallRecord) -> Cost | None:
    """Return the cost that belongs to the merged usage."""
    if higher.usage is None or higher.usage == lower.usage:
        return higher.cost if higher.cost is not None else lower.cost
    return higher.cost


def _request(first: Request, second: Request) -> Request:
    """Return the first record's request; the second's if only that has a body or a model."""
    if first == Request() or (first.body is NO_BODY and second.body is not NO_BODY):
        return msgspec.structs.replace(second, model=first.model or second.model)
    return first if first.model is not None else msgspec.structs.replace(first, model=second.model)


def _response(newer: Response | None, older: Response | None) -> Response | None:
    """Return the newer response, with the older one's body if only that has one."""
    if newer is None or older is None or newer.body is not NO_BODY or older.body is NO_BODY:
        return newer or older
    return msgspec.structs.replace(newer, body=older.body, body_bytes=older.body_bytes)


def _timing(created: CallRecord, higher: CallRecord) -> Timing:
    """Return the start and details of the request with the end of the response."""
    start, end = created.timing, higher.timing
    if end.duration_ns is None:  # providers do not give the duration of a line of a batch
        return start
    lasted_ns = end.start_ns + (end.duration_ns or 0) - start.start_ns
    # The provider's clock is another one, and counts in seconds: what was measured here is certain. The duration that
    # the request had by itself is not among it: a version that was merged before no longer has it.
    measured = (start.headers_ns, start.last_chunk_ns, *(one.end_ns for one in created.attempts))
    return msgspec.structs.replace(start, duration_ns=max(lasted_ns, *(ns for ns in measured if ns is not None), 0))
