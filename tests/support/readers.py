"""Readers that come and go while others write to a SQLite file, in this process and in another one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from callspan import open_store
from callspan.stores import CallFilter, EmptyStoreError

_PAUSE_S = 0.02
_OTHER = f"""
import pathlib, select, sqlite3, sys
path = pathlib.Path(sys.argv[1])
while not select.select([sys.stdin], [], [], {_PAUSE_S})[0]:
    if path.exists():
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        connection.close()
"""


@contextlib.contextmanager
def coming_and_going(path: Path) -> Iterator[None]:
    """Open, read and close the file all the time while the block runs; errors of reading fail the test."""
    stop, errors = threading.Event(), list[Exception]()

    def read() -> None:
        while not stop.wait(_PAUSE_S):
            try:
                with contextlib.closing(open_store(path)) as reader:
                    list(reader.calls(CallFilter(limit=3)))
            except EmptyStoreError:
                continue
            except Exception as error:  # noqa: BLE001 - reported below
                errors.append(error)

    thread = threading.Thread(target=read)
    other = subprocess.Popen([sys.executable, "-c", _OTHER, str(path)], stdin=subprocess.PIPE)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        other.communicate(timeout=60)
    assert (errors, other.returncode) == ([], 0)
