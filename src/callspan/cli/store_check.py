"""Store check: sends one record through a spool into a store, and reads it back where the store can be read."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from callspan.cli.frame import store_errors
from callspan.record.codec import encode
from callspan.record.events import SessionRecord
from callspan.record.ids import new_id
from callspan.settings import SettingError
from callspan.stores.base import EmptyStoreError
from callspan.stores.retention import delete_session
from callspan.stores.urls import StoreUrl, open_store, parse, sinks_for

NOT_YET: Final = "does not exist yet"
_UNREADABLE: Final = ("unix", "console")
_TIMEOUT_S: Final = 5.0
_LOOK_S: Final = 0.2


def store_check(url: str) -> tuple[str | None, str]:
    """Return (error, observation); the error is None if the check passed.

    The test record is a session named `callspan doctor`, which is deleted again. A store that does not exist yet is
    not created: the observation then begins with `NOT_YET`.
    """
    try:
        store = parse(url)
        sinks_for([url])
        if store.kind not in _UNREADABLE:
            open_store(url).close()
    except EmptyStoreError:
        return _could_be_made(store)
    except store_errors(SettingError) as error:
        return str(error), ""
    now = time.time_ns()
    session_id = f"doctor-{new_id()}"
    record = SessionRecord(
        session_id=session_id, record_version=now, name="callspan doctor", start_ns=now, end_ns=now, outcome="success"
    )
    before = _auxiliary_files(store)
    try:
        trouble = _deliver(url, encode(record))
        return (trouble, "") if trouble is not None else _read_back(url, store, session_id)
    finally:
        for path in _auxiliary_files(store) - before:
            path.unlink(missing_ok=True)


def _could_be_made(store: StoreUrl) -> tuple[str | None, str]:
    if store.path is None:
        return None, f"{NOT_YET}: its tables are made with the first record"
    if store.path.is_dir():
        return f"{store.path} is a directory: name a file in it", ""
    if store.path.exists():
        return None, f"{NOT_YET}: the file is there, and empty"
    directory = next(parent for parent in store.path.absolute().parents if parent.exists())
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        return f"it does not exist, and cannot be made: {directory} takes no file", ""
    return None, f"{NOT_YET}: it is made with the first record"


def _auxiliary_files(store: StoreUrl) -> set[Path]:
    """Return the auxiliary files of a store (`-wal` and the like)."""
    if store.path is None:
        return set()
    return {path for path in store.path.parent.glob(f"{glob.escape(store.path.name)}[.-]*") if path.is_file()}


def _deliver(url: str, payload: bytes) -> str | None:
    """Return why the record did not arrive; None if it did."""
    from callspan.spool.spool import Spool

    with tempfile.TemporaryDirectory() as directory:
        spool = Spool(Path(directory), lambda: sinks_for([url]))
        spool.append(payload)
        delivered, troubles = False, list[str]()
        deadline = time.monotonic() + _TIMEOUT_S
        while not delivered and not troubles and time.monotonic() < deadline:
            delivered = spool.flush(_LOOK_S)
            troubles = [
                state.error or "it was refused" for state in spool.states() if state.error or state.dead_letters
            ]
        spool.close(1.0)
    if delivered and not troubles:
        return None
    return next(iter(troubles), "") or f"a test record did not arrive within {_TIMEOUT_S:.0f} s"


def _read_back(url: str, store: StoreUrl, session_id: str) -> tuple[str | None, str]:
    if store.kind in _UNREADABLE:
        return None, "a test record was sent, which cannot be taken back"
    try:
        reader = open_store(url)
        try:
            found = reader.session(session_id)
        finally:
            reader.close()
        delete_session(url, session_id)
    except store_errors(SettingError) as error:
        return f"a test record was written but cannot be read back: {error}", ""
    if found is None:
        return "a test record was delivered but is not there", ""
    return None, "a test record was written, read back and taken out again"
