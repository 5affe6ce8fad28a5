"""The SQLite file: opening, pragmas, and advice about errors.

Only SQLite opens, or creates, the file, its `-wal` and its `-shm`. When a process closes any descriptor of a file, the
system releases all its POSIX locks on that file, including SQLite's. The next process that closes the file then takes
itself for the last user and deletes the WAL, to which this process keeps writing.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from callspan.record.formats import check_format
from callspan.runtime.clock import monotonic_s
from callspan.runtime.file_lock import make_private
from callspan.stores.base import StoreError, check_layout, explained, no_file, on_error
from callspan.stores.schema import APPLICATION_ID, MARKS, statements

BUSY_MS: Final = 30_000
_RETRY_S: Final = 0.005
_MAPPED_BYTES: Final = 32 << 20
"""Memory map size of readers. Mapped pages count as memory of the process, and more was no faster."""
Inode: TypeAlias = tuple[int, int]
"""Device and inode number of a file."""
_unsafe: Final[dict[Inode | None, str]] = {}
"""Files that this process must not write to, with the reason: SQLite has lost its locks on them unnoticed."""
_NO_HEADER: Final = "another kind of file, or one whose header is damaged (zero bytes after a power failure, say)"

_OTHERS: Final = "{path}: an SQLite file of another application; name another file"
_GONE: Final = "restore the file from a backup, or move it away: a new one is made with the next record"
_ELSEWHERE: Final = "name another file, restore this one from a backup, or try `.recover` of sqlite.org's sqlite3"


def open_for_writing(
    path: Path, *, creates: bool = False, syncs: bool = False, wait_s: float = BUSY_MS / 1000
) -> sqlite3.Connection:
    """Return a connection to the file that waits `wait_s` for locks.

    `creates`: create a missing file (0600) with its directories. `syncs`: sync each transaction to disk on commit.
    Raises StoreError if the file is missing or has another application or format, else sqlite3.Error or OSError.
    """
    if (path.exists() or not creates) and not path.is_file():  # another process may make it in between
        raise no_file(path)
    _refuse_unsafe(path)
    make_private(path.parent)
    with explaining(path):
        _refuse_others(path)
        connection = _connected(path, "mode=rw", wait_s) if path.exists() else _created(path)
        with on_error(connection.close):
            if creates:
                _make_tables(connection, path)
            check_layout(str(path), _checked_version(connection, path))
            connection.execute(f"PRAGMA synchronous={'FULL' if syncs else 'NORMAL'}")
            connection.execute("PRAGMA secure_delete=ON")
    return connection


def _refuse_unsafe(path: Path) -> None:
    if (why := _unsafe.get(inode_of(path))) is not None:
        raise StoreError(f"{path}: {why}; records wait on disk, and the next process delivers them")


def _refuse_others(path: Path) -> None:
    """Raise StoreError if another application or format wrote the file, without changing it.

    Closing a writable connection would checkpoint the WAL of such a file.
    """
    try:
        _opened(path, "mode=ro", BUSY_MS / 1000)[0].close()
    except sqlite3.OperationalError:
        return  # opening it for writing reports the reason


def log_of(path: Path) -> Inode | None:
    """Return the identity of the WAL file, or None."""
    return inode_of(_log(path))


def _log(path: Path) -> Path:
    """Return the path of the WAL file, which SQLite names after the target of a symbolic link."""
    target = path.resolve()
    return target.with_name(f"{target.name}-wal")


def statuses(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of the file and of its WAL, unless it is empty: readers create an empty WAL."""
    for file in (path, _log(path)):
        with suppress(FileNotFoundError):
            if (status := file.stat()).st_size:
                yield status


def forbid(path: Path, why: str) -> None:
    """Stop this process from writing to the file."""
    inode = inode_of(path)
    if inode is not None:
        _unsafe[inode] = why


