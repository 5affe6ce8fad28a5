"""Erasing: deletes selected records from SQLite, Postgres and the spool, and returns a receipt."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from callspan.conversion import converter
from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record, record_key
from callspan.record.plain_json import clean
from callspan.safe_urls import error_text
from callspan.settings import SettingError
from callspan.spool import erasing as spool_erasing
from callspan.spool.directory import foreign_segments_in
from callspan.stores.base import CallIds, DeletionResult, DeletionScope, EmptyStoreError, RecordCounts, StoreError
from callspan.stores.clickhouse import ClickHouse
from callspan.stores.columns import TABLES
from callspan.stores.erased import names
from callspan.stores.filters import CallFilter
from callspan.stores.jsonl import JsonLines
from callspan.stores.protocol import SqlStore, Store
from callspan.stores.reader import Reader
from callspan.stores.scratch import scratch_reader
from callspan.stores.spools import directories_for
from callspan.stores.sqlite import SQLite
from callspan.stores.urls import driver_errors, find_store, split_urls

_EVERY: Final = CallFilter()
_convert_filter: Final = converter(CallFilter)
_NO_CONDITIONS: Final = {name: getattr(_EVERY, name) for name in ("limit", "offset", "newest_first", "content", "sort")}
"""The fields of a filter that are not conditions."""
_SESSION_CONDITIONS: Final = dict.fromkeys(("user", "name", "group", "task", "experiment", "since_ns", "until_ns"))
SPOOL: Final = "spool"
"""The name of undelivered records in a receipt."""
_BY_HAND: Final = "load it with `callspan import`, delete there, and delete this file"


class ErasureCounts(RecordCounts, frozen=True, kw_only=True):
    """The numbers of records erased from one store, or in a dry run of those that would be."""

    store: str
    """The store's name; `spool` for undelivered records."""
    left: str | None = None
    """Why records remain, if any do."""
    copies: bool = False
    """Whether used pages of its file may still contain copies of deleted bytes, until the file is rewritten."""

    @property
    def total(self) -> int:
        """The number of records."""
        return sum(int(getattr(self, name)) for name in RecordCounts.__struct_fields__)


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `erase`."""

    dry_run: bool
    erased_ns: int
    stores: list[ErasureCounts]
    """SQLite and Postgres stores in the given order, then the spool."""
    by_hand: dict[str, list[str]]
    """Instructions for other stores, by name: the SQL for ClickHouse; empty if nothing can be deleted there."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains in SQLite, Postgres and the spool."""
        return all(one.left is None for one in self.stores)


class _Selection(NamedTuple):
    """The records to erase."""

    scope: DeletionScope
    failures: Mapping[SqlStore | _SpoolRecords, str]
    """The errors of stores that could not be read."""


def erase(
    stores: str | Path | Iterable[str | Path],
    which: CallFilter = _EVERY,
    *,
    sessions: str | Collection[str] | None = None,
    calls: str | Collection[str] | None = None,
    older_than_ns: int | None = None,
    dry_run: bool = False,
    vacuum: bool = False,
) -> Receipt:
    """Delete records from SQLite and Postgres stores, and undelivered records of all named stores from their spools.

    A session that matches the filter is deleted with all its records, a matching call by itself. If the filter has a
    condition on calls (a model, an error, a text), only calls are deleted. If its only condition is a user, events,
    tools, messages and rewards with that user in their own metadata are deleted too. Records of deleted sessions and
    calls that started earlier and arrive later are not stored.

    Args:
        stores: URLs or paths of stores.
        which: The filter; its limit, offset and order are ignored.
        sessions: Only these sessions, by full id; by default any.
        calls: Only these calls, by full id; by default any.
        older_than_ns: Instead of all other conditions: sessions that ended before this Unix time, and records outside
            sessions from before it. Late records of them are stored again.
        dry_run: Delete nothing, but return the receipt.
        vacuum: Rewrite SQLite files, so that they contain no deleted bytes; without it, used pages may still contain
            copies. It needs as much free space as the file has, and writers wait meanwhile.

    Raises:
        SettingError: A URL is invalid, a filter needs a SQLite or Postgres store, or nothing selects records (an empty
            list, for example).

    Example:
        >>> handle = callspan.instrument(stores="callspan.db")
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], user="u1")
        >>> handle.force_flush()
        True
        >>> from callspan.stores import CallFilter
        >>> receipt = callspan.erase("callspan.db", CallFilter(user="u1"))
        >>> (receipt.stores[0].calls, receipt.is_complete)
        (1, True)
    """
    which = _checked(which)
    if which.session_id is not None and sessions is None:
        which, sessions = msgspec.structs.replace(which, session_id=None), which.session_id
    some = _ids(sessions), _ids(calls)
    _require_one_selection(which, some, older_than_ns)
    urls = split_urls(stores)
    found = list(map(find_store, urls))
    sql_stores, spool = _sql_stores(found, which), _SpoolRecords(urls)
    if older_than_ns is not None:
        selected = _Selection(DeletionScope(older_than_ns=older_than_ns, erased_ns=time.time_ns()), {})
    else:
        selected = _select([spool, *sql_stores], which, some)
    erased = [_attempt(one, selected, dry_run=dry_run, vacuum=vacuum) for one in sql_stores]
    erased.append(_attempt(spool, selected, dry_run=dry_run))
    by_hand = {store.name: _by_hand(store, selected.scope) for store in found if not isinstance(store, SqlStore)}
    return Receipt(dry_run=dry_run, erased_ns=selected.scope.erased_ns, stores=erased, by_hand=by_hand)


