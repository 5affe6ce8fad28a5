"""Store check: one record through a spool into a store, and back where the store can be read."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from callspan.cli.frame import store_errors
from callspan.config import SettingError
from callspan.record.codec import encode
from callspan.record.events import SessionRecord
from callspan.record.ids import new_id
from callspan.stores.opening import StoreUrl, open_store, parse, sinks_for

_TIMEOUT_S: Final = 5.0
_LOOK_S: Final = 0.2


def store_check(url: str) -> tuple[str | None, str]:
    """Return (what is wrong, what was seen); the first is None where all is well.

    The test record is a session named `callspan doctor`; it is removed again from SQLite stores.
    """
    try:
        store = parse(url)
        sinks_for([url])
    except SettingError as error:
        return str(error), ""
    now = time.time_ns()
    session_id = f"doctor-{new_id()}"
    record = SessionRecord(
        session_id=session_id, record_version=now, name="callspan doctor", start_ns=now, end_ns=now, outcome="success"
    )
    trouble = _deliver(url, encode(record))
    return (trouble, "") if trouble is not None else _read_back(url, store, session_id)


def _deliver(url: str, payload: bytes) -> str | None:
    """Return why the record did not arrive, or None."""
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
    if store.kind == "unix":
        return None, "a test record was sent; a socket cannot be read back"
    try:
        reader = open_store(url)
        try:
            found = reader.session(session_id)
        finally:
            reader.close()
        if store.kind == "sqlite" and store.path is not None:
            from callspan.stores.retention import delete_session

            delete_session(store.path, session_id)
    except store_errors(SettingError) as error:
        return f"a test record was written but cannot be read back: {error}", ""
    if found is None:
        return "a test record was delivered but is not there", ""
    return None, "a test record was written and read back"
