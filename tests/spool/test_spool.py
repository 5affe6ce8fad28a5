"""One process: appending, delivering, failing sinks, caps, unwritable disks."""

from __future__ import annotations

import stat
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from callspan.spool.directory import store_keys, write_cursor
from callspan.spool.segment import Frame, Segment, encode_frame, scan
from callspan.spool.segment_set import SegmentSet
from callspan.spool.spool import Spool, ship_once
from callspan.stores import Entry

from .rig import DownSink, FileSink, HangingSink, PickySink, SqliteSink, python, record, rows, until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def keys(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def fill(spool: Spool, names: list[str], size: int = 200) -> None:
    for name in names:
        assert spool.append(record(name, size))


class _Counting(SqliteSink):
    """Counts its deliveries."""

    deliveries = 0

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.deliveries += 1
        super().deliver(entries)


class TestDelivery:
    def test_what_comes_without_a_pause_is_delivered_in_batches_and_a_flush_does_not_wait_for_its_end(
        self, place: Path, tmp_path: Path
    ) -> None:
        sink = _Counting(tmp_path / "a.db", pause_s=0.005)  # while one is delivered, the next ones come
        spool = Spool(place, lambda: [sink])
        names, flushed, began = keys(400), [], time.monotonic()
        for number, name in enumerate(names):
            fill(spool, [name])
            time.sleep(0.001)
            if number % 100 == 50:
                flushed.append(spool.flush(10))
                assert rows(tmp_path / "a.db")[: number + 1] == names[: number + 1]
        assert flushed == [True] * 4
        # One every 50 ms, two for each flush, and some at the start: however slow the machine, not one per record.
        assert sink.deliveries <= (time.monotonic() - began) / 0.04 + 2 * len(flushed) + 3
        assert spool.close(20)
        assert rows(tmp_path / "a.db") == names

    def test_every_record_reaches_every_sink_once_and_in_order(self, place: Path, tmp_path: Path) -> None:
        file = FileSink(tmp_path / "f")
        spool = Spool(place, lambda: [SqliteSink(tmp_path / "a.db"), file])
        fill(spool, keys(500))
        assert spool.flush(20)
        assert rows(tmp_path / "a.db") == keys(500)
        assert file.keys() == keys(500)
        assert spool.close(5)

    def test_delivered_segments_and_their_cursors_leave_the_disk(self, place: Path, tmp_path: Path) -> None:
        file = FileSink(tmp_path / "f")
        spool = Spool(place, [file])
        fill(spool, ["a"])
        assert len(list(place.glob("*.segment"))) == 1
        assert spool.close(10)
        assert {path.name for path in place.iterdir()} <= {"losses.json"}

    def test_construction_touches_neither_disk_nor_threads(self, place: Path) -> None:
        before = set(threading.enumerate())
        spool = Spool(place, lambda: pytest.fail("built too early"))
        assert not place.exists()
        assert set(threading.enumerate()) <= before
        assert spool.flush(0.01)
        assert spool.states() == []

    def test_files_are_for_their_owner_only(self, place: Path) -> None:
        spool = Spool(place, [])
        fill(spool, ["a"])
        (segment,) = place.glob("*.segment")
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE(segment.stat().st_mode) == 0o600
        spool.close(1)

    def test_batches_are_bounded_in_entries(self, place: Path, tmp_path: Path) -> None:
        sink = DownSink(tmp_path / "f")
        spool = Spool(place, [sink])
        fill(spool, keys(30))
        sink.up.set()
        assert spool.close(10)
        assert max(sink.batches) == FileSink.batch_entries

    def test_batches_are_bounded_in_bytes_but_a_large_record_still_goes(self, place: Path, tmp_path: Path) -> None:
        sink = DownSink(tmp_path / "f")
        spool = Spool(place, [sink])
        fill(spool, keys(5), size=3 << 20)
        fill(spool, ["large"], size=20 << 20)
        sink.up.set()
        assert spool.close(30)
        assert sink.keys() == [*keys(5), "large"]
        assert sink.batches == [2, 2, 1, 1]

    def test_segments_rotate_and_old_ones_are_freed_while_the_process_lives(self, place: Path, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "f")
        spool = Spool(place, [sink], max_bytes=800_000)
        for number in range(40):
            fill(spool, [f"r{number}"], size=10_000)
            assert spool.flush(10)
        assert len(list(place.glob("*.segment"))) == 1
        assert spool.counters()["spool_bytes"] <= 100_000
        assert sink.keys() == keys(40, "r")
        spool.close(5)

    def test_many_threads_append_without_loss_or_tearing(self, place: Path, tmp_path: Path) -> None:
        spool = Spool(place, lambda: [SqliteSink(tmp_path / "a.db")], max_bytes=4 << 20)
        threads = [threading.Thread(target=fill, args=(spool, keys(200, f"t{n}-"), 900)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert spool.close(20)
        found = rows(tmp_path / "a.db")
        assert len(found) == len(set(found)) == 1600
        assert spool.counters()["corrupt_bytes"] == 0

    def test_what_is_synced_with_each_record_is_delivered_alike(self, place: Path, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "f")
        spool = Spool(place, [sink], fsync="always")
        fill(spool, keys(20))
        assert spool.close(10)
        assert sink.keys() == keys(20)

    def test_a_closed_spool_refuses_and_counts(self, place: Path, tmp_path: Path) -> None:
        spool = Spool(place, [FileSink(tmp_path / "f")])
        fill(spool, ["a"])
        assert spool.close(5)
        assert spool.close(5)
        assert not spool.append(record("late"))
        assert spool.counters()["dropped.closed"] == 1


class TestFailingSinks:
    def test_a_recovered_sink_gets_everything(self, place: Path, tmp_path: Path) -> None:
        down, other = DownSink(tmp_path / "d"), FileSink(tmp_path / "f", "other")
        spool = Spool(place, [down, other])
        fill(spool, keys(50))
        until(lambda: len(other.keys()) == 50)
        until(lambda: spool.counters()["retried"] >= 2)
        state = spool.states()[0]
        assert state.lag_bytes > 0
        assert state.error is not None
        assert "ConnectionRefusedError" in state.error
        assert "secret" not in state.error
        assert not spool.flush(0.05)
        down.up.set()
        assert spool.flush(10)
        assert down.keys() == keys(50)
        assert spool.states()[0].error is None
        spool.close(5)

    def test_a_flush_waits_for_no_sink_that_is_known_to_fail(self, place: Path, tmp_path: Path) -> None:
        down, other = DownSink(tmp_path / "d"), FileSink(tmp_path / "f", "other")
        spool = Spool(place, [down, other])
        fill(spool, ["first"])
        until(lambda: spool.counters()["retried"] >= 1)
        fill(spool, keys(50))
        begun = time.monotonic()
        assert not spool.flush(60)
        assert not spool.close(60)
        assert time.monotonic() - begun < 20
        assert other.keys() == ["first", *keys(50)]

    def test_the_age_of_waiting_records_is_reported(self, place: Path, tmp_path: Path) -> None:
        down, other = DownSink(tmp_path / "d"), FileSink(tmp_path / "f", "other")
        spool = Spool(place, [down, other])
        fill(spool, ["a"])
        until(lambda: other.keys() == ["a"])
        until(lambda: spool.counters()["oldest_unshipped_ms"] >= 200)
        ages = [state.oldest_s for state in spool.states()]
        assert ages[0] is not None
        assert 0.2 <= ages[0] < 20
        assert ages[1] is None
        down.up.set()
        assert spool.flush(10)
        until(lambda: [state.oldest_s for state in spool.states()] == [None, None])
        fill(spool, ["b"])
        assert spool.flush(10)
        assert spool.counters()["oldest_unshipped_ms"] == 0
        spool.close(5)

    def test_a_hanging_sink_delays_neither_append_flush_close_nor_the_others(self, place: Path, tmp_path: Path) -> None:
        hanging, other = HangingSink(tmp_path / "h"), FileSink(tmp_path / "f", "other")
        spool = Spool(place, [hanging, other])
        fill(spool, ["first"])
        assert hanging.reached.wait(10)
        begun = time.monotonic()
        fill(spool, keys(200))
        assert time.monotonic() - begun < 5
        for wait in (lambda: spool.flush(0.3), lambda: spool.close(0.3)):
            begun = time.monotonic()
            assert not wait()
            assert 0.25 < time.monotonic() - begun < 5
        assert other.keys() == ["first", *keys(200)]
        hanging.freed.set()

    def test_what_a_closed_spool_left_is_delivered_by_the_next(self, place: Path, tmp_path: Path) -> None:
        spool = Spool(place, [DownSink(tmp_path / "d"), FileSink(tmp_path / "f", "other")])
        fill(spool, keys(20))
        assert not spool.close(0.3)
        down, other = DownSink(tmp_path / "d"), FileSink(tmp_path / "f", "other")
        down.up.set()
        following = Spool(place, [down, other])
        fill(following, ["next"])
        until(lambda: len(down.keys()) == 21)
        assert sorted(down.keys()) == sorted([*keys(20), "next"])
        assert following.close(5)
        assert sorted(other.keys()) == sorted([*keys(20), "next"]), "its cursor file kept it from getting them twice"

    def test_poison_is_found_by_bisection_and_set_aside_and_all_else_arrives(self, place: Path, tmp_path: Path) -> None:
        sink = PickySink(tmp_path / "p")
        gate = DownSink(tmp_path / "g")
        spool = Spool(place, [sink, gate])
        for number in range(50):
            payload = record(f"k{number}")
            assert spool.append(payload + b"poison" if number in {7, 8, 31, 49} else payload)
        gate.up.set()
        assert spool.close(10)
        assert sink.keys() == [f"k{n}" for n in range(50) if n not in {7, 8, 31, 49}]
        dead = sink.path.with_suffix(".dead").read_text().splitlines()
        assert dead == [f"k{n} holds poison" for n in (7, 8, 31, 49)]
        assert spool.counters()["dead_letters"] == 4

    def test_sinks_that_cannot_be_built_cost_no_record(self, place: Path, tmp_path: Path) -> None:
        def broken() -> list[FileSink]:
            raise ImportError("no psycopg")

        spool = Spool(place, broken)
        fill(spool, keys(5))
        assert not spool.close(0.2)
        sink = FileSink(tmp_path / "f")
        ship_once(place, [sink], 10)
        assert sink.keys() == keys(5)


class TestCap:
    def test_bodies_are_dropped_first_then_records_and_both_are_counted(self, place: Path, tmp_path: Path) -> None:
        sink = DownSink(tmp_path / "d")
        spool = Spool(place, [sink], max_bytes=100_000)
        kept = [
            spool.append(record(f"k{n}", 5000), without_bodies=lambda n=n: record(f"slim{n}", 400)) for n in range(80)
        ]
        counts = spool.counters()
        assert counts["spool_bytes"] <= 100_000
        assert counts["slimmed"] > 10
        assert counts["dropped.cap"] == kept.count(False) > 10
        assert counts["appended"] == kept.count(True)
        sink.up.set()
        assert spool.flush(10)
        found = sink.keys()
        assert len(found) == kept.count(True)
        whole = [key.startswith("k") for key in found]
        assert whole == sorted(whole, reverse=True)
        assert whole.count(True) >= 15
        spool.close(5)

    def test_room_comes_back_once_the_sink_takes_records(self, place: Path, tmp_path: Path) -> None:
        sink = DownSink(tmp_path / "d")
        spool = Spool(place, [sink], max_bytes=100_000)
        while spool.append(record("x", 5000)):
            pass
        sink.up.set()
        assert spool.flush(10)
        until(lambda: spool.append(record("again", 5000)))
        spool.close(5)

    def test_a_record_beyond_any_frame_is_slimmed_or_dropped(self, place: Path, tmp_path: Path) -> None:
        spool = Spool(place, [FileSink(tmp_path / "f")])
        huge = b"h " + bytes(65 << 20)
        assert not spool.append(huge)
        assert spool.append(huge, without_bodies=lambda: record("slim"))
        assert spool.counters()["dropped.size"] == 1
        assert spool.close(5)


class TestDisks:
    def test_without_a_writable_directory_records_wait_in_memory(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        sink = DownSink(tmp_path / "d")
        spool = Spool(tmp_path / "file" / "spool", [sink], memory_bytes=10_000)
        fill(spool, keys(100), size=500)
        counts = spool.counters()
        assert (counts["appended"], counts["in_memory"], counts["dropped.memory"]) == (0, 100, 80)
        assert len([r for r in caplog.records if "is not writable" in r.getMessage()]) == 1
        sink.up.set()
        assert spool.flush(10)
        assert sink.keys() == keys(100)[80:]
        spool.close(5)

    def test_the_disk_is_used_again_when_it_can_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        sink = FileSink(tmp_path / "f")
        spool = Spool(tmp_path / "file", [sink])
        fill(spool, ["memory"])
        (tmp_path / "file").unlink()
        until(lambda: spool.append(record("more")) and spool.counters()["appended"] > 0)
        assert spool.close(10)
        assert sink.keys()[0] == "memory"

    def test_what_waits_in_memory_is_saved_once_the_disk_takes_records_again(self, tmp_path: Path) -> None:
        """So that it outlives the process although its store is still down."""
        (tmp_path / "file").write_text("in the way")
        sinks = [DownSink(tmp_path / "d")]
        spool = Spool(tmp_path / "file", sinks)
        fill(spool, keys(150))
        assert spool.counters()["in_memory"] == 150
        (tmp_path / "file").unlink()
        number = 0
        while spool.counters()["moved_to_disk"] < 150:
            number += 1
            fill(spool, [f"more{number}"])
            time.sleep(0.01)
        on_disk = [
            item.payload.split()[0].decode()
            for path in spool.directory.glob("*.segment")
            for item in scan(path.read_bytes())
            if isinstance(item, Frame)
        ]
        assert set(keys(150)) <= set(on_disk)
        sinks[0].up.set()
        assert spool.flush(10)
        assert set(sinks[0].keys()) >= {*keys(150), "more1"}
        spool.close(5)

    def test_a_short_write_is_undone(self, tmp_path: Path) -> None:
        """RLIMIT_FSIZE cuts a write in the middle as a full disk does: what was accepted is what can be read."""
        script = """
import resource, signal, sys
from pathlib import Path
from callspan.spool.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
spool = Spool(Path(sys.argv[1]), [], memory_bytes=1)
kept = [spool.append(b"k%d " % n + bytes(2000)) for n in range(60)]
print(kept.count(True), spool.append(bytes(60_000)), spool.counters()["dropped.memory"])
"""
        done = subprocess.run(python("-c", script, str(tmp_path / "spool")), capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["60", "False", "1"]
        sink = FileSink(tmp_path / "f")
        counts = ship_once(tmp_path / "spool", [sink], 10)
        assert sink.keys() == keys(60)
        assert counts["corrupt_bytes"] == 0

    def test_a_full_disk_costs_counted_records_only(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)], check=False)
        if mounted.returncode:
            pytest.skip("cannot mount a small tmpfs here")
        try:
            sink = FileSink(tmp_path / "f")
            spool = Spool(disk / "spool", [], memory_bytes=1)
            kept = [spool.append(record(f"k{n}", 3000)) for n in range(200)]
            counts = spool.counters()
            assert 20 < counts["appended"] == kept.count(True) < 110
            assert counts["dropped.memory"] == kept.count(False)
            spool.close(1)
            assert ship_once(disk / "spool", [sink], 10)["corrupt_bytes"] == 0
            assert sink.keys() == [f"k{n}" for n, whether in enumerate(kept) if whether]
            found = f"{kept.count(True)} accepted = {len(sink.keys())} read, {counts['dropped.memory']} drops counted"
            print(f"| Disk of the spool full | {found} |")
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class TestOrphans:
    def test_damage_in_the_middle_is_skipped_kept_and_counted_once(self, place: Path, tmp_path: Path) -> None:
        place.mkdir()
        segment = place / "00000000000000000001-1-aa.segment"
        segment.write_bytes(encode_frame(b"a ") + b"rubbish" + encode_frame(b"b ") + encode_frame(b"torn")[:-1])
        first, second = FileSink(tmp_path / "f"), FileSink(tmp_path / "g", "second")
        counts = ship_once(place, [first, second], 10)
        assert first.keys() == second.keys() == ["a", "b"]
        assert counts["corrupt_bytes"] == len(b"rubbish")
        assert counts["torn_bytes"] == len(encode_frame(b"torn")) - 1
        assert counts["adopted"] == 1
        (bad,) = place.iterdir()
        assert bad.suffix == ".bad"
        assert bad.read_bytes() == b"rubbish"

    def test_more_orphans_than_are_adopted_at_once_are_all_delivered(self, place: Path, tmp_path: Path) -> None:
        place.mkdir()
        for number in range(150):
            (place / f"{number:020d}-1-aa.segment").write_bytes(encode_frame(b"k%d " % number))
        sink = FileSink(tmp_path / "f")
        assert ship_once(place, [sink], 20)["spool_bytes"] == 0
        assert sorted(sink.keys()) == sorted(keys(150))

    def test_more_orphans_are_looked_for_where_the_first_ones_are_delivered_at_once(
        self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def adopt_and_wait(segments: SegmentSet, *, now: bool = False) -> bool:
            found = adopt(segments, now=now)
            if now:
                until(lambda: not segments.sources())
            return found

        place.mkdir()
        for number in range(140):
            (place / f"{number:020d}-1-aa.segment").write_bytes(encode_frame(b"k%d " % number))
        adopt = SegmentSet.adopt
        monkeypatch.setattr(SegmentSet, "adopt", adopt_and_wait)
        sink = FileSink(tmp_path / "f")
        assert ship_once(place, [sink], 20)["spool_bytes"] == 0
        assert len(sink.keys()) == 140

    def test_a_locked_segment_is_not_adopted(self, place: Path, tmp_path: Path) -> None:
        owner = Spool(place, lambda: [DownSink(tmp_path / "d")])
        fill(owner, ["mine"])
        sink = FileSink(tmp_path / "f")
        assert ship_once(place, [sink], 1)["adopted"] == 0
        assert sink.keys() == []
        owner.close(0.1)
        until(lambda: ship_once(place, [sink], 10)["adopted"] == 1)
        assert sink.keys() == ["mine"]

    def test_each_store_gets_what_is_meant_for_it_in_any_order_and_the_last_one_deletes(
        self, place: Path, tmp_path: Path
    ) -> None:
        """One store less leaves the rest to the others, one store more gets nothing of it."""
        down, second = DownSink(tmp_path / "d"), DownSink(tmp_path / "e", "second")
        owner = Spool(place, [down, second])
        fill(owner, ["theirs"])
        owner.close(0.1)
        stranger = FileSink(tmp_path / "f")
        counts = ship_once(place, [stranger], 0.3)
        assert (counts["adopted"], counts["for_other_stores"]) == (0, 1)
        down.up.set()
        assert ship_once(place, [stranger, down], 10)["adopted"] == 1
        assert (stranger.keys(), down.keys()) == ([], ["theirs"])
        assert len(list(place.glob("*.segment"))) == 1
        assert ship_once(place, [down], 10)["adopted"] == 0, "it has everything"
        second.up.set()
        assert ship_once(place, [second], 10)["adopted"] == 1
        assert (down.keys(), second.keys()) == (["theirs"], ["theirs"])
        assert [path.name for path in place.iterdir()] == ["losses.json"]

    def test_what_every_store_has_is_deleted_by_the_process_that_finds_it(self, place: Path, tmp_path: Path) -> None:
        """A process was killed after it had noted its delivery and before it deleted the segment."""
        sinks = [FileSink(tmp_path / "d"), FileSink(tmp_path / "e", "second")]
        keys = store_keys(place, sinks)
        segment = Segment.create(place, keys)
        segment.append(encode_frame(b"a "))
        segment.release()
        for key in keys:
            write_cursor(place, segment.name, key, segment.end)
        ship_once(place, sinks[:1], 10)
        assert sinks[0].keys() == []
        assert not list(place.iterdir())

    def test_the_same_stores_under_another_mount_have_the_same_keys(self, place: Path, tmp_path: Path) -> None:
        owner = Spool(place, [DownSink(tmp_path / "d"), DownSink(tmp_path / "e", "second")])
        fill(owner, ["theirs"])
        owner.close(0.1)
        moved = tmp_path / "moved"
        moved.mkdir()
        place.rename(moved / "spool")
        first, last = DownSink(moved / "d"), DownSink(moved / "e", "second")
        first.up.set()
        last.up.set()
        assert ship_once(moved / "spool", [last, first], 10)["adopted"] == 1
        assert first.keys() == last.keys() == ["theirs"]

    def test_ship_ends_without_progress_or_after_failed_tries(self, place: Path, tmp_path: Path) -> None:
        for limits in ({"tries": 3}, {"idle_s": 0.3}):
            owner = Spool(place, [sink := DownSink(tmp_path / "d")])
            fill(owner, ["a"])
            owner.close(0.1)
            reader, began = Spool(place, [sink]), time.monotonic()
            assert not reader.ship(60, **limits)  # type: ignore[arg-type]
            assert time.monotonic() - began < 10
            reader.close(0.1)

    def test_an_empty_segment_that_may_be_new_is_not_adopted(self, place: Path, tmp_path: Path) -> None:
        place.mkdir()
        fresh = place / "00000000000000000001-1-aa.segment"
        fresh.touch()
        ship_once(place, [FileSink(tmp_path / "f")], 5)
        assert fresh.exists()

    def test_without_sinks_nothing_is_deleted(self, place: Path) -> None:
        spool = Spool(place, [])
        fill(spool, keys(3))
        assert spool.flush(5)
        spool.close(1)
        assert ship_once(place, [], 1)["spool_bytes"] > 0

    def test_ship_does_not_create_a_missing_directory(self, tmp_path: Path) -> None:
        assert ship_once(tmp_path / "none", [FileSink(tmp_path / "f")], 1)["adopted"] == 0
        assert not (tmp_path / "none").exists()

    def test_shipping_gives_up_on_a_dead_sink_in_time(self, place: Path, tmp_path: Path) -> None:
        place.mkdir()
        (place / "00000000000000000001-1-aa.segment").write_bytes(encode_frame(b"a "))
        begun = time.monotonic()
        counts = ship_once(place, [DownSink(tmp_path / "d")], 0.4)
        assert time.monotonic() - begun < 10
        assert counts["spool_bytes"] > 0