def _checked(which: CallFilter) -> CallFilter:
    """Return the filter with its conditions only. Empty texts are no condition."""
    try:
        which = _convert_filter(msgspec.to_builtins(which))
    except msgspec.ValidationError as error:
        raise SettingError(f"erase: the filter is invalid: {error}") from None
    texts = {"text": which.text or None, "error_text": which.error_text or None}
    texts["user"] = None if which.user is None else clean(which.user)
    return msgspec.structs.replace(which, **texts, **_NO_CONDITIONS)


def _require_one_selection(
    which: CallFilter, some: tuple[frozenset[str] | None, ...], older_than_ns: int | None
) -> None:
    """Raise SettingError if nothing selects records, or an age is combined with other conditions."""
    is_all = which == _EVERY and some == (None, None)
    if frozenset() in some or (is_all and older_than_ns is None):
        raise SettingError("erase: nothing is selected; name sessions, calls or a filter")
    if older_than_ns is not None and not is_all:
        raise SettingError("erase: older_than_ns cannot be combined with other conditions; use until_ns of the filter")


def _sql_stores(found: Iterable[Store], which: CallFilter) -> list[SqlStore]:
    """Return the SQLite and Postgres stores. Raises SettingError if a filter needs one and there is none."""
    sql_stores = [store for store in found if isinstance(store, SqlStore)]
    if not sql_stores and which != _EVERY:
        others = ", ".join(one.name for one in found)
        raise SettingError(f"a filter needs a SQLite or Postgres store, not {others}: name ids instead")
    return sql_stores


