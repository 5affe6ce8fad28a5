"""The spool keeps appended records, whatever happens to stores, files and processes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType

import pytest
from tests.support.identities import BEFORE_RESTART, ELSEWHERE, GONE, HERE
from tests.support.processes import ran, small_disk
from tests.support.records import SECOND, session
from tests.support.rig import (
    DownSink,
    FileSink,
    HangingSink,
    SqliteSink,
    deliver_left,
    in_child,
    key_of,
    listing,
    record,
    rows,
    spool_of,
    target,
)
from tests.support.scale import scaled
from tests.support.waiting import HANG_S, until

from callspan.records import encode
from callspan.runtime.process_identity import UNKNOWN_AFTER_S
from callspan.spool import directory as spool_files
from callspan.spool.delivering import Destination, NoFreeConnectionError
from callspan.spool.losses import LOSSES_FILE, Loss, LossCounter, Losses, add_losses, read_losses
from callspan.spool.segment import OWN_SUFFIX, Segment, is_locked, is_own, line_of, lines_in, open_private
from callspan.spool.spool import SEGMENT_BYTES, Spool


class ServerSink(FileSink):
    """Notes when it is opened and closed."""

    is_shared = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.changes = list[str]()

    def open(self) -> None:
        self.changes.append("open")

    def close(self) -> None:
        self.changes.append("close")


def test_dead_store_does_not_slow_a_healthy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.spool.shipper._LINGER_S", 0.05)
    healthy, dead = FileSink(tmp_path / "healthy", 100), DownSink(tmp_path / "dead")
    spool = spool_of(tmp_path / "spool", max_bytes=200_000, healthy=healthy, dead=dead)
    keys = [f"k{number}" for number in range(2000)]
    for key in keys:
        assert spool.append(record(key, 1000))
        if key.endswith(("49", "99")):
            until(lambda count=int(key[1:]) + 1: len(healthy.keys()) == count)  # type: ignore[misc]
    assert healthy.keys() == keys
    given_up = spool.counters()["given_up.x://dead"]
    dead.up.set()
    assert spool.close(HANG_S)
    assert given_up > 1000
    assert dead.keys() == keys[given_up:]
    assert read_losses(spool.directory).given_up["x://dead"].count == given_up
    assert not read_losses(spool.directory).dropped


def test_delivered_segment_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TIDY_S", "_MAX_AGE_S"):
        monkeypatch.setattr(f"callspan.spool.spool.{name}", 0.0)
    sink = FileSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    for key in ("a", "b"):
        assert spool.append(record(key))
        until(lambda: spool_files.segments_in(spool.directory) == [])
        assert sink.has(key)
    assert spool.close(HANG_S)


def test_delivered_histories_leave_at_most_a_segment(tmp_path: Path) -> None:
    """Four agents send their whole history, 4 KB longer in each of 80 turns: 53 MB."""
    delivered, waiting = FileSink(tmp_path / "delivered", 100), DownSink(tmp_path / "waiting")
    healthy, down = spool_of(tmp_path / "healthy", one=delivered), spool_of(tmp_path / "down", two=waiting)
    turns = [(f"agent{agent}-turn{turn}", 4096 * turn) for agent in range(4) for turn in range(1, 81)]
    for key, size in turns:
        assert healthy.append(record(key, size))
        assert down.append(record(key, size))
        if key.endswith("turn80"):
            until(lambda: spool_files.size_of(healthy.directory) <= SEGMENT_BYTES)
    assert spool_files.size_of(down.directory) > sum(size for _, size in turns)
    waiting.up.set()
    assert healthy.close(HANG_S)
    assert down.close(HANG_S)
    assert delivered.keys() == waiting.keys() == [key for key, _ in turns]


def test_full_spool_keeps_old_records_and_counts_drops(tmp_path: Path) -> None:
    dead = DownSink(tmp_path / "dead")
    spool = spool_of(tmp_path / "spool", max_bytes=100_000, dead=dead)
    kept = [spool.append(record(f"k{number}", 1000)) for number in range(300)]
    assert kept[:80] == [True] * 80
    assert False in kept
    dead.up.set()
    spool.count("unrecorded", "POST /v1/videos")
    assert spool.flush(HANG_S)
    assert read_losses(spool.directory).unrecorded["POST /v1/videos"].count == 1
    assert spool.append(record("after the backlog", 1000))
    assert spool.close(HANG_S)
    assert dead.keys() == [f"k{number}" for number, was_kept in enumerate(kept) if was_kept] + ["after"]
    assert read_losses(spool.directory).dropped["cap"].count == kept.count(False)


def test_refusing_store_is_not_healthy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again without delay, as for a record of the running spool."""
    for name in ("_MIN_WAIT_S", "_MAX_WAIT_S"):
        monkeypatch.setattr(f"callspan.spool.shipper.{name}", 2 * HANG_S)
    dead = DownSink(tmp_path / "out")
    closed, spool = (spool_of(tmp_path / "spool", one=dead) for _ in range(2))
    closed.append(record("left"))
    closed.close(0)
    until(lambda: not spool.flush(0.1) and spool.counters()["retried"] > 1)
    assert "accepts records again" not in caplog.text
    dead.up.set()
    assert spool.close(HANG_S)
    assert dead.keys() == ["left"]


