"""Erased: hashes of erased ids, which a store remembers so that no late delivery restores their records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from callspan.record.codec import NO_RECORD, decode, encode_json
from callspan.record.events import Record, RewardRecord, record_key
from callspan.record.plain_json import clean
from callspan.stores.base import DeletionScope, session_of, start_of, users_of
from callspan.stores.database import Database

_NAMED: Final = re.compile(rb'"(?:call|session|timestep|event)_id":\s*"((?:[^"\\]|\\.)*)')
_BYTES: Final = 16
_CALL: Final = "call"
_SESSION: Final = "session"
_USER: Final = "user"
TARGET: Final = "target"
"""Kind of a timestep or event, which a reward may name without its session."""
_OWN: Final = {_CALL: _CALL, _SESSION: _SESSION, "timestep": TARGET, "event": TARGET}
"""The kind of the hash of a record, by its own kind."""
_REMEMBER: Final = """
INSERT INTO erased (id, time_ns) VALUES (:id, :time_ns)
  ON CONFLICT (id) DO UPDATE SET time_ns = :time_ns WHERE erased.time_ns < :time_ns"""


def digests(scope: DeletionScope) -> list[bytes]:
    """Return the sorted hashes that a store remembers of a deletion; none for a deletion by age."""
    users = [] if scope.user is None else [scope.user]
    kinds = ((_SESSION, scope.sessions), (_CALL, scope.calls), (TARGET, scope.targets), (_USER, users))
    return sorted(digest_of_id(kind, ident) for kind, ids in kinds for ident in ids)


def digests_of(record: Record) -> list[bytes]:
    """Return the hashes of a record's call, session, users and target."""
    ids = [(_CALL, getattr(record, "call_id", None)), (_SESSION, session_of(record))]
    ids += ((_USER, user) for user in users_of(record))
    if isinstance(record, RewardRecord):
        ids += ((TARGET, ident) for ident in (record.timestep_id, record.event_id))
    return [digest_of_id(kind, ident) for kind, ident in ids if ident is not None]


def without_erased(records: Iterable[Record], erased_ns: dict[bytes, int]) -> Iterator[Record]:
    """Yield the records that do not belong to an id that was erased after they began. Later records may reuse it.

    `erased_ns` has the Unix time at which each hash was erased. The hashes of the other records, such as the session of
    an erased user, are added to it, because what another process records in the session does not name the user.
    """
    for record in records:
        last_erased_ns = max((erased_ns[digest] for digest in digests_of(record) if digest in erased_ns), default=None)
        if last_erased_ns is None or start_of(record) >= last_erased_ns:
            yield record
        elif (own_digest := _own_digest(record)) is not None:
            erased_ns[own_digest] = last_erased_ns


def _own_digest(record: Record) -> bytes | None:
    """Return the hash of the id by which other records may name a record."""
    kind, ident = record_key(record)
    return digest_of_id(_OWN[kind], ident) if kind in _OWN else None


def remember(database: Database, erased_ns: Mapping[bytes, int]) -> None:
    """Store hashes of erased ids, with the Unix times of the decisions."""
    database.run_many(_REMEMBER, [{"id": digest, "time_ns": time_ns} for digest, time_ns in sorted(erased_ns.items())])


def is_in_scope(payload: bytes, scope: DeletionScope) -> bool:
    """Return whether a record, as JSON, is in a scope. Damaged JSON is if it contains one of the ids or the user."""
    try:
        return scope.covers(decode(payload))
    except NO_RECORD:
        text = _text_of(payload)
        ids = set(map(_unescaped, _NAMED.findall(text)))
        has_user = scope.user is not None and encode_json(scope.user)[1:-1] in text
        return has_user or not all(map(ids.isdisjoint, (scope.sessions, scope.calls, scope.targets)))


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
