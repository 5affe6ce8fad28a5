"""JSON Lines only: the format of the file, rotation and repeated delivery."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from tests.machine import slowness

from callspan.records import CallRecord
from callspan.stores import CallFilter, PoisonError, StoreError
from callspan.stores.jsonl.reader import JsonLinesReader
from callspan.stores.jsonl.store import JsonLinesStore, files_of

from .conftest import Delivery, Records, delete_session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def store(path: Path, deliver: Callable[[str], Delivery]) -> Delivery:
    return deliver(f"jsonl:///{path}")


def test_one_line_per_record_with_the_conversation_of_calls(store: Delivery, path: Path, records: Records) -> None:
    store.write(*records.every_kind())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["session", "timestep", "call", "event", "message", "reward"]
    assert lines[2]["conversation"]["input"] == [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]


def test_the_files_are_for_their_owner_only(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call())
    store.sink.set_aside(store.entries([b"bad"])[0], "why")
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_torn_line_is_terminated_and_loses_only_its_own_record(store: Delivery, path: Path, records: Records) -> None:
    """A process was killed in the middle of a write."""
    store.write(records.call())
    with path.open("ab") as file:
        file.write(b'{"kind":"call","call_id":"torn')
    store.write(records.call())
    assert path.read_bytes().count(b"\n") == 3
    assert store.read().count_calls() == 2


def test_lines_that_are_delivered_again_are_not_doubled(store: Delivery, path: Path, records: Records) -> None:
    written = records.every_kind()
    store.write(*written)
    again = Delivery(store.url)
    again.write(*written)
    assert len(path.read_bytes().splitlines()) == 6
    again.close()


def test_a_crash_after_the_lines_and_a_rotation_behind_it_double_nothing(
    path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """What the process wrote before it died now lies in a file that another one has rotated away."""
    url = f"jsonl:///{path}?max_bytes=4000"
    dying, other, heir = deliver(url), deliver(url), deliver(url)
    written = [records.call()]
    dying.write(*written)
    while len(files_of(path)) == 1:
        other.write(records.call())
    lines = sum(file.read_bytes().count(b"\n") for file in files_of(path))
    heir.write(*written)
    assert sum(file.read_bytes().count(b"\n") for file in files_of(path)) == lines


def test_lines_of_another_process_are_known_before_writing(store: Delivery, path: Path, records: Records) -> None:
    other = Delivery(store.url)
    made = records.call()
    other.write(made)
    store.write(made)
    assert len(path.read_bytes().splitlines()) == 1
    other.close()


def test_a_file_beyond_its_size_is_rotated_and_still_read_whatever_its_name(
    tmp_path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    path = tmp_path / "calls[1].jsonl"
    store = deliver(f"jsonl:///{path}?max_bytes=4000")
    made = [records.call(at_s=number) for number in range(10)]
    for record in made:
        store.write(record)
    rotated = files_of(path)
    assert [file.name for file in rotated[:2]] == ["calls[1].jsonl.1", "calls[1].jsonl.2"]
    assert all(file.stat().st_size <= 4000 for file in rotated)
    assert [one.call_id for one in store.read().calls()] == [one.call_id for one in reversed(made)]


def test_a_bad_entry_goes_to_the_rejected_file(store: Delivery, path: Path) -> None:
    (entry,) = store.entries([b"not a record"])
    with pytest.raises(PoisonError):
        store.sink.deliver([entry])
    store.sink.set_aside(entry, "no record")
    (line,) = path.with_name("calls.jsonl.rejected").read_text().splitlines()
    assert json.loads(line) == {"segment": "1-a.seg", "start": 0, "reason": "no record", "frame": "not a record"}
    assert path.read_bytes() == b""


def test_a_moved_file_is_replaced_by_a_new_one(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call())
    path.rename(path.with_name("elsewhere"))
    store.write(records.call())
    assert len(path.read_bytes().splitlines()) == 1


def test_a_full_disk_leaves_whole_lines(store: Delivery, path: Path, records: Records) -> None:
    """A write that is cut short is taken back, and the batch can be delivered once there is room."""
    import resource
    import signal

    store.write(records.call())
    size = path.stat().st_size
    entries = store.entries([records.call(answer="x" * 100_000)])
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"only a part|too large"):
            store.sink.deliver(entries)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert path.stat().st_size == size
    store.sink.deliver(entries)
    assert store.read().count_calls() == 2


def test_the_index_of_known_records_is_bounded(path: Path, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.stores.jsonl.store._REMEMBERED", 10)
    delivery = Delivery(f"jsonl:///{path}")
    delivery.write(*[records.call() for _ in range(50)])
    again = JsonLinesStore(path)
    again.open()
    assert len(again._seen._known) == 10
    again.close()
    delivery.close()
    assert path.exists()


def test_a_rotated_file_never_takes_an_older_place(tmp_path: Path, records: Records) -> None:
    """Also where a deletion has emptied one in between: the numbers tell the order."""
    delivery = Delivery(f"jsonl:///{tmp_path}/calls.jsonl?max_bytes=1")
    for number in range(4):
        delivery.write(records.call(session_id=f"s{number}"))
    (tmp_path / "calls.jsonl.2").unlink()
    delivery.write(records.call(session_id="s4"))
    names = sorted(path.name for path in tmp_path.glob("calls.jsonl.[0-9]*"))
    assert names == ["calls.jsonl.1", "calls.jsonl.3", "calls.jsonl.4"]
    found = delivery.read().calls(CallFilter(newest_first=False))
    assert {one.place.session_id for one in found} == {"s0", "s2", "s3", "s4"}
    delivery.close()


def texts_of(found: Iterable[CallRecord]) -> list[str | None]:
    return sorted(one.text or "" for one in found)


def test_an_open_reader_sees_what_happens_to_the_files(
    path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """Something is appended, also behind half a line; rotated; deleted; a file is replaced, and written over."""
    store = deliver(f"jsonl:///{path}?max_bytes=3000")
    with closing(JsonLinesReader(path)) as reader:
        assert list(reader.calls()) == []
        store.write(records.call(answer="a", session_id="s1"))
        assert texts_of(reader.calls()) == ["a"]
        line = path.read_bytes()
        path.write_bytes(line + line[:100])
        assert texts_of(reader.calls()) == ["a"]
        path.write_bytes(
            line + line.replace(b'"content":"a"', b'"content":"b"').replace(b'"call_id":"0', b'"call_id":"1')
        )
        assert texts_of(reader.calls()) == ["a", "b"]
        store.write(records.call(answer="c"))
        assert path.with_name("calls.jsonl.1").exists()
        assert texts_of(reader.calls()) == ["a", "b", "c"]
        delete_session(store.url, "s1")
        assert texts_of(reader.calls()) == ["c"]
        other = line.replace(b'"content":"a"', b'"content":"d"')
        path.with_name("new").write_bytes(other)
        path.with_name("new").replace(path)
        assert texts_of(reader.calls()) == ["d"]
        path.write_bytes(other.replace(b'"content":"d"', b'"content":"e"'))
        os.utime(path, (1, 1))
        assert texts_of(reader.calls()) == ["e"]


@pytest.mark.parametrize("files", [1, 40])
def test_what_is_being_read_stays_whole_while_the_files_are_written_anew(
    files: int, path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    store = deliver(f"jsonl:///{path}{'?max_bytes=1' if files > 1 else ''}")
    for number in range(40):
        store.write(records.call(answer=f"a{number:02}", session_id=f"s{number % 2}"))
    with closing(JsonLinesReader(path)) as reader:
        found = reader.calls(CallFilter(newest_first=False))
        first = next(found)
        store.write(records.call(answer="new"))
        if files == 1:
            delete_session(store.url, "s1")
        assert reader.count_calls() == 40, "both queries are of one state"
        assert texts_of([first, *found]) == [f"a{number:02}" for number in range(40)]
        assert reader.count_calls() == (21 if files == 1 else 41)


def test_a_body_in_a_file_that_is_gone_is_an_error_and_no_empty_body(
    path: Path, deliver: Callable[[str], Delivery], records: Records
) -> None:
    """The file was not open any more: these are too many."""
    store = deliver(f"jsonl:///{path}?max_bytes=1")
    store.write(records.call(session_id="s1"))
    for _ in range(40):
        store.write(records.call())
    with closing(JsonLinesReader(path)) as reader:
        found = reader.calls()
        next(found)
        path.with_name("calls.jsonl.1").rename(path.with_name("elsewhere"))
        for failing in (lambda: reader.count_calls(CallFilter(text="hello")), lambda: list(found)):
            with pytest.raises(StoreError, match="written anew while it was read; try again"):
                failing()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_reads_beside_its_parent(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call(answer="a"), records.call(answer="b"))
    with closing(JsonLinesReader(path)) as reader:
        found = reader.calls()
        next(found)
        done, ready = os.pipe()
        child = os.fork()
        if not child:
            del found
            os.write(ready, b"\n".join(str(one).encode() for one in texts_of(reader.calls())))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(done, 100) == b"a\nb"
        assert len(list(found)) == 1
        os.close(done)
        os.close(ready)


def test_threads_share_a_reader(store: Delivery, path: Path, records: Records) -> None:
    store.write(*(records.call(answer=f"answer {number}") for number in range(300)))
    with closing(JsonLinesReader(path)) as reader, ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(reader.count_calls) for _ in range(8)]
        texts = [pool.submit(lambda: sorted(texts_of(reader.calls()))) for _ in range(4)]
        assert {count.result() for count in counts} == {300}
        assert {tuple(found.result()) for found in texts} == {
            tuple(sorted(f"answer {number}" for number in range(300)))
        }


def test_no_call_has_a_body_of_what_was_written_over_it(store: Delivery, path: Path, records: Records) -> None:
    store.write(*(records.call(answer=f"first {number:03}") for number in range(300)))
    lines = path.read_bytes()
    path.unlink()
    store.write(*(records.call(answer=f"other {number:03}") for number in range(300)))
    other = path.read_bytes()
    path.write_bytes(lines)
    with closing(JsonLinesReader(path)) as reader:
        found = reader.calls()
        next(found)
        path.write_bytes(other)
        with pytest.raises(StoreError, match="written anew"):
            list(found)


def test_a_store_that_was_deleted_is_no_empty_one(store: Delivery, path: Path, records: Records) -> None:
    store.write(records.call())
    with closing(JsonLinesReader(path)) as reader:
        assert reader.count_calls() == 1
        path.unlink()
        with pytest.raises(StoreError, match="no such file"):
            reader.count_calls()
    with pytest.raises(sqlite3.ProgrammingError):
        reader.count_calls()
    with pytest.raises(sqlite3.ProgrammingError):
        reader.count_calls()


def test_a_large_file_is_read_by_rows(path: Path, store: Delivery, records: Records) -> None:
    """In a file on disk: neither the records nor their rows are held."""
    number, key = 20_000, b"00000000"
    store.write(records.call([{"role": "user", "content": "x" * 3_000}], call_id=key.decode()))
    line = path.read_bytes()
    with path.open("wb") as file:
        file.writelines(line.replace(key, b"%08d" % at) for at in range(number))
    with closing(JsonLinesReader(path)) as reader:
        begun = time.process_time()
        assert reader.count_calls() == number
        assert (time.process_time() - begun) / number < 0.000_12 * slowness()
    with closing(JsonLinesReader(path)) as reader:
        tracemalloc.start()
        reader.count_calls()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


_ROTATING: Final = """
import sys
from conftest import Delivery, Records
url, number = sys.argv[1:]
delivery, records = Delivery(url), Records()
delivery.segment = f"{number}.seg"
for index in range(150):
    delivery.write(records.call(call_id=f"call-{number}-{index}"))
    print(f"call-{number}-{index}", flush=True)
