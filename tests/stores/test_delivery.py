"""Delivery from the spool to failing real stores: nothing lost or doubled, and drops are counted."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callspan.records import encode
from callspan.spool.spool import Spool
from callspan.stores.importing import import_records
from callspan.stores.urls import open_store, sinks_for

from .conftest import Records


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KB that can be made larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small tmpfs here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_store_on_a_full_disk_waits_and_gets_everything_once_there_is_space(
    small_disk: Path, tmp_path: Path, records: Records
) -> None:
    """The spool lies on another disk; the store takes what fits, and everything once there is room."""
    url = str(small_disk / "calls.db")
    spool = Spool(tmp_path / "spool", sinks_for(url))
    made = [records.call(answer=os.urandom(8000).hex()) for _ in range(60)]
    for record in made:
        assert spool.append(encode(record))
    assert not spool.flush(1.5)
    assert spool.counters()["dead_letters"] == 0
    retried = spool.counters()["retried"]
    assert retried > 0
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert spool.flush(30)
    assert spool.close(5)
    reader = open_store(url)
    assert Counter(one.call_id for one in reader.calls()) == Counter(record.call_id for record in made)
    print(f"| Disk full, {retried} failed tries, then room | {len(made)} appended and stored, each once |")
    reader.close()


def test_stores_of_all_kinds_get_the_same_records_from_one_spool(
    tmp_path: Path, records: Records, request: pytest.FixtureRequest
) -> None:
    urls = [f"sqlite:///{tmp_path}/a.db", f"jsonl:///{tmp_path}/b.jsonl"]
    spool = Spool(tmp_path / "spool", lambda: sinks_for(urls))
    made = records.every_kind()
    for record in [*made, *made]:
        spool.append(encode(record))
    spool.append(b'{"kind":"call"}')
    assert spool.close(20)
    assert spool.counters()["dead_letters"] == 2
    answers = []
    import_records(urls[1], tmp_path / "c.db")
    for url in (urls[0], f"sqlite:///{tmp_path}/c.db"):
        reader = open_store(url)
        answers.append((list(reader.calls()), list(reader.sessions()), list(reader.events("s1"))))
        reader.close()
    assert answers[0] == answers[1]
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
        assert database.execute("SELECT frame FROM dead_letter").fetchall() == [(b'{"kind":"call"}',)]
    rejected = json.loads((tmp_path / "b.jsonl.rejected").read_text())
    assert rejected["frame"] == '{"kind":"call"}'


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["postgres"])
def test_records_that_wait_for_a_dead_database_are_delivered_by_the_next_process(
    tmp_path: Path, records: Records, kind: str, postgres_url: str
) -> None:
    """The first process never reaches its database; the one that follows takes over what it left, once."""
    good = sinks_for(postgres_url)
    made = [records.call() for _ in range(25)]

    class Down(type(good[0])):  # type: ignore[misc]
        def open(self) -> None:
            raise ConnectionRefusedError("down")

    first = Spool(tmp_path / "spool", lambda: [Down(postgres_url)])
    for record in made:
        first.append(encode(record))
    assert not first.close(0.3)
    second = Spool(tmp_path / "spool", good)
    assert second.ship(20)
    assert second.close(10)
    reader = open_store(postgres_url)
    assert reader.count_calls() == 25
    reader.close()


def test_a_store_url_with_a_password_shows_it_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made: Callable[[], str] = lambda: "postgresql://ann:hunter2@127.0.0.1:1/db"  # noqa: E731
    pytest.importorskip("psycopg")
    spool = Spool(tmp_path / "spool", lambda: sinks_for(made()))
    spool.append(b'{"kind":"call"}')
    assert not spool.flush(0.7)
    (state,) = spool.states()
    assert state.error is not None
    shown = f"{state} {dict(spool.counters())} {caplog.text}"
    spool.close(0.2)
    assert "hunter2" not in shown
