"""The SQLite file: opening, pragmas, migrations, and the sums kept in it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from callspan.stores.base import EmptyStoreError, StoreError, no_file
from callspan.stores.columns import LAYOUT
from callspan.stores.schema import APPLICATION_ID, statements
from callspan.stores.sqlite.troubles import explaining

BUSY_MS: Final = 30_000
_RETRY_S: Final = 0.005
_PAGE_BYTES: Final = 512
"""Rows and texts are a few hundred bytes: larger pages would stay half empty, see docs/stores.md for figures."""

_LOG_BYTES: Final = 4 * 1024 * 1024
"""WAL size that triggers a checkpoint. The default, 512 KB with this page size, is about one batch."""
_MAPPED_BYTES: Final = 64 << 20
"""Memory map size of a reader: mapped pages count as memory of the process, and more was not faster."""
_SUM_UP: Final = ("INSERT INTO summed SELECT * FROM fresh_sums", "DELETE FROM summed WHERE calls IS NULL")
_EVERY_S: Final = 5.0
_REST: Final = 50
"""The next summing waits this many times as long as the last one took."""


def _migrate(connection: sqlite3.Connection, layout: int) -> None:
    for statement in statements("sqlite", layout):
        connection.execute(statement)


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = tuple(
    partial(_migrate, layout=layout) for layout in range(1, LAYOUT + 1)
)
"""Each migrates the file from the layout of its index to the next."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Return a connection to an up-to-date file, created (0600, its directories too) where there is none.

    Raises StoreError for a file of another application or a newer callspan, else sqlite3.Error or OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with explaining(path):
        connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Return a read-only connection. Raises StoreError where the file is missing or not callspan's."""
    if not path.is_file():
        raise no_file(Path(path))
    with explaining(path):
        try:
            connection, version = _opened(path, "mode=ro")
        except sqlite3.OperationalError:
            if not _lies_still(path):
                raise
            connection, version = _opened(path, "immutable=1")
    if version == 0:
        connection.close()
        raise EmptyStoreError(f"{path}: no store of callspan's yet; nothing was recorded there")
    return connection


def _opened(path: Path, mode: str) -> tuple[sqlite3.Connection, int]:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
        return connection, _checked_version(connection, path)
    except BaseException:
        connection.close()
        raise


def _lies_still(path: Path) -> bool:
    """Return whether the file can be read without `-wal` and `-shm` files, which this process may not create."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and os.access(path, os.R_OK) and not log.exists()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    if _checked_version(connection, path) < len(MIGRATIONS):
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        _write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            # Another process may have migrated the file while this one waited for the lock.
            for version in range(_checked_version(connection, path), len(MIGRATIONS)):
                MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // _PAGE_BYTES}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # Switching to WAL needs exclusive access and, unlike other statements, fails immediately if the file is in use.
    deadline = time.monotonic() + BUSY_MS / 1000
    while not _switched(connection, last=time.monotonic() > deadline):
        time.sleep(_RETRY_S)


def _switched(connection: sqlite3.Connection, *, last: bool) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if last or "locked" not in str(error):
            raise
        return False
    return True


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    # One statement reads one snapshot; several could see a file that another process has only half created.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application != APPLICATION_ID and (version or tables):
        raise StoreError(f"{path}: an SQLite file of another application; name another file")
    if version > len(MIGRATIONS):
        raise StoreError(f"{path}: layout {version} of a newer callspan, this one knows {len(MIGRATIONS)}; upgrade")
    return int(version)


def sum_up(connection: sqlite3.Connection) -> None:
    """Update all outdated sums within the open transaction."""
    for statement in _SUM_UP:
        connection.execute(statement)


class Upkeep:
    """Updates the sums every few seconds, using at most 1/50 of the time: an hour with many calls takes long."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self, connection: sqlite3.Connection) -> None:
        """Update the sums if they are due, within the open transaction."""
        started = time.monotonic()
        if started >= self._next:
            sum_up(connection)
            ended = time.monotonic()
            self._next = ended + max(_EVERY_S, _REST * (ended - started))
