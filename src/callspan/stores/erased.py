"""Erased: hashes of erased ids, which a store remembers so that no late delivery restores their records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

import msgspec

from callspan.record.codec import NO_RECORD, decode, encode_json
from callspan.record.events import Record, RewardRecord
from callspan.record.plain_json import clean
from callspan.stores.base import DeletionScope, session_of, start_of, users_of

_NAMED: Final = re.compile(rb'"(?:call|session|timestep|event)_id":\s*"((?:[^"\\]|\\.)*)')
_BYTES: Final = 16
_CALL: Final = "call"
_SESSION: Final = "session"
_USER: Final = "user"
TARGET: Final = "target"
"""Kind of a timestep or event, which a reward may name without its session."""


def digests(scope: DeletionScope) -> list[bytes]:
    """Return the sorted hashes that a store remembers of a deletion; none for a deletion by age."""
    kinds = ((_SESSION, scope.sessions), (_CALL, scope.calls), (_USER, [] if scope.user is None else [scope.user]))
    return sorted(digest_of_id(kind, one) for kind, ids in kinds for one in ids)


def digests_of(record: Record) -> list[bytes]:
    """Return the hashes of a record's call, session, users and target."""
    ids = [(_CALL, getattr(record, "call_id", None)), (_SESSION, session_of(record))]
    ids += ((_USER, one) for one in users_of(record))
    if isinstance(record, RewardRecord):
        ids += ((TARGET, one) for one in (record.timestep_id, record.event_id))
    return [digest_of_id(kind, one) for kind, one in ids if one is not None]


def is_erased(record: Record, erased_ns: Callable[[bytes], int | None]) -> bool:
    """Return whether a record belongs to an id that was erased after the record began. Later records may reuse it.

    `erased_ns` returns the Unix time at which a hash was erased, or None.
    """
    times = (erased_ns(found) for found in digests_of(record))
    return any(gone_ns is not None and start_of(record) < gone_ns for gone_ns in times)


def is_in_scope(payload: bytes, scope: DeletionScope) -> bool:
    """Return whether a record, as JSON, is in a scope. Damaged JSON is if it contains one of the ids or the user."""
    try:
        return scope.covers(decode(payload))
    except NO_RECORD:
        text = _text_of(payload)
        found = set(map(_unescaped, _NAMED.findall(text)))
        has_user = scope.user is not None and encode_json(scope.user)[1:-1] in text
        return has_user or not all(map(found.isdisjoint, (scope.sessions, scope.calls)))


class _Rejected(msgspec.Struct):
    record: str


_rejected: Final = msgspec.json.Decoder(_Rejected).decode


def _text_of(payload: bytes) -> bytes:
    """Return the damaged record in a line of rejected records; any other payload unchanged."""
    try:
        return _rejected(payload).record.encode()
    except NO_RECORD:
        return payload


def _unescaped(text: bytes) -> str:
    try:
        return msgspec.json.decode(b'"%b"' % text, type=str)
    except NO_RECORD:
        return text.decode(errors="replace")


def digest_of_id(kind: str, ident: str) -> bytes:
    """Return the hash of an id; `kind` is `session`, `call`, `user` or `target`."""
    return hashlib.sha256(clean(f"{kind} {ident}").encode()).digest()[:_BYTES]
