"""Erased: hashes of erased ids, which a store remembers so that no late delivery restores their records."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.record.codec import NO_RECORD, encode_json
from callspan.record.events import RECORD_TYPES, Record, RewardRecord, SessionRecord, TimestepRecord, record_key
from callspan.record.labels import labels
from callspan.record.merging import Order, version_order
from callspan.record.plain_json import clean
from callspan.stores.base import DeletionScope, session_of, start_of
from callspan.stores.owners import newest, users_of, without_users

_NAMED: Final = re.compile(rb'"(?:call|session|timestep|event)_id":\s*"((?:[^"\\]|\\.)*)')
_BYTES: Final = 16
_CALL: Final = "call"
_SESSION: Final = "session"
_USER: Final = "user"
TARGET: Final = "target"
"""Kind of a timestep or event, which a reward may name without its session."""
_OWN: Final = {_CALL: _CALL, _SESSION: _SESSION, "timestep": TARGET, "event": TARGET}
"""The kind of the hash of a record, by its own kind."""
_OF_USER: Final = {kind: f"{kind}-of-user" for kind in (_SESSION, _CALL, "timestep")}
"""Kinds of the second hash of a record that was erased because its newest version named the user. Stored with it is not
a time but the order of that version: a later version may show that the record is another user's."""
_SEEN_BITS: Final = 61
_Key: TypeAlias = tuple[str, str]


def digests(scope: DeletionScope) -> list[bytes]:
    """Return the sorted hashes that a store remembers of a deletion; none for a deletion by age."""
    users = [] if scope.user is None else [scope.user]
    kinds = ((_SESSION, scope.sessions), (_CALL, scope.calls), (TARGET, scope.targets), (_USER, users))
    return sorted(digest_of_id(kind, ident) for kind, ids in kinds for ident in ids)


def digests_of(record: Record) -> list[bytes]:
    """Return every hash that decides about a record: of its call, session, users and target, and second ones."""
    own, session_id = record_key(record), session_of(record)
    others = [(_USER, user) for user in labels(record.metadata, "user_id")]
    others += [(_OF_USER[kind], ident) for kind, ident in [own] if kind in _OF_USER]
    others += [] if session_id is None else [(_OF_USER[_SESSION], session_id)]
    return [*_named(record), *(digest_of_id(kind, ident) for kind, ident in others)]


def _named(record: Record) -> list[bytes]:
    """Return the hashes of a record's call, session, users and target."""
    ids = [(_CALL, getattr(record, "call_id", None)), (_SESSION, session_of(record))]
    ids += ((_USER, user) for user in users_of(record))
    if isinstance(record, TimestepRecord | RewardRecord):
        ids.append((TARGET, record.timestep_id))
    if isinstance(record, RewardRecord):
        ids.append((TARGET, record.event_id))
    return [digest_of_id(kind, ident) for kind, ident in ids if ident is not None]


def of_user(kind: str, ident: str) -> bytes:
    """Return the second hash of a session or call that is erased for its user."""
    return digest_of_id(_OF_USER[kind], ident)


def as_number(order: Order) -> int:
    """Return the order of a version as one number of 63 bits."""
    rank, seen_ns = order
    return rank << _SEEN_BITS | max(0, min(seen_ns, (1 << _SEEN_BITS) - 1))


class Refused(NamedTuple):
    """A session, call, timestep or event that is not stored, because an erasure covers it."""

    kind: str
    ident: str
    erased_ns: int
    """Unix time of the erasure."""
    is_for_user: bool
    """Whether it was erased only for its user, or that of its session: a later version may name another one."""


