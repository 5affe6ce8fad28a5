"""What another version of callspan left, with another format: said, left as it is, and in nobody's way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import callspan
from callspan.records import FORMAT
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import OWN_SUFFIX, SUFFIX
from callspan.stores.urls import find_store
from tests.left_behind import directory_of
from tests.scale import scaled

from .conftest import in_process
from .test_backlog import killed

OTHERS = scaled([FORMAT + 1], [1, FORMAT + 1])


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def record(stores: str) -> bool:
    """Record one call in this process; return whether every store has it."""
    handle = callspan.instrument(stores=stores)
    try:
        with callspan.record_call(provider="mine", model="m") as call:
            call.response({"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
        return handle.force_flush(3_000)
    finally:
        handle.uninstrument()


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def theirs(tmp_path: Path, store: str) -> Path:
    """The segment that a process of another version has left."""
    killed(store)
    (tmp_path / "calls.db").unlink(missing_ok=True)
    (segment,) = directory_of(store).glob(f"*{SUFFIX}")
    return segment.rename(segment.with_name(segment.name.replace(OWN_SUFFIX, f".v9{SUFFIX}")))


def test_segments_of_another_version_are_said_and_left_as_they_are(store: str, theirs: Path) -> None:
    before = content(theirs.parent)
    shipped = in_process("--store", store, "ship", "--json")
    assert (shipped.code, shipped.json["other_versions"], shipped.json["waiting"]) == (1, [str(theirs)], {})
    checks = in_process("--store", store, "doctor", "--json").json["checks"]
    assert [check["detail"] for check in checks if check["name"] == "another version"] == [f"{theirs} is left alone"]
    assert content(theirs.parent) == before
    theirs.unlink()
    assert not in_process("--store", store, "ship", "--json").json["other_versions"]


@pytest.mark.parametrize("by", ["ship", "calls", "process"])
def test_what_a_process_of_today_leaves_beside_them_is_delivered(store: str, theirs: Path, by: str) -> None:
    before = theirs.read_bytes()
    killed(store)
    if by == "process":
        assert record(store)
    else:
        assert in_process("--store", store, by).code == (by == "ship")
    assert len(in_process("--store", store, "calls", "--no-ship", "--json").json) == 3 + (by == "process")
    assert list(theirs.parent.glob(f"*{SUFFIX}")) == [theirs]
    assert theirs.read_bytes() == before


def test_they_hide_nothing_that_the_doctor_says_of_the_directory(store: str, theirs: Path) -> None:
    add_losses(theirs.parent, Losses(dropped={"cap": Loss(2, 1, 2)}, unrecorded={"POST /v1/unknown": Loss(3, 1, 2)}))
    answer = in_process("--store", store, "doctor", "--json")
    names = {check["name"] for check in answer.json["checks"]}
    assert names >= {"another version", "lost, for every store: cap", "POST /v1/unknown"}
    assert answer.code == 0


def test_a_store_of_another_format_harms_no_other_and_gets_its_records_once_it_was_moved_away(
    tmp_path: Path, other: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, healthy = tmp_path / "a.db", f"sqlite:///{tmp_path}/b.db"
    refused = f"sqlite:///{path}"
    sqlite_of(path, other)
    before = path.read_bytes()
    assert not record(f"{refused},{healthy}")
    assert len(in_process("--store", healthy, "calls", "--json").json) == 1
    sentence = f"{path} has another layout; load it into a new file: callspan import {path} --into "
    assert len([line for line in caplog.messages if sentence in line]) == 1
    assert in_process("--store", refused, "ship").code == 1
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

    sink = find_store(f"sqlite:///{path}").sink()
    sink.open()
    sink.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