def _ids(given: str | Collection[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(map(clean, [given] if isinstance(given, str) else given))


def whole_ids(
    stores: str | Path | Iterable[str | Path], sessions: Collection[str], calls: Collection[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the full ids of sessions and calls given by unique prefixes, if one of the stores knows them.

    Raises KeyError of (`session` or `call`, id) for an unknown or ambiguous id, StoreError for an unknown id if a store
    could not be read, SettingError for an invalid URL.
    """
    urls = split_urls(stores)
    sql_stores = [store for store in map(find_store, urls) if isinstance(store, SqlStore)]
    if not sql_stores:
        return frozenset(sessions), frozenset(calls)
    with ExitStack() as opened:
        readers = _Readers([_SpoolRecords(urls), *sql_stores], opened)
        return (
            frozenset(_whole(readers, "session", ident, _session_id) for ident in sessions),
            frozenset(_whole(readers, "call", ident, _call_id) for ident in calls),
        )


def _whole(
    readers: _Readers, kind: Literal["session", "call"], ident: str, find: Callable[[Reader, str], list[str]]
) -> str:
    if not ident:
        raise KeyError(kind, ident)
    known = readers.each(lambda reader: find(reader, ident))
    # An id that is known in full may also be a prefix of another one.
    if ident in known or readers.each(lambda reader: [ident] * reader.is_erased(kind, ident)):
        return ident
    if not known and readers.failures:
        raise StoreError("; ".join(readers.failures.values()))
    if len(known) != 1:
        raise KeyError(kind, ident)
    return known.pop()


def _session_id(reader: Reader, ident: str) -> list[str]:
    found = reader.session(ident)
    return [] if found is None else [found.session.session_id]


def _call_id(reader: Reader, ident: str) -> list[str]:
    found = reader.call(ident)
    # A trace may have several calls.
    return [] if found is None or (found.trace_id == ident and found.call_id != ident) else [found.call_id]


class _SpoolRecords:
    """The undelivered records of stores."""

    name = SPOOL

    def __init__(self, urls: Sequence[str]) -> None:
        self._directories = [*dict.fromkeys(directory for url in urls for directory in directories_for(url))]

    def records(self) -> Iterator[Record]:
        """Yield the records, including delivered ones that are still on disk."""
        for directory in self._directories:
            for payload in spool_erasing.payloads_in(directory):
                with suppress(*NO_RECORD):
                    yield decode(payload)

    def remove(self, scope: DeletionScope, *, dry_run: bool = False, vacuum: bool = False) -> DeletionResult:
        """Erase the records of a scope, except by age: those are delivered, and deleted later."""
        del vacuum
        if scope.older_than_ns is not None:
            return DeletionResult()
        keys = Counter({record_key(record): 1 for record in self.records() if scope.covers(record)})
        kinds = Counter(kind for kind, _ in keys)
        numbers: dict[str, Any] = {table.name: kinds[kind] for kind, table in TABLES.items()}
        for directory in () if dry_run else self._directories:
            spool_erasing.erase(directory, lambda payload: names(payload, scope))
        foreign = [path for directory in self._directories for path in foreign_segments_in(directory)]
        left = f"files of another version were not searched: {', '.join(map(str, foreign))}" if foreign else None
        return DeletionResult(**numbers, left=left)


class _Readers:
    """The readers of several stores. Errors are collected in `failures`."""

    def __init__(self, stores: Iterable[SqlStore | _SpoolRecords], opened: ExitStack) -> None:
        """The readers are closed with `opened`."""
        self.failures: dict[SqlStore | _SpoolRecords, str] = {}
        self._open: dict[SqlStore | _SpoolRecords, Reader] = {}
        for store in stores:
            with self._noting(store):
                if isinstance(store, SqlStore):
                    self._open[store] = opened.enter_context(closing(store.reader()))
                else:
                    self._open[store] = opened.enter_context(scratch_reader(store.records()))

    def each(self, read: Callable[[Reader], Iterable[str]]) -> set[str]:
        """Return the results of all readers."""
        found = set[str]()
        for store, reader in self._open.items():
            with self._noting(store):
                found.update(read(reader))
        return found

    @contextmanager
    def _noting(self, store: SqlStore | _SpoolRecords) -> Iterator[None]:
        try:
            yield
        except EmptyStoreError:
            return  # an empty store has no records
        except _errors() as error:
            self.failures[store] = error_text(error)


def _select(
    stores: Iterable[SqlStore | _SpoolRecords], which: CallFilter, some: Sequence[frozenset[str] | None]
) -> _Selection:
    """Return the selected records. The spool comes first: records delivered meanwhile are then found in their store."""
    sessions, calls = (one or frozenset() for one in some)
    of_sessions = not calls and _selects_sessions(which)
    with ExitStack() as opened:
        readers = _Readers(stores, opened)
        if which == _EVERY and not (sessions and calls):
            whole, single = {*sessions}, {*calls}
        else:
            single = readers.each(lambda reader: _calls_in(reader, which, sessions, calls))
            whole = readers.each(lambda reader: reader.session_ids(which)) if of_sessions else set()
            whole = whole & sessions if sessions else whole
        if of_sessions and which != _EVERY and (which.since_ns, which.until_ns) == (None, None):
            whole |= _all_selected(readers, which, single)
        single |= readers.each(lambda reader: (one.call_id for one in reader.ids_in(whole)))
        user = which.user if which == CallFilter(user=which.user) and not (sessions or calls) else None
        scope = DeletionScope(frozenset(whole), frozenset(single), user, erased_ns=time.time_ns())
        return _Selection(scope, readers.failures)


def _all_selected(readers: _Readers, which: CallFilter, selected: set[str]) -> set[str]:
    """Return the sessions of the matching calls that have no others."""
    known = len(readers.failures)
    touched = readers.each(lambda reader: _sessions_of(reader.ids(which)))
    mixed = readers.each(
        lambda reader: _sessions_of(one for one in reader.ids_in(touched) if one.call_id not in selected)
    )
    # If a store failed just now, the other calls of its sessions are unknown.
    return touched - mixed if len(readers.failures) == known else set()


def _sessions_of(calls: Iterable[CallIds]) -> set[str]:
    return {one.session_id for one in calls if one.session_id is not None}


def _selects_sessions(which: CallFilter) -> bool:
    """Return whether the filter has only conditions that apply to sessions: labels and times."""
    return msgspec.structs.replace(which, **_SESSION_CONDITIONS, metadata=()) == _EVERY


def _calls_in(reader: Reader, which: CallFilter, sessions: frozenset[str], calls: frozenset[str]) -> set[str]:
    found = {one.call_id for one in reader.ids(which) if not sessions or one.session_id in sessions}
    return found & calls if calls else found


def _errors() -> tuple[type[Exception], ...]:
    return (StoreError, OSError, *driver_errors())


def _attempt(
    store: SqlStore | _SpoolRecords, selected: _Selection, *, dry_run: bool, vacuum: bool = False
) -> ErasureCounts:
    """Erase the selected records from a store, or count them."""
    left = [] if store not in selected.failures else [selected.failures[store]]
    try:
        removed = store.remove(selected.scope, dry_run=dry_run, vacuum=vacuum)
    except EmptyStoreError:
        return ErasureCounts(store=store.name)
    except _errors() as error:
        return ErasureCounts(store=store.name, left=error_text(error))
    left += [] if removed.left is None else [removed.left]
    counts: dict[str, Any] = {name: getattr(removed, name) for name in RecordCounts.__struct_fields__}
    copies = isinstance(store, SQLite) and any(counts.values()) and not (vacuum or dry_run)
    return ErasureCounts(store=store.name, **counts, left="; ".join(left) or None, copies=copies)


def _by_hand(store: Store, scope: DeletionScope) -> list[str]:
    """Return the instructions for a store that callspan only writes."""
    if isinstance(store, ClickHouse):
        return store.deletion(scope)
    return [_BY_HAND] if isinstance(store, JsonLines) else []
