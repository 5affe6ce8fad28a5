"""Commands that look: they remove, rename and change nothing of what an application owns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

import callspan
from callspan import file_lock, open_store
from tests.support.commands import ask as in_process
from tests.support.left_behind import directory_of

LOOKING: Final = [
    ("doctor",),
    ("calls",),
    ("sessions",),
    ("show", "s0"),
    ("stats",),
    ("report", "-o", "-"),
    ("export", "openai", "-o", "-"),
    ("delete", "s0", "--dry-run"),
    ("delete", "--older-than", "1d", "--dry-run"),
    ("reprice", "--dry-run"),
]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store of two sessions, with files beside it that belong to the application."""
    url = f"sqlite:///{tmp_path}/calls.db"
    deliver(url, "s0", "s1")
    for name in (".1", ".part", ".cursor", ".lock", ".rejected", "-journal", ".bak"):
        path = tmp_path / f"calls.db{name}"
        if not path.exists() and not name.endswith(("1", "journal")):
            path.write_bytes(b"{}")
    return url


def deliver(url: str, *sessions: str) -> None:
    """Record these sessions as an application does."""
    handle = callspan.instrument(stores=url)
    for ident in sessions:
        with callspan.session("s", session_id=ident):
            pass
    assert handle.force_flush(30_000)
    handle.uninstrument()


def checked(urls: str) -> list[dict[str, str]]:
    """What `doctor` says of stores."""
    return [
        check for check in in_process("--store", urls, "doctor", "--json").json["checks"] if check["area"] == "stores"
    ]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
def test_nothing_is_removed_renamed_or_changed(store: str, command: Sequence[str], tmp_path: Path) -> None:
    before = files(tmp_path)
    assert in_process("--store", store, *command).code <= 1
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert {name[-4:] for name in after.keys() - before.keys()} <= {"-wal", "-shm"}, "SQLite's"


def test_a_store_is_no_output(tmp_path: Path) -> None:
    """Nor by another name."""
    store = tmp_path / "calls.db"
    deliver(str(store), "s0")
    (tmp_path / "link").symlink_to(store)
    before = store.read_bytes()
    for command in (("report",), ("export", "openai")):
        for output in (store, tmp_path / "link"):
            answer = in_process("--store", str(store), *command, "-o", str(output))
            assert answer.code == 1
            assert "the store itself; name another file" in answer.err
    assert store.read_bytes() == before


@pytest.fixture
def locked(store: str, tmp_path: Path) -> Iterator[str]:
    """The store, locked by another process."""
    program = "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); one.execute('BEGIN IMMEDIATE'); "
    path = tmp_path / "calls.db"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program} print(flush=True); sys.stdin.read()", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield store
    process.communicate(timeout=30)


def test_a_locked_store_is_said_to_be_locked_and_nothing_stays(locked: str, tmp_path: Path) -> None:
    before = files(tmp_path)
    begun = time.monotonic()
    (check,) = checked(locked)
    assert "locked by another process" in check["detail"]
    assert time.monotonic() - begun < 10
    assert files(tmp_path) == before
    with closing(open_store(locked)) as reader:
        assert {one.session.session_id for one in reader.sessions()} == {"s0", "s1"}


def test_what_waits_is_shown_for_each_store(tmp_path: Path) -> None:
    """Not what the directory holds: one store has it all."""
    both = f"sqlite:///{tmp_path}/calls.db,jsonl:///{tmp_path}/calls.jsonl"
    handle = callspan.instrument(stores=both)
    with file_lock.locked(tmp_path / "calls.jsonl.lock", 1):
        with callspan.session("s"):
            pass
        assert not handle.force_flush(1_000)
        sqlite, jsonl = (check["detail"] for check in checked(both))
    handle.uninstrument()
    assert "wait" not in sqlite
    assert f"2 records wait for it in {directory_of(both)}" in jsonl
