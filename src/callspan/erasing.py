"""Erasing: deletes selected records from SQLite, Postgres, ClickHouse and the spool, and returns a receipt."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from callspan.delivery import leftovers
from callspan.delivery.waiting_erasure import WaitingErasure
from callspan.receive import body_files
from callspan.record.events import RECORD_TYPES, Record
from callspan.record.labels import TENANT_KEYS, USER
from callspan.record.plain_json import clean
from callspan.runtime.conversion import converter
from callspan.runtime.safe_urls import error_text
from callspan.settings import SettingError
from callspan.spool import directory as spool_files
from callspan.stores.base import DeletionScope, EmptyStoreError, StoreError
from callspan.stores.protocol import ReadableStore
from callspan.stores.query.filters import SESSION_CONDITIONS, CallFilter
from callspan.stores.query.reader import Reader
from callspan.stores.spools import directories_for, findings_for
from callspan.stores.sqlite import SQLite
from callspan.stores.tables.facts import TABLES
from callspan.stores.urls import driver_errors, find_store, readable, split_urls

_EVERY: Final = CallFilter()
_convert_filter: Final = converter(CallFilter)
_NO_CONDITIONS: Final = {name: getattr(_EVERY, name) for name in ("limit", "offset", "newest_first", "content", "sort")}
"""The fields of a filter that are not conditions."""
_NO_SESSION_CONDITIONS: Final = dict.fromkeys((*SESSION_CONDITIONS, "since_ns", "until_ns"))
SPOOL: Final = "spool"
"""The name of undelivered records in a receipt."""


class ErasureCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of records erased from one store, or that a dry run would erase."""

    sessions: int = 0
    calls: int = 0
    timesteps: int = 0
    events: int = 0
    messages: int = 0
    rewards: int = 0
    store: str
    """The store's name, or `spool`."""
    left: str | None = None
    """The reason why records remain, if any do; or that the store does not exist yet."""
    copies: bool = False
    """Whether pages of its file may contain copies of deleted bytes until the file is rewritten."""

    @property
    def total(self) -> int:
        """The number of records."""
        return sum(int(getattr(self, table.name)) for table in TABLES.values())


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `erase`."""

    dry_run: bool
    erased_ns: int
    stores: list[ErasureCounts]
    """SQLite, Postgres and ClickHouse stores in the given order, then the spool if something remains there."""
    by_hand: dict[str, list[str]]
    """Instructions for other stores, by name; empty if nothing can be deleted there."""

    @property
    def is_complete(self) -> bool:
        """Whether every SQLite, Postgres and ClickHouse store is there, and nothing remains in them and the spool."""
        return all(counts.left is None for counts in self.stores)


def erase(
    stores: str | Path | Iterable[str | Path],
    selection: CallFilter = _EVERY,
    *,
    sessions: str | Collection[str] | None = None,
    calls: str | Collection[str] | None = None,
    older_than_ns: int | None = None,
    dry_run: bool = False,
    vacuum: bool = False,
) -> Receipt:
    """Delete records from SQLite, Postgres and ClickHouse, after delivering what waits, also in running processes.

    Only the newest version of a record decides: a session that names another user by now stays, without this name.
    So does a session in which another user's, or tenant's, records are; of it only what names this one is deleted.
    A session that matches the filter is deleted with all its records, a matching call by itself. If the filter has a
    condition on calls (a model, an error, a text), only calls are deleted. If its only condition is a user, timesteps,
    events, messages and rewards with that user in their own metadata are deleted too. Earlier records of the sessions,
    calls and user that wait for any of the stores are overwritten, and not stored if they arrive later. Bodies that
    agents of ended processes left beside the spool are deleted.

    Args:
        stores: URLs or paths of stores.
        selection: The filter; its limit, offset and order are ignored.
        sessions: Only these sessions, by full id; by default any.
        calls: Only these calls, by full id; by default any.
        older_than_ns: Instead of all other conditions: sessions that ended before this Unix time, and records outside
            sessions from before it. Late records of them are stored again.
        dry_run: Delete nothing, but return the receipt.
        vacuum: Rewrite SQLite files, so that they contain no deleted bytes; without it, used pages may still contain
            copies. It needs as much free space as the file has, and writers wait meanwhile.

    Raises:
        SettingError: A URL is invalid, a filter needs a store that is read, or nothing selects records (an empty list,
            for example).

    Example:
        >>> handle = callspan.instrument(stores="callspan.db")
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], user="u1")
        >>> handle.force_flush()
        True
        >>> from callspan.stores import CallFilter
        >>> receipt = callspan.erase("callspan.db", CallFilter(user_id="u1"))
        >>> (receipt.stores[0].calls, receipt.is_complete)
        (1, True)
    """
    selection = _checked(selection)
    if selection.session_id is not None and sessions is None:
        selection, sessions = msgspec.structs.replace(selection, session_id=None), selection.session_id
    named_ids = _ids(sessions), _ids(calls)
    _require_one_selection(selection, named_ids, older_than_ns)
    return _erased(split_urls(stores), selection, named_ids, older_than_ns, dry_run=dry_run, vacuum=vacuum)


def _erased(
    urls: Sequence[str],
    selection: CallFilter,
    named_ids: tuple[frozenset[str] | None, ...],
    older_than_ns: int | None,
    *,
    dry_run: bool,
    vacuum: bool,
) -> Receipt:
    """Delete what is selected from the spool and each store, as far as what decides can be read."""
    deleting, user = _deleting_stores(urls, selection), _only_user(selection, named_ids)
    failures = {store: error for url, store in deleting.items() if (error := _delivery_error(url, urls)) is not None}
    # The newest version of a record, which decides, may be one that no store has yet. Without it, only ids say what to
    # delete.
    ends, unsearched = _waiting(urls)
    failures |= {store: error for url, store in deleting.items() if (error := _storing_error(url, ends)) is not None}
    is_named = selection == _EVERY and older_than_ns is None
    if failures and not is_named:
        ends = {}
    if older_than_ns is not None:
        scope, unsearched = DeletionScope(older_than_ns=older_than_ns, erased_ns=time.time_ns()), None
    else:
        scope = _select(deleting.values(), selection, named_ids, failures, user)
        scope, error = _without_waiting(ends, scope, deleting.values(), dry_run=dry_run)
        unsearched = error or unsearched
    # A store decides in the transaction of the deletion what is the user's: another process may just deliver.
    removed = scope if user is None else DeletionScope(user=user, erased_ns=scope.erased_ns)
    erased = [
        _attempt(store, removed, failures.get(store), dry_run=dry_run, vacuum=vacuum)
        if is_named or store not in failures
        else ErasureCounts(store=store.name, left=failures[store])
        for store in deleting.values()
    ]
    if unsearched is not None:
        erased.append(ErasureCounts(store=SPOOL, left=unsearched))
    other_stores = [find_store(url) for url in urls if url not in deleting]
    by_hand = {store.name: store.deletion(scope) for store in other_stores}
    return Receipt(dry_run=dry_run, erased_ns=scope.erased_ns, stores=erased, by_hand=by_hand)


def _checked(selection: CallFilter) -> CallFilter:
    """Return only the conditions of a filter. Empty texts are no conditions."""
    try:
        selection = _convert_filter(msgspec.to_builtins(selection))
    except msgspec.ValidationError as error:
        raise SettingError(f"erase: the filter is invalid: {error}") from None
    texts = {"text": selection.text or None, "error_text": selection.error_text or None}
    texts["user_id"] = None if selection.user_id is None else clean(selection.user_id)
    if selection.min_score is None and selection.label is None:
        # Objectives alone select nothing.
        selection = msgspec.structs.replace(selection, objectives=())
    return msgspec.structs.replace(selection, **texts, **_NO_CONDITIONS)


def _require_one_selection(
    selection: CallFilter, named_ids: tuple[frozenset[str] | None, ...], older_than_ns: int | None
) -> None:
    """Raise SettingError if nothing is selected, or an age is combined with other conditions."""
    is_all = selection == _EVERY and named_ids == (None, None)
    if frozenset() in named_ids or (is_all and older_than_ns is None):
        raise SettingError("erase: nothing is selected; name sessions, calls or a filter")
    if older_than_ns is not None and not is_all:
        raise SettingError("erase: older_than_ns cannot be combined with other conditions; use until_ns of the filter")


def _deleting_stores(urls: Sequence[str], selection: CallFilter) -> dict[str, ReadableStore]:
    """Return the stores that are read, by URL. Raises SettingError if a filter needs one and no store is one."""
    stores = readable(urls)
    if not stores and selection != _EVERY:
        names = ", ".join(find_store(url).name for url in urls)
        raise SettingError(f"a filter needs a SQLite, Postgres or ClickHouse store, not {names}: name ids instead")
    return stores


def _delivery_error(url: str, other_urls: Sequence[str]) -> str | None:
    """Deliver to a store the records that ended processes left; return the error if that fails."""
    try:
        return leftovers.deliver(url, other_urls=other_urls).error
    except _errors() as error:
        return error_text(error)


def _ids(argument: str | Collection[str] | None) -> frozenset[str] | None:
    return None if argument is None else frozenset(map(clean, [argument] if isinstance(argument, str) else argument))


def _storing_error(url: str, ends: Mapping[Path, int]) -> str | None:
    """Store what running processes have not delivered yet; return the error if that fails."""
    try:
        return leftovers.store_waiting(url, ends)
    except _errors() as error:
        return error_text(error)


def _waiting(urls: Sequence[str]) -> tuple[dict[Path, int], str | None]:
    """Return the files of records that wait for stores, with their sizes, and what cannot be searched, if anything."""
    directories = dict.fromkeys(directory for url in urls for directory in directories_for(url, urls))
    try:
        ends = spool_files.ends_in(directories)
    except OSError as error:
        return {}, error_text(error)
    unread = [str(finding) for finding in findings_for(urls) if finding.holds_records]
    return ends, f"not searched: {'; '.join(unread)}" if unread else None


def _without_waiting(
    ends: Mapping[Path, int], scope: DeletionScope, stores: Collection[ReadableStore], *, dry_run: bool
) -> tuple[DeletionScope, str | None]:
    """Overwrite the waiting records of a scope; return it with their sessions and calls, and why some remain, if any.

    If a store cannot be read, all remain: their newest versions may be there.
    """
    try:
        erasure = WaitingErasure(ends, scope, partial(_stored, stores))
        if not dry_run:
            erasure.run()
            for root in {path.parent.parent for path in ends}:
                body_files.erase(root, erasure.erases)
    except _errors() as error:
        return scope, error_text(error)
    return erasure.scope, None


def _stored(stores: Iterable[ReadableStore], kind: str, ids: Collection[str]) -> Iterator[Record]:
    """Yield the records of a kind with these ids from all stores."""
    for store in stores:
        with suppress(EmptyStoreError), closing(store.reader()) as reader:
            yield from reader.stored(RECORD_TYPES[kind], [*ids])


def _select(
    stores: Collection[ReadableStore],
    selection: CallFilter,
    named_ids: Sequence[frozenset[str] | None],
    failures: dict[ReadableStore, str],
    user: str | None,
) -> DeletionScope:
    """Return the records to erase; add the errors of unreadable stores to `failures`. `user`: the only condition."""
    sessions, calls = (ids or frozenset() for ids in named_ids)
    with ExitStack() as opened:
        readers = {}
        for store in stores:
            try:
                readers[store] = opened.enter_context(closing(store.reader()))
            except _errors() as error:
                failures[store] = error_text(error)
        if selection == _EVERY and not (sessions and calls):
            session_ids, call_ids = {*sessions}, {*calls}
        else:
            call_ids = _in_each(readers, lambda reader: _calls_in(reader, selection, sessions, calls), failures)
            session_ids = set()
            if user is not None:
                session_ids = _in_each(readers, lambda reader: reader.owned(USER, user)[0], failures)
            elif not calls and _selects_sessions(selection):
                session_ids = _in_each(readers, lambda reader: _sessions_in(reader, selection), failures)
            session_ids = session_ids & sessions if sessions else session_ids
        call_ids |= _in_each(readers, lambda reader: (call.call_id for call in reader.ids_in(session_ids)), failures)
    return DeletionScope(session_ids, call_ids, user=user, erased_ns=time.time_ns())


def _only_user(selection: CallFilter, named_ids: Iterable[frozenset[str] | None]) -> str | None:
    """Return the user, if that is the only condition."""
    return selection.user_id if selection == CallFilter(user_id=selection.user_id) and not any(named_ids) else None


def _in_each(
    readers: Mapping[ReadableStore, Reader],
    read_ids: Callable[[Reader], Iterable[str]],
    failures: dict[ReadableStore, str],
) -> set[str]:
    """Return the results from all stores."""
    ids = set[str]()
    for store, reader in readers.items():
        try:
            ids.update(read_ids(reader))
        except _errors() as error:
            failures[store] = error_text(error)
    return ids


def _selects_sessions(selection: CallFilter) -> bool:
    """Return whether the filter has only conditions on sessions: labels, ends and times."""
    return msgspec.structs.replace(selection, **_NO_SESSION_CONDITIONS, metadata=()) == _EVERY


def _owners(selection: CallFilter) -> Iterator[tuple[str, str]]:
    """Yield the users and tenants of a filter, with their metadata keys."""
    if selection.user_id is not None:
        yield USER, selection.user_id
    yield from ((key, owner) for key, owner in selection.metadata if key in TENANT_KEYS)


def _sessions_in(reader: Reader, selection: CallFilter) -> set[str]:
    """Return the selected sessions; one with records of another user or tenant is not erased as a whole."""
    return {*reader.session_ids(selection)}.intersection(*(reader.owned(*owner)[0] for owner in _owners(selection)))


def _calls_in(reader: Reader, selection: CallFilter, sessions: frozenset[str], calls: frozenset[str]) -> set[str]:
    selected = [call for call in reader.ids(selection) if not sessions or call.session_id in sessions]
    for owner in _owners(selection):
        # A call that names nobody is of the owner of its session, unless others have records there.
        of_sessions, of_calls = reader.owned(*owner)
        selected = [call for call in selected if call.call_id in of_calls or call.session_id in of_sessions]
    selected_ids = {call.call_id for call in selected}
    return selected_ids & calls if calls else selected_ids


def _errors() -> tuple[type[Exception], ...]:
    return (StoreError, OSError, *driver_errors())


def _attempt(
    store: ReadableStore, scope: DeletionScope, failure: str | None, *, dry_run: bool, vacuum: bool
) -> ErasureCounts:
    """Erase the records of a scope from a store, or count them."""
    try:
        counts, busy_reason = store.remove(scope, dry_run=dry_run, vacuum=vacuum)
    except _errors() as error:
        return ErasureCounts(store=store.name, left=error_text(error))
    reasons = "; ".join(reason for reason in (failure, busy_reason) if reason is not None)
    copies = isinstance(store, SQLite) and any(counts.values()) and not (vacuum or dry_run)
    return ErasureCounts(store=store.name, **counts, left=reasons or None, copies=copies)
