"""Importing: loads the records of JSON Lines, ClickHouse, Postgres and SQLite files into a readable store.

It may be repeated, even after it was killed: a store ignores versions that are not newer than its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import cast

import msgspec

from callspan.record.events import Record, record_key
from callspan.settings import SettingError
from callspan.stores.base import start_of
from callspan.stores.clickhouse import ClickHouse
from callspan.stores.jsonl import JsonLines, is_rotated
from callspan.stores.postgres import Postgres
from callspan.stores.protocol import PathStore, SqlStore, Store, deliver_all, path_of
from callspan.stores.sqlite import SQLite
from callspan.stores.sqlite.any_file import AnyFile
from callspan.stores.tables.facts import TABLES
from callspan.stores.urls import find_store


class ImportCounts(msgspec.Struct, kw_only=True):
    """The result of importing one source."""

    source: str
    """The name of the store."""
    records: dict[str, int]
    """Number of imported records by table. In JSON Lines each version counts."""
    unreadable: int = 0
    """Number of lines and rows without a valid record, and of records that the store rejected."""
    mended: int = 0
    """Number of imported lines that were read in part, because of lone surrogates or numbers without a value."""
    erased: int = 0
    """Number of records that the target refused, because they were erased there after they began."""
    bodies: int = 0
    """Number of unreadable request and response bodies in a SQLite file."""
    cut_off: list[str] = []
    """Tables of a damaged file with an unknown number of unreadable rows."""


def import_records(
    source: str | Path, into: str | Path, *, since_ns: int | None = None, damaged: bool = False
) -> ImportCounts:
    """Load the records of a store into another one and return their numbers.

    Args:
        source: The URL or path of JSON Lines, ClickHouse, Postgres or a SQLite file.
        into: The URL or path of a SQLite or Postgres store.
        since_ns: Only records that began at this Unix time or later; None: all.
        damaged: Read the intact rows of a SQLite file that is damaged.

    Raises:
        SettingError: The source cannot be imported, or the target cannot be imported into.
        StoreError: A store is unusable; a driver raises its own errors.

    Example:
        >>> handle = callspan.instrument(stores="jsonl:///calls.jsonl")
        >>> _ = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> handle.force_flush()
        True
        >>> callspan.import_records("calls.jsonl", "calls.db").records["calls"]
        1
    """
    origin, target = _origin(str(source)), find_store(str(into))
    if not isinstance(target, SqlStore):
        raise SettingError(f"{target.name} takes no imports: load into SQLite or Postgres")
    if _is_same(origin, target):
        raise SettingError(f"{origin.name} cannot be loaded into itself")
    if damaged and not isinstance(origin, SQLite):
        raise SettingError(f"{origin.name} is not a SQLite file: --damaged reads only these")
    if isinstance(origin, SQLite):
        with closing(AnyFile(origin.path, damaged=damaged)) as file:
            imported = _load(origin, file.records(), target, since_ns)
            imported.bodies, imported.cut_off = file.lost_bodies, file.cut_off
            return imported
    if not isinstance(origin, JsonLines | ClickHouse | Postgres):
        raise SettingError(f"{origin.name} cannot be loaded: name JSON Lines, ClickHouse, Postgres or a SQLite file")
    imported = _load(origin, origin.records(), target, since_ns)
    imported.mended = origin.mended if isinstance(origin, JsonLines) else 0
    return imported


def _origin(source: str) -> Store:
    if "://" not in source and is_rotated(source.strip()):
        return cast("type[PathStore]", JsonLines)(f"jsonl:///{source.strip()}", path_of(source.strip()))
    return find_store(source)


def _is_same(source: Store, target: Store) -> bool:
    if source.path is not None and target.path is not None:
        return source.path.resolve() == target.path.resolve()
    return source.identity == target.identity


def _load(origin: Store, records: Iterable[Record | None], target: SqlStore, since_ns: int | None) -> ImportCounts:
    counts = Counter[str]()

    def selected_records() -> Iterator[Record]:
        for record in records:
            if record is None:
                counts["unreadable"] += 1
            elif since_ns is None or start_of(record) >= since_ns:
                counts[TABLES[record_key(record)[0]].name] += 1
                yield record

    selected = selected_records()
    # Where there is nothing to load, or it cannot be read, no store is made.
    first_record = next(selected, None)
    with closing(target.sink()) as sink:
        refused = [] if first_record is None else deliver_all(sink, chain([first_record], selected))
    missing_by_kind = sink.erased + Counter(record_key(record)[0] for record in refused)
    by_table = {table.name: counts[table.name] - missing_by_kind[kind] for kind, table in TABLES.items()}
    unreadable = counts["unreadable"] + len(refused)
    return ImportCounts(source=origin.name, records=by_table, unreadable=unreadable, erased=sink.erased.total())