class FailingSink(FileSink):
    """Fails for the first time after a while, then at once."""

    attempts = 0

    def open(self) -> None:
        self.attempts += 1
        time.sleep(0.2 if self.attempts == 1 else 0)
        raise ConnectionRefusedError


def test_flush_of_a_failing_store_keeps_pauses(tmp_path: Path) -> None:
    sink = FailingSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    spool.append(record("first"))
    assert not spool.flush(1)
    assert sink.attempts <= 1 + 1 / 0.05
    spool.close(0)


def test_append_in_a_signal_handler_is_kept_once(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "out", 1000)
    spool = spool_of(tmp_path / "spool", one=sink)
    acknowledged, handled, numbers = list[str](), list[str](), count()

    def append() -> str:
        key = f"k{next(numbers)}"
        if spool.append(record(key)):
            acknowledged.append(key)
        return key

    def handler(*_: object) -> None:
        handled.append(append())

    # In CPU time, because on a busy machine signals would arrive faster than handlers end.
    before = signal.signal(signal.SIGPROF, handler)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    thread = threading.Thread(target=lambda: [append() for _ in range(3000)])
    thread.start()
    try:
        for _ in range(8000):
            append()
        while len(handled) <= 20:
            append()
        thread.join()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert spool.close(HANG_S)
    assert sorted(sink.keys()) == sorted(acknowledged)


def test_fork_beside_a_hanging_store_is_quick(tmp_path: Path) -> None:
    hanging, good = HangingSink(tmp_path / "hanging"), FileSink(tmp_path / "good")
    spool = spool_of(tmp_path / "spool", hanging=hanging, good=good)
    spool.append(record("parent"))
    assert hanging.reached.wait(HANG_S)
    child = os.fork()
    if not child:
        os._exit(0 if spool.append(record("child")) and (spool.flush(0.5) or True) else 1)
    assert not hanging.keys(), "the fork has waited until the store went on"
    assert os.waitpid(child, 0)[1] == 0
    hanging.freed.set()
    assert spool.close(HANG_S)
    deliver_left(tmp_path / "spool", "hanging", hanging)
    deliver_left(tmp_path / "spool", "good", good)
    assert sorted(hanging.keys()) == ["child", "parent"]
    assert sorted(set(good.keys())) == ["child", "parent"]
    assert not spool_files.segments_in(spool.directory)


def test_descriptor_is_not_a_standard_stream(tmp_path: Path) -> None:
    code = (
        "import os\nos.close(0); os.close(1); os.close(2)\n"
        "from pathlib import Path\nfrom tests.support.rig import *\n"
        f"spool = spool_of(Path({str(tmp_path)!r}) / 'spool', one=DownSink(Path({str(tmp_path)!r}) / 'out'))\n"
        "assert spool.append(record('a'))\n"
        "try: os.write(1, b'what the application prints')\nexcept OSError: pass\n"
        "assert spool.append(record('b'))\nos._exit(7)\n"
    )
    ran("-c", code, cwd=tmp_path, code=7)
    (directory,) = spool_files.directories_in([tmp_path / "spool"])
    (segment,) = spool_files.segments_in(directory)
    assert [key_of(line.payload or b"") for line in lines_in(segment.read_bytes(), 0)] == ["a", "b"]


