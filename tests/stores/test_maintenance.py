"""A SQLite file is copied, compacted and pruned while another process writes to it as fast as it can."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from callspan.stores.retention import prune
from callspan.stores.urls import open_store

from .conftest import SECOND, START_NS
from .large_file import ORIGINALS, make_sessions

WRITER = Path(__file__).with_name("writer.py")
CALLS = 10 * ORIGINALS
NOT_THERE = "SELECT count(*) FROM {} WHERE {} NOT IN (SELECT id FROM {})"
LOOSE_ENDS = [
    *(NOT_THERE.format("calls", name, "content") for name in ("request", "system", "tools", "output")),
    NOT_THERE.format("calls", "ctx", "ctx"),
    NOT_THERE.format("ctx", "content", "content"),
    NOT_THERE.format("ctx", "parent <> 0 AND parent", "ctx"),
]
pytestmark = [pytest.mark.timeout(600)]


class Writer:
    """A process that writes, and keeps what was acknowledged as stored."""

    def __init__(self, path: Path) -> None:
        self._log = path.with_name("said.txt")
        with self._log.open("wb") as log:
            command = [sys.executable, str(WRITER), f"sqlite:///{path}", "endless"]
            self._process = subprocess.Popen(command, stdout=log)

    def stored(self) -> list[str]:
        """Ids of calls whose delivery has returned, in that order."""
        return self._log.read_text().rpartition("\n")[0].split()

    def wait_for(self, more: int) -> list[str]:
        """Wait until so many more calls are stored; return all."""
        before, deadline = len(self.stored()), time.monotonic() + 120
        while len(found := self.stored()) < before + more:
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def path(tmp_path: Path, once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(place: Path) -> None:
        place.mkdir()
        make_sessions(place / "calls.db", CALLS)

    made = once_per_run("calls-for-upkeep", make)
    path = tmp_path / "calls.db"
    path.write_bytes((made / "calls.db").read_bytes())
    return path


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    try:
        writer.wait_for(20)
        yield writer
        writer.wait_for(20)
    finally:
        writer.stop()


def vacuum_into(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))


def backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(copy)) as target:
        connection.backup(target)


def ids(path: Path) -> list[str]:
    """The calls of the writer, in the order in which they were written."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT call_id FROM calls WHERE session_id IS NULL ORDER BY id")
        return [str(row[0]) for row in rows]


def loose_ends(path: Path) -> int:
    """References to contents and chain nodes that are not there."""
    with closing(sqlite3.connect(path)) as connection:
        return sum(connection.execute(sql).fetchone()[0] for sql in LOOSE_ENDS)


@pytest.mark.parametrize("copied", [vacuum_into, backup], ids=["VACUUM INTO", "backup"])
def test_a_copy_made_during_writing_is_whole_and_has_all_that_was_stored_before(
    copied: Callable[[Path, Path], None], path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    with writing(path) as writer:
        before = writer.stored()
        copied(path, copy)
    found, all_of_them = ids(copy), ids(path)
    assert found == all_of_them[: len(found)]
    assert len(found) >= len(before)
    assert loose_ends(copy) == 0
    with closing(open_store(f"sqlite:///{copy}")) as reader:
        assert reader.count_calls() == CALLS + len(found)
        newest = reader.call(found[-1])
    assert newest is not None
    assert newest.request.body


def test_compacting_during_writing_loses_nothing(path: Path) -> None:
    with writing(path) as writer, closing(sqlite3.connect(path, timeout=60)) as connection:
        connection.execute("VACUUM")
    assert ids(path)[: len(writer.stored())] == writer.stored()
    assert loose_ends(path) == 0


def test_pruning_keeps_no_writer_waiting_and_loses_nothing(path: Path) -> None:
    """Every batch is a transaction of its own; what the writer refers to meanwhile stays."""
    with writing(path) as writer:
        before = len(writer.stored())
        removed = prune(path, START_NS + CALLS // 2 * SECOND)
        written = len(writer.stored()) - before
    assert removed.calls >= CALLS // 2 - ORIGINALS
    assert removed.sessions == CALLS // 2 // 50 - 1
    assert removed.contents > CALLS // 2
    assert (removed.free_bytes or 0) > 0
    assert written > 20, "nothing was stored during the deletion"
    assert ids(path)[: len(writer.stored())] == writer.stored()
    assert loose_ends(path) == 0
    with closing(open_store(f"sqlite:///{path}")) as reader:
        assert all(bytes(call.request.body) for call in reader.calls())
    left = prune(path, 0)
    assert left.contents == 0, "garbage was left"
