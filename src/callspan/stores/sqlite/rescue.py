"""Rescue: copies what can still be read from a damaged SQLite file to a new one.

`python -m callspan.stores.sqlite.rescue calls.db calls-rescued.db`. The damaged file is not changed. Damaged contents
are left out: their calls then have no bodies.
"""

# ruff: noqa: S608 - only our own table and column names are put into SQL

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from callspan.fail_open import ours
from callspan.record.events import RECORD_TYPES
from callspan.stores import bodies
from callspan.stores.base import StoreError
from callspan.stores.columns import TABLES
from callspan.stores.packing import CALL_ROWS, HASH_BYTES, PACKED, packed, unpack
from callspan.stores.rows import to_tree
from callspan.stores.sqlite.file import open_for_writing, sum_up

_BY_ID: Final = ("content", "ctx", "calls")
"""Tables with row ids; contents come before the tables that refer to them."""
_CALLS: Final = "calls"
_PACKED: Final = {packed(name): name for name in PACKED}
_BY_KEY: Final = ("sessions", "timesteps", "events", "messages", "rewards", "dead_letter")
_FAREST: Final = 1 << 48
_PAGE_BYTES: Final = 512
_HEADER: Final = b"SQLite format 3\0" + _PAGE_BYTES.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
"""The first bytes of every file of callspan."""
_PAGE_SIZES: Final = frozenset(size.to_bytes(2, "big") for size in (1, *(1 << power for power in range(9, 16))))
_PAGES_AT: Final = slice(28, 32)
_TRUNK_AT: Final = 32
"""Where a file has the number of its first page that lists free pages."""
_ENCODING_AT: Final = slice(56, 60)
_CHAIN: Final = """
WITH RECURSIVE whole (id) AS (
  SELECT x.id FROM ctx x JOIN content t ON t.id = x.content WHERE x.parent = 0
  UNION SELECT x.id FROM whole w JOIN ctx x ON x.parent = w.id JOIN content t ON t.id = x.content)
SELECT id FROM whole
"""
_DROP: Final = (
    f"UPDATE call_rows SET ctx = NULL, request = NULL WHERE ctx IS NOT NULL AND ctx NOT IN ({_CHAIN})",
    *(
        f"UPDATE call_rows SET {name} = NULL WHERE {name} IS NOT NULL AND {name} NOT IN (SELECT id FROM content)"
        for name in ("request", "system", "tools", "output")
    ),
    f"DELETE FROM ctx WHERE id NOT IN ({_CHAIN})",
)
_COPY: Final = """
import shutil, sys
try:
    shutil.copyfile(sys.argv[1], sys.argv[2])
except OSError as error:
    sys.exit(str(error))
"""
_Row = Sequence[object]


def rescue(damaged: Path, rescued: Path) -> dict[str, int]:
    """Copy what can be read, and return the number of rows by table.

    Cursors are not copied, so records still in the spool are delivered again. Raises StoreError if `rescued` exists or
    nothing can be read, OSError if a file cannot be read or written.
    """
    if rescued.exists():
        raise StoreError(f"{rescued} exists; name a new file")
    try:
        counts = _rescue(damaged, rescued)
    except BaseException:
        _remove(rescued)
        raise
    if not any(counts.values()):
        _remove(rescued)
        raise StoreError(f"{damaged}: no data in it can be read; restore it from a backup, or move it away")
    return counts


