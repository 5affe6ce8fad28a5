"""External damage to a spool: deleted directories, invalid cursors, wrong clocks, damage at any byte."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from callspan.cli.commands import callspan
from callspan.records import CallRecord, Timing
from callspan.records import encode as encode_record
from callspan.spool.directory import cursor_path, store_key, write_cursor
from callspan.spool.losses import LOSSES_FILE
from callspan.spool.segment import Segment, encode_frame
from callspan.spool.spool import Spool, ship_once
from callspan.stores import Entry

from .rig import DownSink, FileSink, python, record, until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def orphan(place: Path, *keys: str, name: str = "00000000000000000001-1-aa.segment") -> Path:
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_bytes(b"".join(encode_frame(record(key)) for key in keys))
    return path


class TestDirectory:
    def test_a_directory_deleted_during_a_process_is_created_again_and_nothing_is_lost(
        self, place: Path, tmp_path: Path
    ) -> None:
        """What was appended lives on in the open file; what comes after the next look is safe from a kill again."""
        sink = DownSink(tmp_path / "d")
        spool = Spool(place, [sink])
        spool.append(record("before"))
        subprocess.run(("rm", "-rf", str(place)), check=True)
        spool.append(record("between"))
        spool.ship(0.1)
        spool.append(record("after"))
        (again,) = place.glob("*.segment")
        assert b"after" in again.read_bytes()
        sink.up.set()
        assert spool.flush(30)
        assert sorted(sink.keys()) == ["after", "before", "between"]
        assert spool.close(30)
        assert {path.name for path in place.iterdir()} <= {LOSSES_FILE}

    def test_a_segment_deleted_by_hand_is_not_written_for_ever(self, place: Path, tmp_path: Path) -> None:
        spool = Spool(place, [FileSink(tmp_path / "f")])
        spool.append(record("a"))
        assert spool.flush(30)
        (segment,) = place.glob("*.segment")
        segment.unlink()
        spool.ship(30)
        spool.append(record("b"))
        assert [path for path in place.glob("*.segment") if path != segment]
        assert spool.close(30)

    def test_processes_that_share_a_directory_share_its_cap(self, place: Path, tmp_path: Path) -> None:
        """Each may be wrong by the segment it writes."""
        spools = [Spool(place, [DownSink(tmp_path / f"d{number}")], max_bytes=80_000) for number in range(4)]
        for number in range(100):
            for spool in spools:
                spool.append(record(f"k{number}", 1_000))
        assert spools[0].counters()["spool_bytes"] <= 80_000 + 4 * 10_000
        assert all(spool.counters()["dropped.cap"] > 50 for spool in spools)
        for spool in spools:
            spool.close(0.1)

    def test_a_synced_segment_is_in_its_directory_after_a_power_failure(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file on the medium is lost all the same if its directory there does not name it."""
        synced: list[int] = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
        spool = Spool(place, [], fsync="always")
        spool.append(record("a"))
        spool.append(record("b"))
        assert synced.count(place.stat().st_ino) == 1
        spool.close(5)


class TestCursors:
    @pytest.mark.parametrize("kept", ["999999", "-5", "12", "", "0x", "1" * 40, "٣"])
    def test_an_invalid_cursor_skips_nothing(self, place: Path, tmp_path: Path, kept: str) -> None:
        """Bits rot, disks lose the end of a file: to deliver twice is harmless, to skip is not."""
        segment = orphan(place, "a", "b", "c")
        sink = FileSink(tmp_path / "f")
        cursor_path(place, segment.name, store_key(place, sink)).write_text(kept, encoding="utf-8")
        counts = ship_once(place, [sink], 30)
        assert sink.keys() == ["a", "b", "c"]
        assert counts["corrupt_bytes"] == 0

    def test_a_valid_cursor_is_used(self, place: Path, tmp_path: Path) -> None:
        segment = orphan(place, "a", "b", "c")
        sink = FileSink(tmp_path / "f")
        write_cursor(place, segment.name, store_key(place, sink), len(encode_frame(record("a"))))
        ship_once(place, [sink], 30)
        assert sink.keys() == ["b", "c"]

    def test_a_cursor_that_is_ahead_of_the_segment_skips_nothing(self, place: Path, tmp_path: Path) -> None:
        """The machine went down: the cursor was on the medium, the end of the segment was not."""
        segment, sink = orphan(place, "a", "b"), FileSink(tmp_path / "f")
        write_cursor(place, segment.name, store_key(place, sink), 10**9)
        ship_once(place, [sink], 30)
        assert sink.keys() == ["a", "b"]


class TestClock:
    def test_a_segment_with_a_future_time_is_delivered(self, place: Path, tmp_path: Path) -> None:
        path = orphan(place, "a", name=f"{10**19:020d}-1-aa.segment")
        os.utime(path, (2**33, 2**33))
        sink = DownSink(tmp_path / "d")
        spool = Spool(place, [sink])
        spool.append(record("b"))
        until(lambda: len(spool.states()) == 1 and spool.counters()["adopted"] == 1, 30)
        assert all((state.oldest_s or 0) >= 0 for state in spool.states())
        sink.up.set()
        assert spool.flush(30)
        assert spool.ship(30)
        assert sorted(sink.keys()) == ["a", "b"]
        assert spool.close(30)

    def test_a_reused_process_id_does_not_take_over_files_of_its_first_owner(self, place: Path) -> None:
        names = {Segment.create(place).path.name for _ in range(50)}
        assert len(names) == 50


