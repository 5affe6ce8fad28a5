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
"""Rows and texts here are a few hundred bytes: larger pages stay half empty, see docs/stores.md for the figures."""

_LOG_BYTES: Final = 4 * 1024 * 1024
"""When the log is folded into the file: with these pages, 512 KB by default, it would be after each batch."""
_MAPPED_BYTES: Final = 64 << 20
"""Of a file that is read: what is mapped counts as memory of the process, and more of it was not quicker."""
_SUM_UP: Final = ("INSERT INTO summed SELECT * FROM fresh_sums", "DELETE FROM summed WHERE calls IS NULL")
_EVERY_S: Final = 5.0
_REST: Final = 50
"""How many times as long as it took the next sum is deferred."""


def _migrate(connection: sqlite3.Connection, layout: int) -> None:
    for statement in statements("sqlite", layout):
        connection.execute(statement)


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = tuple(
    partial(_migrate, layout=layout) for layout in range(1, LAYOUT + 1)
)
"""Each brings the file from the layout of its index to the next."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Return a connection to an up-to-date file, created (0600, its directories too) where there is none.

    Raises StoreError for a file of another application or a newer callspan, sqlite3.Error or OSError else.
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
    """Whether the file can be read without the side files of its log, which this process may not make."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and os.access(path, os.R_OK) and not log.exists()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    if _checked_version(connection, path) < len(MIGRATIONS):
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        _write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            # Another process may have migrated while this one waited for the lock.
            for version in range(_checked_version(connection, path), len(MIGRATIONS)):
                MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // _PAGE_BYTES}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    # The switch to WAL asks for the file alone and, unlike a statement, fails at once where another holds it.
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
    # One statement is one snapshot: read one by one, a file that another process is making looks half made.
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
    """Add up all that is out of date, within the transaction that is open."""
    for statement in _SUM_UP:
        connection.execute(statement)


class Upkeep:
    """Sums up every few seconds, and for a fiftieth of the time at most: an hour of many calls takes a while."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self, connection: sqlite3.Connection) -> None:
        """Sum up if it is time, within the transaction that is open."""
        started = time.monotonic()
        if started >= self._next:
            sum_up(connection)
            ended = time.monotonic()
            self._next = ended + max(_EVERY_S, _REST * (ended - started))
