"""What another version of callspan left, with another format: said, left as it is, and in nobody's way."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

import pytest

import callspan
from callspan.records import FORMAT
from callspan.spool.directory import BAD_SUFFIX, remove_cursors
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import SUFFIX, Frame, encode_frame, scan
from callspan.stores.urls import sinks_for
from tests.scale import scaled

from .conftest import in_process
from .test_backlog import killed

OTHERS = scaled([FORMAT + 1], [1, FORMAT + 1])
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


def segments(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob(f"*{SUFFIX}")}


@pytest.mark.parametrize("by", ["ship", "calls", "process"])
def test_what_a_process_of_today_leaves_beside_them_is_delivered(
    store: str, spool: Path, sentence: str, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By each that delivers what others left, and also what was left before the old segment came."""
    (theirs,) = spool.glob(f"*{SUFFIX}")
    before = content(spool)
    killed(store)
    assert [path.parent for path in spool.rglob(f"*{SUFFIX}")] == [spool] * 2
    if by == "process":
        with caplog.at_level(logging.WARNING, "callspan"):
            assert record(store)
        assert [line for line in caplog.messages if "has format" in line] == [sentence]
    else:
        assert in_process("--store", store, by).code == (by == "ship")
    assert len(in_process("--store", store, "calls", "--no-ship", "--json").json) == 3 + (by == "process")
    assert segments(spool) == {theirs.name: before[theirs.name]}
    assert content(spool).items() >= before.items()


def test_they_hide_nothing_that_the_doctor_says_of_the_directory(store: str, spool: Path) -> None:
    unrecorded = {"POST /v1/unknown": Loss("POST /v1/unknown", 3, calls=3)}
    add_losses(spool, Losses(dropped={"cap": Loss("cap", 2, calls=2)}, unrecorded=unrecorded))
    (spool / f"1-2-3{SUFFIX}.16{BAD_SUFFIX}").write_bytes(b"damage")
    answer = in_process("--store", store, "doctor", "--json")
    names = {check["name"] for check in answer.json["checks"]}
    assert names >= {"another format", "lost: cap", "damage", "POST /v1/unknown"}
    assert answer.code == 1


def test_a_damaged_segment_has_the_format_of_its_first_whole_record(store: str, tmp_path: Path) -> None:
    """Not one that the content of a record states."""
    killed(store, 4)
    for file in tmp_path.glob("calls.db*"):
        if file.is_file():
            file.unlink()  # it may have some of them
    spool = tmp_path / "calls.db.spool"
    (path,) = spool.glob(f"*{SUFFIX}")
    remove_cursors(spool, path.name)  # what it may have is delivered again
    said = b'{"input":{"kind":"call","call_id":"x","schema_version":1},"schema_version":1,"model":"m"'
    frames = [item.payload for item in scan(path.read_bytes()) if isinstance(item, Frame)]
    data = b"".join(encode_frame(payload.replace(b'{"model":"m"', said)) for payload in frames)
    path.write_bytes(bytes(90) + data[90:])
    assert said in path.read_bytes()
    shipped = in_process("--store", store, "ship", "--json")
    assert (shipped.json["refused"], shipped.json["waiting"]) == ([], {})
    assert shipped.json["counters"]["corrupt_bytes"] > 90
    assert len(in_process("--store", store, "calls", "--no-ship", "--json").json) == 4
    assert not list(spool.glob(f"*{SUFFIX}"))


def test_a_store_of_another_format_harms_no_other_and_gets_its_records_once_it_was_moved_away(
    tmp_path: Path, other: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, healthy = tmp_path / "a.db", f"sqlite:///{tmp_path}/b.db"
    refused = f"sqlite:///{path}"
    sqlite_of(path, other)
    before = path.read_bytes()
    monkeypatch.setattr("callspan.cli.ship._IDLE_S", 100.0)
    begun = time.monotonic()
    assert not record(f"{refused},{healthy}")
    assert len(in_process("--store", healthy, "calls", "--json").json) == 1
    sentence = f"{path} has another layout; load it into a new file: callspan import {path} --into "
    assert len([line for line in caplog.messages if sentence in line]) == 1
    shipped = in_process("--store", refused, "ship")
    assert shipped.code == 1
    assert time.monotonic() - begun < 90, "it is waited for"
    answer = in_process("--store", refused, "calls")
    assert answer.code == 2
    assert sentence in answer.err
    found = in_process("--store", refused, "doctor", "--json").json["checks"]
    assert [check["detail"].startswith(sentence) for check in found if check["state"] == "failed"] == [True]
    assert path.read_bytes() == before
    path.rename(tmp_path / "away")
    assert len(in_process("--store", refused, "calls", "--json").json) == 1


def sqlite_of(path: Path, other: int) -> None:
    import sqlite3

    (sink,) = sinks_for(f"sqlite:///{path}")
    sink.open()
    sink.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