class TestDamage:
    def test_garbage_before_a_torn_frame_is_damage(self, place: Path, tmp_path: Path) -> None:
        path = orphan(place, "a")
        path.write_bytes(path.read_bytes() + b"garbage" + encode_frame(record("b"))[:-1])
        counts = ship_once(place, [FileSink(tmp_path / "f")], 30)
        assert (counts["corrupt_bytes"], counts["torn_bytes"]) == (7, len(encode_frame(record("b"))) - 1)

    @pytest.mark.parametrize("bit", [0, 100])
    def test_damage_is_kept_logged_and_reported_by_the_commands(
        self, place: Path, caplog: pytest.LogCaptureFixture, bit: int
    ) -> None:
        """Also in the last frame of a segment, where it looks like the end of a process."""
        path = orphan(place, name="00000000000000000001-1-aa.segment")
        frame = bytearray(encode_frame(encode_record(CallRecord(call_id="one", timing=Timing(start_ns=1)))))
        frame[bit // 8] ^= 1 << bit % 8
        path.write_bytes(frame)
        store = f"sqlite:///{place.parent}/calls.db"
        environment = {"CALLSPAN_SPOOL_DIR": str(place)}
        done = CliRunner().invoke(callspan, ["--store", store, "ship"], env=environment)
        assert done.exit_code == 1
        assert f"{len(frame)} bytes damaged" in " ".join(done.output.split())
        (kept,) = place.glob("*.bad")
        assert kept.read_bytes() == frame
        (logged,) = (one.getMessage() for one in caplog.records if "Damage" in one.getMessage())
        assert f"{path.name}: {len(frame)} bytes from offset 0 on" in logged
        done = CliRunner().invoke(callspan, ["--store", store, "doctor", "--json"], env=environment)
        assert done.exit_code == 1
        (finding,) = (check for check in json.loads(done.stdout)["checks"] if check["name"] == "damage")
        assert (finding["state"], kept.name in finding["detail"]) == ("failed", True)

    def test_a_file_of_zeros_is_skipped_and_kept(self, place: Path, tmp_path: Path) -> None:
        """As some file systems leave a file whose end was not on the medium yet."""
        path = orphan(place, "a")
        path.write_bytes(path.read_bytes() + bytes(100_000))
        sink = FileSink(tmp_path / "f")
        assert ship_once(place, [sink], 30)["corrupt_bytes"] == 100_000
        assert sink.keys() == ["a"]
        assert not list(place.glob("*.segment"))


class _Odd(FileSink):
    """Fails on one record in a way nobody foresaw."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path)
        self._error = error

    def deliver(self, entries: Sequence[Entry]) -> None:
        if any(b"odd" in entry.payload for entry in entries):
            raise self._error
        super().deliver(entries)


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("deep"), ValueError("v"), ZeroDivisionError("z")])
def test_a_record_with_an_unexpected_store_error_delays_others_only_briefly(
    place: Path, tmp_path: Path, error: Exception
) -> None:
    sink = _Odd(tmp_path / "f", error)
    spool = Spool(place, [sink])
    for key in ("a", "b", "odd", "c"):
        spool.append(record(key))
    until(lambda: spool.counters()["dead_letters"] == 1, 60)
    assert spool.flush(30)
    assert sink.keys() == ["a", "b", "c"]
    assert (tmp_path / "f.dead").read_text().startswith("odd ") or (tmp_path / "f").with_suffix(".dead").exists()
    assert spool.close(30)


def test_a_long_outage_of_a_store_rejects_no_records(place: Path, tmp_path: Path) -> None:
    """Errors of the world (files, networks, databases) never make a dead letter."""
    sink = _Odd(tmp_path / "f", ConnectionResetError("odd weather"))
    spool = Spool(place, [sink])
    spool.append(record("odd"))
    until(lambda: spool.counters()["retried"] >= 8, 60)
    assert spool.counters()["dead_letters"] == 0
    spool.close(0.1)


_HUGE = """
import resource, sys
from pathlib import Path
from callspan.spool.spool import Spool
spool = Spool(Path(sys.argv[1]), [])
payload = b"h " + bytes(100 << 20)
kept = spool.append(payload, without_bodies=lambda: b"slim "), spool.append(payload)
print(*kept, spool.counters()["dropped.size"])
"""


def test_a_record_of_100_megabytes_is_slimmed_or_dropped_and_counted(place: Path, tmp_path: Path) -> None:
    done = subprocess.run(python("-c", _HUGE, str(place)), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "1"]
    sink = FileSink(tmp_path / "f")
    ship_once(place, [sink], 30)
    assert sink.keys() == ["slim"]