def held(directory: Path, suffix: str = "") -> int:
    """The number of its open files, also deleted ones, with this in their names."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            link = str(path.readlink())
            found += link.startswith(f"{directory}/") and suffix in link
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=512k") as place:
        yield place


def test_uncounted_losses_are_printed_at_exit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    spool = spool_of(tmp_path / "file" / "spool", one=FileSink(tmp_path / "out"))
    assert not spool.append(record("k"))
    spool.at_exit(0)
    assert capsys.readouterr().err == "callspan: lost 1 record; the loss could not be written to a file\n"


def test_record_with_line_ends_is_one_line(tmp_path: Path) -> None:
    """As a body that `redact` has returned."""
    sink = FileSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    assert spool.append(b'k {\n"a": 1\n}')
    assert spool.close(HANG_S)
    assert sink.keys() == ["k"]
    assert read_losses(spool.directory) == Losses(writes=1)


def test_full_disk_falls_back_to_another_directory(tmp_path: Path, disk: Path) -> None:
    down = DownSink(tmp_path / "out")
    spool = spool_of(disk / "spool", fallback=[tmp_path / "temporary"], one=down)
    keys = [f"k{number}" for number in range(1000)]
    assert all(spool.append(record(key, 1000)) for key in keys)
    down.up.set()
    assert spool.close(HANG_S)
    assert down.keys() == keys


def test_loss_on_a_full_disk_is_reported_and_counted(
    tmp_path: Path, disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while records go to another directory."""
    monkeypatch.setattr("callspan.spool.spool.SEGMENT_BYTES", 50_000)
    monkeypatch.setattr("callspan.spool.shipper._LINGER_S", 0.05)
    healthy, down = FileSink(tmp_path / "healthy"), DownSink(tmp_path / "down")
    spool = spool_of(disk / "spool", fallback=[tmp_path / "temporary"], healthy=healthy, down=down)
    full, number = spool.directory, 0
    while "given up" not in caplog.text and number < 1000:
        assert spool.append(record(f"k{number}", 1000))
        number += 1
        if not number % 40:
            until(partial(healthy.has, f"k{number - 1}"))
    until(lambda: "given up" in caplog.text)
    spool.losses.write()
    lost = read_losses(full).given_up["x://down"].count
    assert f"given up for x://down, which lacks them: {full} is at its cap, or its disk is full" in caplog.text
    assert not read_losses(spool.losses.directory).given_up
    down.up.set()
    assert spool.close(HANG_S)
    assert len(down.keys()) == number - lost


def test_full_disk_counts_drops(tmp_path: Path, disk: Path) -> None:
    down = DownSink(tmp_path / "out")
    spool = spool_of(disk / "spool", one=down)
    kept = [spool.append(record(f"k{number}", 1000)) for number in range(1000)]
    assert kept.count(False) > 300
    assert held(disk) < 8
    full = os.strerror(errno.ENOSPC)
    until(
        lambda: (lost := read_losses(spool.directory).dropped.get(full)) and lost.count == kept.count(False),
        lambda: read_losses(spool.directory),
    )
    down.up.set()
    assert spool.flush(HANG_S)
    assert down.keys() == [f"k{number}" for number, was_kept in enumerate(kept) if was_kept]
    assert spool.append(record("room again"))
    assert spool.close(HANG_S)


@pytest.mark.parametrize(("count", "size", "torn"), [(300, 200, 0), (60, 50_000, 0), (1, 200, 50)])
def test_reader_delivers_only_its_share(tmp_path: Path, count: int, size: int, torn: int) -> None:
    """For segments of any length, which are read in pieces of 1 MiB, at whose end a batch may end.

    An incomplete line was never acknowledged and does not keep a delivered segment.
    """
    one, two = DownSink(tmp_path / "one"), DownSink(tmp_path / "two")
    spool, keys = spool_of(tmp_path / "spool", one=one, two=two), [f"k{number}" for number in range(count)]
    for key in keys:
        spool.append(record(key, size))
    spool.close(0)
    (segment,) = spool_files.segments_in(spool.directory)
    with segment.open("ab") as file:
        file.write(line_of(record("torn"))[:torn])
    for name, sink, remaining in (("one", one, 1), ("two", two, 0)):
        sink.up.set()
        sink.batch_records = 100
        key = target(name).key(tmp_path / "spool")
        assert sum(one.records for one in spool_files.waiting(spool.directory, key)) == count
        done = deliver_left(tmp_path / "spool", name, sink)
        assert (done.delivered, done.damaged, done.error) == (count, 0, None)
        assert sink.keys() == keys
        assert len(spool_files.segments_in(spool.directory)) == remaining


def test_only_a_process_with_all_stores_adopts(tmp_path: Path) -> None:
    few = spool_of(tmp_path / "spool", one=DownSink(tmp_path / "one"))
    few.append(record("left"))
    few.close(0)
    sinks = {"one": FileSink(tmp_path / "one"), "two": FileSink(tmp_path / "two")}
    more = spool_of(tmp_path / "spool", **sinks)
    more.append(record("more"))
    until(lambda: set(sinks["one"].keys()) == {"left", "more"})
    assert more.close(HANG_S)
    assert sinks["two"].keys() == ["more"]
    assert not spool_files.segments_in(few.directory)


