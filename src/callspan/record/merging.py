"""Merging: merges the versions of a call, written by several requests and processes, into one record.

Of a background response or a batch, version 1 or 2 is of the request that created it, 3 of a webhook, 6 of the process
that fetched the result. Of a hosted agent, 2 is a turn in progress, 3 what was read from the middle on, 6 what was read
whole, 9 with its model. From 3 on these versions lack their content because its level was not known yet; the next one
has it, and the one after that also what a store knew.
The result does not depend on their order or on repetitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from callspan.record.call import NO_BODY, CallRecord, Request, Response, Timing
from callspan.record.events import EventRecord, RewardRecord
from callspan.record.usage import Cost
from callspan.settings import stricter

ENDED_VERSION: Final = 3
"""Version of a record that has the outcome and end of a background response, and not its answer."""
ANSWER_VERSION: Final = 6
"""Version of a record that has its answer."""
MODEL_VERSION: Final = 9
"""Version of a record of a hosted agent's whole model request whose writer knew its model."""
TRACE_VERSIONS: Final = 1 << 62
"""Versions from here on are of a trace that the provider keeps of a hosted agent: they state its model calls one by
one. Versions between are of a hosted agent's turn: the Unix nanoseconds at which its usage was read."""
_NEXT: Final = 3
"""How far the versions of two ranks are apart."""
_CREATED: Final = 2
"""The highest version of the request that created a response."""
_APART: Final = frozenset({"request", "response", "usage", "cost", "content_level", "read_ns"})
_OF_END: Final = ("call_id", "schema_version", "record_version", "outcome", "error", "timing", "redactions")
_DERIVED: Final = "conversation"
_R = TypeVar("_R", CallRecord, EventRecord, RewardRecord)


Stage: TypeAlias = Literal[0, 1, 2]
"""0: content was withheld because its level is unknown; 1: written at once; 2: with what a store knew."""


def staged(record: _R, stage: Stage) -> _R:
    """Return the version of a record at a stage. Records of what is in progress have none."""
    version = record.record_version
    is_begun = isinstance(record, CallRecord) and version <= _CREATED
    return record if is_begun else msgspec.structs.replace(record, record_version=version + stage)


def is_repeated(version: int) -> bool:
    """Return whether this version repeats a written one with what a store knew. False for versions that are times."""
    return version in _REPEATED


_REPEATED: Final = frozenset(version + 2 for version in (ENDED_VERSION, ANSWER_VERSION, MODEL_VERSION))


def merged(versions: Iterable[CallRecord]) -> CallRecord:
    """Return all versions of one call merged into one record. Raises TypeError for none."""
    return reduce(_merged, versions)


def _merged(one: CallRecord, other: CallRecord) -> CallRecord:
    lower, higher = sorted((one, other), key=lambda record: record.record_version)
    if lower.record_version == higher.record_version:
        read_ns = _earlier(one.read_ns, other.read_ns)
        return one if read_ns == one.read_ns else msgspec.structs.replace(one, read_ns=read_ns)
    if higher.record_version <= _CREATED:
        return higher
    created, besides = _by_creation(lower, higher)
    fields = {name: _known(name, created, besides) for name in _OF_REQUEST}
    fields |= {
        "request": _request(created.request, besides.request),
        "response": _response(higher.response, lower.response),
        "usage": _known("usage", higher, lower),
        "cost": _cost(higher, lower),
        "content_level": stricter(higher.content_level, lower.content_level),
        "read_ns": _earlier(higher.read_ns, lower.read_ns),
    }
    if higher.record_version >= TRACE_VERSIONS:
        fields["operation"] = higher.operation  # a model call of the turn, no longer the turn
    is_withheld = higher.record_version - lower.record_version < _NEXT and lower.record_version > _CREATED
    kept = [] if is_withheld else lower.redactions  # what was withheld before its level was known may be there now
    redactions = [*kept, *(one for one in higher.redactions if one not in kept)]
    timing = _timing(created, higher)
    return msgspec.structs.replace(higher, timing=timing, redactions=redactions, conversation=None, **fields)


def _by_creation(lower: CallRecord, higher: CallRecord) -> tuple[CallRecord, CallRecord]:
    """Return both records, first the one made by the request itself, which has a process id."""
    begun_only = lower.record_version < _CREATED and higher.pid is not None
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
    if end.duration_ns is None:  # how long a line of a batch took is not stated
        return start
    lasted_ns = end.start_ns + (end.duration_ns or 0) - start.start_ns
    # The provider's clock is another one, and counts in seconds.
    return msgspec.structs.replace(start, duration_ns=max(lasted_ns, start.duration_ns or 0))


_DEFAULTS: Final[dict[str, object]] = {
    field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(CallRecord)
    if field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
}
_OF_REQUEST: Final = tuple(name for name in _DEFAULTS if name not in {*_APART, *_OF_END, _DERIVED})
