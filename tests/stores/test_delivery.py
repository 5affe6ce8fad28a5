"""Delivery from the spool to failing real stores: nothing lost or doubled, and drops are counted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.spool.rig import until

from callspan.delivery import leftovers
from callspan.delivery.store_sink import StoreSink
from callspan.records import encode
from callspan.spool.losses import read_losses
from callspan.spool.spool import Spool
from callspan.stores.spools import target_of
from callspan.stores.urls import find_store, open_store

from .conftest import Records


def spool_of(root: Path, *urls: str) -> Spool:
    """Return the spool of some stores."""
    return Spool([root], {target_of(store): partial(StoreSink, store) for store in map(find_store, urls)})


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
    spool = spool_of(tmp_path / "spool", url)
    made = [records.call(answer=os.urandom(8000).hex()) for _ in range(60)]
    for record in made:
        assert spool.append(encode(record))
    assert not spool.flush(1.5)
    assert spool.counters()["rejected"] == 0
    retried = spool.counters()["retried"]
    assert retried > 0
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert spool.flush(30)
    assert spool.close(5)
    with contextlib.closing(open_store(url)) as reader:
        stored = [one.call_id for one in reader.calls()]
    assert Counter(stored) == Counter(record.call_id for record in made)
    print(f"| Disk full, {retried} failed tries, then room | {len(made)} appended and stored, each once |")


def test_several_stores_get_the_same_records_from_one_spool_and_what_is_none_is_kept_with_the_reason(
    tmp_path: Path, records: Records
) -> None:
    first, second = f"sqlite:///{tmp_path}/a.db", f"jsonl:///{tmp_path}/b.jsonl"
    spool = spool_of(tmp_path / "spool", first, second)
    made = records.every_kind()
    for record in [*made, *made]:
        spool.append(encode(record))
    spool.append(b'{"kind":"call"}')
    spool.append(b"no JSON")
    last = records.call()
    spool.append(encode(last))
    assert spool.close(20)
    rejected = [json.loads(line) for line in (spool.directory / "rejected.jsonl").read_text().splitlines()]
    assert Counter((one["store"], json.dumps(one["record"])) for one in rejected) == Counter(
        {(url, record): 1 for url in (first, second) for record in ('{"kind": "call"}', '"no JSON"')}
    )
    assert all("not a record: " in one["reason"] for one in rejected)
    assert {name: loss.count for name, loss in read_losses(spool.directory).rejected.items()} == {first: 2, second: 2}
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    with contextlib.closing(open_store(first)) as reader:
        calls, events = list(reader.calls()), list(reader.events("s1"))
    assert {one.call_id for one in calls} == {line["call_id"] for line in lines if line["kind"] == "call"}
    assert last.call_id in {one.call_id for one in calls}
    assert len(events) == 3


@pytest.mark.postgres
def test_records_that_wait_for_a_dead_database_are_delivered_by_the_next_process(
    tmp_path: Path, records: Records, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process never reaches its database; the one that follows takes over what it left, once."""
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / "spool"))
    store = find_store(postgres_url)

    class Down(StoreSink):
        def open(self) -> None:
            raise ConnectionRefusedError("down")

    first = Spool([tmp_path / "spool"], {target_of(store): partial(Down, store)})
    for _ in range(25):
        first.append(encode(records.call()))
    assert not first.close(0.3)
    assert [one.records for one in leftovers.waiting(postgres_url)] == [25]
    second = spool_of(tmp_path / "spool", postgres_url)
    second.append(encode(records.call()))
    until(lambda: not leftovers.waiting(postgres_url))
    assert second.close(10)
    with contextlib.closing(open_store(postgres_url)) as reader:
        assert reader.count_calls() == 26


def test_a_store_url_with_a_password_shows_it_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg")
    spool = spool_of(tmp_path / "spool", "postgresql://ann:hunter2@127.0.0.1:1/db")
    spool.append(b'{"kind":"call"}')
    assert not spool.flush(0.7)
    (state,) = spool.states()
    assert state.error is not None
    shown = f"{state} {dict(spool.counters())} {caplog.text}"
    spool.close(0.2)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "hunter2" not in shown
    assert not any(b"hunter2" in data or b"ann" in data for data in files)