def _remove(rescued: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        rescued.with_name(f"{rescued.name}{suffix}").unlink(missing_ok=True)


def _rescue(damaged: Path, rescued: Path) -> dict[str, int]:
    target = open_for_writing(rescued)
    try:
        with tempfile.TemporaryDirectory(dir=rescued.parent, prefix="callspan-rescue-") as place:
            source = _opened(_copy(damaged, Path(place)))
            try:
                with target:
                    target.execute("BEGIN IMMEDIATE")
                    counts = _copy_tables(source, target)
                    for statement in _DROP:
                        target.execute(statement)
                    sum_up(target)
            finally:
                source.close()
    finally:
        target.close()
    return counts


def _copy(damaged: Path, place: Path) -> Path:
    """Copy the file with its WAL, and give the copy a header that SQLite accepts."""
    copy = place / "damaged.db"
    for suffix in ("", "-wal"):
        found = damaged.with_name(f"{damaged.name}{suffix}")
        if found.exists() or not suffix:
            _copy_elsewhere(found, copy.with_name(f"{copy.name}{suffix}"))
    with copy.open("r+b") as file:
        header = bytearray(file.read(100).ljust(100, b"\0"))
        if (
            not header.startswith(_HEADER[:16])
            or bytes(header[16:18]) not in _PAGE_SIZES
            or header[20:24] != _HEADER[20:]
        ):
            header[: len(_HEADER)] = _HEADER
            header[_ENCODING_AT] = (1).to_bytes(4, "big")
        # 0: as many pages as the file has; a truncated file has fewer than its header says.
        header[_PAGES_AT] = bytes(4)
        file.seek(0)
        file.write(header)
    return copy


def _copy_elsewhere(source: Path, target: Path) -> None:
    """Copy a file in another process: this one may have it open by SQLite, and would lose its locks. Raises OSError."""
    command = [sys.executable, "-c", _COPY, str(source), str(target)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - a copy, no shell
    if done.returncode:
        raise OSError(done.stderr.strip())


def _opened(copy: Path) -> sqlite3.Connection:
    try:
        return _connection(copy, _check_columns)
    except ours(sqlite3.DatabaseError):
        _put_schema(copy)
        return _connection(copy)


def _check_columns(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError if a column is missing: its name in the schema is damaged."""
    for table in TABLES.values():
        there = {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))}
        if not {column.name for column in table.columns if column.path} <= there:
            raise sqlite3.DatabaseError(f"the schema of {table.name} is damaged")


def _connection(copy: Path, check: Callable[[sqlite3.Connection], object] = bool) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None)
    try:
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("SELECT * FROM sqlite_master").fetchall()
        check(connection)
    except BaseException:
        connection.close()
        raise
    connection.text_factory = _text
    return connection


def _put_schema(copy: Path) -> None:
    """Replace the schema pages by those of a new file: the root pages of the tables are the same in every file."""
    new = copy.with_name("new.db")
    connection = open_for_writing(new)
    roots = {int(row[0]) for row in connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage")}
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    data = new.read_bytes()
    others = roots | _free_pages(data)
    with copy.open("r+b") as file:
        for page in range(len(data) // _PAGE_BYTES):
            if page + 1 not in others:
                file.seek(page * _PAGE_BYTES)
                file.write(data[page * _PAGE_BYTES : (page + 1) * _PAGE_BYTES])
        file.seek(_PAGES_AT.start)
        file.write(bytes(4))


def _free_pages(data: bytes) -> set[int]:
    """Return the numbers of the pages that a file does not use; another file of the same layout may."""
    free: set[int] = set()
    trunk = _number(data, _TRUNK_AT)
    while trunk and trunk not in free:
        place = (trunk - 1) * _PAGE_BYTES
        count = _number(data, place + 4)
        free |= {trunk, *(_number(data, place + 8 + 4 * leaf) for leaf in range(count))}
        trunk = _number(data, place)
    return free


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _copy_tables(source: sqlite3.Connection, target: sqlite3.Connection) -> dict[str, int]:
    counts = {}
    for table in (*_BY_ID, *_BY_KEY):
        place = CALL_ROWS if table == _CALLS else table
        before, names = _columns(source, target, place)
        rows = (
            _by_id(source, before, [*names.values()]) if table in _BY_ID else _by_key(source, before, [*names.values()])
        )
        rows = _intact_contents(rows, [*names]) if table == "content" else _decodable(rows, [*names], table)
        insert = f"INSERT OR IGNORE INTO {place} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        counts[table] = sum(target.execute(insert, row).rowcount for row in rows) if names else 0
    return counts


def _columns(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> tuple[str, dict[str, str]]:
    """Return the table's name in the damaged file, and its columns with their names there, the key first.

    Layout 1 had calls in a table `calls`, without packed columns. No columns if the damage is too great.
    """
    ask = "SELECT name FROM pragma_table_info(?)"
    try:
        there = {row[0] for row in source.execute(ask, (table,))}
        if table == CALL_ROWS and not there:
            table, there = _CALLS, {row[0] for row in source.execute(ask, (_CALLS,))}
    except ours(sqlite3.DatabaseError):
        return table, {}
    names = [row[0] for row in target.execute(ask, (CALL_ROWS if table == _CALLS else table,))]
    before = {name: name if name in there else _PACKED.get(name, name) for name in names}
    return table, {name: known for name, known in before.items() if known in there}


def _by_id(source: sqlite3.Connection, table: str, names: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of a table with row ids, skipping damaged places."""
    sql = f"SELECT {', '.join(names)} FROM {table} WHERE id > ? ORDER BY id"
    last: int | None = 0
    while last is not None:
        last = yield from _rows_after(source, sql, last)


def _rows_after(source: sqlite3.Connection, sql: str, last: int) -> Generator[_Row, None, int | None]:
    """Yield the rows up to a damaged place, and return after which id it goes on; None at the end."""
    try:
        for row in _ascending(source.execute(sql, (last,)), last):
            last = row[0]
            yield row
    except ours(sqlite3.DatabaseError):
        return _behind(source, f"{sql} LIMIT 1", last)
    return None


def _ascending(rows: Iterable[Any], last: int) -> Iterator[Any]:
    """Yield rows while their ids ascend. Raises DatabaseError at one that does not, which only damage can cause."""
    for row in rows:
        if row[0] <= last:
            raise sqlite3.DatabaseError(f"id {row[0]} after {last}")
        last = row[0]
        yield row


def _behind(source: sqlite3.Connection, sql: str, last: int) -> int | None:
    """Return the lowest id from `last` + 1 on after which rows can be read again; None if there is none."""
    step = 1
    while not _reads(source, sql, last + step):
        step *= 2
        if step > _FAREST:
            return None
    low, high = last + step // 2, last + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _reads(source, sql, middle) else (middle, high)
    return high


def _reads(source: sqlite3.Connection, sql: str, last: int) -> bool:
    try:
        found = source.execute(sql, (last,)).fetchone()
    except ours(sqlite3.DatabaseError):
        return False
    return found is None or bool(found[0] > last)


def _by_key(source: sqlite3.Connection, table: str, names: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows before the first damaged place, then those from the end back to the last damaged place."""
    for order in ("ASC", "DESC"):
        try:
            yield from source.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {names[0]} {order}")
        except ours(sqlite3.DatabaseError):
            continue
        return


def _decodable(rows: Iterator[_Row], names: Sequence[str], table: str) -> Iterator[_Row]:
    """Skip rows whose records cannot be decoded."""
    layout, kind = next(((one, RECORD_TYPES[one.kind]) for one in TABLES.values() if one.name == table), (None, None))
    for values in rows:
        if layout is not None:
            try:
                row = dict(_unpacked(name, value) for name, value in zip(names, values, strict=True))
                msgspec.convert(to_tree(layout, row), kind, strict=False)
            except ours(*bodies.DAMAGE):
                continue
        yield values


def _unpacked(name: str, value: object) -> tuple[str, object]:
    """Return a column and its value, unpacked."""
    if name not in _PACKED:
        return name, value
    return _PACKED[name], unpack(_PACKED[name], value) if isinstance(value, str) else value


def _intact_contents(rows: Iterator[_Row], names: Sequence[str]) -> Iterator[_Row]:
    """Skip contents that do not match their hash. A text borrowed from another content is copied into its row."""
    texts: dict[object, tuple[object, object]] = {}
    for values in rows:
        row = dict(zip(names, values, strict=True))
        if row["text_of"] is not None:
            row["text"], row["rest"] = texts.get(row["text_of"], (None, None))
        if _is_intact(row):
            texts[row["id"]] = row["text"], row["rest"]
            yield values


def _is_intact(row: Mapping[str, object]) -> bool:
    try:
        digest = sha256(bodies.json_of(row)).digest()
        return row["hash"] in {digest, digest[:HASH_BYTES]}
    except ours(*bodies.DAMAGE):
        return False


def main(arguments: Sequence[str]) -> int:
    """Rescue a file; return the exit status."""
    if len(arguments) != 2:  # noqa: PLR2004 - the damaged file and the new one
        sys.stderr.write("usage: python -m callspan.stores.sqlite.rescue DAMAGED NEW\n")
        return 2
    try:
        counts = rescue(Path(arguments[0]), Path(arguments[1]))
    except (OSError, sqlite3.Error, StoreError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    read = ", ".join(f"{number:,} of {table}" for table, number in counts.items())
    sys.stdout.write(f"{arguments[1]}: {read}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