delivery.close()
"""


_ROTATED = """
import sys
from pathlib import Path
from callspan.records import encode
from callspan.stores.jsonl.reader import JsonLinesReader
from conftest import Records
path = Path(sys.argv[1])
path.write_bytes(encode(Records().call(call_id="first")) + b"\\n")
reader = JsonLinesReader(path)
def rotate(event, arguments):
    if event == "open" and str(arguments[0]) == str(path) and path.exists():
        path.rename(path.with_name("calls.jsonl.1"))
sys.addaudithook(rotate)
print([call.call_id for call in reader.calls()])
"""


def test_a_file_that_is_rotated_between_its_listing_and_its_opening_is_read(tmp_path: Path) -> None:
    command = (sys.executable, "-c", _ROTATED, str(tmp_path / "calls.jsonl"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert (done.stdout, done.stderr) == ("['first']\n", "")


def test_processes_that_rotate_one_file_lose_nothing_and_a_reader_misses_nothing(tmp_path: Path) -> None:
    """What was once there is there in every later answer, also of a reader that meets the moment of a rotation."""
    path = tmp_path / "calls.jsonl"
    store = JsonLinesStore(path)
    store.open()
    command = (sys.executable, "-c", _ROTATING, f"jsonl:///{path}?max_bytes=20000")
    writers = [
        subprocess.Popen((*command, str(number)), stdout=subprocess.PIPE, cwd=Path(__file__).parent)
        for number in range(4)
    ]
    reader, before, answers = JsonLinesReader(path), set[str](), 0
    while any(writer.poll() is None for writer in writers):
        found = [one.call_id for one in reader.calls()]
        assert len(found) == len(set(found))
        assert before <= set(found)
        before, answers = set(found), answers + 1
    output = {line for writer in writers for line in writer.communicate()[0].decode().split()}
    assert [writer.returncode for writer in writers] == [0] * 4
    assert {one.call_id for one in reader.calls()} == output
    assert len(output) == 600
    lines = [line for file in files_of(path) for line in file.read_bytes().splitlines()]
    assert len(lines) == 600
    assert len(files_of(path)) > 20
    print(f"{answers} answers over {len(files_of(path))} files")
