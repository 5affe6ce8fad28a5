"""What another version of callspan left, with another format: said, left as it is, and in nobody's way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import callspan
from callspan.record.formats import FORMAT
from callspan.spool.segment import SUFFIX, Frame, encode_frame, scan
from callspan.stores.urls import sinks_for

from .conftest import in_process
from .test_backlog import killed

OTHERS = [1, FORMAT + 1]
STATED = b'"schema_version":%d'


def of_format(directory: Path, other: int) -> None:
    """Give the segments of a directory another format, as they are."""
    for path in directory.glob(f"*{SUFFIX}"):
        frames = [item.payload for item in scan(path.read_bytes()) if isinstance(item, Frame)]
        changed = [payload.replace(STATED % FORMAT, STATED % other) for payload in frames]
        path.write_bytes(b"".join(map(encode_frame, changed)))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def record(stores: str) -> bool:
    """Record one call in this process; return whether every store has it. A refused one is not waited for."""
    handle = callspan.instrument(stores=stores)
    try:
        with callspan.record_call(provider="mine", model="m") as call:
            call.response({"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
        return handle.force_flush(100_000)
    finally:
        handle.uninstrument()


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def spool(tmp_path: Path, store: str, other: int) -> Path:
    """The spool that a process of another format has left."""
    killed(store)
    (tmp_path / "calls.db").unlink(missing_ok=True)
    of_format(tmp_path / "calls.db.spool", other)
    return tmp_path / "calls.db.spool"


@pytest.fixture
def sentence(spool: Path, other: int) -> str:
    (segment,) = spool.glob(f"*{SUFFIX}")
    return (
        f"{segment} has format {other}, this callspan has format {FORMAT}: move it away, or read it with the version "
        "that wrote it (callspan export)"
    )


def test_segments_of_another_format_are_said_and_left_as_they_are(store: str, spool: Path, sentence: str) -> None:
    before = content(spool)
    calls = in_process("--store", store, "calls")
    assert calls.err.splitlines().count(f"{sentence}.") == 1
    shipped = in_process("--store", store, "ship", "--json")
    assert (shipped.code, shipped.json["refused"], shipped.json["waiting"]) == (1, [sentence], {})
    checks = in_process("--store", store, "doctor", "--json").json["checks"]
    assert [check["detail"] for check in checks if check["name"] == "another format"] == [sentence]
    assert content(spool) == before
    for path in spool.glob(f"*{SUFFIX}"):
        path.unlink()
    assert not in_process("--store", store, "ship", "--json").json["refused"]


def test_a_process_goes_on_into_a_new_spool_directory(
    store: str, spool: Path, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What its predecessor, killed too, left there is delivered."""
    before = content(spool)
    killed(store)
    assert len(list((spool / f"format-{FORMAT}").glob(f"*{SUFFIX}"))) == 1
    assert content(spool) == before
    with caplog.at_level(logging.WARNING, "callspan"):
        assert record(store)
    assert [line for line in caplog.messages if "has format" in line] == [sentence]
    answer = in_process("--store", store, "calls", "--json")
    assert len(answer.json) == 4
    assert content(spool) == before


def test_what_a_process_of_today_left_there_before_is_still_delivered(tmp_path: Path, store: str, spool: Path) -> None:
    (theirs,) = spool.glob(f"*{SUFFIX}")
    theirs = theirs.rename(tmp_path / theirs.name)
    killed(store)
    theirs = theirs.rename(spool / theirs.name)
    assert len(in_process("--store", store, "calls", "--json").json) == 3
    assert list(spool.glob(f"*{SUFFIX}")) == [theirs]


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_store_of_another_format_harms_no_other_and_gets_its_records_once_it_was_moved_away(
    tmp_path: Path, scheme: str, other: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, healthy = f"{scheme}:///{tmp_path}/a.{scheme}", f"sqlite:///{tmp_path}/b.db"
    path = tmp_path / f"a.{scheme}"
    CHANGE[scheme](path, other)
    before = path.read_bytes()
    monkeypatch.setattr("callspan.cli.ship._IDLE_S", 100.0)
    begun = time.monotonic()
    assert not record(f"{refused},{healthy}")
    assert len(in_process("--store", healthy, "calls", "--json").json) == 1
    sentence = f"{path} has format {other}, this callspan has format {FORMAT}: move it away"
    assert len([line for line in caplog.messages if sentence in line]) == 1
    shipped = in_process("--store", refused, "ship")
    assert shipped.code == 1
    assert time.monotonic() - begun < 90, "it is waited for"
    answer = in_process("--store", refused, "calls")
    assert answer.code == 1
    assert sentence in answer.err
    found = in_process("--store", refused, "doctor", "--json").json["checks"]
    assert [check["detail"].startswith(sentence) for check in found if check["state"] == "failed"] == [True]
    assert path.read_bytes() == before
    path.rename(tmp_path / "away")
    assert len(in_process("--store", refused, "calls", "--json").json) == 1


def jsonl_of(path: Path, other: int) -> None:
    path.write_bytes(b'{"kind":"call","call_id":"c",%b}\n' % (STATED % other))


def sqlite_of(path: Path, other: int) -> None:
    import sqlite3
    from contextlib import closing

    (sink,) = sinks_for(f"sqlite:///{path}")
    sink.open()
    sink.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")


CHANGE: dict[str, Callable[[Path, int], None]] = {"jsonl": jsonl_of, "sqlite": sqlite_of}
