"""Merging: orders the versions of a record, and merges the versions of a call, session or timestep into one.

The answer to a background response or a batch line is read by another request, possibly in another process, so its call
has several versions. They merge by the rank of their `part`, then by `seen_ns`; a field that is absent from the later
version is kept. The result is independent of arrival order and of duplicates, with one exception that no provider is
known to cause: when two versions state different usage and a later one states none, the last arrival wins. Versions of
a session or timestep merge by `seen_ns`, in any order too. But if three arrive out of order and only the middle one
changes a field, the oldest value may stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cache, reduce
from typing import Final, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from callspan.record.call import NO_BODY, STAGES, CallRecord, Redaction, Response, Stage, Timing
from callspan.record.content_level import at_level
from callspan.record.events import Record, SessionRecord, TimestepRecord
from callspan.record.usage import Cost
from callspan.settings import strictest

RANKS: Final[dict[Stage, int]] = {part: rank for rank, part in enumerate(STAGES)}
Order: TypeAlias = tuple[int, int]
"""The rank of a version's part, then its `seen_ns`; the higher version wins."""
_REQUEST_STAGES: Final = frozenset({"started", "requested"})
_SPAN_FIELDS: Final = ("trace_id", "span_id", "parent_span_id", "sampled", "trace")
_OF_HIGHER: Final = ("part", "seen_ns", "seen_in", "outcome", "error", "timing", "redactions", "conversation")
"""Fields of a call that are never filled in from the lower version."""
_SUCCESS: Final = "success"
BY_DEFAULT: Final = frozenset({_SUCCESS, "failure", "error", "timeout", "cancelled"})
"""The outcomes that callspan gives to an end if the application states none."""
Price: TypeAlias = Callable[[CallRecord], CallRecord]
"""Returns a call with its cost; the same object if it is unknown."""
_S = TypeVar("_S", bound=SessionRecord | TimestepRecord)
_T = TypeVar("_T", bound=msgspec.Struct)


def order_key(part: Stage = "ended", seen_ns: int | None = None) -> Order:
    """Return the sort key of a version."""
    return RANKS[part], seen_ns or 0


def version_order(record: Record) -> Order:
    """Return the sort key of a version of a record; events, messages and rewards have only one version."""
    if isinstance(record, CallRecord):
        return order_key(record.part, record.seen_ns)
    return order_key(seen_ns=getattr(record, "seen_ns", None))


def merged(versions: Iterable[CallRecord]) -> CallRecord:
    """Merge the versions of one call; the strictest content level of any of them applies to the result.

    Raises TypeError without versions.
    """
    return reduce(_within_level, versions)


def priced_again(merged: CallRecord, versions: Collection[CallRecord], price: Price) -> CallRecord:
    """Return a merged call, priced by all its facts.

    A version was priced by what it has: the answer to a background response lacks the parameters of the request. A cost
    stays if a provider stated it, or if a version with the same facts has it.
    """
    cost, facts = merged.cost, _price_facts(merged)
    is_stated = cost is None or merged.usage is None or cost.usd == merged.usage.cost_usd
    if is_stated or any(version.cost == cost and _price_facts(version) == facts for version in versions):
        return merged
    repriced = price(replace(merged, cost=None))
    return merged if repriced.cost is None else repriced


def _price_facts(record: CallRecord) -> tuple[object, ...]:
    """Return what decides the price of a call, besides its provider and host."""
    request, response = record.request, record.response
    request_facts = request.model, request.params, request.hosted_tools, request.cache_ttl
    response_facts = None if response is None else (response.model, response.service_tier)
    return record.usage, request_facts, response_facts, record.batch_id, record.is_answer_alone


def _within_level(version: CallRecord, other: CallRecord) -> CallRecord:
    return at_level(_merged(version, other), strictest(version.content_level, other.content_level))