class LateRecords:
    """The records of one delivery without the erased ones. Later records may reuse an id.

    A record is late if it began before an erasure of its own id, its session, its user or its target. Its newest
    version, in the store or in this delivery, decides whether it was erased. If not, its earlier versions are stored
    without the names of erased users. If it was, what is stored of it is erased too.

    A session that was erased for its user takes only what names nobody. A session that proves to be the user's, or one
    of whose calls does, is erased as a whole unless a record in it names another user.
    """

    def __init__(
        self,
        records: Sequence[Record],
        erased_ns: Mapping[bytes, int],
        stored: Callable[[str, str], Record | None],
        has_others: Callable[[str, str, _Key], bool],
    ) -> None:
        """`erased_ns` has the remembered numbers of the hashes `digests_of`; `stored` returns a record of the store.

        `has_others` returns whether a record in a session names another than this user, but for one by kind and id.
        """
        self.remembered = dict[bytes, int]()
        """New hashes to remember: of left out sessions, calls and targets. Another process may record in an erased
        user's session without naming the user."""
        self.forgotten = set[bytes]()
        """Hashes to forget: a newer version shows that the record is another user's."""
        self.refused = list[Refused]()
        """What is not stored, nor may be stored from earlier versions."""
        self._erased_ns, self._stored, self._is_shared = dict(erased_ns), stored, has_others
        self._records = records
        self.accepted = self._without_erased(records) if erased_ns else records
        """The other records, in order."""

    def _without_erased(self, records: Sequence[Record]) -> list[Record]:
        versions: defaultdict[_Key, list[Record]] = defaultdict(list)
        for record in records:
            versions[record_key(record)].append(record)
        # What belongs to others comes after them.
        kinds = list(dict.fromkeys([*_OF_USER, *RECORD_TYPES]))
        accepted = dict[int, Record]()
        for key in sorted(versions, key=lambda key: kinds.index(key[0])):
            accepted |= self._decide(key, versions[key])
        return [accepted[id(record)] for record in records if id(record) in accepted]

    def _decide(self, key: _Key, versions: Sequence[Record]) -> dict[int, Record]:
        """Return the versions of one record to store, by the identity of the given ones."""
        late = [version for version in versions if start_of(version) < self._last(self._deciding(version))]
        if not late:
            return {id(version): self._without_names(version) for version in versions}
        kind, ident = key
        self._revoke(key, late)
        record = late[0]
        if kind in _OF_USER:
            stored = self._stored(kind, ident)
            record = newest([*versions] if stored is None else [stored, *versions])
        erased_ns = self._last(self._deciding(record))
        users = self._erased_among(users_of(record), record)
        is_shared = bool(users) and self._has_others(record, users[0])
        if is_shared and kind == _SESSION and digest_of_id(_SESSION, ident) not in self._erased_ns:
            return {id(version): self._without_names(version) for version in versions}
        left_out = [version for version in versions if start_of(version) < erased_ns]
        if left_out:
            self._leave_out(key, record, left_out, erased_ns)
            session_id = session_of(record)
            if kind == _CALL and users and session_id is not None and not is_shared:
                self._leave_out_session(session_id, left_out, erased_ns)
        remaining = (version for version in versions if start_of(version) >= erased_ns)
        return {id(version): self._without_names(version) for version in remaining}

    def _deciding(self, record: Record) -> list[bytes]:
        """Return the hashes that decide whether a record was erased."""
        session_id = session_of(record)
        is_in_session = session_id is not None and not isinstance(record, SessionRecord | RewardRecord)
        if session_id is None or not is_in_session or of_user(_SESSION, session_id) not in self._erased_ns:
            return _named(record)
        of_session = digest_of_id(_SESSION, session_id)
        # It says itself whose it is.
        return [digest for digest in _named(record) if digest != of_session or not users_of(record)]

    def _has_others(self, record: Record, user: str) -> bool:
        """Return whether another record of its session names another user."""
        session_id, own = session_of(record), record_key(record)
        if session_id is None:
            return False
        of_session = (
            other for other in self._records
            if session_of(other) == session_id and record_key(other) != own and not isinstance(other, RewardRecord)
        )  # fmt: skip
        if any((users := users_of(other)) and user not in users for other in of_session):
            return True
        return self._is_shared(session_id, user, own)

    def _leave_out_session(self, session_id: str, versions: Sequence[Record], erased_ns: int) -> None:
        """Remember that a session is the user's, because one of its calls is and no record in it is another's."""
        own = digest_of_id(_SESSION, session_id)
        if own not in self._erased_ns:
            self._remember(of_user(_SESSION, session_id), as_number(max(map(version_order, versions))))
            self._remember(own, erased_ns)
            self.refused.append(Refused(_SESSION, session_id, erased_ns, is_for_user=True))

    def _last(self, hashes: Iterable[bytes]) -> int:
        """Return when the latest of these was erased; 0 if none was."""
        return max((self._erased_ns.get(digest, 0) for digest in hashes), default=0)

    def _revoke(self, key: _Key, late: Sequence[Record]) -> None:
        """Forget that a session or call was erased for its user, if a newer version names another one."""
        kind, ident = key
        erased_order = self._erased_ns.get(of_user(kind, ident)) if kind in _OF_USER else None
        naming = [version for version in late if users_of(version)]
        if erased_order is None or not naming:
            return
        version = max(naming, key=version_order)
        order = as_number(version_order(version))
        if order <= erased_order:
            return
        if self._erased_among(users_of(version), version):
            self._remember(of_user(kind, ident), order)
        else:
            self._forget(digest_of_id(_OWN[kind], ident))
            self._forget(of_user(kind, ident))

    def _leave_out(self, key: _Key, record: Record, versions: Sequence[Record], erased_ns: int) -> None:
        """Remember the id of a record that is left out, because other records may name it."""
        kind, ident = key
        if kind not in _OWN:
            return
        own = digest_of_id(_OWN[kind], ident)
        if kind in _OF_USER and own not in self._erased_ns and self._is_for_user(record):
            deciding = [version for version in versions if users_of(version)] or [record]
            self._remember(of_user(kind, ident), as_number(max(map(version_order, deciding))))
        self._remember(own, erased_ns)
        is_for_user = kind in _OF_USER and of_user(kind, ident) in self._erased_ns
        self.refused.append(Refused(kind, ident, erased_ns, is_for_user))

    def _is_for_user(self, record: Record) -> bool:
        """Return whether a record is left out only because of a user: its own or its session's."""
        session_id = session_of(record)
        if session_id is None or digest_of_id(_SESSION, session_id) not in self._erased_ns:
            return True
        return of_user(_SESSION, session_id) in self._erased_ns

    def _remember(self, digest: bytes, number: int) -> None:
        self.remembered[digest] = self._erased_ns[digest] = max(number, self._erased_ns.get(digest, 0))
        self.forgotten.discard(digest)

    def _forget(self, digest: bytes) -> None:
        if self._erased_ns.pop(digest, None) is not None:
            self.remembered.pop(digest, None)
            self.forgotten.add(digest)

    def _erased_among(self, users: Iterable[str], version: Record) -> list[str]:
        """Return the users who were erased after this version began."""
        return [user for user in users if start_of(version) < self._last([digest_of_id(_USER, user)])]

    def _without_names(self, version: Record) -> Record:
        named = {*users_of(version), *labels(version.metadata, "user_id")}
        users = self._erased_among(named, version)
        return without_users(version, users) if users else version


def names_scope(damaged: bytes, scope: DeletionScope) -> bool:
    """Return whether JSON that is no record contains an id or the user of a scope."""
    text = _text_of(damaged)
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
