"""Store check: has a store take a test record and give it back, so that nothing of it stays."""

from __future__ import annotations

import os
import time
from typing import Final

from callspan.cli.command_context import store_errors
from callspan.record.events import SessionRecord
from callspan.record.ids import new_id
from callspan.safe_urls import error_text
from callspan.settings import SettingError
from callspan.stores.base import EmptyStoreError
from callspan.stores.protocol import Store
from callspan.stores.urls import find_store

NOT_YET: Final = "does not exist yet"


def store_check(url: str) -> tuple[str | None, str]:
    """Return (error, observation); the error is None if the check passed.

    The test record is a session named `callspan doctor`. A store that does not exist yet is not created: the
    observation then begins with `NOT_YET`.
    """
    try:
        store = find_store(url)
        store.sink()
        return None, store.try_out(_record()) or "not tried out: its store has no trial"
    except EmptyStoreError:
        return _could_be_made(store)
    except store_errors(SettingError) as error:
        return error_text(error), ""


def _record() -> SessionRecord:
    now, session_id = time.time_ns(), f"doctor-{new_id()}"
    return SessionRecord(
        session_id=session_id, seen_ns=now, name="callspan doctor", start_ns=now, end_ns=now, outcome="success"
    )


def _could_be_made(store: Store) -> tuple[str | None, str]:
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
