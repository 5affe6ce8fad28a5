"""Waiting erasure: what a deletion does to the records of the spool.

The segments of running processes also have the earlier versions of records that stores have. The newest version of a
record decides whether it is deleted, with all its versions; one that stays keeps them, without the name of the user.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from msgspec.structs import replace

from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import NO_RECORD, decode, encode
from callspan.record.events import Record, record_key
from callspan.spool import directory as spool_files
from callspan.stores.base import DeletionScope
from callspan.stores.owners import newest, without_users
from callspan.stores.tables.erased import names_scope

Stored: TypeAlias = Callable[[str, Collection[str]], Iterable[Record]]
"""Returns the records of a kind with these ids, from all stores, without bodies."""
_VERSIONED: Final = ("session", "call", "timestep")
"""The kinds of records with several versions."""


class WaitingErasure:
    """The records that are deleted from files of the spool, up to some sizes."""

    def __init__(self, ends: Mapping[Path, int], scope: DeletionScope, stored: Stored) -> None:
        """Read them. Raises OSError, and what `stored` raises."""
        self._ends, self._stored = ends, stored
        self._staying = set[tuple[str, str]]()
        """Records that stay, although the scope covers an earlier version."""
        self.scope = self._extended(scope)
        """The scope with the waiting sessions, calls, timesteps and events that it covers, and those that these cover,
        and so on. A user's waiting session may be in no store, and what another process records in it does not name
        the user."""

    def run(self) -> None:
        """Overwrite the records. Raises OSError."""
        spool_files.rewrite(self._ends, self._changed)

    def erases(self, record: Record) -> bool:
        """Return whether a version of a record is deleted."""
        kind, ident = record_key(record)
        is_known = kind in _VERSIONED and ident in self._ids(self.scope)[kind]
        return is_known or ((kind, ident) not in self._staying and self.scope.covers(record))

    def _changed(self, payload: bytes) -> bytes:
        try:
            record = decode(payload)
        except NO_RECORD:
            return b"" if names_scope(payload, self.scope) else payload
        if self.erases(record):
            return b""
        unnamed = record if self.scope.user is None else without_users(record, [self.scope.user])
        return payload if unnamed is record else encode(unnamed)

    def _extended(self, scope: DeletionScope) -> DeletionScope:
        while True:
            sessions, calls, targets = {*scope.sessions}, {*scope.calls}, {*scope.targets}
            ids = {"session": sessions, "call": calls, "timestep": targets, "event": targets}
            for record in self._decisive_records(scope):
                kind, ident = record_key(record)
                if not scope.covers(record):
                    self._staying.add((kind, ident))
                elif kind in ids:
                    ids[kind].add(ident)
            extended = scope._replace(sessions=sessions, calls=calls, targets=targets)
            if extended == scope:
                return scope
            scope = extended

    def _decisive_records(self, scope: DeletionScope) -> Iterable[Record]:
        """Return the newest version of each record if the scope covers any waiting version of it."""
        versions, known = dict[tuple[str, str], list[Record]](), self._ids(scope)
        for record in filter(scope.covers, spool_files.records_in(self._ends)):
            kind, ident = record_key(record)
            if kind not in _VERSIONED:
                yield record
            elif ident not in known[kind]:
                versions[kind, ident] = []
        for kind in _VERSIONED:
            idents = [ident for of_kind, ident in versions if of_kind == kind]
            for record in self._stored(kind, idents) if idents else ():
                versions[record_key(record)].append(record)
        for record in spool_files.records_in(self._ends) if versions else ():
            if (key := record_key(record)) in versions:
                versions[key] = [newest([*versions[key], _without_bodies(record)])]
        yield from map(newest, filter(None, versions.values()))

    @staticmethod
    def _ids(scope: DeletionScope) -> dict[str, Collection[str]]:
        return {"session": scope.sessions, "call": scope.calls, "timestep": scope.targets}


def _without_bodies(record: Record) -> Record:
    if not isinstance(record, CallRecord):
        return record
    response = record.response and replace(record.response, body=NO_BODY)
    return replace(record, request=replace(record.request, body=NO_BODY), response=response, conversation=None)
