"""Store keys: different names of a store have one key; records for other stores are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from callspan import Settings
from callspan.cli.commands import callspan
from callspan.delivery.recorder import store_sinks
from callspan.file_lock import try_lock
from callspan.records import CallRecord, Timing, encode
from callspan.spool.directory import Listing, store_keys, write_cursor
from callspan.spool.segment import Segment
from callspan.spool.spool import Spool
from callspan.stores.spools import spool_directory
from callspan.stores.urls import open_store

RECORD = encode(CallRecord(call_id="one", timing=Timing(start_ns=1)))


def left_behind(directory: Path, stores: str) -> None:
    """What a process with these stores left when it was killed."""
    segment = Segment.create(directory, store_keys(directory, store_sinks(stores)))
    from callspan.spool.segment import encode_frame as frame

    segment.append(frame(RECORD))
    segment.release()


def test_a_file_is_the_same_store_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left_behind(tmp_path / "calls.db.spool", "sqlite:///calls.db")
    names = [
        "calls.db",
        "sqlite:///./calls.db",
        f"sqlite:///{tmp_path}/calls.db",
        f"{tmp_path}/../{tmp_path.name}/calls.db",
    ]
    directory = tmp_path / "calls.db.spool"
    assert len({store_keys(directory, store_sinks(name)) for name in names}) == 1
    done = CliRunner().invoke(callspan, ["--store", f"sqlite:///{tmp_path}/calls.db", "ship"])
    assert done.exit_code == 0, done.output
    assert open_store("calls.db").count_calls() == 1


def test_a_new_password_is_the_same_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, two, other = (f"clickhouse://{user}@host:8123/db" for user in ("me:old", "me:new", "you:new"))
    directory = spool_directory(Settings(), (one,))
    assert directory == spool_directory(Settings(), (two,))
    assert directory != spool_directory(Settings(), (other,))
    assert len({store_keys(directory, store_sinks(url)) for url in (one, two)}) == 1


def test_records_for_another_set_of_stores_are_reported_by_doctor_and_ship(tmp_path: Path) -> None:
    """Nobody would ever deliver them: the setting was changed while they waited."""
    now, other = f"sqlite:///{tmp_path}/calls.db", tmp_path / "calls.jsonl"
    then = f"{now},jsonl:///{other}"
    left_behind(tmp_path / "calls.db.spool", then)
    done = CliRunner().invoke(callspan, ["--store", now, "doctor", "--json"])
    (finding,) = (check for check in json.loads(done.stdout)["checks"] if check["name"] == "for_other_stores")
    assert finding["state"] == "warning"
    assert "in 1 segments of" in finding["detail"]
    assert "callspan --store" in finding["advice"]
    done = CliRunner().invoke(callspan, ["--store", now, "ship"])
    assert "1 record delivered to" in " ".join(done.output.split())
    assert "for other stores: name those with --store" in " ".join(done.output.split())
    assert done.exit_code == 0, "the store that was named has everything"
    assert open_store(now).count_calls() == 1
    done = CliRunner().invoke(callspan, ["--store", then, "ship"])
    assert done.exit_code == 0, done.output
    assert len(other.read_text().splitlines()) == 1
    assert not list((tmp_path / "calls.db.spool").iterdir()), "who delivers last deletes the segment and its cursors"
    done = CliRunner().invoke(callspan, ["--store", now, "doctor", "--json"])
    assert "for_other_stores" not in done.stdout


def test_reading_one_store_reports_records_that_wait_for_other_stores(tmp_path: Path) -> None:
    """What a store that was named has, or still gets, is not for others; nor is what a running process has."""
    own, other = f"sqlite:///{tmp_path}/calls.db", f"jsonl:///{tmp_path}/calls.jsonl"
    left_behind(tmp_path / "calls.db.spool", f"{own},{other}")
    for _ in range(2):
        done = CliRunner().invoke(callspan, ["--store", own, "calls"])
        assert "1 record waits in" in " ".join(done.stderr.split()), done.stderr
        assert "for other stores" in " ".join(done.stderr.split()), done.stderr
    assert "for other stores" not in CliRunner().invoke(callspan, ["--store", f"{own},{other}", "calls"]).stderr
    place = tmp_path / "calls.db.spool"
    (name,) = (path.name for path in place.glob("*.segment"))
    with (place / name).open("r+b") as segment:
        assert try_lock(segment.fileno())
        assert "for other stores" not in CliRunner().invoke(callspan, ["--store", own, "calls"]).stderr
    (key,) = store_keys(place, store_sinks(other))
    write_cursor(place, name, key, (place / name).stat().st_size)
    assert "for other stores" not in CliRunner().invoke(callspan, ["--store", own, "calls"]).stderr


def test_more_stores_than_a_file_name_can_list_all_get_their_records(tmp_path: Path) -> None:
    """Each of them also where another process delivers to it alone."""
    stores = [f"sqlite:///{tmp_path}/{number:02}-{'x' * 40}.db" for number in range(20)]
    place = tmp_path / "spool"
    left_behind(place, ",".join(stores))
    first, *others = stores
    spool = Spool(place, store_sinks(first), unnamed=False)
    assert spool.ship(20)
    spool.close(5)
    assert [call.call_id for call in open_store(first).calls()] == ["one"]
    assert len(Listing(place).segments) == 1, "the others need it"
    spool = Spool(place, store_sinks(",".join(others)), unnamed=False)
    assert spool.append(encode(CallRecord(call_id="two", timing=Timing(start_ns=2))))
    assert spool.ship(20)
    spool.close(5)
    assert all([call.call_id for call in open_store(store).calls()] == ["two", "one"] for store in others)
    assert Listing(place).segments == []
    assert all(len(path.name) < 200 for path in place.iterdir())


def test_a_segment_whose_list_of_stores_is_gone_stays(tmp_path: Path) -> None:
    left_behind(tmp_path, ",".join(f"sqlite:///{tmp_path}/{number}.db" for number in range(20)))
    for path in tmp_path.glob("*.stores"):
        path.unlink()
    spool = Spool(tmp_path, store_sinks(f"sqlite:///{tmp_path}/0.db"))
    spool.ship(1, tries=1)
    spool.close(5)
    assert len(Listing(tmp_path).segments) == 1