def inode_of(path: Path) -> Inode | None:
    """Return the identity of a file; None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_for_reading(path: Path, wait_s: float = BUSY_MS / 1000) -> sqlite3.Connection:
    """Return a read-only connection that waits `wait_s` for locks.

    Raises StoreError if the file is missing or not callspan's.
    """
    if not path.is_file():
        raise no_file(path)
    with explaining(path):
        try:
            connection, version = _opened(path, "mode=ro", wait_s)
        except sqlite3.OperationalError:
            if not _is_static(path):
                raise
            connection, version = _opened(path, "immutable=1", wait_s)
    if version == 0:
        connection.close()
    check_layout(str(path), version)
    return connection


def open_any(path: Path, *, damaged: bool) -> sqlite3.Connection:
    """Return a read-only connection that yields rows by name, even to a damaged file if `damaged`.

    Raises StoreError if another application or format wrote the file; sqlite3.Error.
    """
    connection = _connected(path, "mode=ro")
    connection.row_factory = sqlite3.Row
    with on_error(connection.close):
        if damaged:
            # These let SQLite read truncated files and damaged schemas.
            for pragma in ("writable_schema=ON", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            check_layout(str(path), connection.execute("PRAGMA user_version").fetchone()[0])
        else:
            check_layout(str(path), _checked_version(connection, path))
    return connection


def _connected(path: Path, mode: str, wait_s: float = BUSY_MS / 1000) -> sqlite3.Connection:
    """Return a connection; `mode` is the query of the URI."""
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)


def _created(path: Path) -> sqlite3.Connection:
    """Let SQLite create the file with the permissions of a private file (`modeof`)."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".callspan-") as private:
            return _connected(path, f"mode=rwc&modeof={quote(os.fsencode(Path(private.name).absolute()))}")
    except OSError as error:  # it names the file that lends its permissions
        raise OSError(error.errno, error.strerror, str(path)) from None


def _opened(path: Path, mode: str, wait_s: float) -> tuple[sqlite3.Connection, int]:
    connection = _connected(path, mode, wait_s)
    with on_error(connection.close):
        connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
        return connection, _checked_version(connection, path)


def _is_static(path: Path) -> bool:
    """Return whether the file is readable only without `-wal` and `-shm`, which this process may not create."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and os.access(path, os.R_OK) and not log.exists()


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    if _checked_version(connection, path) == 0:
        _write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            # Another process may have made the tables while this one waited for the lock.
            if _checked_version(connection, path) == 0:
                for statement in (*statements("sqlite"), *MARKS):
                    connection.execute(statement)


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Switching to WAL requires exclusive access and, unlike other statements, fails at once if the file is in use.
    deadline = monotonic_s() + BUSY_MS / 1000
    while not _switched(connection, is_last_try=monotonic_s() > deadline):
        time.sleep(_RETRY_S)


def _switched(connection: sqlite3.Connection, *, is_last_try: bool) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if is_last_try or "locked" not in str(error):
            raise
        return False
    return True


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    # One statement reads one snapshot; several could see a file that another process is still creating.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application != APPLICATION_ID and (version or tables):
        raise StoreError(_OTHERS.format(path=path))
    if version:
        check_format(path, version)
    return int(version)


def explaining(path: Path) -> AbstractContextManager[None]:
    """Return a context manager that replaces known SQLite errors by a StoreError with advice."""
    return explained(path, sqlite3.Error, lambda error: _advice(path, str(error)))


def _advice(path: Path, message: str) -> str | None:
    if "not a database" in message:
        return f"{message}: {_NO_HEADER}; {_ELSEWHERE}"
    if "malformed" in message:
        return f"{message}; {remedy(path)}"
    if "no such table" in message:
        return f"{message}; {_GONE}"
    if "readonly" in message or "unable to open" in message:
        return f"{message}: {_right(path)}"
    if "is locked" in message:
        return f"{message} by another process; end that one, or wait for it"
    if "is full" in message:
        return f"{message}; make room"
    return None


def remedy(path: Path) -> str:
    """Return advice about a damaged file."""
    new = path.with_name(f"{path.stem}-new{path.suffix}")
    return f"restore it from a backup, or load its readable rows: callspan import --damaged {path} --into {new}"


def _right(path: Path) -> str:
    """Return the permission that this process lacks."""
    for target, kind, mode in ((path.parent, "directory", os.X_OK), (path, "file", os.R_OK)):
        if not os.access(target, mode):
            return f"no permission to read the {kind}"
    for target, kind in ((path.parent, "directory"), (path, "file")):
        if not os.access(target, os.W_OK):
            return f"no permission to write the {kind}; copy the file and its -wal to where you may write"
    return "its disk may be read-only, or too many files may be open"
