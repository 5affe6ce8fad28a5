"""Files with the requests of batches: how long they live, who may read them, and the directory that they are in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from callspan.records import encode
from callspan.spool import uploads
from callspan.spool.losses import create_losses
from callspan.spool.segment import Segment
from callspan.spool.spool import Spool
from callspan.stores.jsonl.store import JsonLinesStore
from callspan.stores.retention import prune
from callspan.stores.sqlite.file import open_for_writing
from tests.e2e.conftest import in_process
from tests.spool.rig import until
from tests.stores.conftest import Records, delete_session

DAY_S = 86_400


def put(spool: Path, name: str, *sessions: str, age_s: float = 0.0) -> Path:
    """A file of requests that were uploaded in these sessions."""
    path, records = spool / uploads.DIRECTORY / name, Records()
    uploads.write(path, [encode(records.call(session_id=session)) + b"\n" for session in sessions])
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_is_expired_goes_where_a_spool_is_opened(tmp_path: Path) -> None:
    old, new = put(tmp_path, "old.jsonl", "s", age_s=31 * DAY_S), put(tmp_path, "new.jsonl", "s", age_s=29 * DAY_S)
    spool = Spool(tmp_path, [])
    spool.append(b"record")
    until(lambda: not old.exists())
    spool.close(1)
    assert new.exists()


@pytest.mark.parametrize("command", [False, True])
@pytest.mark.parametrize("place", ["beside", "set"])
def test_prune_and_delete_take_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: bool, place: str
) -> None:
    store, spool = tmp_path / "calls.db", tmp_path / "calls.db.spool"
    if place == "set":
        spool = tmp_path / "elsewhere"
        monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(spool))
    connection = open_for_writing(store)
    connection.execute("INSERT INTO sessions (session_id, seen_ns, schema_v) VALUES ('mine', 1, 1)")
    connection.close()
    old, both = put(spool, "old.jsonl", "other", age_s=8 * DAY_S), put(spool, "both.jsonl", "mine", "other", "mine")
    mine, note = put(spool, "mine.jsonl", "mine"), put(spool, "note.batch", "mine")
    if command:
        assert in_process("--store", str(store), "delete", "mine", "--yes").code == 0
        assert in_process("--store", str(store), "prune", "--older-than", "7d", "--yes").code == 0
    else:
        delete_session(store, "mine")
        prune(f"sqlite:///{store}", time.time_ns() - 7 * DAY_S * 10**9)
    assert not old.exists()
    assert not mine.exists()
    assert note.exists()
    assert both.read_bytes().count(b'"other"') == 1
    assert b'"mine"' not in both.read_bytes()
    assert both.stat().st_mode & 0o777 == 0o600


def test_the_doctor_says_what_is_kept(tmp_path: Path) -> None:
    spool = tmp_path / "calls.db.spool"
    size = sum(put(spool, f"{age}.jsonl", "s", age_s=age * DAY_S).stat().st_size for age in (1, 3))
    put(spool, "note.batch", "s")
    answer = " ".join(in_process("--store", str(tmp_path / "calls.db"), "doctor").out.split())
    assert f"2 uploaded files of requests, {size:,} bytes, the oldest 72 h" in answer


MAKERS: dict[str, Callable[[Path], object]] = {
    "segment": Segment.create,
    "losses": create_losses,
    "upload": lambda directory: put(directory, "one.jsonl", "s"),
    "sqlite": lambda directory: open_for_writing(directory / "calls.db").close(),
    "jsonl": lambda directory: JsonLinesStore(directory / "calls.jsonl").open(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_directory_is_its_owners_whoever_makes_it_first(tmp_path: Path, maker: str) -> None:
    before = os.umask(0)
    try:
        MAKERS[maker](tmp_path / "new" / "calls.db.spool")
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) >= 2
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}
