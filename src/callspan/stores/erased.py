"""Erased: a store remembers a hash of each id that was erased from it, so that no late delivery brings it back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

from callspan.record.call import CallRecord
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import SCOPE_TYPES, Record, RewardRecord
from callspan.stores.base import DeletionScope, session_of

_NAMED: Final = re.compile(rb'"(?:call|session|timestep|event)_id\\*":\s*\\*"([^"\\]+)')
_BYTES: Final = 16
_CALL: Final = "call"
_SESSION: Final = "session"
TARGET: Final = "target"
"""A timestep or event, which a reward may name without its session."""


def digests(scope: DeletionScope) -> list[bytes]:
    """Return what a store is to remember of a deletion, sorted; nothing of one by age."""
    kinds = ((_SESSION, scope.sessions), (_CALL, scope.calls))
    return sorted(digest_of_id(kind, one) for kind, ids in kinds for one in ids)


def digests_of(record: Record) -> list[bytes]:
    """Return what a store may remember of a record's call and session."""
    ids = ((_CALL, getattr(record, "call_id", None)), (_SESSION, session_of(record)))
    return [digest_of_id(kind, one) for kind, one in ids if one is not None] + _targets(record)


def is_erased(record: Record, erased_ns: Callable[[bytes], int | None]) -> bool:
    """Return whether a record was erased: its call was, or its session after it had happened.

    `erased_ns` returns when an id was erased, Unix time; None if it was not. A session may go on after that, but is not
    stored itself, nor a reward for it as a whole.
    """
    call_id = getattr(record, "call_id", None)
    if call_id is not None and erased_ns(digest_of_id(_CALL, call_id)) is not None:
        return True
    if any(erased_ns(target) is not None for target in _targets(record)):
        return True
    session_id = session_of(record)
    gone_ns = None if session_id is None else erased_ns(digest_of_id(_SESSION, session_id))
    return gone_ns is not None and (_is_of_session(record) or happened_ns(record) < gone_ns)


def _targets(record: Record) -> list[bytes]:
    ids = (record.timestep_id, record.event_id) if isinstance(record, RewardRecord) else ()
    return [digest_of_id(TARGET, one) for one in ids if one is not None]


def _is_of_session(record: Record) -> bool:
    """Return whether it is a reward for the session as a whole."""
    return isinstance(record, RewardRecord) and record.scope == "session"


def names(payload: bytes, scope: DeletionScope) -> bool:
    """Return whether JSON of a record is of one of the sessions or calls; of what is damaged, whether it names one."""
    try:
        return scope.covers(decode(payload))
    except NO_RECORD:
        found = {match.decode(errors="replace") for match in _NAMED.findall(payload)}
        return not all(map(found.isdisjoint, (scope.sessions, scope.calls)))


def happened_ns(record: Record) -> int:
    """Return when a record's call, session or event began, Unix time; 0 if unknown."""
    if isinstance(record, CallRecord):
        return record.timing.start_ns
    if isinstance(record, SCOPE_TYPES):
        return record.seen_ns if record.start_ns is None else record.start_ns
    return record.time_ns or 0


def digest_of_id(kind: str, ident: str) -> bytes:
    """Return what a store remembers of an erased id of a `session`, a `call` or a `target`."""
    return hashlib.sha256(f"{kind} {ident}".encode(errors="surrogatepass")).digest()[:_BYTES]