def merged_scope(version: _S, other: _S) -> _S:
    """Merge two versions of a session or timestep: the newer one that has a field or metadata key decides about it.

    The earliest start and the strictest content level apply; the fields of a span stay together, as do end and error.
    A session that was begun again after its end runs: end, error and an outcome by default are those of an earlier run.
    A status of the application counts more than an outcome by default, whichever process states it, and when; a
    session's success decides between the outcomes success and failure, because the process that ends it may not know.
    """
    older, newer = sorted((version, other), key=version_order)
    merged = _filled(newer, older)
    span = older if newer.span_id is None else newer
    starts = [version.start_ns for version in (older, newer) if version.start_ns is not None]
    merged = replace(
        merged,
        metadata=older.metadata | newer.metadata,
        start_ns=min(starts, default=None),
        outcome=_outcome(newer, older),
        error=merged.error if newer.end_ns is None else newer.error,
        **{name: getattr(span, name) for name in _SPAN_FIELDS},
    )
    if not (isinstance(older, SessionRecord) and isinstance(newer, SessionRecord)):
        return merged
    begun = [version.resumed_ns for version in (older, newer) if version.resumed_ns is not None]
    merged = replace(merged, resumed_ns=max(begun, default=None))
    if begun and merged.end_ns is not None and merged.end_ns < max(begun):
        outcome = merged.outcome if _has_status(merged) else None
        merged = replace(merged, end_ns=None, outcome=outcome, error=None)
    success = older.success if newer.success is None else newer.success
    if success is not None and merged.outcome in {"success", "failure"}:
        merged = replace(merged, outcome="success" if success else "failure")
    level = strictest(older.content_level, newer.content_level)
    return at_level(replace(merged, content_level=level), level)


def _outcome(newer: _S, older: _S) -> str | None:
    """Return the newest status of the application, else the outcome of the newest end."""
    if newer.outcome is None or older.outcome is None:
        return newer.outcome or older.outcome
    if version_order(newer) == version_order(older) and newer.outcome == _SUCCESS:
        return older.outcome  # the same end, already merged with a status
    return older.outcome if _has_status(older) and not _has_status(newer) else newer.outcome


def _has_status(version: SessionRecord | TimestepRecord) -> bool:
    """Return whether its outcome is a status: another word than those by default, or stated without an end."""
    return version.end_ns is None or version.outcome not in BY_DEFAULT


def _merged(version: CallRecord, other: CallRecord) -> CallRecord:
    lower, higher = sorted((version, other), key=version_order)
    if version_order(lower) == version_order(higher):
        return version
    if not higher.is_merged or (higher.part in _REQUEST_STAGES and not lower.is_merged):
        return higher
    merged = replace(
        _filled(higher, lower, but=_OF_HIGHER),
        request=_filled(higher.request, lower.request),
        response=_response(higher.response, lower.response),
        cost=_cost(higher, lower),
        timing=_timing(lower, higher),
        conversation=None,
    )
    return replace(merged, redactions=_redactions(lower, merged))


def _filled(higher: _T, lower: _T, but: Collection[str] = ()) -> _T:
    """Return the higher version; where a field has its default, the lower one's value is taken."""
    unknown = [name for name, default in _defaults(type(higher)) if getattr(higher, name) == default]
    return replace(higher, **{name: getattr(lower, name) for name in unknown if name not in but})


@cache
def _defaults(kind: type[msgspec.Struct]) -> list[tuple[str, object]]:
    return [
        (field.name, field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
        for field in msgspec.structs.fields(kind)
        if not field.required
    ]


def _redactions(lower: CallRecord, merged: CallRecord) -> list[Redaction]:
    """Return the redactions of both versions; the merge drops the lower version's error, with its redaction."""
    lower_redactions = [redaction for redaction in lower.redactions if redaction.what != "error"]
    return [*lower_redactions, *(redaction for redaction in merged.redactions if redaction not in lower_redactions)]


def _cost(higher: CallRecord, lower: CallRecord) -> Cost | None:
    if higher.usage is None or higher.usage == lower.usage:
        return higher.cost if higher.cost is not None else lower.cost
    return higher.cost


def _response(newer: Response | None, older: Response | None) -> Response | None:
    """Return the newer response, with the body of the older one if the newer has none."""
    if newer is None or older is None or newer.body is not NO_BODY or older.body is NO_BODY:
        return newer or older
    return replace(newer, body=older.body, body_bytes=older.body_bytes)


def _timing(lower: CallRecord, higher: CallRecord) -> Timing:
    """Return when the call's own request, which has a process id, began, until the end of the higher version."""
    start, end = lower.timing, higher.timing
    if higher.pid is not None or lower.pid is None:
        return end
    if end.duration_ns is None:  # providers do not state how long a batch line took
        return start
    # The provider's clock differs from ours and has a resolution of one second.
    measured_ns = max(start.headers_ns or 0, start.last_chunk_ns or 0)
    return replace(start, duration_ns=max(end.start_ns + end.duration_ns - start.start_ns, measured_ns))