def test_flush_delivers_leftovers_without_waiting(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    other = os.fork()
    if not other:
        spool_of(tmp_path / "spool", one=DownSink(tmp_path / "nothing")).append(record("theirs"))
        os.write(writer, b"!")
        time.sleep(HANG_S)
        os._exit(0)
    assert os.read(reader, 1) == b"!"
    down = DownSink(tmp_path / "out")
    first, second = (spool_of(tmp_path / "spool", one=down) for _ in range(2))
    first.append(record("early"))
    first.close(0)
    second.append(record("late"))
    assert not second.flush(0.5)
    down.up.set()
    flushed = second.flush(HANG_S)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert flushed
    assert sorted(down.keys()) == ["early", "late"]
    until(lambda: [one.name for one in threading.enumerate()].count("callspan-x://one") == 1)
    assert second.close(HANG_S)


def test_deleted_directory_is_recreated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.spool.spool._TIDY_S", 0.0)
    sink = DownSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    spool.append(record("before"))
    shutil.rmtree(tmp_path / "spool")
    scans = spool.counters()["retried"] + 3
    until(lambda: spool.counters()["retried"] > scans)
    assert spool.append(record("after"))
    (segment,) = spool_files.segments_in(spool.directory)
    assert b"after" in segment.read_bytes()
    sink.up.set()
    assert spool.close(HANG_S)
    assert sink.keys() == ["before", "after"]


@pytest.mark.parametrize("torn", [0, 100, 20_000])
def test_torn_loss_file_keeps_the_previous_counts(tmp_path: Path, torn: int) -> None:
    written = []
    for number in (1, 2, 3):
        add_losses(tmp_path, Losses(dropped={f"reason {number}": Loss(number, 1, 2)}))
        written.append((tmp_path / LOSSES_FILE).read_bytes())
    assert len({len(data) for data in written}) == 1
    # The third write replaces the first: up to `torn` bytes of it reach the file.
    changed = next(at for at in range(len(written[1])) if written[1][at] != written[2][at])
    (tmp_path / LOSSES_FILE).write_bytes(written[2][: changed + torn] + written[1][changed + torn :])
    assert set(read_losses(tmp_path).dropped) in ({"reason 1", "reason 2"}, {"reason 1", "reason 2", "reason 3"})


def test_losses_of_many_names_fit_the_file(tmp_path: Path) -> None:
    many = Losses()
    for number in range(500):
        for kind in ("dropped", "given_up", "rejected", "damaged", "unrecorded"):
            many.add(kind, f'{number} "ä\\' * 40, Loss(1, 1 << 62, 1 << 62))
    add_losses(tmp_path, many)
    size = (tmp_path / LOSSES_FILE).stat().st_size
    add_losses(tmp_path, many)
    assert (tmp_path / LOSSES_FILE).stat().st_size == size
    assert sum(loss.count for loss in read_losses(tmp_path).dropped.values()) == 1000


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


def test_records_are_delivered_after_a_failed_thread_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush does not wait for a thread that is not there."""
    one, other = FileSink(tmp_path / "one"), FileSink(tmp_path / "other")
    spool = spool_of(tmp_path / "spool", one=one, other=other)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert spool.append(record("first"))
        begun = time.monotonic()
        assert not spool.flush(HANG_S)
        assert time.monotonic() - begun < HANG_S
    assert spool.append(record("second"))
    assert spool.close(HANG_S)
    assert one.keys() == other.keys() == ["first", "second"]


def test_losses_are_written_after_a_failed_thread_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until(lambda: "callspan-losses" not in {thread.name for thread in threading.enumerate()})
    counter = LossCounter(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("_thread.start_new_thread", refuse)
        counter.add("dropped", "cap")
    counter.add("dropped", "cap")
    until(lambda: (found := read_losses(tmp_path)).dropped.keys() == {"cap"} and found.dropped["cap"].count == 2)


def test_fsync_syncs_directories_of_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power failure leaves records in a file or directory without a name."""
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        os_fsync(descriptor)

    os_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    spool = Spool([tmp_path / "new" / "spool"], {target("one"): lambda: FileSink(tmp_path / "out")}, sync=True)
    assert spool.append(record("a"))
    made = (spool.directory, *spool.directory.parents)[:4]
    assert {directory.stat().st_ino for directory in made} <= set(synced)
    assert spool.close(HANG_S)


def test_processes_with_equal_ids_may_create_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers number their processes alike."""

    def replaced(fresh: Path, name: Path) -> Path:
        monkeypatch.undo()
        assert theirs.append(record("theirs"))
        return fresh.replace(name)

    theirs, spool = (spool_of(tmp_path / "spool", one=FileSink(tmp_path / "out")) for _ in range(2))
    monkeypatch.setattr(Path, "replace", replaced)
    assert spool.append(record("mine"))
    assert len(spool_files.segments_in(spool.directory)) == 2
    assert theirs.close(HANG_S)
    assert spool.close(HANG_S)


def test_segment_locked_by_another_process_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:

        def tested(path: Path, flags: int) -> int:
            monkeypatch.undo()
            descriptor = open_private(path, flags)
            other = os.open(path, os.O_RDONLY)
            stack.callback(os.close, other)
            fcntl.flock(other, fcntl.LOCK_EX)
            return descriptor

        monkeypatch.setattr("callspan.spool.segment.open_private", tested)
        segment = Segment.create(tmp_path, frozenset())
        assert is_locked(segment.path)
        assert list(tmp_path.iterdir()) == [segment.path]
        segment.remove()


def test_store_list_is_synced_on_its_own_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes milliseconds, for which no caller waits."""
    synced = dict[int, threading.Thread]()

    def fsync(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = threading.current_thread()
        os_fsync(descriptor)

    os_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    spool = spool_of(tmp_path / "spool", one=FileSink(tmp_path / "out"))
    assert spool.append(record("a"))
    stores = (spool.directory / spool_files.STORES_FILE).stat().st_ino
    assert threading.current_thread() not in synced.values()
    until(lambda: stores in synced)
    assert spool.close(HANG_S)


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
@pytest.mark.parametrize(
    ("process", "age_s", "waits_on"),
    [
        (GONE, 0, []), (HERE, 0, []), (BEFORE_RESTART, 0, []),
        (ELSEWHERE, 0, ["nfs4"]), ("", 0, ["nfs4"]), (ELSEWHERE, UNKNOWN_AFTER_S + 60, []),
    ],
    ids=["gone", "here", "before a restart", "elsewhere", "unknown", "silent"],
)  # fmt: skip
def test_segment_is_adopted_unless_its_process_may_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, process: str, age_s: int, waits_on: list[str]
) -> None:
    """The lock states it, except on a network file system, where it may be that of one machine only."""
    mounts, sink = tmp_path / "mounts", FileSink(tmp_path / "out")
    mounts.write_text(f"disk {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr("callspan.runtime.file_lock._MOUNTS", mounts)
    theirs = spool_of(tmp_path / "spool", one=DownSink(tmp_path / "down"))
    assert theirs.append(record("theirs"))
    theirs.close(0)
    (segment,) = spool_files.segments_in(theirs.directory)
    until(lambda: not is_locked(segment))
    segment = segment.rename(segment.with_name(f"{1:020d}-{process.replace('/', '+')}-0a{OWN_SUFFIX}"))
    os.utime(segment, (time.time() - age_s,) * 2)
    waits = kind in waits_on
    spool = spool_of(tmp_path / "spool", one=sink)
    assert is_locked(segment) is waits
    assert [one.is_held for one in spool_files.waiting(theirs.directory, target("one").key(tmp_path / "spool"))] == [
        waits
    ]
    assert spool.flush(HANG_S)
    assert sink.keys() == ([] if waits else ["theirs"])
    assert spool.close(HANG_S)


def test_segment_states_its_process(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, frozenset())
    assert str(HERE).replace("/", "+") in segment.path.name
    assert is_own(segment.path)
    segment.remove()


def test_directory_of_another_user_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may create the directory in `/tmp` that is used if the usual one is not writable."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("callspan.spool.spool._TIDY_S", 0.0)
    root, store = spool_files.fallback_roots()[0], target("one")
    theirs = spool_of(root, one=DownSink(tmp_path / "down"))
    assert theirs.append(record("theirs", 5000))
    theirs.close(0)
    (segment,) = spool_files.segments_in(theirs.directory)
    segment.with_name(f"{segment.name}.{store.key(root)}.cursor").write_text(str(segment.stat().st_size))
    spool = spool_of(tmp_path / "spool", max_bytes=3000, fallback=[root], one=FileSink(tmp_path / "out"))
    root.chmod(0o777)
    assert listing(root, store) == []
    assert spool.append(record("a"))
    spool.tidy()
    assert segment.exists()
    if os.geteuid() == 0:  # only root may change the owner of a directory
        root.chmod(0o700)
        os.chown(root, 12_345, -1)
        assert listing(root, store) == []
        os.chown(root, 0, -1)
    root.chmod(0o700)
    assert len(listing(root, store)) == 1
    spool.tidy()
    until(lambda: not segment.exists())  # the spool's own thread may be about to delete it
    assert spool.close(HANG_S)


def test_group_readable_directory_is_made_private(tmp_path: Path) -> None:
    """Kubernetes opens it whenever it mounts a volume with `fsGroup`."""
    for key in ("a", "b"):
        spool = spool_of(tmp_path / "spool", one=FileSink(tmp_path / "out"))
        assert spool.append(record(key))
        assert spool.close(HANG_S)
        assert spool.directory.stat().st_mode & 0o7777 == 0o700
        spool.directory.chmod(0o2770)


@pytest.mark.parametrize("name", ["hanging", "größe", "n" * 200])
def test_losses_of_a_hanging_store_are_reported(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file of losses has only a part of its name, in ASCII."""
    hanging, good, store = HangingSink(tmp_path / "hanging"), FileSink(tmp_path / "good"), f"x://{name}"
    spool = spool_of(tmp_path / "spool", max_bytes=2000, **{name: hanging, "good": good})
    assert spool.append(record("first"))
    assert hanging.reached.wait(HANG_S)
    for number in range(20):
        assert spool.append(record(f"k{number}"))
        until(lambda key=f"k{number}": good.has(key))  # type: ignore[misc]
    until(lambda: f" given up for {store}, which lacks them" in caplog.text)
    hanging.freed.set()
    assert next(one.given_up for one in spool.states() if one.name == store) > 0
    spool.close(HANG_S)
    (loss,) = read_losses(spool.directory).given_up.values()
    assert spool.counters()[f"given_up.{store}"] == loss.count
    assert "0 records given up" not in caplog.text
    assert {path.name for path in spool.directory.iterdir()} == {"stores", "losses"}


def test_backlog_age_is_that_of_its_oldest_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with few calls appends to one segment for weeks, and its retention and its alerts would be wrong."""
    store, now_ns = target("one"), time.time_ns()
    directory, key = spool_files.directory_of(tmp_path, [store]), store.key(tmp_path)
    spool_files.create(directory, [store])
    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: now_ns - 3600 * SECOND)
        segment = Segment.create(directory, frozenset({key}))
    assert segment.append(record("delivered"))
    segment.move(key, segment.size)
    assert spool_files.oldest(directory, key) is None
    for ago_s in (60, 30):
        assert segment.append(encode(session("s", seen_ns=1, start_ns=now_ns - ago_s * SECOND)))
    assert spool_files.oldest(directory, key) == now_ns - 60 * SECOND
    segment.close()


def as_another_user(root: Path, work: Callable[[], object]) -> None:
    """Do the work in a child, in this directory, whose parents may be private."""
    descriptor = os.open(root, os.O_DIRECTORY)

    def there() -> object:
        os.setuid(12_345)
        os.fchdir(descriptor)
        return work()

    in_child(there)
    os.close(descriptor)


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@only_root
def test_own_spool_is_found_beside_foreign_ones(tmp_path: Path) -> None:
    """Several users may share `CALLSPAN_SPOOL_DIR`, and one may temporarily have been root."""
    root = tmp_path / "spool"
    root.mkdir()
    mine, theirs = (spool_files.directory_of(root, [target(name)]) for name in ("one", "theirs"))
    for directory, name in ((mine, "one"), (theirs, "theirs")):
        directory.mkdir()
        (directory / spool_files.STORES_FILE).write_text(f"x://{name}\n")
    theirs.chmod(0o700)
    for name, mode in (("a", 0o600), ("b", 0o644)):
        segment = mine / f"{name}{OWN_SUFFIX}"
        segment.write_bytes(line_of(record(name)))
        segment.chmod(mode)

    def finds_mine() -> bool:
        assert [one.name for one in spool_files.directories_in([Path()])] == [mine.name]
        (waits,) = spool_files.waiting(Path(mine.name), spool_files.key_of("x://one"))
        return waits.path.name.startswith("b") and waits.records == 1

    as_another_user(root, finds_mine)


def test_records_on_a_read_only_file_system_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store beside it is still read."""
    spool = spool_of(tmp_path / "spool", one=DownSink(tmp_path / "down"))
    assert spool.append(record("a"))
    spool.close(0)

    def refused(path: Path, flags: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_private(path, flags)

    sink = FileSink(tmp_path / "out")
    with monkeypatch.context() as mounted:
        mounted.setattr("callspan.spool.segment.open_private", refused)
        assert deliver_left(tmp_path / "spool", "one", sink).delivered == 0
    assert deliver_left(tmp_path / "spool", "one", sink).delivered == 1


def test_forked_child_leaves_the_store_to_its_parent(tmp_path: Path) -> None:
    sink = HangingSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    assert spool.append(record("parent"))
    assert sink.reached.wait(HANG_S)
    spool.close(0)

    def leaves_it_alone() -> bool:
        sink.freed.set()  # in the child
        return spool.append(record("child")) and not spool.flush(1) and not sink.has("child")

    in_child(leaves_it_alone)
    sink.freed.set()
    until(lambda: sink.has("parent"))


def forked() -> int:
    """Fork a child that lives until it is killed."""
    child = os.fork()
    if not child:
        time.sleep(HANG_S)
        os._exit(0)
    return child


@pytest.mark.parametrize("holds", ["look", "count"])
def test_forked_child_holds_no_lock(tmp_path: Path, holds: str) -> None:
    spool = spool_of(tmp_path / "spool", one=DownSink(tmp_path / "out"))
    assert spool.append(record("a"))
    spool.close(0)
    (segment,) = spool_files.segments_in(spool.directory)
    until(lambda: not is_locked(segment))
    over, lost = threading.Event(), Losses(dropped={"cap": Loss(1, 1, 1)})

    def hold() -> None:
        while not over.is_set():
            _ = is_locked(segment) if holds == "look" else add_losses(spool.directory, lost)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    children = list[int]()
    for _ in range(scaled(25, 100)):
        children.append(forked())
        time.sleep(0.005)
    over.set()
    thread.join(HANG_S)
    try:
        assert not thread.is_alive()
        assert not is_locked(segment)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_forked_child_releases_the_segment_of_its_parent(tmp_path: Path) -> None:
    parent = os.fork()
    if not parent:
        os.setsid()
        spool = spool_of(tmp_path / "spool", one=DownSink(tmp_path / "out"))
        spool.append(record("a"))
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(HANG_S)
        os._exit(0)
    os.waitpid(parent, 0)
    (directory,) = listing(tmp_path / "spool", target("one"))
    (segment,) = spool_files.segments_in(directory)
    until(lambda: not is_locked(segment))
    os.killpg(parent, signal.SIGKILL)


class RefusingSink(DownSink):
    """Is down, then up but with another password."""

    def open(self) -> None:
        if self.up.is_set():
            raise PermissionError("password authentication failed on port 5432")
        super().open()


def test_new_reason_of_an_outage_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for a server to come back has another task once it refuses the password. Each is logged once."""
    sink = RefusingSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    spool.append(record("a"))
    until(lambda: "nobody listens" in caplog.text)
    sink.up.set()
    until(lambda: "password authentication failed" in caplog.text)
    retried = spool.counters()["retried"]
    until(lambda: spool.counters()["retried"] > retried + 2)
    assert [one.getMessage().count("is unavailable") for one in caplog.records] == [1, 1]
    spool.close(0)


FAULTS: list[Callable[[str], Exception]] = [
    lambda name: OSError(errno.ENOSPC, "No space left on device", f"/data/.callspan-{name}"),
    lambda name: RuntimeError(f"request {name}7 was refused"),
    lambda name: RuntimeError(f"connection from 127.0.0.1:{len(name)} to {name}-0-{name} failed"),
]
"""Failures for one reason, each of which names something else."""


@pytest.mark.parametrize("fault", FAULTS)
def test_reason_that_names_something_else_each_time_is_logged_once(
    fault: Callable[[str], Exception], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter("abcdefghijklmnopqrstuvwxyz" * 99)
    sink = ServerSink(tmp_path / "server")

    def fail() -> None:
        raise fault(next(names) * 3)

    monkeypatch.setattr(sink, "open", fail)
    spool = spool_of(tmp_path / "spool", server=sink)
    spool.append(record("a"))
    until(lambda: spool.counters()["retried"] > 3)
    assert caplog.text.count("is unavailable") == 1
    spool.close(0)


def test_server_without_free_connections_is_reported_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.spool.shipper._UNTIL_FREE_S", 0.02)
    monkeypatch.setattr("callspan.spool.shipper._PATIENCE_S", 0.5)
    sink = ServerSink(tmp_path / "server")
    monkeypatch.setattr(sink, "open", crowded)
    spool = spool_of(tmp_path / "spool", server=sink)
    spool.append(record("a"))
    until(lambda: spool.counters()["retried"] > 3)
    assert caplog.text == ""
    until(lambda: "is unavailable (all are taken)" in caplog.text)
    monkeypatch.undo()
    assert spool.flush(HANG_S)
    assert "accepts records again" in caplog.text
    assert spool.close(HANG_S)


def crowded() -> None:
    raise NoFreeConnectionError("all are taken")


def test_idle_process_releases_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed soon after the last record, and opened again for the next one."""
    monkeypatch.setattr("callspan.spool.shipper._KEEP_OPEN_S", 0.05)
    server, file = ServerSink(tmp_path / "server"), ServerSink(tmp_path / "file")
    file.is_shared = False
    spool = spool_of(tmp_path / "spool", server=server, file=file)
    for number, key in enumerate(("a", "b", "c"), 1):
        assert spool.append(record(key))
        assert spool.flush(HANG_S)
        until(lambda count=number: server.changes == ["open", "close"] * count)  # type: ignore[misc]
    assert (server.keys(), file.keys(), file.changes) == (["a", "b", "c"], ["a", "b", "c"], ["open"])
    assert spool.close(HANG_S)


def test_server_batches_are_collected_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many processes may share it. A flush waits for nothing."""
    monkeypatch.setattr("callspan.spool.shipper._LINGER_S", 0.0)
    monkeypatch.setattr("callspan.spool.shipper._SHARED_LINGER_S", 2 * HANG_S)
    server, file = ServerSink(tmp_path / "server"), ServerSink(tmp_path / "file")
    file.is_shared = False
    spool = spool_of(tmp_path / "spool", server=server, file=file)
    assert spool.append(record("first"))
    assert spool.flush(HANG_S)
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        assert spool.append(record(key))
        until(lambda last=key: file.has(last))  # type: ignore[misc]
    # The delivery that the flush asked for may take what comes before it ends.
    assert len(server.keys()) < len(keys) / 2
    assert spool.flush(HANG_S)
    assert server.keys() == ["first", *keys]
    assert spool.close(HANG_S)


def test_multiprocessing_child_delivers_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.spool.shipper._LINGER_S", 2 * HANG_S)
    monkeypatch.setattr("callspan.runtime.forks._EXIT_S", HANG_S)
    sink = FileSink(tmp_path / "out")
    spool = spool_of(tmp_path / "spool", one=sink)
    assert spool.append(record("parent"))
    assert spool.flush(HANG_S)

    def work() -> None:
        spool.append(record("first"))
        until(lambda: sink.has("first"))
        spool.append(record("last"))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(HANG_S)
    assert sink.keys() == ["parent", "first", "last"]
    assert spool.close(HANG_S)


def test_leftover_segments_use_few_descriptors(tmp_path: Path) -> None:
    down = DownSink(tmp_path / "out")
    first = spool_of(tmp_path / "spool", one=down)
    for number in range(40):
        first.append(record(f"k{number}"))
        first.close(0)
    assert len(spool_files.segments_in(first.directory)) == 40
    until(lambda: not held(first.directory, ".segment"))  # its threads end concurrently
    second = spool_of(tmp_path / "spool", one=down)
    second.append(record("now"))
    until(lambda: second.counters()["retried"] > 2)
    assert held(first.directory, ".segment") <= 9
    down.up.set()
    until(lambda: second.flush(1) and len(down.keys()) == 41)
    assert second.close(HANG_S)
    assert sorted(down.keys()) == sorted([*(f"k{number}" for number in range(40)), "now"])


def test_signal_during_loss_writing_loses_none(tmp_path: Path) -> None:
    counter, said = LossCounter(tmp_path), []

    def handler(*_: object) -> None:
        counter.add("dropped", "second")
        said.append(counter.write())

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "read_losses":  # the file is locked
            sys.setprofile(None)
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    counter.add("dropped", "first")
    sys.setprofile(interrupt)
    try:
        assert counter.write()
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)
    assert said == [False], "what was interrupted is not written yet"
    assert counter.write()
    assert {name: loss.count for name, loss in read_losses(tmp_path).dropped.items()} == {"first": 1, "second": 1}


def test_store_is_not_opened_during_a_fork(tmp_path: Path) -> None:
    imported, opened = threading.Event(), threading.Event()

    class Sink(SqliteSink):
        def open(self) -> None:
            opened.set()
            super().open()

    def imports_its_driver() -> Destination:
        assert imported.wait(HANG_S)
        return Sink(tmp_path / "a.db")

    spool = Spool([tmp_path / "spool"], {target("a"): imports_its_driver})
    spool.append(record("k"))
    assert spool.before_fork(time.monotonic() + HANG_S)
    imported.set()
    assert not opened.wait(0.3)
    spool.after_fork_in_parent()
    assert spool.close(HANG_S)
    assert rows(tmp_path / "a.db") == ["k"]


@only_root
def test_fallback_directory_may_belong_to_another_user(tmp_path: Path) -> None:
    """Anyone may create the directory in `/tmp`."""
    root = tmp_path / "root"
    root.mkdir()
    for name, owner in (("theirs", 0), ("mine", 12_345)):
        (root / name).mkdir(mode=0o700)
        os.chown(root / name, owner, -1)

    def records_and_counts() -> bool:
        spool = spool_of(Path("mine"), fallback=[Path("theirs")], one=FileSink(Path("mine", "out")))
        return spool.append(record("a")) and spool.flush(HANG_S) and spool.counters()["spool_bytes"] > 0

    as_another_user(root, records_and_counts)


def test_closed_spool_does_not_wait_for_a_past_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, over = spool_of(tmp_path / "spool", ends=SqliteSink(tmp_path / "a.db")), threading.Event()
    monkeypatch.setattr("callspan.spool.spool._GRACE_S", HANG_S)

    def begin_and_end() -> None:
        while not over.is_set():
            spool.append(record("a"))
            spool.close(HANG_S)

    interval_s = sys.getswitchinterval()
    thread = threading.Thread(target=begin_and_end)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if spool.before_fork(time.monotonic() + HANG_S):
                spool.after_fork_in_parent()
    finally:
        sys.setswitchinterval(interval_s)
        over.set()
    thread.join(HANG_S)
    until(lambda: not any(one.name == "callspan-x://ends" for one in threading.enumerate()))
