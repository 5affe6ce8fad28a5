"""Components of the spool: segments and their locks, the memory buffer, cursor files, the segment set."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.file_lock import try_lock
from callspan.records import FORMAT
from callspan.spool.directory import (
    BAD_SUFFIX,
    Listing,
    cursor_path,
    read_cursor,
    remove_cursors,
    size_of,
    write_cursor,
)
from callspan.spool.memory_buffer import MemoryBuffer
from callspan.spool.segment import HEAD_BYTES, SUFFIX, Batch, Gap, Segment, _formats, encode_frame
from callspan.spool.segment_set import SegmentSet
from callspan.stores import Entry

from .rig import python, until


def payloads_of(batch: Batch) -> list[bytes]:
    return [entry.payload for entry in batch.entries]


def adopts_and_releases(path: Path) -> bool:
    segment = Segment.adopt(path)
    if segment is not None:
        segment.release()
    return segment is not None


class TestSegment:
    def test_a_new_segment_is_locked_private_and_never_renamed(self, tmp_path: Path) -> None:
        first, second = Segment.create(tmp_path / "a" / "b"), Segment.create(tmp_path / "a" / "b")
        assert first.name < second.name
        assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
        assert first.own
        assert not first.sealed
        first.append(encode_frame(b"x"))
        assert Segment.adopt(first.path) is None
        first.release()
        second.release()

    def test_an_adopted_segment_is_sealed_and_not_the_processs_own(self, tmp_path: Path) -> None:
        writer = Segment.create(tmp_path)
        writer.append(encode_frame(b"x"))
        writer.release()
        adopted = Segment.adopt(writer.path)
        assert adopted is not None
        assert (adopted.own, adopted.sealed, adopted.end) == (False, True, writer.end)
        adopted.remove()
        assert not writer.path.exists()
        assert Segment.adopt(writer.path) is None

    def test_a_child_process_does_not_inherit_the_lock(self, tmp_path: Path) -> None:
        writer = Segment.create(tmp_path)
        writer.append(encode_frame(b"x"))
        child = subprocess.Popen(python("-c", "input()"), stdin=subprocess.PIPE, close_fds=False)
        try:
            writer.release()
            # The kernel lets the parent go on a moment before the child has closed what it may not keep.
            until(lambda: adopts_and_releases(writer.path))
        finally:
            child.communicate(b"\n")

    def test_entries_carry_segment_and_offsets(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        for payload in (b"one", b"three"):
            segment.append(encode_frame(payload))
        first, second = segment.batch(0, 10, 1000).entries
        assert first == Entry(segment.name, 0, HEAD_BYTES + 3, b"one")
        assert second == Entry(segment.name, HEAD_BYTES + 3, segment.end, b"three")
        assert payloads_of(segment.batch(first.end, 10, 1000)) == [b"three"]
        assert segment.batch(segment.end, 10, 1000) == ([], [], segment.end)
        segment.release()

    @given(sizes=st.lists(st.integers(0, 3000), max_size=30), entries=st.integers(1, 9), size=st.integers(1, 6000))
    def test_any_bounds_read_everything_once(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], entries: int, size: int
    ) -> None:
        segment = Segment.create(tmp_path_factory.mktemp("segment"))
        payloads = [bytes([number]) * length for number, length in enumerate(sizes)]
        for payload in payloads:
            segment.append(encode_frame(payload))
        found: list[bytes] = []
        offset = 0
        while (batch := segment.batch(offset, entries, size)).end > offset:
            assert 1 <= len(batch.entries) <= entries
            assert len(batch.entries) == 1 or sum(map(len, payloads_of(batch))) <= size
            assert not batch.gaps
            found += payloads_of(batch)
            offset = batch.end
        assert found == payloads
        segment.release()

    def test_frames_larger_than_the_reading_window_are_read(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        payloads = [b"a" * 10, b"b" * (9 << 20), b"c" * (2 << 20), b"d"]
        for payload in payloads:
            segment.append(encode_frame(payload))
        assert payloads_of(segment.batch(0, 100, 1 << 30)) == payloads
        segment.release()

    def test_damage_larger_than_the_reading_window_is_one_way_to_the_next_frame(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        segment.append(encode_frame(b"before"))
        start = segment.end
        segment.append(b"\0" * (3 << 20))
        segment.append(encode_frame(b"after"))
        batch = segment.batch(0, 100, 1 << 30)
        assert payloads_of(batch) == [b"before", b"after"]
        assert batch.gaps[0].start == start
        assert sum(gap.end - gap.start for gap in batch.gaps) == 3 << 20
        segment.release()

    def test_a_file_cut_by_another_process_ends_the_reading(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        segment.append(encode_frame(b"kept"))
        kept = segment.end
        segment.append(encode_frame(b"lost"))
        os.truncate(segment.path, kept)
        batch = segment.batch(0, 100, 1000)
        assert payloads_of(batch) == [b"kept"]
        assert batch.end == segment.end
        segment.release()

    def test_what_is_appended_while_reading_is_not_passed_over(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        count = 3000

        def write() -> None:
            for number in range(count):
                segment.append(encode_frame(b"%d" % number * 20))

        writer = threading.Thread(target=write)
        writer.start()
        found: list[bytes] = []
        offset = 0
        while len(found) < count:
            batch = segment.batch(offset, 50, 1 << 20)
            assert not batch.gaps
            found += payloads_of(batch)
            offset = batch.end
        writer.join()
        assert found == [b"%d" % number * 20 for number in range(count)]
        segment.release()

    def test_releasing_and_removing_twice_is_harmless(self, tmp_path: Path) -> None:
        segment = Segment.create(tmp_path)
        segment.remove()
        segment.remove()
        segment.release()
        segment.sync()

    def test_a_lock_is_free_again_when_its_file_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        first, second = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
        assert try_lock(first)
        assert not try_lock(second)
        os.close(first)
        assert try_lock(second)
        os.close(second)


class TestRing:
    def test_the_oldest_records_are_dropped_first_and_counted(self) -> None:
        buffer = MemoryBuffer(100)
        dropped = [entry.payload for number in range(15) for entry in buffer.append(b"%010d" % number)]
        assert dropped == [b"%010d" % number for number in range(5)]
        assert payloads_of(buffer.batch(0, 100, 1000)) == [b"%010d" % number for number in range(5, 15)]

    def test_what_all_sinks_have_makes_room_without_being_counted(self) -> None:
        buffer = MemoryBuffer(100)
        for number in range(30):
            assert not buffer.append(b"%010d" % number)
            batch = buffer.batch(number * 10, 10, 1000)
            assert payloads_of(batch) == [b"%010d" % number]
            buffer.discard_before(batch.end)

    def test_a_reader_behind_dropped_records_continues_with_the_rest(self) -> None:
        buffer = MemoryBuffer(30)
        for number in range(9):
            buffer.append(b"%010d" % number)
        batch = buffer.batch(10, 2, 1000)
        assert payloads_of(batch) == [b"%010d" % 6, b"%010d" % 7]
        assert payloads_of(buffer.batch(batch.end, 2, 1000)) == [b"%010d" % 8]

    def test_batches_are_bounded_in_bytes(self) -> None:
        buffer = MemoryBuffer(1000)
        for _ in range(9):
            buffer.append(b"x" * 10)
        assert len(buffer.batch(0, 100, 35).entries) == 3
        assert len(buffer.batch(0, 100, 1).entries) == 1

    def test_a_record_larger_than_the_memory_buffer_is_refused_and_drops_no_other(self) -> None:
        buffer = MemoryBuffer(100)
        buffer.append(b"small")
        assert [entry.payload for entry in buffer.append(b"x" * 101)] == [b"x" * 101]
        assert payloads_of(buffer.batch(0, 9, 1000)) == [b"small"]

    def test_a_removed_memory_buffer_is_empty(self) -> None:
        buffer = MemoryBuffer(100)
        buffer.append(b"x")
        buffer.remove()
        assert buffer.batch(0, 9, 1000) == ([], (), buffer.end)


class TestCursorFiles:
    def test_a_cursor_is_kept_by_segment_and_store(self, tmp_path: Path) -> None:
        write_cursor(tmp_path, "a.segment", "5e3340b33aa7", 7)
        write_cursor(tmp_path, "a.segment", "5e3340b33aa7", 123456789012)
        write_cursor(tmp_path, "a.segment", "0e1bd2ffd4d9", 5)
        assert read_cursor(tmp_path, "a.segment", "5e3340b33aa7") == 123456789012
        assert read_cursor(tmp_path, "a.segment", "0e1bd2ffd4d9") == 5
        assert read_cursor(tmp_path, "b.segment", "5e3340b33aa7") == 0

    @pytest.mark.parametrize("content", [b"", b"abc", b"\xff\xfe", b"-5"])
    def test_a_cursor_that_cannot_be_read_means_from_the_beginning(self, tmp_path: Path, content: bytes) -> None:
        cursor_path(tmp_path, "a.segment", "x").write_bytes(content)
        assert read_cursor(tmp_path, "a.segment", "x") == 0

    def test_only_the_cursors_of_the_segment_are_removed(self, tmp_path: Path) -> None:
        write_cursor(tmp_path, "a.segment", "x", 1)
        write_cursor(tmp_path, "b.segment", "x", 1)
        (tmp_path / "a.segment.5.bad").touch()
        remove_cursors(tmp_path, "a.segment")
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bad", ".cursor"]
        assert read_cursor(tmp_path, "b.segment", "x") == 1


class TestShelf:
    def test_a_sealed_segment_is_removed_when_the_last_sink_has_passed_it(self, tmp_path: Path) -> None:
        segments = SegmentSet(tmp_path)
        segments.expect(2)
        segment = segments.create()
        segment.append(encode_frame(b"x"))
        segments.advance(segment, 0, segment.end)
        segments.advance(segment, 1, segment.end)
        assert segments.holds(segment), "it may still grow"
        segment.seal()
        segments.remove_delivered(segment)
        assert not segment.path.exists()

    def test_waiting_ends_with_the_last_sink_or_in_time(self, tmp_path: Path) -> None:
        segments = SegmentSet(tmp_path)
        segments.expect(1)
        segment = segments.create()
        segment.append(encode_frame(b"x"))
        assert not segments.wait([(segment, segment.end)], time.monotonic() + 0.02)
        threading.Timer(0.02, segments.advance, (segment, 0, segment.end)).start()
        assert segments.wait([(segment, segment.end)], time.monotonic() + 10)
        segments.release_all()

    def test_cursors_of_deleted_segments_are_removed(self, tmp_path: Path) -> None:
        write_cursor(tmp_path, "1-1-a.segment", "x", 5)
        SegmentSet(tmp_path).adopt(now=True)
        assert list(tmp_path.iterdir()) == []

    def test_unrelated_files_in_the_directory_are_left_alone(self, tmp_path: Path) -> None:
        for name in ("notes.txt", "1.segment.7.bad", ".hidden"):
            (tmp_path / name).write_text("mine")
        segments = SegmentSet(tmp_path)
        assert not segments.adopt(now=True)
        assert len(list(tmp_path.iterdir())) == 3
        assert segments.measure() == 0

    def test_the_directory_is_scanned_for_orphans_at_intervals(self, tmp_path: Path) -> None:
        segments = SegmentSet(tmp_path)
        assert not segments.adopt()
        (tmp_path / "1-1-a.segment").write_bytes(encode_frame(b"x"))
        assert not segments.adopt()
        assert segments.adopt(now=True)
        assert segments.measure() == len(encode_frame(b"x"))
        segments.release_all()

    def test_a_gap_met_by_two_sinks_is_counted_once(self, tmp_path: Path) -> None:
        segments = SegmentSet(tmp_path)
        segment = segments.create()
        segment.append(b"bad" + encode_frame(b"x"))
        for _ in range(2):
            segments.damaged(segment, Gap(0, 3), b"bad")
        assert segments.corrupt_bytes == 3
        segments.release_all()

    def test_damage_that_cannot_be_saved_is_not_reported_as_saved(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        segments = SegmentSet(tmp_path)
        segment = segments.create()
        segment.append(b"bad" + encode_frame(b"x"))
        (tmp_path / f"{segment.name}.0{BAD_SUFFIX}").mkdir()
        segments.damaged(segment, Gap(0, 3), b"bad")
        messages = [record.getMessage() for record in caplog.records if "Damage in" in record.getMessage()]
        assert len(messages) == 1
        assert messages[0].endswith("they could not be kept")
        segments.release_all()

    def test_sealed_segments_are_released_when_the_last_shipper_has_ended(self, tmp_path: Path) -> None:
        segments = SegmentSet(tmp_path)
        segment = segments.create()
        segment.append(encode_frame(b"x"))
        segment.seal()
        segments.enter()
        segments.finish()
        assert Segment.adopt(segment.path) is None
        segments.leave()
        adopted = Segment.adopt(segment.path)
        assert adopted is not None
        adopted.release()


class TestFormats:
    def test_a_segment_has_the_format_of_its_first_whole_record(self, tmp_path: Path) -> None:
        """Of any length, and behind any damage; content states none."""
        old, new = (b'{"kind":"call","call_id":"c","schema_version":%d}' % number for number in (1, FORMAT))
        stating = b'{"input":%b}' % old
        cut = encode_frame(old)[:20]
        wrong_length = encode_frame(new)[:4] + b"\xff\xff" + encode_frame(new)[6:]
        frames = {
            "empty": b"",
            "new": encode_frame(new) + encode_frame(old),
            "content": encode_frame(stating) + encode_frame(old),
            "torn": cut,
            "damaged": encode_frame(old)[:-1] + b"x" + encode_frame(new) + cut,
            "rest": bytes(90) + stating + encode_frame(new),
            "old": encode_frame(old) + encode_frame(new),
            "old behind damage": bytes(90) + encode_frame(old),
            "old behind a wrong length": wrong_length + encode_frame(old) * 3000,
            "old and long": encode_frame(old + b" " * 300_000) + encode_frame(new),
        }
        for name, data in frames.items():
            (tmp_path / f"{name}{SUFFIX}").write_bytes(data)
        others = {f"{name}{SUFFIX}": 1 for name in frames if name.startswith("old")}
        for _ in range(2):
            assert Listing(tmp_path).others == others
            assert size_of(tmp_path) == sum(len(data) for name, data in frames.items() if not name.startswith("old"))
        for name in others:
            assert Segment.adopt(tmp_path / name) is None

    def test_only_the_formats_of_segments_that_are_there_are_remembered(self, tmp_path: Path) -> None:
        for number in range(3):
            path = tmp_path / f"{number}{SUFFIX}"
            path.write_bytes(encode_frame(b"x"))
            tmp_path.joinpath("losses.json").write_bytes(encode_frame(b"x"))
            for _ in range(2):
                assert size_of(tmp_path) == path.stat().st_size
                assert _formats.get(tmp_path) == {path.name: FORMAT}
            path.unlink()
        assert not Listing(tmp_path).segments
        assert not _formats.get(tmp_path)
